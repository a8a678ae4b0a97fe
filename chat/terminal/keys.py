"""What the keys do while a line is being typed: see :func:`make_bindings`, and ``/help keys``."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition
from prompt_toolkit.input.ansi_escape_sequences import ANSI_SEQUENCES
from prompt_toolkit.key_binding import KeyBindings
from prompt_toolkit.key_binding.key_processor import KeyPressEvent
from prompt_toolkit.keys import Keys
from wcwidth import grapheme_boundary_before, iter_graphemes

__all__ = ["Folds", "is_open_block", "make_bindings", "unquote_block", "whole_characters"]

BLOCK_MARK = '"""'
HALVES = re.compile("[\ud800-\udfff]")
MAX_PASTED_LINES = 20  # longer pastes are shown as one mark, so that the screen stays readable

# Shift-Enter, in terminals that tell it from Enter (kitty's and xterm's ways), does what Alt-Enter does.
for _sequence in ("\x1b[13;2u", "\x1b[27;2;13~"):
    ANSI_SEQUENCES[_sequence] = (Keys.Escape, Keys.ControlM)


@dataclass(slots=True)
class Folds:
    """Long pastes that stand in the line as a mark such as ``[pasted 212 lines]``.

    Args:
        label: words for a paste of so many lines.
    """

    label: Callable[[int], str]
    texts: dict[str, str] = field(default_factory=dict)

    def fold(self, text: str) -> str:
        """Return what to insert for a pasted text: itself, or a mark if it is long."""
        num_lines = text.count("\n") + 1
        if num_lines <= MAX_PASTED_LINES:
            return text
        mark = f"[{self.label(num_lines)}]"
        copy = 2
        while self.texts.get(mark, text) != text:
            mark = f"[{self.label(num_lines)} #{copy}]"
            copy += 1
        self.texts[mark] = text
        return mark

    def expand(self, text: str) -> str:
        """Return the text with every mark replaced by what was pasted."""
        for mark, pasted in self.texts.items():
            text = text.replace(mark, pasted)
        return text

    def mark_before(self, text: str) -> str:
        """Return the mark that a text ends with, or nothing."""
        return next((mark for mark in self.texts if text.endswith(mark)), "")


def whole_characters(text: str) -> str:
    """Return a text with U+FFFD for bytes that are no UTF-8, which come from the terminal as halves of characters.

    No file, store or model takes those.
    """
    return HALVES.sub("\ufffd", text)


def is_open_block(text: str) -> bool:
    '''Tell whether a text begins a """ block that does not end yet.

    >>> is_open_block('"""one'), is_open_block('"""one"""'), is_open_block("one")
    (True, False, False)
    '''
    text = text.strip()
    return text.startswith(BLOCK_MARK) and not (len(text) >= 2 * len(BLOCK_MARK) and text.endswith(BLOCK_MARK))


def unquote_block(text: str) -> str:
    r'''Return what stands between """ and """, or the text itself if it is no block.

    >>> unquote_block('"""\none\n\ntwo\n"""')
    'one\n\ntwo'
    '''
    stripped = text.strip()
    if not stripped.startswith(BLOCK_MARK) or is_open_block(stripped):
        return text
    inner = stripped[len(BLOCK_MARK) : -len(BLOCK_MARK)]
    return inner.removeprefix("\n").removesuffix("\n")


def make_bindings(folds: Folds, is_multiline: Callable[[], bool]) -> KeyBindings:
    """Return the key bindings of the line.

    Enter sends; Alt-Enter, Ctrl-J and Shift-Enter make a new line (``/multiline`` swaps Enter and Alt-Enter). Ctrl-C
    clears the line and keeps it for Up; on an empty line it asks to leave, as Ctrl-D does at once. Ctrl-Z suspends.
    Ctrl-X Ctrl-E opens the line in the editor; Ctrl-X Ctrl-P opens a folded paste. Backspace, Delete, Left and Right
    move by what a person calls a character, however many code points it has.
    """
    bindings = KeyBindings()
    _bind_enter(bindings, is_multiline)
    _bind_leaving(bindings)
    _bind_pasting(bindings, folds)
    _bind_characters(bindings, folds)
    _bind_negative_counts(bindings)
    # A program before this one has left the mouse on. prompt_toolkit fails at reports that lack their numbers.
    bindings.add(Keys.Vt100MouseEvent)(lambda event: None)
    return bindings


