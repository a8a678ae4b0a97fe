"""The terminal program as commands see it: session and screen, questions to the person, and one answer of the model.

It knows neither the commands nor the loop: both use it, and so do :mod:`chat.terminal.tool_calls` and
:mod:`chat.terminal.transcript`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from chat.backends.base import Backend
from chat.session.answer import PartialAnswer
from chat.session.attachments import Attachment
from chat.session.texts import find_language
from chat.session.window import Cut
from chat.terminal.answer import AnswerView, receive
from chat.terminal.display import Display, find_mode
from chat.terminal.figures import figures_line
from chat.terminal.keys import Folds
from chat.terminal.lazy_store import Opening
from chat.terminal.line import LineReader
from chat.terminal.session import TerminalSession
from chat.terminal.texts import Texts
from chat.terminal.tty import Signals, Terminated, TypeAhead
from chatcore.errors import ChatError, StoreError, StoreUnreachableError, UnknownCommandError

if TYPE_CHECKING:
    from chat.config import Settings
    from chat.store.base import Store

__all__ = ["Leave", "TerminalApp"]


class Leave(Exception):
    """The person wants to leave."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        super().__init__(code)


class TerminalApp:
    """The state of the program, and what commands may do with it.

    Args:
        backend: where replies come from; it may still be loading.
        store: where conversations are kept, or what opens that.
        settings: what the configuration file, the environment and the options say.
        input: a terminal, or a stream of lines.
        output: instead of standard output; None for that.
        open_backend: opens the backend of another model; None if the model cannot be changed.

    Attributes:
        texts: the program's words, in the language that is set.
        display: where everything is printed.
        session: the conversation and the settings that go with it.
        draft: what the next prompt begins with.
        folds: long pastes that stand in the line as a mark.
        fd: the terminal; None if there is none.
        signals: Ctrl-C and requests to end.
        keys: what is typed during an answer.
        lines: where lines come from. The loop sets it: its completer needs this object and the commands.
    """

    lines: LineReader

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
        self.session = TerminalSession(backend, Opening(store), settings, self.texts, self.tell_store_trouble)
        self.open_backend = open_backend
        self.draft = ""
        self.folds = Folds(lambda lines: self.texts("pasted", lines=self.texts.count("line", lines)))
        self.fd = input.fileno() if input.isatty() else None
        self.signals = Signals(self.fd)
        self.keys = TypeAhead(self.fd, marks_pastes=mode.editing)

    # -- waiting ------------------------------------------------------------------------------------------------

    def wait_until_loaded(self) -> None:
        """Wait for the model and the tools, and show how far they are; Ctrl-C gives up waiting.

        Raises:
            ChatError: the model could not be loaded.
        """
        self.wait_for(self.session.backend)
        self.wait_for_tools()

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

    def wait_for_tools(self) -> None:
        """Wait until the tools that are on have started, and tell why some have not; Ctrl-C gives up waiting."""
        toolbox = self.session.toolbox
        toolbox.begin()
        with self.signals.interruptible():
            while starting := toolbox.starting():
                self.display.status(self.texts("tools.starting", names=", ".join(starting)))
                time.sleep(0.05)
        self.display.status("")
        self.tell_tool_errors()

    # -- one answer ---------------------------------------------------------------------------------------------

    def may_send(self, *, continuing: bool = False) -> bool:
        """Return True if the prompt may be sent; if the window is full, do what ``/context`` says.

        That is: leave out the oldest turns and name them, ask before it, or refuse.
        """
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
        numbers = self.session.talk.dropped_turns(cut.dropped)
        key = "dropped.turn" if len(numbers) == 1 else "dropped.turns"
        return self.texts(key, first=numbers[0], last=numbers[-1])

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
            keys=self.keys,
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

    # -- asking -------------------------------------------------------------------------------------------------

    def confirms(self, question: str) -> bool:
        """Ask a question; return True if the answer is yes."""
        return self.is_yes(self.ask(question))

    def ask(self, question: str) -> str | None:
        """Return the answer to a question; None for Ctrl-C. What was typed before the question does not answer it."""
        self.draft += self.keys.take()
        return self.lines.ask(question)

    @staticmethod
    def is_yes(answer: str | None) -> bool:
        """Return True if an answer means yes, in either language."""
        return (answer or "").lower() in ("y", "yes", "是", "好")

    @property
    def is_attended(self) -> bool:
        """Whether a person is there who can be asked."""
        return self.fd is not None

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

    def tell_store_trouble(self, error: StoreError) -> None:
        """Say that the conversation cannot be kept, and why."""
        key = "store.away" if isinstance(error, StoreUnreachableError) else "store.trouble"
        self.display.warn(self.texts(key, reason=error))

    def tell_tool_errors(self) -> None:
        """Say, once, why tools could not be started."""
        for error in self.session.toolbox.take_errors():
            self.display.error(error)

    def tell_attached(self, attachment: Attachment) -> None:
        """Say what a file will cost before it is sent."""
        session, texts = self.session, self.texts
        tokens = ""
        if session.info() is not None:
            tokens = ", " + texts.count("token", session.count_tokens(attachment.as_markdown()))
        size = texts.count("byte", attachment.size_bytes)
        self.display.dim(
            texts("file.attached", name=attachment.name, bytes=size, tokens=tokens, encoding=attachment.encoding)
        )

    def give_back(self, typed: str) -> None:
        """Put what was typed back into the line."""
        self.draft = typed + ("\n" + self.draft if self.draft else "")
        self.display.dim(self.texts("failed.back"))
