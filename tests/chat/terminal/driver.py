"""Drives the terminal program in a pseudo-terminal, and sees what a person would see."""

from __future__ import annotations

import os
import signal
import sys
import termios
import time
from pathlib import Path

import pexpect

from tests.chat.terminal.screen import Screen

ROOT = Path(__file__).resolve().parents[3]
TIMEOUT_S = float(os.environ.get("PTY_TIMEOUT_S", 20))  # long enough for a slow core under load; what works is faster


class Driver:
    """A running program, its keyboard and its screen."""

    def __init__(
        self,
        command: list[str],
        *,
        environ: dict[str, str] | None = None,
        columns: int = 80,
        lines: int = 24,
    ) -> None:
        env = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONPATH": str(ROOT), **(environ or {})}
        self.child = pexpect.spawn(
            command[0], command[1:], env=env, dimensions=(lines, columns), timeout=TIMEOUT_S, cwd=str(ROOT)
        )
        self.child.delaybeforesend = None
        self.found_modes = termios.tcgetattr(self.child.child_fd)
        self.screen = Screen(columns, lines, self.child.send)
        self.raw = b""  # everything that was written, escape sequences and all
        self._rest = b""

    def press(self, keys: str) -> None:
        self.child.send(keys.encode())

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

    def wait_until(self, condition: object, what: str = "", timeout_s: float = TIMEOUT_S) -> float:
        began_s = time.monotonic()
        while not condition():  # type: ignore[operator]
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
        self.wait_until(lambda: self.child.flag_eof, "the end")
        self.child.wait()
        code = self.child.exitstatus
        return -int(self.child.signalstatus or 0) if code is None else int(code)

    def kill(self, signum: int = signal.SIGKILL) -> None:
        os.kill(self.child.pid, signum)

    def close(self) -> None:
        self.child.close(force=True)

    def _read(self) -> None:
        try:
            data = self.child.read_nonblocking(65536, timeout=0.05)
        except pexpect.TIMEOUT:
            return
        except pexpect.EOF:
            self.child.flag_eof = True
            return
        self.raw += data
        data = self._rest + data
        text = data.decode("utf-8", "ignore")
        cut = len(text.encode())  # what is left is half a character
        self._rest = data[cut:] if cut <= len(data) else b""
        self.screen.write(text)


def program(scenario: str, folder: Path, *arguments: str) -> list[str]:
    """Return the command that runs the program with a scripted backend."""
    return [sys.executable, "-m", "tests.chat.terminal.program", scenario, str(folder), *arguments]