def _bind_enter(bindings: KeyBindings, is_multiline: Callable[[], bool]) -> None:
    def send(event: KeyPressEvent) -> None:
        event.current_buffer.validate_and_handle()

    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    @bindings.add("enter")
    def _enter(event: KeyPressEvent) -> None:
        # More keys in the same read: a paste from a terminal that does not mark pastes. It is one message.
        pasted = bool(event.app.key_processor.input_queue)
        if pasted or is_multiline() or is_open_block(event.current_buffer.text):
            new_line(event)
        else:
            send(event)

    @bindings.add("escape", "enter")
    def _alt_enter(event: KeyPressEvent) -> None:
        (send if is_multiline() else new_line)(event)

    bindings.add("c-j")(new_line)


def _bind_leaving(bindings: KeyBindings) -> None:
    @bindings.add("c-c")
    @bindings.add("<sigint>")
    def _interrupt(event: KeyPressEvent) -> None:
        buffer = event.app.current_buffer
        if buffer.text:
            buffer.append_to_history()
            buffer.reset()
        else:
            event.app.exit(exception=KeyboardInterrupt)

    @bindings.add("c-z")
    def _suspend(event: KeyPressEvent) -> None:
        event.app.suspend_to_background()


def _bind_pasting(bindings: KeyBindings, folds: Folds) -> None:
    @bindings.add(Keys.BracketedPaste)
    def _paste(event: KeyPressEvent) -> None:
        text = whole_characters(event.data).replace("\r\n", "\n").replace("\r", "\n")
        event.current_buffer.insert_text(folds.fold(text))

    @bindings.add("c-x", "c-p")
    def _unfold(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        buffer.text = folds.expand(buffer.text)
        buffer.cursor_position = len(buffer.text)


def _bind_negative_counts(bindings: KeyBindings) -> None:
    """Let Up go down after a negative count (Alt-minus), as in Emacs and readline; prompt_toolkit fails at it."""
    is_negative = Condition(lambda: (get_app().key_processor.arg or "").startswith("-"))

    @bindings.add("up", filter=is_negative)
    @bindings.add("c-p", filter=is_negative)
    def _down(event: KeyPressEvent) -> None:
        event.current_buffer.auto_down(count=-event.arg)

    @bindings.add("down", filter=is_negative)
    @bindings.add("c-n", filter=is_negative)
    def _up(event: KeyPressEvent) -> None:
        event.current_buffer.auto_up(count=-event.arg)


def _bind_characters(bindings: KeyBindings, folds: Folds) -> None:
    @bindings.add("backspace")
    def _backspace(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        before = buffer.document.text_before_cursor
        mark = folds.mark_before(before)
        buffer.delete_before_cursor(len(mark) or _length_before(before))

    @bindings.add("delete")
    def _delete(event: KeyPressEvent) -> None:
        event.current_buffer.delete(_length_after(event.current_buffer))

    @bindings.add("left")
    def _left(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        buffer.cursor_position -= _length_before(buffer.document.text_before_cursor)

    @bindings.add("right")
    def _right(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.suggestion and buffer.document.is_cursor_at_the_end:
            buffer.insert_text(buffer.suggestion.text)
        else:
            buffer.cursor_position += _length_after(buffer)


def _length_before(text: str) -> int:
    """Return how many code points the last character of a text has."""
    return len(text) - grapheme_boundary_before(text, len(text)) if text else 0


def _length_after(buffer: Buffer) -> int:
    """Return how many code points the character at the cursor has."""
    return len(next(iter_graphemes(buffer.document.text_after_cursor), ""))
