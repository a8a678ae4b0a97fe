"""The terminal program: read a line, do what it says, until Ctrl-D. Whatever happens, the conversation stays.

:func:`run` puts the parts together. See docs/decisions/0003-terminal-threads.md for who does what when.
"""

from __future__ import annotations

import contextlib
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from chat.backends.base import Backend
from chat.private_files import open_private
from chat.session.answer import PartialAnswer
from chat.session.attachments import take_mentions, with_attachments
from chat.session.stored import SHORT_ID, Turn
from chat.session.texts import find_language
from chat.session.window import Cut, group_turns
from chat.terminal.answer import AnswerView, receive
from chat.terminal.commands.files import tell_attached
from chat.terminal.commands.table import Invocation, PathLike, parse
from chat.terminal.completion import LineCompleter
from chat.terminal.display import Display, find_mode
from chat.terminal.figures import figures_line
from chat.terminal.input_history import InputHistory
from chat.terminal.keys import Folds
from chat.terminal.lazy_store import Opening
from chat.terminal.line import EditedLines, LineReader, PlainLines
from chat.terminal.session import TerminalSession
from chat.terminal.texts import Texts
from chat.terminal.tool_calls import go_through
from chat.terminal.toolbar import Toolbar
from chat.terminal.transcript import show_resumed
from chat.terminal.tty import Signals, Terminated, TypeAhead, own_modes
from chatcore.errors import ChatError, StoreError, StoreUnreachableError, UnknownCommandError

if TYPE_CHECKING:
    from chat.config import Settings
    from chat.store.base import Store

__all__ = ["EXIT_INTERRUPTED", "Repl", "run"]

EXIT_INTERRUPTED = 130  # Ctrl-C, as shells count it
DOUBLE_INTERRUPT_S = 1.0
LAST = "last"  # instead of an id: the newest conversation


