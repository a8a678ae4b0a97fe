"""kill -9 of processes that write into a store, in the middle of a commit or anywhere else."""

from __future__ import annotations

import time

from tests.reliability.faults.checks import check_store
from tests.reliability.faults.event_log import History
from tests.reliability.faults.fault import Fault, Faults
from tests.reliability.faults.writer import WriterProcess, store_opener


def test_a_killed_writer_leaves_all_that_it_was_told_is_kept(faults: Faults) -> None:
    for fault in faults.of("store writer killed", full=220, short=20):
        with fault:
            where = fault.folder / "store.sqlite"
            with WriterProcess(fault, store_opener(where)) as writer:
                writer.wait_for_progress()
                history = writer.kill()
            check_store(where, history)


def test_a_writer_that_is_killed_while_it_makes_the_store_spoils_nothing(faults: Faults) -> None:
    for fault in faults.of("store writer killed while it opened", full=40, short=4):
        with fault:
            where = fault.folder / "store.sqlite"
            with WriterProcess(fault, store_opener(where)) as writer:
                time.sleep(fault.chance.uniform(0, 0.08))
                history = writer.kill()
            check_store(where, history)


def test_writers_beside_a_killed_one_go_on(faults: Faults) -> None:
    """Three at one store: one is killed, the others must get through with their next turn."""
    for fault in faults.of("one of three store writers killed", full=25, short=2):
        with fault:
            kill_one_of_three(fault)


def kill_one_of_three(fault: Fault) -> None:
    where = fault.folder / "store.sqlite"
    with (
        WriterProcess(fault, store_opener(where), name="first") as first,
        WriterProcess(fault, store_opener(where), name="second") as second,
        WriterProcess(fault, store_opener(where), name="third") as third,
    ):
        first.wait_for_progress()
        histories = [first.kill()]
        for other in (second, third):
            other.wait_for("answered", after=other.num_events())
            histories.append(other.kill())
    check_store(
        where, History({name: expected for history in histories for name, expected in history.expected.items()}, [])
    )
