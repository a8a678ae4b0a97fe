"""Where lines come from: prompt_toolkit on a terminal, else plain lines from standard input.

A reader returns what was typed together with the draft that is left: keys that came after Enter, or a line that was
being typed when the prompt had to be left because the model became ready for a message that waits.
"""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TextIO

from prompt_toolkit import PromptSession
from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import Completer, ThreadedCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import History
from prompt_toolkit.input import Input
from prompt_toolkit.input.typeahead import get_typeahead
from prompt_toolkit.output import ColorDepth, Output
from prompt_toolkit.styles import Style

from chat.terminal.keys import Folds, is_open_block, make_bindings, unquote_block, whole_characters
from chat.terminal.tty import Signals, Terminated, keys_to_text, usual_modes

__all__ = ["EditedLines", "Line", "LineReader", "PlainLines", "PromptView"]

POLL_INTERVAL_S = 0.2  # while the model loads
AFTER_DRAWING_S = 0.02
IDLE_INTERVAL_S = 1.0  # afterwards: an engine can die while nobody asks it anything
COUNT_DELAY_S = 0.15  # after the last key, before the tokens of the line are counted
MENU_ROWS = 6

STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "bottom-toolbar": "noreverse",
        "bottom-toolbar.text": "",
        "dim": "#888888",
        "warn": "ansiyellow",
        "alarm": "ansired bold",
        "auto-suggestion": "#888888",
    }
)


@dataclass(frozen=True, slots=True)
class Line:
    """What a reader returns. ``text`` is None if the prompt was left because something else is to be done."""

    text: str | None
    draft: str = ""


class PromptView(Protocol):
    """What a prompt shows, and asks for while it waits."""

    def label(self) -> str:
        """Return what stands before the cursor."""

    def toolbar(self) -> StyleAndTextTuples:
        """Return the line at the bottom."""

    def is_loading(self) -> bool:
        """Tell whether the toolbar changes by itself."""

    def shown(self) -> None:
        """Hear that the prompt is on the screen."""

    def must_leave(self) -> bool:
        """Tell whether the prompt has to be left, for a message that waits or for news that must be told."""

    def counter(self, text: str) -> Callable[[], None] | None:
        """Return what counts the tokens of the line being typed, to be called in another thread."""


class LineReader(Protocol):
    """Gives the lines that a person types."""

    def read(self, draft: str = "") -> Line:
        """Return the next line; begin with a draft.

        Raises:
            EOFError: Ctrl-D, or the end of the input.
            KeyboardInterrupt: Ctrl-C on an empty line.
        """

    def ask(self, question: str) -> str | None:
        """Return the answer to a short question; None for Ctrl-C and Ctrl-D."""


class PlainLines:
    """Lines from a stream without any editing of ours: not a terminal, or one that can do nothing (TERM=dumb).

    A block between two lines of \"\"\" is one message.

    Args:
        stream: where lines come from.
        write: writes a prompt, at once and without a newline.
        view: gives the prompt.
        fd: the terminal; None if there is none, and then no prompts are written.
        kept: words for a draft that cannot be put into the line.
        signals: told when Ctrl-C may interrupt.
    """

    def __init__(
        self,
        stream: TextIO,
        write: Callable[[str], None],
        view: PromptView,
        fd: int | None,
        kept: Callable[[str], str],
        signals: Signals,
    ) -> None:
        self._stream = stream
        self._write = write
        self._view = view
        self._fd = fd
        self._kept = kept
        self._signals = signals
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")

    def read(self, draft: str = "") -> Line:
        """Return the next line, or block between triple quotes."""
        if draft:
            self._write(self._kept(draft))
        text = self._read_line(self._view.label())
        if draft and not text.strip():
            return Line(draft)
        if draft and text.startswith("/"):
            return Line(text, draft)
        while is_open_block(text):
            text += "\n" + self._read_line("")
        return Line(unquote_block(text))

    def ask(self, question: str) -> str | None:
        """Return the answer to a question; None at the end of the input."""
        try:
            self._write(question + (" " if self._fd is not None else "\n"))
            if self._signals.take_missed():  # Ctrl-C, a moment before the question was there
                return None
            return self._read_line("").strip()
        except (EOFError, KeyboardInterrupt):
            return None

    def _read_line(self, label: str) -> str:
        with usual_modes(self._fd), self._signals.interruptible():
            if self._fd is not None:
                self._write(label)
            line = self._stream.readline()
        if not line:
            raise EOFError
        return line.removesuffix("\n").removesuffix("\r")


