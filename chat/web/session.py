"""What one page in a browser shows and does: a conversation, its answer under way, the settings. Knows no Gradio."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.backends.base import Backend
from chat.conversations.conversation import Conversation, make_title
from chat.session.attachments import Attachment, read_attachment, with_attachments
from chat.session.sampling_options import SAMPLING
from chat.session.session import ChatSession
from chat.session.stored import StoredConversation
from chat.session.usage import num_context_tokens, usage_of
from chat.web.generation import Answering
from chat.web.texts import Texts
from chatcore.errors import (
    ChatError,
    CommandError,
    ConversationNotFoundError,
    SamplingError,
    StoreError,
)

if TYPE_CHECKING:
    from chat.config import Settings
    from chat.store.base import Store, Summary

__all__ = ["THINKING", "Attached", "Person", "PageSession", "neutral_value"]

MAX_LISTED = 60
MAX_TITLE_COLUMNS = 100
SHOWN_TURNS = 30  # of a long conversation; the earlier ones on demand
STOP_TIMEOUT_S = 5.0
THINKING = {"auto": None, "on": True, "off": False}
NEUTRAL = {"temperature": 1.0, "top_p": 1.0, "repetition_penalty": 1.0, "ignore_eos": False}  # vLLM's own; others 0


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who uses the page.

    Attributes:
        id: nobody can guess it.
        name: the key's owner; ``local`` without keys.
        store: holds this person's conversations and no others.
        backend: answers this person's messages.
    """

    id: str
    name: str
    store: Store
    backend: Backend


@dataclass(frozen=True, slots=True)
class Attached:
    """A file that goes with the next message, and what it costs; None while the model loads."""

    file: Attachment
    num_tokens: int | None


