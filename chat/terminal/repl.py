"""The terminal program: read a line, do what it says, until Ctrl-D. Whatever happens, the conversation stays.

:func:`run` puts the parts together. See docs/decisions/0003-terminal-threads.md for who does what when.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from chat.backends.base import Backend
from chat.private_files import open_private
from chat.session.stored import SHORT_ID
from chat.terminal.app import Leave, TerminalApp
from chat.terminal.commands.table import Invocation, PathLike, parse
from chat.terminal.completion import LineCompleter
from chat.terminal.input_history import InputHistory
from chat.terminal.line import EditedLines, LineReader, PlainLines
from chat.terminal.sending import answer_message, send
from chat.terminal.toolbar import Toolbar
from chat.terminal.transcript import show_resumed
from chat.terminal.tty import Terminated, own_modes
from chatcore.errors import ChatError

if TYPE_CHECKING:
    from chat.config import Settings
    from chat.store.base import Store

__all__ = ["EXIT_INTERRUPTED", "Repl", "run"]

EXIT_INTERRUPTED = 130  # Ctrl-C, as shells count it
DOUBLE_INTERRUPT_S = 1.0
LAST = "last"  # instead of an id: the newest conversation


def run(
    backend: Backend,
    store: Store | Callable[[], Store],
    settings: Settings,
    *,
    resume: str | None = None,
    open_backend: Callable[[str], Backend] | None = None,
    input: TextIO | None = None,
    output: TextIO | None = None,
) -> int:
    """Talk until the person leaves; return the exit code.

    Args:
        backend: where replies come from; it may still be loading.
        store: where conversations are kept, or what opens that: then it is opened once the prompt is on the screen.
        settings: what the configuration file, the environment and the options say.
        open_backend: opens the backend of another model, for ``/model NAME``; without it the model cannot be changed.
        resume: id, or beginning of an id, of a conversation to go on with; ``last`` for the newest one.
        input, output: instead of standard input and output; both streams of a terminal, or neither.
    Returns:
        0 after Ctrl-D or /exit, 130 after Ctrl-C twice, 128 + n after signal n.
    """
    return Repl(backend, store, settings, input or sys.stdin, output, open_backend).run(resume)


def _history_file() -> Path:
    import platformdirs

    return platformdirs.user_state_path("vllm-deploy") / "input_history.jsonl"


class Repl:
    """The loop: reads lines, does what they say, and sends the messages that waited for the model.

    Attributes:
        app: what the commands get.
    """

    def __init__(
        self,
        backend: Backend,
        store: Store | Callable[[], Store],
        settings: Settings,
        input: TextIO,
        output: TextIO | None,
        open_backend: Callable[[str], Backend] | None = None,
    ) -> None:
        self.app = TerminalApp(backend, store, settings, input, output, open_backend)
        self._toolbar = Toolbar(self.app.session, self.app.display.mode)
        self._history_trouble: list[str] = []  # told before the next prompt: the history is read while one is shown
        self._interrupted_s = float("-inf")
        self.app.lines = self._make_lines(input)

    def _make_lines(self, input: TextIO) -> LineReader:
        app = self.app
        if not app.display.mode.editing:
            return PlainLines(
                input,
                app.display.prompt,
                self._toolbar,
                app.fd,
                lambda text: app.texts("kept.typed", text=text) + "\n",
                app.signals,
            )
        return EditedLines(
            self._toolbar,
            history=InputHistory(_history_file(), self._history_trouble.append),
            completer=LineCompleter(app),
            folds=app.folds,
            signals=app.signals,
            is_multiline=lambda: app.session.multiline,
            with_toolbar=app.display.mode.repainting,
            with_color=app.display.mode.color_system is not None and not app.display.mode.no_color,
        )

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self, resume: str | None) -> int:
        """Read lines and do what they say; return the exit code."""
        app = self.app
        code = 0
        with own_modes(app.fd), app.signals.handled():
            try:
                self._begin(resume)
                while True:
                    self._step()
            except Leave as leave:
                code = leave.code
            except Terminated as ended:
                code = 128 + ended.signum
            except BrokenPipeError:  # the reader of our output has gone
                code = 128 + 13
            with contextlib.suppress(OSError):
                self._say_goodbye()
        app.session.close()
        return code

    def _begin(self, resume: str | None) -> None:
        app, session = self.app, self.app.session
        app.display.line(app.texts("banner", name=session.model_name))
        if session.is_demo:
            app.display.dim(app.texts("banner.demo"))
        try:
            if resume is not None:
                session.resume("" if resume == LAST else resume)
                show_resumed(app)
            elif not app.display.mode.editing:
                session.opening.get()
                session.toolbox.begin()
        except ChatError as error:
            app.tell(error)

    def _step(self) -> None:
        """Send what waits for the model, or read a line and do what it says. Errors are told, and end nothing."""
        try:
            if self.app.session.queue and not self.app.session.is_loading():
                self._send_queued()
            elif (text := self._read()) is not None:
                self.handle(text)
        except ChatError as error:
            self.app.tell(error)
        except KeyboardInterrupt:  # in the middle of a command
            self.app.display.line()
        except (Leave, Terminated, BrokenPipeError):
            raise
        except Exception as error:
            self._tell_internal(error)

    def _send_queued(self) -> None:
        """Send the message that waited longest; it is shown again, since other things may have been printed since."""
        app = self.app
        app.wait_for_tools()
        text = app.session.take_queued()
        app.display.line(self._toolbar.label() + text)
        answer_message(app, typed=text)

    def _read(self) -> str | None:
        app = self.app
        self._tell_news()
        app.draft += app.keys.take()
        draft, app.draft = app.draft, ""
        try:
            line = app.lines.read(draft)
        except EOFError:
            raise Leave from None
        except KeyboardInterrupt:
            self._interrupted()
            return None
        app.draft = line.draft
        return line.text

    def handle(self, text: str) -> None:
        """Do what a line says: a command, or a message to the model. An empty line does nothing."""
        app = self.app
        if not text.strip():
            return
        match parse(text):
            case Invocation(command, argument):
                with app.signals.interruptible():
                    command.handler(app, argument)
            case PathLike():
                if app.confirms(app.texts("path.ask")):
                    send(app, text)
                else:
                    app.draft = text
            case message:
                if message.text.strip().lower() in ("exit", "quit"):
                    app.display.dim(app.texts("hint.exit"))
                send(app, message.text)

    def _interrupted(self) -> None:
        """Ctrl-C on an empty line: take back what waits; a hint; twice within a second leaves."""
        app, session = self.app, self.app.session
        now_s = time.monotonic()
        if session.queue:
            app.draft = session.take_back_queue()
            app.display.dim(app.texts("queued.back"))
        elif session.editing is not None:
            session.editing = None
        elif now_s - self._interrupted_s < DOUBLE_INTERRUPT_S:
            raise Leave(EXIT_INTERRUPTED)
        else:
            app.display.dim(app.texts("hint.leave"))
        self._interrupted_s = now_s

    def _tell_news(self) -> None:
        """Tell what happened meanwhile: the model is ready, or could not be loaded; the history cannot be kept."""
        app, session = self.app, self.app.session
        if (error := session.take_news()) is not None:
            app.display.error(error)
            if session.queue:
                app.give_back(session.take_back_queue())
        app.tell_tool_errors()
        if session.opening.is_open:
            self._tell_about_store()
        for reason in self._history_trouble:
            app.display.warn(app.texts("history.trouble", reason=reason))
        self._history_trouble.clear()

    def _tell_about_store(self) -> None:
        """Tell, once, that the store could not be opened, or offer to go on with what was cut off."""
        app, session = self.app, self.app.session
        opening = session.opening
        if opening.error is not None:
            app.tell_store_trouble(opening.error)
            opening.error = None
        elif session.settings.url and not session.was_offered:
            key = "store.remote" if session.store.is_remote else "store.here"
            app.display.dim(app.texts(key, name=session.store.name, url=session.settings.url))
        if (entry := session.take_offer()) is not None and not session.talk.conversation.messages:
            turns = app.texts.count("turn", entry.num_turns)
            app.display.line(app.texts("resume.offer", title=entry.title, turns=turns, id=entry.id[:SHORT_ID]))

    def _tell_internal(self, error: Exception) -> None:
        """Say that this program has a mistake; keep the traceback where it can be read."""
        from chat.backends.engine_host import log_dir

        file = log_dir() / "terminal.log"
        with contextlib.suppress(OSError), open(file, "a", encoding="utf-8", opener=open_private) as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{''.join(traceback.format_exception(error))}\n")
        self.app.display.warn(self.app.texts("internal", error=f"{type(error).__name__}: {error}", file=file))

    def _say_goodbye(self) -> None:
        app = self.app
        talk = app.session.talk
        if not talk.conversation.messages:
            return
        if talk.is_private or app.session.store.name == "memory":
            app.display.dim(app.texts("goodbye.private"))
        elif talk.is_saved:
            app.display.dim(app.texts("goodbye", id=talk.short_id))
