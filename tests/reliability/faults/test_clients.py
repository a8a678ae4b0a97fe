"""kill -9 of what people and scripts run: the terminal, ``ask``, ``batch``. Their model is scripted, the rest real."""

from __future__ import annotations

import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

from chat.cli.ask import ask_in_conversation
from chat.config import Settings
from chat.store.local import ConversationStore
from chat.terminal.repl import run
from tests.chat.terminal.driver import Driver
from tests.patience import wait_until
from tests.reliability.faults.checks import check_integrity, check_readable, check_store
from tests.reliability.faults.child import POLL_INTERVAL_S, running
from tests.reliability.faults.event_log import EventLog, History, LoggedStore, read_history
from tests.reliability.faults.fault import Fault, Faults
from tests.reliability.faults.random_model import RandomModel, lost_s

LONGEST_S = 2.5  # that an answer is watched before the kill

# -- the terminal ------------------------------------------------------------------------------------------------------


def terminal(fault: Fault, name: str) -> Driver:
    """Start a terminal in a pseudo-terminal, as a copy of this process; wait for its prompt."""
    where, file = fault.folder / "store.sqlite", fault.folder / f"events-{name}"

    def main() -> int:
        event_log = EventLog(file)
        backend = RandomModel(event_log, random.Random(f"{fault.name} {name}"))
        return run(backend, lambda: LoggedStore(ConversationStore(where), event_log), Settings(system=""))

    driver = Driver(main, environ={"XDG_STATE_HOME": str(fault.folder)}, columns=100)
    driver.wait_until(driver.prompts, "the first prompt")
    return driver


def ask_something(driver: Driver, fault: Fault) -> None:
    driver.enter("Tell me a story.")
    watch_screen(driver, fault.chance.choice((fault.chance.uniform(0, 0.1), fault.chance.uniform(0.1, LONGEST_S))))


def type_something(driver: Driver, fault: Fault) -> None:
    driver.press("half a thou")
    watch_screen(driver, fault.chance.uniform(0, 0.1))


def finish_answer(driver: Driver, fault: Fault) -> None:
    num_before = driver.screen.text.count("TTFT")
    driver.enter("Tell me a short one.")
    driver.wait_until(lambda: driver.screen.text.count("TTFT") > num_before, "the figures")
    watch_screen(driver, fault.chance.uniform(0, 0.05))


def interrupt(driver: Driver, fault: Fault) -> None:
    ask_something(driver, fault)
    driver.press("\x03")
    watch_screen(driver, fault.chance.uniform(0, 0.3))


def regenerate(driver: Driver, fault: Fault) -> None:
    finish_answer(driver, fault)
    driver.enter("/retry")
    watch_screen(driver, fault.chance.uniform(0, LONGEST_S))


def undo(driver: Driver, fault: Fault) -> None:
    finish_answer(driver, fault)
    driver.enter("/undo")
    watch_screen(driver, fault.chance.uniform(0, 0.1))


def exit_terminal(driver: Driver, fault: Fault) -> None:
    finish_answer(driver, fault)
    driver.wait_until(driver.is_prompting, "a prompt")
    driver.press("\x04")
    watch_screen(driver, fault.chance.uniform(0, 0.1))


KILL_POINTS: list[Callable[[Driver, Fault], None]] = [
    ask_something,
    ask_something,
    ask_something,
    type_something,
    finish_answer,
    interrupt,
    regenerate,
    undo,
    exit_terminal,
]


def watch_screen(driver: Driver, seconds: float) -> None:
    """Look at the screen for a while."""
    until_s = time.monotonic() + seconds
    driver.wait_until(lambda: time.monotonic() >= until_s)


def test_a_killed_terminal_loses_nothing_but_a_second_of_an_answer(faults: Faults) -> None:
    for fault in faults.of("terminal killed", full=50, short=4):
        with fault:
            kill_a_terminal(fault)


def kill_a_terminal(fault: Fault) -> None:
    where = fault.folder / "store.sqlite"
    driver = terminal(fault, "first")
    try:
        if fault.chance.random() < 0.5:
            finish_answer(driver, fault)
        fault.chance.choice(KILL_POINTS)(driver, fault)
    finally:
        killed_s = time.monotonic()
        driver.close()  # with kill -9
    history = read_history(fault.folder / "events-first")
    if history.is_under_way:
        fault.was_in_a_commit()
    check_integrity(where)
    fault.check_lost(lost_s(history, check_readable(where, history), killed_s))
    expected = history.expected | resume_in_new_terminal(fault, where).expected
    check_store(where, History(expected, []))


def resume_in_new_terminal(fault: Fault, where: Path) -> History:
    """Start a terminal again: it offers what was cut off, and answers the next question."""
    store = ConversationStore(where)
    is_cut_off = bool(store.unfinished())
    store.close()
    driver = terminal(fault, "second")
    try:
        if is_cut_off:
            driver.wait_for("Cut off last time: Tell me a")
            driver.enter("/resume")
        finish_answer(driver, fault)
    finally:
        driver.close()
    return read_history(fault.folder / "events-second")


# -- ask ---------------------------------------------------------------------------------------------------------------


def test_a_killed_ask_loses_nothing_but_a_second_of_an_answer(faults: Faults) -> None:
    for fault in faults.of("ask killed", full=30, short=3):
        with fault:
            kill_an_ask(fault)


def kill_an_ask(fault: Fault) -> None:
    where, file = fault.folder / "store.sqlite", fault.folder / "events"

    def main() -> None:
        sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 (as long as the process lives)
        event_log = EventLog(file)
        backend = RandomModel(event_log, random.Random(f"{fault.name} model"))
        store = LoggedStore(ConversationStore(where), event_log)
        conversation = store.create(system="")
        for question in ("A short one, please.", "Another short one.", "And now a long one."):
            ask_in_conversation(backend, store, conversation, question)

    with running(main, fault.folder) as child:
        asked = fault.chance.randint(0, 3)
        wait_until(
            lambda: count_events(file, "asked") >= asked or not child.is_running(),
            "the question",
            every_s=POLL_INTERVAL_S,
        )
        time.sleep(fault.chance.uniform(0, LONGEST_S if asked == 3 else 0.05))
        killed_s = child.kill()
    history = read_history(file)
    if history.is_under_way:
        fault.was_in_a_commit()
    fault.check_lost(lost_s(history, check_readable(where, history), killed_s))
    check_store(where, history)


def count_events(file: Path, event: str) -> int:
    return file.read_bytes().count(f'"event": "{event}"'.encode()) if file.exists() else 0