class PageSession(ChatSession):
    """One page. Its methods are called from several threads; whatever changes the conversation holds :attr:`lock`.

    Attributes:
        person: whose page it is.
        lock: held by whoever changes something.
        answering: the answer under way, or the last one.
        editing: number of the turn that the next message replaces.
        attached: files that go with the next message.
        draft: text that goes into the box; None to leave it as it is.
        notice: what the page has to tell.
        num_shown: turns that are shown.
    """

    def __init__(self, person: Person, settings: Settings, texts: Texts) -> None:
        super().__init__(person.backend, sampling=settings.sampling, enable_thinking=settings.enable_thinking)
        self.person = person
        self.settings = settings
        self.texts = texts
        self.lock = threading.RLock()
        self.answering: Answering | None = None
        self.editing: int | None = None
        self.attached: list[Attached] = []
        self.draft: str | None = None
        self.notice = ""
        self.num_shown = SHOWN_TURNS
        self._typed: str | None = None
        self._begin(Conversation(system=settings.system))

    # -- conversations ------------------------------------------------------------------------------------------

    def begin_new(self) -> None:
        """Begin a new conversation."""
        self._settle()
        self._begin(Conversation(system=self.settings.system))

    def open(self, conversation_id: str) -> None:
        """Go on with a conversation.

        Raises:
            StoreError: there is none of this id.
        """
        self._settle()
        self._begin(self.person.store.load(conversation_id))

    def _begin(self, conversation: Conversation) -> None:
        self.talk = StoredConversation(lambda: self.person.store, conversation, on_trouble=self._tell_trouble)
        self.answering = None
        self.editing = None
        self.notice = ""
        self.num_shown = SHOWN_TURNS
        self._take_settings(conversation)

    def find_conversations(self, words: str) -> list[Summary]:
        """Return the latest conversations, or the latest that have words in the title or in one message."""
        store = self.person.store
        return store.find_conversations(words, limit=MAX_LISTED) if words.strip() else store.recent(limit=MAX_LISTED)

    def rename(self, title: str) -> None:
        """Give the conversation another title."""
        clean = make_title(title, max_columns=MAX_TITLE_COLUMNS)
        if clean:
            self.talk.update(title=clean)

    def delete(self, conversation_id: str) -> None:
        """Delete a conversation for good; if it is the one that is shown, begin a new one."""
        is_shown = conversation_id == self.talk.conversation.id
        if is_shown:
            self._settle()
        with contextlib.suppress(ConversationNotFoundError):
            self.person.store.delete(conversation_id)
        if is_shown:
            self._begin(Conversation(system=self.settings.system))

    # -- asking -------------------------------------------------------------------------------------------------

    @property
    def is_answering(self) -> bool:
        """Whether an answer is under way."""
        return self.answering is not None and not self.answering.is_over

    def send(self, text: str) -> None:
        """Say something, with the attached files behind it, and have it answered."""
        self._settle()
        if not text.strip() and not self.attached:
            return
        whole = with_attachments(text, [attached.file for attached in self.attached])
        number, self.editing = self.editing, None
        self.attached = []
        if number is None:
            self._answer(question=whole)
        else:
            self._answer(question=whole, move=lambda conversation: conversation.before_turn(number))

    def answer_again(self, message_id: str = "") -> None:
        """Have the message before an answer answered again, the last one if none is named; the old answer stays.

        Raises:
            InvalidMessageError: nothing was asked yet.
        """
        self._settle()
        self.talk.conversation.question_of(message_id)
        self._answer(move=lambda conversation: conversation.before_answer(message_id))

    def go_on(self) -> None:
        """Have the last answer continued where it ended.

        Raises:
            CommandError: the conversation does not end with an answer.
        """
        self._settle()
        tip = self.talk.conversation.tip
        if tip is None or tip.role != "assistant" or not tip.content:
            raise CommandError(self.texts("continue.nothing"))
        self._answer(continuing=True)

    def _answer(
        self,
        *,
        move: Callable[[Conversation], object] = lambda _: None,
        question: str | None = None,
        continuing: bool = False,
    ) -> None:
        self.notice = ""
        self._typed = question
        self.answering = Answering(self, move=move, question=question, continuing=continuing)

    def stop(self) -> None:
        """End the answer under way; what has arrived is kept. Returns at once."""
        if self.answering is not None:
            self.answering.stop()

    def leave(self) -> None:
        """The page is gone: so is its request to the model."""
        self.stop()

    def _settle(self) -> None:
        """Make sure that no answer is under way: nobody else changes the conversation then."""
        if self.answering is not None:
            self.answering.stop()
            self.answering.wait(STOP_TIMEOUT_S)
            self.take_outcome()

    def take_outcome(self) -> None:
        """Take note, once, of how the answer ended: what the page has to tell, and what goes back into the box."""
        answering = self.answering
        if answering is None or not answering.is_over:
            return
        self.answering = None
        told = []
        if answering.cut is not None:
            told.append(self.texts("dropped", which=self._name_turns(answering.cut.dropped)))
        answer = answering.answer
        if answer.error is not None:
            told.append(self.describe(answer.error))
        elif not answer.interrupted and not answer.text.strip() and not (answer.reply and answer.reply.tool_calls):
            told.append(self.texts("nothing"))
        if answer.is_empty and self._typed is not None:
            self.draft = self._typed
            told.append(self.texts("failed.back"))
        self.notice = "\n".join(told) or self.notice

    def _name_turns(self, dropped: Sequence[int]) -> str:
        numbers = self.talk.dropped_turns(dropped)
        key = "dropped.turn" if len(numbers) == 1 else "dropped.turns"
        return self.texts(key, first=numbers[0], last=numbers[-1])

    # -- moving in the tree -------------------------------------------------------------------------------------

    def undo(self) -> None:
        """Take the last turn back."""
        self._settle()
        if not self.talk.change(lambda conversation: conversation.undo()):
            raise CommandError(self.texts("undo.nothing"))
        self.notice = self.texts("undone")

    def redo(self) -> None:
        """Bring back what was taken back last."""
        self._settle()
        if not self.talk.change(lambda conversation: conversation.redo()):
            raise CommandError(self.texts("redo.nothing"))
        self.notice = ""

    def edit(self, message_id: str) -> None:
        """Put a message into the box; the next one sent takes its place, on a branch of its own."""
        self._settle()
        for turn in self.talk.turns():
            if turn.question.id == message_id:
                self.editing, self.draft = turn.number, turn.question.content
                self.notice = self.texts("editing", n=turn.number)

    def cancel_edit(self) -> None:
        """Leave the message as it was."""
        if self.editing is not None:
            self.editing, self.draft, self.notice = None, "", ""

    def show_variant(self, message_id: str) -> None:
        """Go to another version of a message, and to what was said last behind it."""
        self._settle()
        if message_id in self.talk.conversation.messages:
            self.talk.change(lambda conversation: conversation.go_to(message_id))

    def show_earlier(self) -> None:
        """Show more of a long conversation."""
        self.num_shown += SHOWN_TURNS

    # -- files --------------------------------------------------------------------------------------------------

    def attach(self, paths: Sequence[Path]) -> None:
        """Read files that go with the next message.

        Raises:
            CommandError: one is too large or no text.
        """
        for path in paths:
            try:
                file = read_attachment(path)
            except CommandError as error:  # with the name that the person knows, not the place of the upload
                raise CommandError(str(error).replace(str(path), path.name), hint=error.hint) from error
            tokens = self.count_tokens(file.as_markdown()) if self.info() is not None else None
            self.attached.append(Attached(file, tokens))

    def detach(self, index: int) -> None:
        """Take a file away again."""
        if 0 <= index < len(self.attached):
            del self.attached[index]

    # -- settings -----------------------------------------------------------------------------------------------

    def set_system(self, text: str) -> None:
        """Replace the system message."""
        if text != self.talk.conversation.system:
            self._settle()
            self.talk.update(system=text)

    def set_thinking(self, mode: str) -> None:
        """Say whether the model thinks first: ``on``, ``off`` or ``auto``."""
        self.enable_thinking = THINKING.get(mode)
        self._keep_settings()

    def set_sampling(self, name: str, text: str) -> None:
        """Set a sampling parameter; empty text, or the model's own value, goes back to the model's own.

        Raises:
            SamplingError: the value is of a wrong kind or out of range.
        """
        parameter = SAMPLING[name]
        value = parameter.read(text) if text.strip() else None
        self.sampling.pop(name, None)
        if value is not None and value != self.sampling_defaults.get(name, neutral_value(name)):
            self.sampling[name] = value
        self._keep_settings()

    def reset_sampling(self) -> None:
        """Go back to the model's own sampling parameters."""
        self.sampling.clear()
        self._keep_settings()

    @property
    def thinking_mode(self) -> str:
        """``on``, ``off`` or ``auto``."""
        return {True: "on", False: "off", None: "auto"}[self.enable_thinking]

    def _keep_settings(self) -> None:
        """Keep the settings with the conversation, so that it goes on with them another day."""
        kept = {"sampling": dict(self.sampling), "thinking": self.thinking_mode}

        def change(conversation: Conversation) -> None:
            conversation.settings = {**conversation.settings, "web": kept}

        if not self.is_answering:
            self.talk.change(change)

    def _take_settings(self, conversation: Conversation) -> None:
        """Take the settings that were kept with a conversation, as far as they make sense."""
        kept = conversation.settings.get("web")
        if not isinstance(kept, dict):
            return
        self.enable_thinking = THINKING.get(str(kept.get("thinking")))
        sampling = kept.get("sampling")
        self.sampling = _checked_sampling(sampling if isinstance(sampling, dict) else {})

    # -- the gauge ----------------------------------------------------------------------------------------------

    @property
    def num_context_tokens(self) -> int:
        """What the window holds, as far as the last answer tells."""
        usage = usage_of(self.talk.last_answer())
        return num_context_tokens(usage) if usage else 0

    @property
    def num_dropped_turns(self) -> int:
        """Number of turns that the model no longer sees."""
        return len(self.talk.dropped_turns())

    # -- telling ------------------------------------------------------------------------------------------------

    def describe(self, error: ChatError) -> str:
        """Return an error and what to do about it, in a line."""
        text = str(error).rstrip(".。")
        return self.texts("error", message=text, hint=error.hint).strip() if error.hint else text

    def tell(self, error: ChatError) -> None:
        """Say what went wrong."""
        self.notice = self.describe(error)

    def _tell_trouble(self, error: StoreError) -> None:
        self.notice = self.texts("store.trouble", reason=error)


def neutral_value(name: str) -> Any:
    """Return the value with which a sampling parameter does nothing; None if there is no such value."""
    parameter = SAMPLING[name]
    return NEUTRAL.get(name, 0.0 if parameter.kind == "float" else None)


def _checked_sampling(kept: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that are known and in range: what is kept may come from a file that somebody gave away."""
    checked: dict[str, Any] = {}
    for name, value in kept.items():
        with contextlib.suppress(SamplingError, KeyError, ValueError):
            checked[name] = SAMPLING[name].read(json.dumps(value))
    return checked
