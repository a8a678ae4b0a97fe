"""Processes that write into a store without end, and are killed."""

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
from tests.reliability.faults.checks import random_delay
from tests.reliability.faults.child import POLL_INTERVAL_S, Child, running
from tests.reliability.faults.event_log import EventLog, History, read_history
from tests.reliability.faults.fault import Fault
from tests.reliability.faults.workload import Workload

__all__ = ["WriterProcess", "store_opener"]

MAX_EVENTS = 80  # in the log before the fault: some dozens of commits


class WriterProcess:
    """A process that runs a workload on a store.

    Args:
        fault: during which it runs.
        open_store: opens the store, in that process.
        name: different from those of other writers at the same store.
        before_each: called in that process before each action.
    """

    def __init__(
        self,
        fault: Fault,
        open_store: Callable[[], Any],
        *,
        name: str = "writer",
        before_each: Callable[[], object] = lambda: None,
    ) -> None:
        self._fault = fault
        self._open_store, self._name, self._before_each = open_store, name, before_each
        self._event_log = fault.folder / f"events-{name}"
        self._running = contextlib.ExitStack()
        self.child: Child

    def __enter__(self) -> WriterProcess:
        self.child = self._running.enter_context(running(self._run, self._fault.folder))
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _run(self) -> None:
        chance = random.Random(f"{self._fault.name} {self._name}")
        Workload(self._open_store(), EventLog(self._event_log), chance, self._before_each).run_forever()

    def num_events(self) -> int:
        """Return the number of events in its log."""
        return self._event_log.read_bytes().count(b"\n") if self._event_log.exists() else 0

    def history(self, *, sure_until_s: float = math.inf) -> History:
        """Return its history so far; acknowledgements after ``sure_until_s`` may be wrong."""
        return read_history(self._event_log, sure_until_s=sure_until_s)

    def wait_for_progress(self, min_events: int = 0) -> None:
        """Wait until it has written for a while, and then a moment more, both by chance."""
        num_events = self._fault.chance.randint(min_events, MAX_EVENTS)
        wait_until(
            lambda: self.num_events() >= num_events or not self.child.is_running(),
            f"{num_events} events",
            every_s=POLL_INTERVAL_S,
        )
        time.sleep(random_delay(self._fault.chance))

    def wait_for(self, event: str, *, after: int) -> None:
        """Wait until an event of that name is in its log after the first ``after`` events."""
        wait_until(
            lambda: any(one["event"] == event for one in self.history().events[after:]) or not self.child.is_running(),
            event,
            every_s=0.005,
        )

    def kill(self, *, sure_until_s: float = math.inf) -> History:
        """Kill it; return its history."""
        self.child.kill()
        history = self.history(sure_until_s=sure_until_s)
        if history.is_under_way:
            self._fault.was_in_a_commit()
        return history


def store_opener(where: str | Path) -> Callable[[], ConversationStore]:
    """Return a function that opens a store."""
    return lambda: ConversationStore(where)
