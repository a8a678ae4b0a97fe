"""Drives the terminal program in a pseudo-terminal, and sees what a person would see."""

from __future__ import annotations

import codecs
import os
import pty
import select
import signal
import sys
import termios
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tests.chat.terminal.screen import Screen
from tests.patience import patient
from tests.program import ROOT, python_path

TIMEOUT_S = float(os.environ.get("PTY_TIMEOUT_S", patient(20)))  # for a slow core under load; what works is faster


class Driver:
    """A running program, its keyboard and its screen.

    Args:
        run: a command, or a function that runs the program in a copy of this process and returns its exit code:
            so the program need not be imported anew for every test.
        environ: what is different in the environment.
        columns, lines: size of the terminal.
    """

    def __init__(
        self,
        run: list[str] | Callable[[], int],
        *,
        environ: dict[str, str] | None = None,
        columns: int = 80,
        lines: int = 24,
    ) -> None:
        around = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        env = {**around, "TERM": "xterm-256color", "LANG": "C.UTF-8", **python_path(ROOT), **(environ or {})}
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            _become(run, env, columns, lines)
        termios.tcsetwinsize(self.fd, (lines, columns))
        self.found_modes = termios.tcgetattr(self.fd)
        self.exit_code: int | None = None  # minus the signal that killed it, if one did
        self.screen = Screen(columns, lines, self.press)
        self.raw = b""  # everything that was written, escape sequences and all
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._ended = False

    def press(self, keys: str | bytes) -> None:
        os.write(self.fd, keys.encode() if isinstance(keys, str) else keys)

    def paste(self, text: str) -> None:
        """Paste as a terminal does when pastes are marked."""
        self.press(f"\x1b[200~{text}\x1b[201~")

    def enter(self, text: str) -> None:
        """Type a line. Enter comes by itself: keys that come together are a paste."""
        self.wait_until(self.is_prompting, "a prompt")
        self.press(text)
        self.wait_until(lambda: text[-20:] in self.line(), f"{text!r} in the line")
        self.press("\r")

    def wait_for(self, *texts: str, timeout_s: float = TIMEOUT_S) -> float:
        """Wait until all texts are on the screen or in the scrollback; return how long it took."""
        return self.wait_until(lambda: all(text in self.screen.text for text in texts), str(texts), timeout_s)

    def wait_until(self, condition: Callable[[], object], what: str = "", timeout_s: float = TIMEOUT_S) -> float:
        began_s = time.monotonic()
        while not condition():
            if time.monotonic() - began_s > timeout_s:
                raise AssertionError(f"not within {timeout_s} s: {what}\n---\n{self.screen.text}\n---")
            self._read()
        return time.monotonic() - began_s

    def line(self) -> str:
        """Return the last prompt and what is below it."""
        rows = self.screen.text.splitlines()
        starts = [n for n, row in enumerate(rows) if row.startswith((">", "You:"))]
        return "\n".join(rows[starts[-1] :]) if starts else ""

    def is_prompting(self) -> bool:
        """Tell whether a prompt waits for a line: what is behind it is empty, but for the toolbar."""
        return self.line().splitlines()[:1] in ([">"], ["You:"])

    def prompts(self) -> int:
        """Return how many prompts have been shown."""
        return sum(row.startswith((">", "You:")) for row in self.screen.text.splitlines())

    def wait_for_end(self) -> int:
        """Wait until the program has ended; return its exit code, or minus the signal that killed it."""
        self.wait_until(lambda: self._ended, "the end")
        if self.exit_code is None:
            self.exit_code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.exit_code

    def kill(self, signum: int = signal.SIGKILL) -> None:
        os.kill(self.pid, signum)

    def close(self) -> None:
        if self.exit_code is None:
            self.kill()
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def _read(self) -> None:
        if not select.select([self.fd], [], [], 0.05)[0]:
            return
        try:
            data = os.read(self.fd, 65536)
        except OSError:  # what Linux says when the other side has closed the terminal
            data = b""
        self._ended = not data
        self.raw += data
        self.screen.write(self._decoder.decode(data))


def _become(run: list[str] | Callable[[], int], env: dict[str, str], columns: int, lines: int) -> NoReturn:
    """Be the program: its environment, its streams, its end."""
    os.environ.clear()
    os.environ.update(env)
    os.chdir(ROOT)
    termios.tcsetwinsize(0, (lines, columns))
    code = 1
    try:
        if isinstance(run, list):
            os.execvpe(run[0], run, env)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115 (as long as the process lives)
        sys.stdout = sys.stderr = open(1, "w", closefd=False)  # noqa: SIM115
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def command(scenario: str, folder: Path) -> list[str]:
    """Return the command that runs the program with a scripted backend."""
    return [sys.executable, "-m", "tests.chat.terminal.program", scenario, str(folder)]
