"""All output of the terminal program goes through a :class:`Display`.

Answers go to one stream; everything else (notes, tables, errors) to another, so that the answers to a file of questions
can be piped. On a terminal the two are the same. What is shown never depends on colour alone.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TextIO

from wcwidth import ljust, rjust, wrap
from wcwidth import width as text_width

from chat.session.error_texts import error_words
from chat.terminal.painter import Painter, printable
from chat.terminal.stream import AnswerStream, RawStream
from chat.terminal.texts import Texts
from chatcore.errors import ChatError

if TYPE_CHECKING:
    from chat.terminal.markdown import Look

__all__ = ["Display", "Mode", "find_mode"]

ColorSystem = Literal["standard", "256", "truecolor"]

DIM, YELLOW, RED, PLAIN = "\x1b[2m", "\x1b[33m", "\x1b[31m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Mode:
    """What the terminal can do, and what the person at it wants.

    Args:
        editing: lines are edited with prompt_toolkit.
        repainting: rows may be repainted: Markdown, counters, a toolbar.
        color_system: as rich calls it; None for no escape sequences in the output.
        no_color: bold and dim, but no colours.
        labels: "You:" and the model's name stand before what is said, for screen readers.
    """

    editing: bool = False
    repainting: bool = False
    color_system: ColorSystem | None = None
    no_color: bool = False
    labels: bool = False


def find_mode(
    *, is_terminal: bool, output_is_terminal: bool, plain: bool, environ: Mapping[str, str] = os.environ
) -> Mode:
    """Return what fits the terminal and the environment: NO_COLOR, TERM=dumb, ACCESSIBLE, --plain.

    Args:
        is_terminal: input and output are terminals.
        output_is_terminal: output is one.
        plain: the option --plain.

    >>> find_mode(is_terminal=True, output_is_terminal=True, plain=False, environ={"TERM": "dumb"})
    Mode(editing=False, repainting=False, color_system=None, no_color=False, labels=False)
    """
    accessible = environ.get("ACCESSIBLE", "") not in ("", "0")
    dumb = environ.get("TERM", "dumb") in ("dumb", "unknown", "")
    if not output_is_terminal or dumb:
        return Mode(labels=accessible)
    repainting = not plain and not accessible
    no_color = bool(environ.get("NO_COLOR"))  # no-color.org: present and not empty
    return Mode(
        editing=is_terminal,
        repainting=repainting,
        color_system=_color_system(environ) if repainting else None,
        no_color=no_color,
        labels=accessible,
    )


def _color_system(environ: Mapping[str, str]) -> ColorSystem:
    if environ.get("COLORTERM", "").lower() in ("truecolor", "24bit"):
        return "truecolor"
    return "256" if "256" in environ.get("TERM", "") else "standard"


class Display:
    """Writes to the terminal.

    Args:
        mode: what may be written.
        texts: the words.
        answers: where answers go.
        notes: where everything else goes.
    """

    def __init__(self, mode: Mode, texts: Texts, answers: TextIO, notes: TextIO) -> None:
        self.mode = mode
        self.texts = texts
        self.raw = not mode.repainting  # answers as plain text, not as Markdown
        self._answers = answers
        self._notes = notes
        self._status = Painter(self._write_note, self.size)
        self._status_text = ""

    def size(self) -> tuple[int, int]:
        """Return (columns, lines) of the terminal."""
        size = shutil.get_terminal_size()
        return size.columns, size.lines

    # -- notes: everything but answers --------------------------------------------------------------------------

    def line(self, text: str = "") -> None:
        """Print what a command has to say."""
        self.status("")
        self._write_note(printable(text) + "\n")

    def dim(self, text: str, *, wrapped: bool = True) -> None:
        """Print a remark that may be overlooked; its lines as they are, if they are not ours to wrap."""
        self.status("")
        text = self._wrapped(text) if wrapped else printable(text)
        self._write_note(self._styled(text, DIM) + "\n")

    def warn(self, text: str) -> None:
        """Print what should not be overlooked."""
        self.status("")
        self._write_note(self._styled(self._wrapped(text), YELLOW) + "\n")

    def error(self, error: ChatError) -> None:
        """Print what went wrong and, on a second line, what to do."""
        self.status("")
        message, hint = error_words(error, self.texts.language)
        self._write_note(self._styled(self._wrapped(self.texts("error", message=message)), RED) + "\n")
        if hint:
            self._write_note(self._wrapped(self.texts("hint", hint=hint)) + "\n")

    def prompt(self, text: str) -> None:
        """Print a prompt: no newline behind it."""
        self._write_note(text)

    def table(self, rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
        """Print rows as columns; those whose numbers are in ``right`` are aligned to the right."""
        if not rows:
            return
        widths = [max(text_width(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            cells = [
                rjust(cell, widths[column]) if column in right else ljust(cell, widths[column])
                for column, cell in enumerate(row)
            ]
            self.line("  ".join(cells).rstrip())

    def status(self, text: str) -> None:
        """Show a line that is replaced by the next output; nothing where rows cannot be repainted."""
        if self.mode.repainting and text != self._status_text:
            self._status.show([self._styled(printable(text), DIM)] if text else [])
            self._status_text = text

    def escape(self, sequence: str) -> None:
        """Send an escape sequence, such as the one that sets the clipboard."""
        if self.mode.editing:
            self._write_note(sequence)

    # -- answers ------------------------------------------------------------------------------------------------

    def answer(self) -> AnswerStream:
        """Return where the text of the next answer goes."""
        if self.raw:
            return RawStream(self._write_answer)
        from chat.terminal.markdown_stream import MarkdownStream

        return MarkdownStream(self._write_answer, self.size, self.look, self._code_label)

    def thinking(self) -> AnswerStream:
        """Return where the thinking goes, if it is shown in full."""
        return RawStream(lambda text: self._write_note(self._styled(text, DIM)))

    def markdown(self, text: str) -> None:
        """Print a whole answer."""
        stream = self.answer()
        stream.feed(text)
        stream.finish()

    def look(self) -> Look:
        """Return how Markdown is rendered now."""
        from chat.terminal.markdown import Look

        return Look(self.size()[0], self.mode.color_system, self.mode.no_color)

    def _code_label(self, language: str, number: int) -> str:
        name = f"── {language or 'text'} · /copy code {number}" if number else "──"
        return self._styled(name, DIM)

    def _styled(self, text: str, style: str) -> str:
        if not self.mode.color_system or not text or (self.mode.no_color and style != DIM):
            return text
        return "\n".join(f"{style}{line}{PLAIN}" if line else line for line in text.split("\n"))

    def _wrapped(self, text: str) -> str:
        """Return a note of ours, broken between words where the terminal would break inside them."""
        lines = printable(text).split("\n")
        if not self.mode.repainting:
            return "\n".join(lines)
        columns = max(self.size()[0], 20)
        return "\n".join("\n".join(wrap(line, columns)) if text_width(line) > columns else line for line in lines)

    def _write_answer(self, text: str) -> None:
        self._answers.write(text)
        self._answers.flush()

    def _write_note(self, text: str) -> None:
        self._notes.write(text)
        self._notes.flush()
