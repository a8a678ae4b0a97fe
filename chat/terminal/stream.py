"""Where the text of an answer goes as it arrives: :class:`RawStream`, or a MarkdownStream (its own module)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from chat.terminal.painter import printable

__all__ = ["AnswerStream", "RawStream"]

ZERO_WIDTH_JOINER = "\u200d"


class AnswerStream(Protocol):
    """Where the text of one answer goes."""

    def feed(self, text: str) -> None:
        """Take the next piece, and show it, at once or with the next pieces."""

    def flush(self) -> None:
        """Show what has been fed and is not shown yet, if it is time to."""

    def finish(self) -> None:
        """Show everything, and end with a new line."""


class RawStream:
    """Text as it is, appended. Keeps back half of a joined character until the other half is there."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._kept_back = ""
        self._at_line_start = True

    def feed(self, text: str) -> None:
        """Show a piece of the answer."""
        text = self._kept_back + text
        self._kept_back = ""
        if text.endswith(ZERO_WIDTH_JOINER):
            text, self._kept_back = text[:-2], text[-2:]
        self._append(text)

    def flush(self) -> None:
        """Nothing waits here: each piece is shown as it comes."""
        pass

    def finish(self) -> None:
        """Show what was kept back."""
        self._append(self._kept_back)
        self._kept_back = ""
        if not self._at_line_start:
            self._append("\n")

    def _append(self, text: str) -> None:
        if text:
            self._write(printable(text))
            self._at_line_start = text.endswith("\n")
