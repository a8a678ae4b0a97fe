"""Markdown on a terminal while it is being written: finished blocks are printed once, the open one is repainted."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from chat.terminal.markdown import TAB_SIZE, Block, Look, render_code, render_markdown, split_blocks
from chat.terminal.painter import Painter, printable

__all__ = ["MarkdownStream"]

MIN_INTERVAL_S = 0.03  # between two repaints: faster than the eye, and 50 ms after arrival at most


class MarkdownStream:
    """Markdown as rows, finished blocks printed once.

    Args:
        write: writes text to the terminal at once.
        size: returns (columns, lines) of the terminal.
        look: says how to render, for the terminal as it is now.
        code_label: returns the row above the code block of a language and a number, counted from 1.
    """

    def __init__(
        self,
        write: Callable[[str], None],
        size: Callable[[], tuple[int, int]],
        look: Callable[[], Look],
        code_label: Callable[[str, int], str],
    ) -> None:
        self._painter = Painter(write, size)
        self._look = look
        self._code_label = code_label
        self._source = ""  # of the open block, and of what has not been looked at yet
        self._num_blocks = 0
        self._num_code_blocks = 0
        self._num_code_rows: int | None = None  # printed of the open block of code; None if none is open
        self._next_paint_s = 0.0

    def feed(self, text: str) -> None:
        """Take a piece of the answer."""
        self._source += printable(text)

    def flush(self) -> None:
        """Show what has come, unless the last time was too short ago for what it cost."""
        started_s = time.monotonic()
        if started_s >= self._next_paint_s:
            self._paint(final=False)
            now_s = time.monotonic()
            self._next_paint_s = now_s + max(MIN_INTERVAL_S, now_s - started_s)  # at most half of the time is painting

    def finish(self) -> None:
        """Show all of it for good."""
        self._paint(final=True)

    def _paint(self, *, final: bool) -> None:
        blocks = split_blocks(self._source)
        if not blocks:
            return
        open_block = blocks.pop()
        for block in blocks:
            self._finish_block(block)
        self._source = open_block.source
        if final:
            self._finish_block(open_block)
            self._source = ""
        elif open_block.kind == "fence":
            self._show_code(open_block)
        else:
            self._painter.show(self._spaced(self._open_rows(open_block)))

    def _finish_block(self, block: Block) -> None:
        if block.kind == "fence":
            self._finish_code(block)
        elif block.kind == "table_open" and not self._painter.fits():
            self._painter.commit()  # its beginning has left the screen: as it was typed is better than half of each
        else:
            self._painter.commit(self._spaced(self._render(block)))
        self._num_blocks += 1

    def _open_rows(self, block: Block) -> list[str]:
        """Return the rows of a block that is still growing. A table is shown as typed until its columns are known."""
        return block.source.rstrip("\n").split("\n") if block.kind == "table_open" else self._render(block)

    def _render(self, block: Block) -> list[str]:
        try:
            return render_markdown(block.source, self._look())
        except Exception:
            return block.source.rstrip("\n").split("\n")

    def _spaced(self, rows: list[str]) -> list[str]:
        return ["", *rows] if self._num_blocks else rows

    def _show_code(self, block: Block) -> None:
        """Print the lines of code that are complete; show the last one as it grows."""
        if "\n" not in block.source:
            return  # the language may still be half written
        if self._num_code_rows is None:
            self._num_code_blocks += 1
            self._num_code_rows = 0
            self._painter.commit(self._spaced([self._code_label(block.language, self._num_code_blocks)]))
        lines = block.code.split("\n")
        open_line = "" if block.closed else lines[-1]
        self._print_code(block, lines[:-1])
        if open_line and open_line.strip(" `~"):  # not the first marks of the fence's end
            self._painter.show(open_line.expandtabs(TAB_SIZE).split("\n"))

    def _print_code(self, block: Block, lines: list[str]) -> None:
        assert self._num_code_rows is not None
        if len(lines) > self._num_code_rows:
            rows = render_code("\n".join(lines), block.language, self._look())
            self._painter.commit(rows[self._num_code_rows :])
            self._num_code_rows = len(lines)

    def _finish_code(self, block: Block) -> None:
        block = replace(block, source=block.source + "\n")
        self._show_code(block)
        lines = block.code.split("\n")
        self._print_code(block, lines[:-1] if lines[-1] == "" else lines)
        self._painter.commit([self._code_label("", 0)])
        self._num_code_rows = None
