"""vLLM's server as a process below this one: started, watched, ended.

The process above stays small and is never busy with answers, so it can tell what has gone wrong in one line, and end
what does not end by itself.
"""

from __future__ import annotations

import contextlib
import logging.handlers
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from chat.server.process.vllm_process import PARENT_VARIABLE

__all__ = ["ServerProcess", "supervise"]

TICK_S = 0.1
HEALTH_INTERVAL_S = 5.0
DEAD_ENGINE_S = 15.0  # vLLM looks every 5 s whether its engine is dead, and then ends by itself
MAX_LOG_BYTES, NUM_LOGS = 20 << 20, 5
NUM_LAST_LINES = 400
LINES_EVERY_S = 0.05
MAX_PIPE_BYTES = 64 << 10  # as many as it holds


class ServerProcess:
    """The process, in a session of its own, so that Ctrl-C reaches this one alone and everything below it can be ended.

    Args:
        command: the program and its arguments.
        environment: all of it.
        log_file: where its output goes; standard error if None.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log_file: Path | None) -> None:
        self.last_lines: deque[str] = deque(maxlen=NUM_LAST_LINES)
        self._process = subprocess.Popen(  # noqa: S603  # this program, with the options that it was given
            command,
            env={**environment, PARENT_VARIABLE: str(os.getpid()), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        self._pump = threading.Thread(target=self._copy, args=(self._process.stdout, log_file), daemon=True)
        self._pump.start()

    @property
    def pid(self) -> int:
        """The process id of the server."""
        return self._process.pid

    def poll(self) -> int | None:
        """Return its exit code, None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def ask_to_end(self) -> None:
        """Let it finish running answers, and leave."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def end_all(self) -> None:
        """End it and everything that it started, at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._pump.join(timeout=2.0)

    def _copy(self, output: IO[bytes], log_file: Path | None) -> None:
        with output, _open_sink(log_file) as write:
            for text in _whole_lines(output):
                self.last_lines.extend(text.split("\n"))
                write(text)


def _whole_lines(output: IO[bytes]) -> Iterator[str]:
    """Give what comes out of a pipe in whole lines, those of a twentieth of a second as one text.

    A busy server writes a line for each request; busy with each, this process would take the processor from answers.
    """
    rest = b""
    while piece := output.read1(MAX_PIPE_BYTES):  # type: ignore[attr-defined]  # Popen's pipes are buffered
        lines, newline, rest = (rest + piece).rpartition(b"\n")
        if newline:
            yield lines.decode("utf-8", "replace")
        time.sleep(LINES_EVERY_S)
    if rest:
        yield rest.decode("utf-8", "replace")


@contextlib.contextmanager
def _open_sink(log_file: Path | None) -> Iterator[Callable[[str], None]]:
    """Give what writes lines; on a full disk lines are lost: better than a server that waits for a place to write."""
    if log_file is None:
        yield lambda text: print(text, file=sys.stderr, flush=True)
        return
    handler = _PrivateRotatingFileHandler(
        log_file, maxBytes=MAX_LOG_BYTES, backupCount=NUM_LOGS, encoding="utf-8", errors="replace"
    )
    handler.handleError = lambda record: None  # type: ignore[method-assign]

    try:
        yield lambda text: handler.emit(logging.LogRecord("vllm", logging.INFO, "", 0, text, (), None))
    finally:
        with contextlib.suppress(OSError):
            handler.close()


class _PrivateRotatingFileHandler(logging.handlers.RotatingFileHandler):
    """Log files that this user alone can read."""

    def _open(self) -> IO[str]:  # type: ignore[override]
        file = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return open(file, self.mode, encoding=self.encoding, errors=self.errors)


def supervise(
    server: ServerProcess,
    *,
    is_healthy: Callable[[], bool | None],
    when_ready: Callable[[], None],
    shutdown_timeout_s: float,
) -> int | None:
    """Watch a server until it has ended.

    The first SIGTERM or SIGINT asks it to finish what is running, the second ends it at once.

    Args:
        is_healthy: whether it answers well; None if it does not answer at all.
        when_ready: called once, when it answers first; what it raises ends the server.
        shutdown_timeout_s: how long running answers may take.
    Returns:
        0 after SIGTERM, 130 after SIGINT; None if it ended by itself, which it never should.
    """
    asked: list[int] = []

    def note(number: int, frame: object) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        _watch(server, asked, is_healthy, when_ready)
        if not asked:
            return None
        _end(server, asked, shutdown_timeout_s)
        return 130 if asked[0] == signal.SIGINT else 0
    finally:
        server.end_all()
        for number, handler in before.items():
            signal.signal(number, handler)


def _watch(
    server: ServerProcess, asked: list[int], is_healthy: Callable[[], bool | None], when_ready: Callable[[], None]
) -> None:
    """Return when somebody asks it to end, it has ended, or its engine is dead."""
    ready = False
    next_look_s = well_s = time.monotonic()
    while not asked and server.poll() is None:
        time.sleep(TICK_S)
        now_s = time.monotonic()
        if now_s < next_look_s:
            continue
        healthy = is_healthy()
        if healthy and not ready:
            when_ready()
            ready = True
        if healthy is not False:  # a busy server may be late, one without an engine says so
            well_s = now_s
        elif ready and now_s - well_s > DEAD_ENGINE_S:
            return
        next_look_s = time.monotonic() + (HEALTH_INTERVAL_S if ready else TICK_S)


def _end(server: ServerProcess, asked: list[int], shutdown_timeout_s: float) -> None:
    server.ask_to_end()
    deadline_s = time.monotonic() + shutdown_timeout_s + END_S
    while server.poll() is None and len(asked) == 1 and time.monotonic() < deadline_s:
        time.sleep(TICK_S)


END_S = 15.0  # what vLLM needs to leave once nothing is running
