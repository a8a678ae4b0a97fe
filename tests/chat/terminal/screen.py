"""A terminal of a few dozen lines: what the escape sequences of this program leave on the screen."""

from __future__ import annotations

import re
from collections.abc import Callable

from wcwidth import iter_graphemes
from wcwidth import width as text_width

TOKEN = re.compile(
    r"\x1b\[[0-9;?]*[A-Za-z]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b.|[\x00-\x1f]|[^\x00-\x1f]+", re.DOTALL
)


class Screen:
    """Shows what is written to it. Rows that scroll out go to ``scrollback``.

    Args:
        reply: called with the answer when the program asks where the cursor is.
    """

    def __init__(self, columns: int = 40, lines: int = 20, reply: Callable[[str], object] = lambda _: None) -> None:
        self.columns, self.lines = columns, lines
        self.scrollback: list[str] = []
        self.num_repainted = 0  # rows that were gone back over
        self.modes: set[str] = set()  # private modes that are on, such as 2004 for marked pastes
        self.clipboard = ""  # as it was sent: base64
        self._reply = reply
        self._rows: list[list[str]] = [[]]
        self._y = self._x = 0
        self._moves: dict[str, Callable[[int], None]] = {
            "A": self._up,
            "B": lambda n: self._move(self._y + n, self._x),
            "C": lambda n: self._move(self._y, self._x + n),
            "D": lambda n: self._move(self._y, self._x - n),
            "G": lambda n: self._move(self._y, n - 1),
        }

    def size(self) -> tuple[int, int]:
        return self.columns, self.lines

    @property
    def text(self) -> str:
        """Everything that was ever shown, as a person would copy it."""
        rows = [*self.scrollback, *("".join(row).rstrip() for row in self._rows)]
        return "\n".join(rows).rstrip("\n")

    @property
    def cursor(self) -> tuple[int, int]:
        return self._x, self._y

    def write(self, text: str) -> None:
        for token in TOKEN.findall(text):
            if token.startswith("\x1b["):
                self._control(token)
            elif token.startswith("\x1b]52;c;"):
                self.clipboard = token[7:].rstrip("\x07\x1b\\")
            elif token == "\r":
                self._x = 0
            elif token == "\n":
                self._down()
            elif token == "\b":
                self._x = max(self._x - 1, 0)
            elif token >= " ":
                self._print(token)

    def _control(self, token: str) -> None:
        argument, kind = token[2:-1], token[-1]
        if argument.startswith("?"):
            (self.modes.add if kind == "h" else self.modes.discard)(argument[1:])
        elif kind in self._moves:
            self._moves[kind](int(argument or 1))
        elif kind == "H":
            y, x = [int(part or 1) for part in (argument or "1;1").split(";")]
            self._move(y - 1, x - 1)
        elif kind == "J" and argument == "2":
            self._rows = [[] for _ in self._rows]
        elif kind == "J":
            del self._rows[self._y + 1 :]
            self._erase_row()
        elif kind == "K":
            self._erase_row()
        elif kind == "n" and argument == "6":
            self._reply(f"\x1b[{self._y + 1};{self._x + 1}R")

    def _up(self, count: int) -> None:
        self.num_repainted += count
        self._move(self._y - count, self._x)

    def _move(self, y: int, x: int) -> None:
        self._y, self._x = min(max(y, 0), self.lines - 1), min(max(x, 0), self.columns - 1)
        while len(self._rows) <= self._y:
            self._rows.append([])

    def _erase_row(self) -> None:
        del self._rows[self._y][self._x :]

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
            self.scrollback.append("".join(self._rows.pop(0)).rstrip())
            self._y -= 1
