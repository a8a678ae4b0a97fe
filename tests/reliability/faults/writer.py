"""Processes that write into a store without end, and their kill."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from chat.store.local import ConversationStore
from tests.patience import wait_until
from tests.reliability.faults.checks import some_delay
from tests.reliability.faults.child import AT_ONCE_S, Child, running
from tests.reliability.faults.event_log import Account, Journal, read_journal
from tests.reliability.faults.fault import Fault
from tests.reliability.faults.workload import Person

__all__ = ["Writing", "opening"]

MOST_LINES = 80  # of the journal before the fault: some dozens of commits


class Writing:
    """Somebody who writes into a store, in a process of its own.

    Args:
        fault: what will happen to them.
        open_store: opens the store, in their process.
        name: tells them apart from others at the same store.
        between: called in their process before everything that they do.
    """

    def __init__(
        self,
        fault: Fault,
        open_store: Callable[[], Any],
        *,
        name: str = "writer",
        between: Callable[[], object] = lambda: None,
    ) -> None:
        self._fault = fault
        self._open_store, self._name, self._between = open_store, name, between
        self._journal = fault.folder / f"journal-{name}"
        self._running = contextlib.ExitStack()
        self.child: Child

    def __enter__(self) -> Writing:
        self.child = self._running.enter_context(running(self._run, self._fault.folder))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _run(self) -> None:
        chance = random.Random(f"{self._fault.name} {self._name}")
        Person(self._open_store(), Journal(self._journal), chance, self._between).talk_for_ever()

    def num_lines(self) -> int:
        """Return how many lines its journal has."""
        return self._journal.read_bytes().count(b"\n") if self._journal.exists() else 0

    def account(self, *, sure_until_s: float = math.inf) -> Account:
        """Return what it has been told so far; after ``sure_until_s`` it may have been told what is not so."""
        return read_journal(self._journal, sure_until_s=sure_until_s)

    def wait_for_some_lines(self, fewest: int = 0) -> None:
        """Wait until it has written for a while, and then a moment more, both by chance."""
        lines = self._fault.chance.randint(fewest, MOST_LINES)
        wait_until(
            lambda: self.num_lines() >= lines or not self.child.is_running(), f"{lines} lines", every_s=AT_ONCE_S
        )
        time.sleep(some_delay(self._fault.chance))

    def wait_for(self, event: str, *, after_line: int) -> None:
        """Wait until something is in its journal behind a line."""
        wait_until(
            lambda: (
                any(line["event"] == event for line in self.account().events[after_line:])
                or not self.child.is_running()
            ),
            event,
            every_s=0.005,
        )

    def kill(self, *, sure_until_s: float = math.inf) -> Account:
        """Kill it; return what it had been told."""
        self.child.kill()
        account = self.account(sure_until_s=sure_until_s)
        if account.is_under_way:
            self._fault.was_in_a_commit()
        return account


def opening(where: str | Path) -> Callable[[], ConversationStore]:
    """Return what opens a store."""
    return lambda: ConversationStore(where)
