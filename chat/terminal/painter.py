"""Rows on a terminal: finished ones are printed once and never touched again, open ones may still change.

No alternate screen, no cursor movement above the open rows: what has been printed stays in the scrollback as it was,
and can be copied from there. Rows that have left the screen cannot be repainted and are left as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wcwidth import iter_graphemes, strip_sequences
from wcwidth import width as text_width

__all__ = ["Painter", "Row", "printable"]

ERASE_BELOW = "\x1b[J"

# C0 and C1 controls become visible pictures: an answer must not be able to move the cursor or set the clipboard.
_CONTROLS = {code: chr(0x2400 + code) for code in range(0x20) if code not in (0x09, 0x0A)}
_CONTROLS |= dict.fromkeys((*range(128, 160), *range(55296, 57344)), "�")
_CONTROLS[0x7F] = "\N{SYMBOL FOR DELETE}"


def printable(text: str) -> str:
    r"""Return text that a terminal shows and does not obey: controls, but for tab and newline, become pictures.

    >>> printable("a\x1b[31mb\tc")
    'a␛[31mb\tc'
    """
    return text.replace("\r\n", "\n").translate(_CONTROLS)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of output; a long one may take several rows of the screen.

    ``text`` may hold escape sequences for colour, and no other ones.
    """

    text: str

    def height(self, columns: int) -> int:
        """Return how many rows of the screen the line takes, wide characters at the edge included."""
        used, rows = 0, 1
        for cluster in iter_graphemes(strip_sequences(self.text)):
            cells = max(text_width(cluster), 0)
            if used + cells > columns:
                rows, used = rows + 1, 0
            used += cells
        return rows


class Painter:
    """Writes rows to a terminal; only the open rows are ever repainted.

    Args:
        write: writes text to the terminal at once.
        size: returns (columns, lines) of the terminal.
    """

    def __init__(self, write: Callable[[str], None], size: Callable[[], tuple[int, int]]) -> None:
        self._write = write
        self._size = size
        self._shown: list[Row] = []

    def show(self, texts: Sequence[str]) -> None:
        """Make the open rows these, changing on the screen only what differs from what is there."""
        rows = [Row(text) for text in texts]
        start = self._first_to_repaint(rows)
        if start == len(self._shown) == len(rows):
            return
        if start >= len(rows):  # fewer rows than before: the last one that stays is written again, the rest erased
            start = max(len(rows) - 1, 0)
        lead = "\r\n" if start == len(self._shown) > 0 else self._to_start_of(start) + ERASE_BELOW
        self._write(lead + "\r\n".join(row.text for row in rows[start:]))
        self._shown = rows

    def commit(self, texts: Sequence[str] | None = None) -> None:
        """Print the open rows for good, as they are or as these, and begin a new row."""
        if texts is not None:
            self.show(texts)
        if self._shown:
            self._write("\r\n")
        self._shown = []

    def fits(self) -> bool:
        """Tell whether all open rows are still on the screen, so that they can be repainted."""
        columns, lines = self._size()
        return sum(row.height(columns) for row in self._shown) < lines

    def _first_to_repaint(self, rows: Sequence[Row]) -> int:
        """Return the index of the first row that differs and is still on the screen."""
        common = 0
        for old, new in zip(self._shown, rows, strict=False):
            if old != new:
                break
            common += 1
        columns, lines = self._size()
        reachable, height = len(self._shown), 0
        while reachable > 0:
            height += self._shown[reachable - 1].height(columns)
            if height >= lines:
                break
            reachable -= 1
        return max(common, reachable)

    def _to_start_of(self, index: int) -> str:
        """Return the escape sequence that brings the cursor to the first column of an open row."""
        if index >= len(self._shown):
            return ""
        columns, lines = self._size()
        up = min(sum(row.height(columns) for row in self._shown[index:]), lines) - 1
        return "\r" + (f"\x1b[{up}A" if up > 0 else "")