class Leave(Exception):
    """The person wants to leave."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        super().__init__(code)


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
    """The loop, and what the commands may use of it.

    Attributes:
        session: the conversation and the settings that go with it.
        display: where everything is printed.
        lines: where lines come from.
        draft: what the next prompt begins with.
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
        self.texts = Texts(settings.language or find_language())
        answers = output or sys.stdout
        mode = find_mode(
            is_terminal=input.isatty() and answers.isatty(), output_is_terminal=answers.isatty(), plain=settings.plain
        )
        notes = answers if output is not None or answers.isatty() else sys.stderr
        self.display = Display(mode, self.texts, answers, notes)
        self.session = TerminalSession(backend, Opening(store), settings, self.texts, self._store_failed)
        self.open_backend = open_backend
        self.draft = ""
        self.folds = Folds(lambda lines: self.texts("pasted", lines=self.texts.count("line", lines)))
        self._fd = input.fileno() if input.isatty() else None
        self.signals = Signals(self._fd)
        self._keys = TypeAhead(self._fd, marks_pastes=mode.editing)
        self._toolbar = Toolbar(self.session, mode)
        self._history_trouble: list[str] = []  # told before the next prompt: the history is read while one is shown
        self.lines = self._make_lines(input)
        self._interrupted_s = float("-inf")

    def _make_lines(self, input: TextIO) -> LineReader:
        if not self.display.mode.editing:
            return PlainLines(
                input,
                self.display.prompt,
                self._toolbar,
                self._fd,
                lambda text: self.texts("kept.typed", text=text) + "\n",
                self.signals,
            )
        return EditedLines(
            self._toolbar,
            history=InputHistory(_history_file(), self._history_trouble.append),
            completer=LineCompleter(self),
            folds=self.folds,
            signals=self.signals,
            is_multiline=lambda: self.session.multiline,
            with_toolbar=self.display.mode.repainting,
            with_color=self.display.mode.color_system is not None and not self.display.mode.no_color,
        )

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(self, resume: str | None) -> int:
        """Read lines and do what they say; return the exit code."""
        code = 0
        with own_modes(self._fd), self.signals.handled():
            try:
                self._begin(resume)
                while True:
                    self._step()
            except Leave as leave:
                code = leave.code
            except Terminated as ended:
                code = 128 + ended.signum
            except BrokenPipeError:  # whoever read our output has gone
                code = 128 + 13
            with contextlib.suppress(OSError):
                self._say_goodbye()
        self.session.close()
        return code

    def _begin(self, resume: str | None) -> None:
        session = self.session
        self.display.line(self.texts("banner", name=session.model_name))
        if session.is_demo:
            self.display.dim(self.texts("banner.demo"))
        try:
            if resume is not None:
                session.resume("" if resume == LAST else resume)
                show_resumed(self)
            elif not self.display.mode.editing:
                session.opening.get()
                session.toolbox.begin()
        except ChatError as error:
            self.tell(error)

    def _step(self) -> None:
        """Send what waits for the model, or read a line and do what it says. Errors are told, and end nothing."""
        try:
            if self.session.queue and not self.session.is_loading():
                self._send_queued()
            elif (text := self._read()) is not None:
                self.handle(text)
        except ChatError as error:
            self.tell(error)
        except KeyboardInterrupt:  # in the middle of a command
            self.display.line()
        except (Leave, Terminated, BrokenPipeError):
            raise
        except Exception as error:
            self._tell_internal(error)

    def _read(self) -> str | None:
        self._tell_news()
        self.draft += self._keys.take()
        draft, self.draft = self.draft, ""
        try:
            line = self.lines.read(draft)
        except EOFError:
            raise Leave from None
        except KeyboardInterrupt:
            self._interrupted()
            return None
        self.draft = line.draft
        return line.text

    def handle(self, text: str) -> None:
        """Do what a line says: a command, or a message to the model. An empty line does nothing."""
        if not text.strip():
            return
        match parse(text):
            case Invocation(command, argument):
                with self.signals.interruptible():
                    command.handler(self, argument)
            case PathLike():
                if self.confirms(self.texts("path.ask")):
                    self.send(text)
                else:
                    self.draft = text
            case message:
                if message.text.strip().lower() in ("exit", "quit"):
                    self.display.dim(self.texts("hint.exit"))
                self.send(message.text)

    def _interrupted(self) -> None:
        """Ctrl-C on an empty line: take back what waits; a hint; twice within a second leaves."""
        now_s = time.monotonic()
        if self.session.queue:
            self.draft = self.session.take_back_queue()
            self.display.dim(self.texts("queued.back"))
        elif self.session.editing is not None:
            self.session.editing = None
        elif now_s - self._interrupted_s < DOUBLE_INTERRUPT_S:
            raise Leave(EXIT_INTERRUPTED)
        else:
            self.display.dim(self.texts("hint.leave"))
        self._interrupted_s = now_s

    def _tell_news(self) -> None:
        """Tell what happened meanwhile: the model is ready, or could not be loaded; the history cannot be kept."""
        if (error := self.session.take_news()) is not None:
            self.display.error(error)
            if self.session.queue:
                self._give_back(self.session.take_back_queue())
        self._tell_tool_errors()
        if self.session.opening.is_open:
            self._tell_about_store()
        for reason in self._history_trouble:
            self.display.warn(self.texts("history.trouble", reason=reason))
        self._history_trouble.clear()

    def _tell_tool_errors(self) -> None:
        for error in self.session.toolbox.take_errors():
            self.display.error(error)

    def _tell_about_store(self) -> None:
        """Tell, once, that the store could not be opened, or offer to go on with what was cut off."""
        opening = self.session.opening
        if opening.error is not None:
            self._store_failed(opening.error)
            opening.error = None
        elif self.session.settings.url and not self.session.was_offered:
            key = "store.remote" if self.session.store.is_remote else "store.here"
            self.display.dim(self.texts(key, name=self.session.store.name, url=self.session.settings.url))
        if (entry := self.session.take_offer()) is not None and not self.session.talk.conversation.messages:
            turns = self.texts.count("turn", entry.num_turns)
            self.display.line(self.texts("resume.offer", title=entry.title, turns=turns, id=entry.id[:SHORT_ID]))

    # -- sending ------------------------------------------------------------------------------------------------

    def send(self, text: str) -> None:
        """Send a message to the model and show the answer; while the model loads, let the message wait visibly."""
        session = self.session
        whole = with_attachments(text, [*session.attachments, *take_mentions(text, partial(tell_attached, self))])
        if session.editing is None and session.is_loading() and self.display.mode.editing:
            session.queue_message(whole)
            session.attachments.clear()
            self.display.dim(self.texts("queued.note"))
            return
        try:
            self.wait_until_loaded()
        except (ChatError, KeyboardInterrupt):
            self._give_back(text)
            raise
        if session.editing is not None:
            sent = self._send_edited(session.editing, whole)
        else:
            session.say(whole)
            sent = self._answer_message(typed=text)
        if sent:
            session.attachments.clear()

    def _send_edited(self, turn: Turn, text: str) -> bool:
        """Say something else in a turn's place: on a branch, beside what was said before."""
        session = self.session
        session.editing = None
        with session.talk.at(lambda conversation: conversation.before_turn(turn.number)) as moved:
            session.say(text)
            moved.stays = self._answer_message(typed=text)
        return moved.stays

    def _send_queued(self) -> None:
        """Send the message that waited longest; it is shown again, since other things may have been printed since."""
        self._wait_for_tools()
        text = self.session.take_queued()
        self.display.line(self._toolbar.label() + text)
        self._answer_message(typed=text)

    def _answer_message(self, typed: str) -> bool:
        """Answer the last message. If that cannot be done, the message is taken back and is in the line again."""
        answered = False
        try:
            answered = self.may_send() and self.answer()
        finally:
            if not answered:
                self.session.talk.withdraw_message()
                self._give_back(typed)
        return answered

    def _give_back(self, typed: str) -> None:
        """Put what was typed back into the line."""
        self.draft = typed + ("\n" + self.draft if self.draft else "")
        self.display.dim(self.texts("failed.back"))

    def may_send(self, *, continuing: bool = False) -> bool:
        """Tell which turns go if the window is full, or ask first, or refuse: as ``/context`` says."""
        cut = self.session.choose_cut(continuing=continuing)
        if not cut.dropped:
            return True
        which = self._name_turns(cut)
        if self.session.context_policy == "error":
            self.display.warn(self.texts("drop.refused", which=which))
            return False
        if self.session.context_policy == "ask" and not self.confirms(self.texts("drop.ask", which=which)):
            return False
        self.session.talk.drop(cut)
        self.display.warn(self.texts("dropped", which=which, tokens=self.texts.count("token", cut.num_dropped_tokens)))
        return True

    def _name_turns(self, cut: Cut) -> str:
        """Return words for the turns that a cut leaves out."""
        messages = self.session.talk.messages()
        numbers = [n for n, turn in enumerate(group_turns(messages), start=1) if turn[0] in cut.dropped]
        key = "dropped.turn" if len(numbers) == 1 else "dropped.turns"
        return self.texts(key, first=numbers[0], last=numbers[-1])

    def answer(self, *, continuing: bool = False, sampling: Mapping[str, Any] | None = None) -> bool:
        """:meth:`generate`, and then run the tools that the answer asks for, until it asks for none.

        Returns:
            whether anything arrived.
        """
        arrived = self.generate(continuing=continuing, sampling=sampling)
        if arrived:
            go_through(self, sampling)
        return arrived

    def generate(self, *, continuing: bool = False, sampling: Mapping[str, Any] | None = None) -> bool:
        """Have the last message answered, or the last answer continued; show it and keep it.

        Returns:
            whether anything arrived.
        """
        session = self.session
        request = session.request(continuing=continuing, sampling=sampling or {})
        view = AnswerView(self.display, session.thinking_view, session.model_name)
        saver = session.talk.saver(continuing=continuing)
        answer = receive(
            lambda: session.backend.stream(request.messages, **request.options),
            view=view,
            keys=self._keys,
            signals=self.signals,
            save=saver.save,
        )
        view.finish()
        saver.finish(answer)
        if answer.terminated is not None:
            raise Terminated(answer.terminated)
        if answer.reply is not None and not answer.is_empty:
            session.usages.append(answer.reply.usage)
            session.note_model()
        session.forget_line()
        self._tell_outcome(answer)
        return not answer.is_empty

    def _tell_outcome(self, answer: PartialAnswer) -> None:
        tokens = self.texts.count("token", answer.num_tokens)
        reply = answer.reply
        is_asking = bool(self.session.talk.open_calls())  # for tools: the figures follow the answer itself
        if answer.error is not None:
            self.tell(answer.error)
            if not answer.is_empty:
                self.display.dim(self.texts("failed.partial", tokens=tokens))
        elif answer.interrupted:
            key = "interrupted"
            if answer.is_empty:
                key = "interrupted.empty" if self.session.talk.last_question else "interrupted.results"
            self.display.dim(self.texts(key, tokens=tokens))
        elif reply is not None and reply.finish_reason == "length":
            self.display.warn(self.texts("cut", tokens=tokens))
        elif not answer.text.strip() and not is_asking:
            self.display.dim(self.texts("nothing"))
        if reply is not None and not answer.is_empty and not is_asking and self.session.show_figures:
            self.display.dim(figures_line(reply.usage, reply.finish_reason, self.texts))

    def wait_until_loaded(self) -> None:
        """Wait for the model, saying how far it is; Ctrl-C gives up waiting.

        Raises:
            ChatError: it could not be loaded.
        """
        self.wait_for(self.session.backend)
        self._wait_for_tools()

    def wait_for(self, backend: Backend) -> None:
        """Wait for a model, the one in use or another, as :meth:`wait_until_loaded` does."""
        said = ""
        try:
            with self.signals.interruptible():
                while backend.status().stage not in ("ready", "failed"):
                    self.display.status(self.session.loading_text(backend))
                    if not self.display.mode.repainting and (name := self.session.stage_name(backend)) != said:
                        self.display.dim(name)
                        said = name
                    backend.wait_until_ready(timeout_s=0.2)
        finally:
            self.display.status("")
        backend.info()

    def _wait_for_tools(self) -> None:
        """Wait until the tools that are on are there, and tell why some are not; Ctrl-C gives up waiting."""
        toolbox = self.session.toolbox
        toolbox.begin()
        with self.signals.interruptible():
            while starting := toolbox.starting():
                self.display.status(self.texts("tools.starting", names=", ".join(starting)))
                time.sleep(0.05)
        self.display.status("")
        self._tell_tool_errors()

    # -- telling ------------------------------------------------------------------------------------------------

    def tell(self, error: ChatError) -> None:
        """Say what went wrong and what to do, in the language that is set where the words are ours."""
        if isinstance(error, UnknownCommandError):
            nearest = self.texts("or").join(f"/{name}" for name in error.nearest)
            key = "unknown.nearest" if nearest else "unknown"
            self.display.warn(self.texts(key, name=error.name, nearest=nearest))
        else:
            self.session.know(error)
            self.display.error(error)

    def confirms(self, question: str) -> bool:
        """Ask a question; tell whether the answer is yes."""
        return self.is_yes(self.ask(question))

    def ask(self, question: str) -> str | None:
        """Return the answer to a question; None for Ctrl-C. What was typed before it was asked is no answer to it."""
        self.draft += self._keys.take()
        return self.lines.ask(question)

    @staticmethod
    def is_yes(answer: str | None) -> bool:
        """Tell whether an answer means yes, in either language."""
        return (answer or "").lower() in ("y", "yes", "是", "好")

    @property
    def is_attended(self) -> bool:
        """Whether a person is there who can be asked."""
        return self._fd is not None

    def _store_failed(self, error: StoreError) -> None:
        key = "store.away" if isinstance(error, StoreUnreachableError) else "store.trouble"
        self.display.warn(self.texts(key, reason=error))

    def _tell_internal(self, error: Exception) -> None:
        """Say that this program has a mistake; keep the traceback where it can be read."""
        from chat.backends.engine_host import log_dir

        file = log_dir() / "terminal.log"
        with contextlib.suppress(OSError), open(file, "a", encoding="utf-8", opener=open_private) as log:
            log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}\n{''.join(traceback.format_exception(error))}\n")
        self.display.warn(self.texts("internal", error=f"{type(error).__name__}: {error}", file=file))

    def _say_goodbye(self) -> None:
        talk = self.session.talk
        if not talk.conversation.messages:
            return
        if talk.is_private or self.session.store.name == "memory":
            self.display.dim(self.texts("goodbye.private"))
        elif talk.is_saved:
            self.display.dim(self.texts("goodbye", id=talk.short_id))