class EditedLines:
    """Lines edited with prompt_toolkit, with a toolbar, completion and history.

    Args:
        view: what to show.
        history: what Up and Ctrl-R find.
        completer: what Tab completes.
        folds: where long pastes are kept.
        signals: told how to end a prompt when the process is told to end.
        is_multiline: whether Enter makes a new line.
        with_toolbar: False for people who read with a screen reader or want nothing but text.
        with_color: False to leave all colours out.
    """

    def __init__(
        self,
        view: PromptView,
        *,
        history: History,
        completer: Completer,
        folds: Folds,
        signals: Signals,
        is_multiline: Callable[[], bool],
        with_toolbar: bool = True,
        with_color: bool = True,
        input: Input | None = None,
        output: Output | None = None,
    ) -> None:
        self._view = view
        self._folds = folds
        self._signals = signals
        self._changed = asyncio.Event()
        self._left = False
        self._session: PromptSession[str] = PromptSession(
            message=lambda: [("class:prompt", view.label())],
            multiline=True,
            prompt_continuation=_continuation,
            key_bindings=make_bindings(folds, is_multiline),
            history=history,
            completer=ThreadedCompleter(completer),
            complete_while_typing=Condition(self._is_completing),
            auto_suggest=AutoSuggestFromHistory() if with_toolbar else None,
            bottom_toolbar=view.toolbar if with_toolbar else None,
            style=STYLE,
            color_depth=None if with_color else ColorDepth.DEPTH_1_BIT,
            enable_open_in_editor=True,
            tempfile_suffix=".md",
            search_ignore_case=True,
            reserve_space_for_menu=MENU_ROWS,
            enable_suspend=False,
            include_default_pygments_style=False,
            input=input,
            output=output,
        )
        self._session.default_buffer.on_text_changed += self._text_changed

    def _text_changed(self, buffer: Buffer) -> None:
        if buffer.text != (text := whole_characters(buffer.text)):
            buffer.document = Document(text, buffer.cursor_position)
        self._changed.set()

    def read(self, draft: str = "") -> Line:
        """Let a line be edited; return it, or why there is none."""
        self._signals.on_terminate = self._terminate
        app = self._session.app
        try:
            text = self._session.prompt(default=draft, pre_run=self._begin)
        finally:
            self._signals.on_terminate = None
            rest = keys_to_text(get_typeahead(app.input))
        if self._left:
            return Line(None, self._folds.expand(text) + rest)
        return Line(unquote_block(self._folds.expand(text)), rest)

    def ask(self, question: str) -> str | None:
        """Return the answer to a question; None if there is none."""
        asking: PromptSession[str] = PromptSession(
            input=self._session.input, output=self._session.output, include_default_pygments_style=False
        )

        def begin() -> None:
            if self._signals.take_missed():  # as above
                asyncio.get_running_loop().call_soon(lambda: asking.app.exit(exception=KeyboardInterrupt))

        try:
            return asking.prompt(f"{question} ", pre_run=begin).strip()
        except (EOFError, KeyboardInterrupt):
            return None

    def _begin(self) -> None:
        self._left = False
        self._session.app.erase_when_done = False
        self._changed = asyncio.Event()  # one for each prompt: it belongs to the prompt's event loop
        app = self._session.app
        if self._signals.take_missed():  # pressed when nobody waited for it, a moment ago
            asyncio.get_running_loop().call_soon(lambda: app.exit(exception=KeyboardInterrupt))
        app.create_background_task(self._watch())
        app.create_background_task(self._count())

    async def _watch(self) -> None:
        """Redraw the toolbar while the model loads; leave the prompt when there is something else to do."""
        app = self._session.app
        was_loading = False
        await asyncio.sleep(AFTER_DRAWING_S)
        self._view.shown()
        await asyncio.sleep(POLL_INTERVAL_S)
        while not self._view.must_leave():
            is_loading = self._view.is_loading()
            if is_loading or was_loading:
                app.invalidate()
            was_loading = is_loading
            await asyncio.sleep(POLL_INTERVAL_S if is_loading else IDLE_INTERVAL_S)
        if not app.is_done:
            self._left = True
            app.erase_when_done = True  # the line is not sent: it will be in the next prompt
            app.exit(result=self._session.default_buffer.text)

    async def _count(self) -> None:
        """Have the tokens of the line counted when nothing has been typed for a moment, one count at a time."""
        app = self._session.app
        while True:
            await self._changed.wait()
            while self._changed.is_set():
                self._changed.clear()
                await asyncio.sleep(COUNT_DELAY_S)
            if count := self._view.counter(self._folds.expand(self._session.default_buffer.text)):
                # A thread of its own: the event loop would wait for a thread of its pool before it ends.
                thread = threading.Thread(target=count, daemon=True)
                thread.start()
                while thread.is_alive():
                    await asyncio.sleep(0.02)
            app.invalidate()

    def _is_completing(self) -> bool:
        """Open the menu by itself only for commands and @paths; Tab opens it anywhere."""
        before = self._session.default_buffer.document.text_before_cursor
        return before.startswith(("/", "／")) or before.rpartition(" ")[2].startswith("@")

    def _terminate(self, signum: int) -> None:
        loop = self._session.app.loop
        if loop is None or self._session.app.is_done:
            raise Terminated(signum)
        loop.call_soon_threadsafe(lambda: self._session.app.exit(exception=Terminated(signum)))


def _continuation(width: int, line_number: int, wrap_count: int) -> str:
    """Spaces, so that copied text is clean."""
    return " " * width
