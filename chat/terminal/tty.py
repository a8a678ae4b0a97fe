"""The terminal itself: its modes, its signals, and the keyboard while an answer is being written.

See docs/decisions/0003-terminal-threads.md for who reads keys when, and why.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import signal
import termios
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

from prompt_toolkit.input.vt100_parser import Vt100Parser
from prompt_toolkit.key_binding.key_processor import KeyPress
from prompt_toolkit.keys import Keys
from wcwidth import grapheme_boundary_before

__all__ = ["Signals", "Terminated", "TypeAhead", "keys_to_text", "own_modes", "usual_modes"]

PASTE_MARKS_ON = b"\x1b[?2004h"
PASTE_MARKS_OFF = b"\x1b[?2004l"
IUTF8 = 0x4000  # Linux and macOS: the kernel, too, erases whole characters; the termios module has no name for it
LFLAG = 3
IFLAG = 0
READ_BYTES = 65536


class Terminated(BaseException):
    """The process was told to end, by a signal."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        super().__init__(signum)


@contextlib.contextmanager
def own_modes(fd: int | None) -> Iterator[None]:
    """Read keys one by one and unechoed, from now until the block ends, however it ends.

    Without this, what is typed between two prompts would be echoed into the middle of an answer.
    """
    if fd is None:
        yield
        return
    usual = termios.tcgetattr(fd)
    _modes[fd] = usual
    try:
        _set_own_modes(fd)
        yield
    finally:
        _modes.pop(fd, None)
        termios.tcsetattr(fd, termios.TCSADRAIN, usual)


@contextlib.contextmanager
def usual_modes(fd: int | None) -> Iterator[None]:
    """Give the terminal back as it was found, for an editor or while suspended."""
    if fd is None or fd not in _modes:
        yield
        return
    termios.tcsetattr(fd, termios.TCSADRAIN, _modes[fd])
    try:
        yield
    finally:
        _set_own_modes(fd)


_modes: dict[int, list[Any]] = {}  # of each terminal that own_modes changed, how it was found


def _set_own_modes(fd: int) -> None:
    modes = termios.tcgetattr(fd)
    modes[IFLAG] |= IUTF8
    # ISIG stays: Ctrl-C and `kill -INT` are one path. NOFLSH: a Ctrl-C must not throw away what was typed before it.
    modes[LFLAG] = (modes[LFLAG] & ~(termios.ICANON | termios.ECHO)) | termios.ISIG | termios.NOFLSH
    termios.tcsetattr(fd, termios.TCSADRAIN, modes)


class TypeAhead:
    """Keeps what is typed or pasted during an answer. It becomes the next prompt's text, and is never sent by itself.

    Args:
        fd: the terminal; None if there is none.
        marks_pastes: whether the terminal understands the sequence that makes it mark pastes.
    """

    def __init__(self, fd: int | None, *, marks_pastes: bool = True) -> None:
        self.fd = fd
        self.text = ""
        self._marks_pastes = marks_pastes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parser = Vt100Parser(self._press)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Have pastes marked by the terminal, so that a pasted Escape or Tab is no key."""
        if self.fd is None:
            yield
            return
        if self._marks_pastes:
            os.write(self.fd, PASTE_MARKS_ON)
        try:
            yield
        finally:
            if self._marks_pastes:
                with contextlib.suppress(OSError):  # the terminal is gone
                    os.write(self.fd, PASTE_MARKS_OFF)
            self.read()
            self._parser.flush()

    def read(self) -> None:
        """Take what has been typed so far; never waits."""
        while self.fd is not None and select.select([self.fd], [], [], 0)[0]:
            try:
                data = os.read(self.fd, READ_BYTES)
            except OSError:
                data = b""
            if not data:
                raise Terminated(signal.SIGHUP)
            self._parser.feed(self._decoder.decode(data))

    def take(self) -> str:
        """Return the text and forget it."""
        self.read()
        text, self.text = self.text, ""
        return text

    def _press(self, press: KeyPress) -> None:
        self.text = _after(self.text, press)


def keys_to_text(presses: list[KeyPress]) -> str:
    """Return the text that a sequence of keys would type, Enter as a newline."""
    text = ""
    for press in presses:
        text = _after(text, press)
    return text


def _after(text: str, press: KeyPress) -> str:
    """Return the text as it is after one more key."""
    if press.key == Keys.BracketedPaste:
        return text + press.data.replace("\r\n", "\n").replace("\r", "\n")
    if press.key in (Keys.ControlM, Keys.ControlJ):
        return text + "\n"
    if press.key == Keys.ControlH:
        return text[: grapheme_boundary_before(text, len(text))] if text else ""
    if press.key == Keys.ControlU:
        return text[: text.rfind("\n") + 1]
    if press.key == Keys.ControlI:
        return text + "\t"
    return text + press.data if not isinstance(press.key, Keys) else text


class Signals:
    """Turns signals into calls, for as long as its block lasts.

    ``on_interrupt`` and ``on_terminate`` are set by whoever waits at the moment. Without them Ctrl-C is only
    remembered, so that it cannot tear a write to the store, and a request to end raises :class:`Terminated`.
    """

    def __init__(self, fd: int | None) -> None:
        self._fd = fd
        self._missed = False
        self.on_interrupt: Callable[[], None] = self.ignore
        self.on_terminate: Callable[[int], None] | None = None

    @contextlib.contextmanager
    def handled(self) -> Iterator[None]:
        """Handle Ctrl-C, Ctrl-Z, hang-up and termination; put back what was there before."""
        handlers = {
            signal.SIGINT: self._interrupt,
            signal.SIGTERM: self._terminate,
            signal.SIGHUP: self._terminate,
            signal.SIGTSTP: self._suspend,
        }
        try:
            before = {signum: signal.signal(signum, handler) for signum, handler in handlers.items()}
        except ValueError:  # not the main thread: whoever started us handles signals
            yield
            return
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let Ctrl-C raise KeyboardInterrupt in this block."""
        before, self.on_interrupt = self.on_interrupt, _raise_interrupt
        try:
            yield
        finally:
            self.on_interrupt = before

    def ignore(self) -> None:
        """Do nothing about Ctrl-C now, but remember it."""
        self._missed = True

    def take_missed(self) -> bool:
        """Tell, once, whether Ctrl-C was pressed while nobody waited."""
        missed, self._missed = self._missed, False
        return missed

    def _interrupt(self, signum: int, frame: FrameType | None) -> None:
        self.on_interrupt()

    def _terminate(self, signum: int, frame: FrameType | None) -> None:
        if self.on_terminate is None:
            raise Terminated(signum)
        self.on_terminate(signum)

    def _suspend(self, signum: int, frame: FrameType | None) -> None:
        """Stop as if there were no handler, but with the terminal as it was found."""
        with usual_modes(self._fd):
            signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGTSTP)
            signal.signal(signal.SIGTSTP, self._suspend)


def _raise_interrupt() -> None:
    raise KeyboardInterrupt
