"""A terminal of a few dozen lines: enough to see what the painter's escape sequences leave on the screen."""

from __future__ import annotations

import re

from wcwidth import iter_graphemes
from wcwidth import width as text_width

TOKEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+")


class Screen:
    """Shows what is written to it. Rows that scroll out go to ``scrollback``."""

    def __init__(self, columns: int = 40, lines: int = 20) -> None:
        self.columns, self.lines = columns, lines
        self.scrollback: list[str] = []
        self._rows: list[list[str]] = [[]]
        self._y = self._x = 0
        self.num_repainted = 0  # rows that were gone back over

    def size(self) -> tuple[int, int]:
        return self.columns, self.lines

    @property
    def text(self) -> str:
        """Everything that was ever shown, as a person would copy it."""
        rows = [*self.scrollback, *("".join(row) for row in self._rows)]
        return "\n".join(rows).rstrip("\n")

    def write(self, text: str) -> None:
        for token in TOKEN.findall(text):
            if token == "\r":
                self._x = 0
            elif token == "\n":
                self._down()
                self._x = 0
            elif not token.startswith("\x1b"):
                self._print(token)
            elif token.endswith("A"):
                count = int(token[2:-1] or 1)
                self.num_repainted += count
                self._y = max(0, self._y - count)
            elif token.endswith("J") and token[2:-1] in ("", "0"):
                self._rows = self._rows[: self._y + 1]
                self._rows[self._y] = self._rows[self._y][: self._x]

    def _print(self, text: str) -> None:
        for cluster in iter_graphemes(text):
            cells = max(text_width(cluster), 0)
            if self._x + cells > self.columns:
                self._down()
                self._x = 0
            row = self._rows[self._y]
            row += [" "] * (self._x - len(row))
            row[self._x : self._x + cells] = [cluster, *[""] * (cells - 1)]
            self._x += cells

    def _down(self) -> None:
        self._y += 1
        if self._y == len(self._rows):
            self._rows.append([])
        if len(self._rows) > self.lines:
            self.scrollback.append("".join(self._rows.pop(0)))
            self._y -= 1
