"""A program under test that is a copy of this process: it starts in milliseconds, and can be killed in any of them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["POLL_INTERVAL_S", "Child", "running"]

POLL_INTERVAL_S = 0.0005  # short, so that a fault falls into the middle of a write
PR_SET_PDEATHSIG = 1  # the kernel's: send this process a signal when its parent has died


class Child:
    """A function that runs in a process of its own.

    Args:
        run: what to run; its exceptions end the process with 1 and are in ``error``.
        errors: the file that the traceback of an exception goes to.
    """

    def __init__(self, run: Callable[[], object], errors: Path) -> None:
        self._errors = errors
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                with contextlib.suppress(AttributeError):  # a test that is ended itself leaves no process
                    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
                run()
                code = 0
            except BaseException:
                errors.write_text(traceback.format_exc())
            finally:
                os._exit(code)

    def is_running(self) -> bool:
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status is None

    def kill(self) -> float:
        """End it as kill -9 does; return when, by the clock that never jumps. It must have been at work until then."""
        assert self.is_running(), f"it ended by itself: {self.error}"
        killed_s = time.monotonic()
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
        return killed_s

    def wait(self) -> int:
        """Wait for its end; return its exit code, or minus the signal that killed it."""
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status

    @property
    def error(self) -> str:
        return self._errors.read_text() if self._errors.exists() else f"exit code {self._status}"


@contextlib.contextmanager
def running(run: Callable[[], object], folder: Path) -> Iterator[Child]:
    """Run a function as a child; it is gone afterwards."""
    child = Child(run, folder / f"errors-{time.monotonic_ns()}")
    try:
        yield child
    finally:
        if child.is_running():
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
