"""How long something may take: longer where other work shares the machine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["patient", "wait_until"]

T = TypeVar("T")
PATIENCE = float(os.environ.get("PATIENCE", "1"))
WAIT_S = 60.0  # for something that takes a second on an idle machine


def patient(seconds: float) -> float:
    """Return a bound on a time, as many times as long as ``PATIENCE`` says."""
    return seconds * PATIENCE


def wait_until(
    holds: Callable[[], T], what: str | Callable[[], str] = "", *, within_s: float = WAIT_S, every_s: float = 0.02
) -> T:
    """Wait until something holds, and return it.

    Args:
        what: is waited for, said if it never holds; or a function that says why it does not.
        within_s: on an idle machine.
    """
    deadline_s = time.monotonic() + patient(within_s)
    while not (found := holds()):
        assert time.monotonic() < deadline_s, what() if callable(what) else f"not within {within_s} s: {what}"
        time.sleep(every_s)
    return found
