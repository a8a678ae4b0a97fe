"""kill -9 of whoever writes into a store, in the middle of a commit or anywhere else."""

from __future__ import annotations

import time
from pathlib import Path

from chat.store import ConversationStore
from tests.reliability.faults.checks import check_store, some_delay
from tests.reliability.faults.child import Child, running, wait_until
from tests.reliability.faults.journal import Account, Journal, read_journal
from tests.reliability.faults.person import Person
from tests.reliability.faults.seeded import Fault, Faults

MOST_LINES = 80  # of the journal before the kill: some dozens of commits


def num_lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def writing(where: Path, journal: Path, fault: Fault, seed: str = "") -> None:
    """What the killed process does: open the store, and talk."""
    fault.chance.seed(f"{fault.name} {seed}")
    Person(ConversationStore(where), Journal(journal), fault.chance).talk_for_ever()


def kill_at_some_moment(child: Child, journal: Path, fault: Fault) -> Account:
    """Kill it after some lines of its journal and a moment."""
    lines = fault.chance.randint(0, MOST_LINES)
    wait_until(lambda: num_lines(journal) >= lines or not child.is_running(), "so many commits")
    time.sleep(some_delay(fault.chance))
    child.kill()
    account = read_journal(journal)
    if account.is_under_way:
        fault.was_in_a_commit()
    return account


def test_a_killed_writer_leaves_all_that_it_was_told_is_kept(faults: Faults) -> None:
    for fault in faults.of("store writer killed", full=220, short=25):
        with fault:
            where, journal = fault.folder / "store.sqlite", fault.folder / "journal"
            with running(
                lambda where=where, journal=journal, fault=fault: writing(where, journal, fault), fault.folder
            ) as child:
                account = kill_at_some_moment(child, journal, fault)
            check_store(where, account)


def test_a_writer_that_is_killed_while_it_makes_the_store_spoils_nothing(faults: Faults) -> None:
    for fault in faults.of("store writer killed while it opened", full=40, short=5):
        with fault:
            where, journal = fault.folder / "store.sqlite", fault.folder / "journal"
            with running(
                lambda where=where, journal=journal, fault=fault: writing(where, journal, fault), fault.folder
            ) as child:
                time.sleep(fault.chance.uniform(0, 0.08))
                child.kill()
            check_store(where, read_journal(journal))


def test_writers_beside_a_killed_one_go_on(faults: Faults) -> None:
    """Three at one store: one is killed, the others must get through with their next turn."""
    for fault in faults.of("one of three store writers killed", full=40, short=4):
        with fault:
            where = fault.folder / "store.sqlite"
            journals = [fault.folder / f"journal-{number}" for number in range(3)]
            children = [
                Child(
                    lambda journal=journal: writing(where, journal, fault, journal.name),
                    fault.folder / f"{journal.name}.err",
                )
                for journal in journals
            ]
            accounts = [kill_at_some_moment(children[0], journals[0], fault)]
            for child, journal in zip(children[1:], journals[1:], strict=True):
                lines = num_lines(journal)
                wait_until(lambda: num_lines(journal) > lines + 4, "the next turn of the others")
                child.kill()
                accounts.append(read_journal(journal))
            told = {name: told for account in accounts for name, told in account.told.items()}
            check_store(where, Account(told, []))
