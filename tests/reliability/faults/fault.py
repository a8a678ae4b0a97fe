"""Faults that can be repeated: each has a kind, a number and its own chance, and is counted once it is survived."""

from __future__ import annotations

import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from tests.reliability.scale import scaled

__all__ = ["Fault", "Faults"]

MAX_LOST_S = 1.0  # of an answer that was being written
ONLY = os.environ.get("FAULT", "")  # "kind/number": nothing else is run


class Faults:
    """All faults of a run.

    Args:
        folder: where each of them gets a folder.

    Attributes:
        survived: how many, by kind.
        is_kill_of_a_server: the kinds that end a server, an engine or a database.
        most_lost_s: the oldest piece of a partial answer that was lost, in seconds before the fault.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.began_s = time.monotonic()
        self.survived: Counter[str] = Counter()
        self.in_a_commit: Counter[str] = Counter()
        self.is_kill_of_a_server: set[str] = set()
        self.most_lost_s = 0.0

    def of(self, kind: str, *, full: int, short: int, kills_a_server: bool = False) -> Iterator[Fault]:
        """Give the faults of a kind, one after the other, as many as this run has."""
        if kills_a_server:
            self.is_kill_of_a_server.add(kind)
        for number in range(scaled(full, short)):
            if ONLY in ("", kind, f"{kind}/{number}"):
                folder = self._folder / f"{kind.replace(' ', '-')}-{number}"
                folder.mkdir()
                yield Fault(self, kind, number, folder)

    @property
    def num_kills_of_servers(self) -> int:
        return sum(self.survived[kind] for kind in self.is_kill_of_a_server)


class Fault:
    """One fault: a block in which the program is started, disturbed and checked.

    Attributes:
        chance: decides everything that is decided by chance; the same for the same kind and number.
        folder: an empty folder of its own.
    """

    def __init__(self, faults: Faults, kind: str, number: int, folder: Path) -> None:
        self._faults, self._kind = faults, kind
        self.name = f"{kind}/{number}"
        self.chance = random.Random(self.name)
        self.folder = folder

    def __enter__(self) -> Fault:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            self._faults.survived[self._kind] += 1
        else:
            error.add_note(f"this was fault {self.name}; again: FAULT='{self.name}' make test-faults")

    def was_in_a_commit(self) -> None:
        """Note that it came while something was being written."""
        self._faults.in_a_commit[self._kind] += 1

    def check_lost(self, seconds: float) -> None:
        """Check how old the oldest piece of an answer was that is not there any more."""
        assert seconds <= MAX_LOST_S, f"what had arrived {seconds:.2f} s before is lost"
        self._faults.most_lost_s = max(self._faults.most_lost_s, seconds)
