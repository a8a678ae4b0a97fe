"""What one run of the terminal holds: a conversation, and the settings that go with it."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.backends.base import Backend, Fit
from chat.conversations.conversation import Conversation, make_title
from chat.session.attachments import Attachment
from chat.session.session import ChatSession
from chat.session.stored import StoredConversation, Turn
from chat.session.usage import num_context_tokens, usage_of
from chat.terminal.lazy_store import Opening
from chat.terminal.recent_models import note_model
from chat.terminal.texts import Texts
from chat.terminal.toolbox import Toolbox
from chatcore.errors import ChatError, CommandError, PromptTooLongError, StoreError
from chatcore.reply import Usage

if TYPE_CHECKING:
    from chat.config import Settings
    from chat.store.base import Store, Summary

__all__ = ["TerminalSession"]


class TerminalSession(ChatSession):
    """The state of the program. Talks to the backend and to the conversation, prints nothing.

    Attributes:
        talk: the conversation.
        sampling: what ``/set`` has set.
        enable_thinking, thinking_budget, thinking_view: what ``/think`` has set.
        toolbox: the tools that the model may call.
        context_policy: ``roll``, ``ask`` or ``error``.
        queue: messages that wait for the model; the first one is in the conversation already.
        editing: the turn that the next message replaces.
        usages: one for each answer of this run.
    """

    def __init__(
        self,
        backend: Backend,
        opening: Opening,
        settings: Settings,
        texts: Texts,
        on_trouble: Callable[[StoreError], None],
    ) -> None:
        super().__init__(backend, sampling=settings.sampling, enable_thinking=settings.enable_thinking)
        self.settings = settings
        self.texts = texts
        self.opening = opening
        self._on_trouble = on_trouble
        self.toolbox = _make_toolbox(settings)
        self.thinking_view: str = settings.thinking_view
        self.context_policy = "roll"
        self.show_figures = True
        self.multiline = False
        self.attachments: list[Attachment] = []
        self.queue: deque[str] = deque()
        self.editing: Turn | None = None
        self.usages: list[Usage] = []
        self._line_tokens: tuple[str, int] | None = None  # the line counted last, and the tokens with it
        self._noted: Backend | None = None  # its model is in the list of those that were used
        self._known_reason = ""  # why the model is not there, as it was told
        self._is_offered = False
        self._offered_id: str | None = None
        self.begin(Conversation())

    # -- the model ----------------------------------------------------------------------------------------------

    @property
    def thinking_mode(self) -> str:
        """``on``, ``off`` or ``auto``."""
        return {True: "on", False: "off", None: "auto"}[self.enable_thinking]

    def loading_text(self, backend: Backend | None = None) -> str:
        """Return the stage and its seconds, or nothing once the model is ready; of another backend, if one is given."""
        status = (backend or self.backend).status()
        if status.stage == "ready":
            return ""
        words = [self.texts(f"stage.{status.stage}")]
        if status.stage != "failed":
            words += [word for word in (status.detail, self.texts("loading.seconds", s=status.elapsed_s)) if word]
        return " ".join(words)

    def stage_name(self, backend: Backend) -> str:
        """Return the stage of a backend's loading, in words."""
        return self.texts(f"stage.{backend.status().stage}")

    def has_news(self) -> bool:
        """Tell whether there is something that the person does not know yet: about the model, or about the store."""
        error = self.backend.status().error
        is_offer = self.opening.is_open and not self._is_offered and self.opening.unfinished is not None
        is_trouble = self.opening.is_open and self.opening.error is not None and not self._is_offered
        is_placed = self.opening.is_open and bool(self.settings.url) and not self._is_offered
        return self._is_unknown(error) or is_offer or is_trouble or is_placed

    def _is_unknown(self, error: ChatError | None) -> bool:
        return error is not None and str(error) != self._known_reason

    def take_news(self) -> ChatError | None:
        """Return why the model is not there, once."""
        error = self.backend.status().error
        if error is None or not self._is_unknown(error):
            return None
        self.know(error)
        return error

    def know(self, error: ChatError) -> None:
        """Remember that an error has been told."""
        self._known_reason = str(error)

    def use(self, backend: Backend) -> None:
        """Go on with another model. Its window is another one: what was left out is looked at again."""
        old, self.backend = self.backend, backend
        old.close()
        self._known_reason = ""
        self.forget_line()
        if self.talk.conversation.window_start_id is not None:
            self.talk.update(window_start_id=None)

    def note_model(self) -> None:
        """Remember, once, that this model has answered."""
        if not self.settings.url and self._noted is not self.backend:
            self._noted = self.backend
            note_model(self.backend.name)

    def reload(self) -> None:
        """Load the model again."""
        self._known_reason = ""
        self.backend.reload()

    def tool_schemas(self) -> list[Mapping[str, Any]]:
        """Return the tools that are on and there, as OpenAI has them. Never waits."""
        return [dict(tool.schema) for tool in self.toolbox.tools()]

    # -- asking -------------------------------------------------------------------------------------------------

    def token_rows(self) -> list[list[str]]:
        """Return the table of ``/tokens``: source, tokens, share of the window."""
        texts, talk = self.texts, self.talk
        messages = talk.prompt_messages()
        if not messages:
            raise CommandError(texts("history.empty"))
        fit = self._fit(messages, per_message=True, with_tools=False)
        window = self.max_model_len
        rows = self._tokens_by_turn(fit)
        said = sum(tokens for _, tokens in rows)
        tools = 0
        if self.tool_schemas():
            tools = self._fit(messages).num_prompt_tokens - fit.num_prompt_tokens
            rows.append((texts("tokens.tools"), tools))
        files = 0
        if self.attachments:
            files = sum(self.count_tokens(attachment.as_markdown()) for attachment in self.attachments)
            rows.append((texts("tokens.files"), files))
        template = fit.num_prompt_tokens - said
        rows += [
            (texts("tokens.template"), template),
            (texts("tokens.reply"), window - fit.max_prompt_tokens),
            (texts("tokens.free"), fit.max_prompt_tokens - fit.num_prompt_tokens - tools - files),
            (texts("tokens.window"), window),
        ]
        return [[label, f"{tokens:,}", f"{tokens / window:.0%}"] for label, tokens in rows]

    def _tokens_by_turn(self, fit: Fit) -> list[tuple[str, int]]:
        """Return the tokens of the system message and of each turn that the model will see."""
        dropped, rows, number = self.talk.dropped_indices(), [], 0
        counts = iter(enumerate(fit.message_tokens))
        for index, message in enumerate(self.talk.messages()):
            number += message["role"] == "user"
            if index in dropped:
                continue
            place, count = next(counts)
            if place in fit.dropped:
                continue
            if message["role"] == "system":
                rows.append((self.texts("tokens.system"), count))
            elif message["role"] == "user" or not rows:
                rows.append((self.texts("tokens.turn", n=number, text=make_title(message["content"])), count))
            else:
                rows[-1] = (rows[-1][0], rows[-1][1] + count)
        return rows

    # -- the gauge ----------------------------------------------------------------------------------------------

    def num_context_tokens(self) -> int:
        """Return what the window holds: exactly what the last prompt and answer took, and the line being typed."""
        if self._line_tokens is not None:
            return self._line_tokens[1]
        usage = usage_of(self.talk.last_answer())
        return num_context_tokens(usage) if usage else 0

    def forget_line(self) -> None:
        """Forget the count of the line: it has been sent, or the conversation is another one."""
        self._line_tokens = None

    def line_counter(self, text: str) -> Callable[[], None] | None:
        """Return a function that counts the conversation with the line being typed; None if there is nothing to count.

        The function may be called in another thread: it takes what it needs now.
        """
        if not text.strip() or text.startswith(("/", "／")) or self.info() is None:
            self._line_tokens = None
            return None
        messages = [*self.talk.prompt_messages(), {"role": "user", "content": text}]

        def count() -> None:
            try:
                tokens = self._fit(messages).num_prompt_tokens
            except PromptTooLongError as error:
                tokens = error.num_prompt_tokens
            except ChatError:
                return
            self._line_tokens = (text, tokens)

        return count

    # -- what waits for the model -------------------------------------------------------------------------------

    def queue_message(self, text: str) -> None:
        """Have a message wait. The first one is kept in the store at once."""
        if not self.queue:
            self.say(text)
        self.queue.append(text)

    def take_queued(self) -> str:
        """Return the message that waited longest; it is now the last of the conversation."""
        text = self.queue.popleft()
        if self.talk.last_question != text:
            self.say(text)
        return text

    def take_back_queue(self) -> str:
        """Empty the queue; return its messages as one text."""
        self.talk.withdraw_message()
        text = "\n".join(self.queue)
        self.queue.clear()
        return text

    # -- conversations ------------------------------------------------------------------------------------------

    @property
    def store(self) -> Store:
        """The store; waits until it is open."""
        return self.opening.get()

    def begin(self, conversation: Conversation, *, is_private: bool = False) -> None:
        """Make a conversation the current one. A new one gets the system message of the settings."""
        if not conversation.messages:
            conversation.system = self.default_system
        self.talk = StoredConversation(
            self.opening.get, conversation, is_private=is_private, on_trouble=self._on_trouble
        )
        self.attachments.clear()
        self.editing = None
        self.forget_line()

    def resume(self, id_or_beginning: str) -> None:
        """Go on with the conversation of an id, or with the newest other one.

        Raises:
            StoreError: there is none.
        """
        self.begin(self.find(id_or_beginning) if id_or_beginning else self._newest_other())

    def find(self, id_or_beginning: str) -> Conversation:
        """Return the conversation of an id."""
        return self.store.load(id_or_beginning)

    def _newest_other(self) -> Conversation:
        here = self.talk.conversation.id
        others = [entry for entry in self.store.recent(limit=2) if entry.id != here]
        if not others:
            raise CommandError(self.texts("sessions.none"))
        return self.store.load(others[0].id)

    def conversations(self, words: str, limit: int) -> list[Summary]:
        """Return the newest conversations, or the newest in which words occur."""
        return self.store.find_conversations(words, limit=limit) if words else self.store.recent(limit=limit)

    @property
    def was_offered(self) -> bool:
        """Whether :meth:`take_offer` has been called since the store is open."""
        return self._is_offered

    def take_offer(self) -> Summary | None:
        """Return, once, the newest conversation whose last turn was cut off, as soon as the store is open."""
        if not self.opening.is_open or self._is_offered:
            return None
        self._is_offered = True
        if (unfinished := self.opening.unfinished) is not None:
            self._offered_id = unfinished.id
        return unfinished

    def say(self, text: str) -> None:
        """Add a message of the user's."""
        if self._offered_id is not None and self._offered_id != self.talk.conversation.id:
            with contextlib.suppress(StoreError):
                self.store.settle(self._offered_id)
        self._offered_id = None
        self.talk.add_message(text)

    def delete(self, conversation_id: str) -> None:
        """Delete a conversation; if it is the current one, begin a new one."""
        is_current = conversation_id == self.talk.conversation.id
        if not is_current or self.talk.conversation.messages:
            self.store.delete(conversation_id)
        if is_current:
            self.begin(Conversation())

    def close(self) -> None:
        """End the tools' servers, and leave the engine, which stays warm."""
        self.toolbox.close()
        self.backend.close()

    def set_system(self, text: str) -> None:
        """Replace the system message."""
        self.talk.update(system=text)

    @property
    def default_system(self) -> str:
        """The system message that a new conversation begins with."""
        return self.settings.system


def _make_toolbox(settings: Settings) -> Toolbox:
    folder = Path()
    if settings.tools:
        from chat.config import default_file

        folder = default_file().parent
    return Toolbox(settings.tools, folder, settings.tool_approval)
