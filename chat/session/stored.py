"""A conversation that is going on: what is said, kept in the store as it is said."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any, TypeVar

from chat.conversations.conversation import Conversation, Message
from chat.session.answer import PartialAnswer
from chat.session.window import Cut
from chatcore.errors import StoreError
from chatcore.prompts.window import turn_numbers
from chatcore.reply import ToolCall

if TYPE_CHECKING:
    from chat.store.base import Store

__all__ = [
    "NOT_RUN",
    "SHORT_ID",
    "Branch",
    "Saver",
    "StoredConversation",
    "Turn",
]

SHORT_ID = 8  # digits of an id that are shown: enough to name a conversation
# What the model reads in the place of a result.
NOT_RUN = "error: this call was not run"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Turn:
    """A message and its answer, as they stand on the current path.

    Attributes:
        number: counted from 1.
        answer: the last thing that the model said in it; None if it said nothing yet.
        messages: all that followed the question: the answer, and before it calls of tools and what they gave.
        variant, num_variants: which of how many answers this is; 0 of 0 without one.
        is_first_seen: the model sees this turn, but not the one before it.
    """

    number: int
    question: Message
    answer: Message | None
    messages: tuple[Message, ...]
    variant: int
    num_variants: int
    is_pinned: bool
    is_first_seen: bool


@dataclass(frozen=True, slots=True)
class Branch:
    """A path through the tree, by its last message."""

    tip: Message
    question: str
    num_turns: int
    is_current: bool


class StoredConversation:
    """A conversation, and the store behind it. Every change is in the store before the method returns.

    Args:
        store: returns where it is kept; may have to wait for it.
        conversation: what was said before; a new one if left out.
        is_private: keep nothing in the store.
        on_trouble: called with the reason when the store fails; the conversation goes on without it.
    """

    def __init__(
        self,
        store: Callable[[], Store],
        conversation: Conversation,
        *,
        is_private: bool = False,
        on_trouble: Callable[[StoreError], None],
    ) -> None:
        self.conversation = conversation
        self.is_private = is_private
        self.is_saved = True  # False while the store fails
        self._store = store
        self._on_trouble = on_trouble

    # -- looking ------------------------------------------------------------------------------------------------

    @property
    def short_id(self) -> str:
        """The beginning of the id, as people see it."""
        return self.conversation.id[:SHORT_ID]

    def turns(self) -> list[Turn]:
        """Return the turns on the current path."""
        conversation = self.conversation
        start = conversation.window_start()
        answers_to: dict[str | None, list[str]] = {}
        for message in conversation.messages.values():
            if message.role == "assistant":
                answers_to.setdefault(message.parent_id, []).append(message.id)
        turns: list[Turn] = []
        path = conversation.path()
        for index, message in enumerate(path):
            if message.role != "user":
                continue
            end = next((i for i in range(index + 1, len(path)) if path[i].role == "user"), len(path))
            answers = [m for m in path[index + 1 : end] if m.role == "assistant"]
            answer = answers[-1] if answers else None
            siblings = answers_to.get(message.id, [])
            turns.append(
                Turn(
                    number=len(turns) + 1,
                    question=message,
                    answer=answer,
                    messages=tuple(path[index + 1 : end]),
                    variant=siblings.index(answers[0].id) + 1 if answers and answers[0].id in siblings else 0,
                    num_variants=len(siblings),
                    is_pinned=message.id in conversation.pinned_ids,
                    is_first_seen=index == start > 0,
                )
            )
        return turns

    @property
    def last_question(self) -> str:
        """The user's message at the end of the path; nothing if the path ends with something else."""
        tip = self.conversation.tip
        return tip.content if tip is not None and tip.role == "user" else ""

    def last_answer(self) -> Message | None:
        """Return the newest answer on the path."""
        return next((m for m in reversed(self.conversation.path()) if m.role == "assistant"), None)

    def branches(self) -> list[Branch]:
        """Return the paths that end in an answer, oldest first."""
        conversation = self.conversation
        parents = {message.parent_id for message in conversation.messages.values()}
        found = []
        for message in conversation.messages.values():
            if message.id in parents or message.role == "user":
                continue
            questions = [m.content for m in path_to(conversation, message) if m.role == "user"]
            is_current = message.id == conversation.tip_id
            found.append(Branch(message, questions[-1] if questions else "", len(questions), is_current))
        return found

    def variants(self) -> list[Message]:
        """Return the answers to the last message, oldest first: each by the first thing that the model said in it."""
        turns = self.turns()
        messages = turns[-1].messages if turns else ()
        return self.conversation.variants(messages[0].id) if messages else []

    def open_calls(self) -> list[ToolCall]:
        """Return the calls of tools at the end of the path that have no result yet, in order."""
        path = self.conversation.path()
        num_results = len(list(takewhile(lambda message: message.role == "tool", reversed(path))))
        asking = path[-1 - num_results] if num_results < len(path) else None
        if asking is None or asking.role != "assistant":
            return []
        return [
            ToolCall(call.get("id") or "", call["function"]["name"], call["function"]["arguments"])
            for call in asking.tool_calls[num_results:]
        ]

    # -- what the model sees ------------------------------------------------------------------------------------

    def messages(self) -> list[dict[str, Any]]:
        """Return the whole path in OpenAI's shape, the system message first if there is one."""
        return self.conversation.as_dicts()

    def prompt_messages(self) -> list[dict[str, Any]]:
        """Return the messages that the model still sees."""
        dropped = self.dropped_indices()
        return [message for index, message in enumerate(self.messages()) if index not in dropped]

    def dropped_indices(self) -> set[int]:
        """Return the indices, in :meth:`messages`, of what earlier cuts left out."""
        shift = 1 if self.conversation.system else 0
        pinned = self.pinned_indices()
        return {index + shift for index in range(self.conversation.window_start())} - pinned

    def pinned_indices(self) -> set[int]:
        """Return the indices, in :meth:`messages`, of the pinned turns' messages."""
        shift = 1 if self.conversation.system else 0
        return {position + shift for position in self.conversation.pinned_positions()}

    def dropped_turns(self, dropped: Collection[int] | None = None) -> list[int]:
        """Return the numbers of the turns that are left out: by earlier cuts, or with these indices."""
        roles = [message["role"] for message in self.messages()]
        return turn_numbers(roles, self.dropped_indices() if dropped is None else dropped)

    def drop(self, cut: Cut) -> None:
        """Leave out what a cut leaves out, from now on."""
        shift = 1 if self.conversation.system else 0
        path = self.conversation.path()
        self.conversation.window_start_id = path[max(cut.dropped) + 1 - shift].id
        self._keep()

    # -- saying -------------------------------------------------------------------------------------------------

    def add_result(self, call: ToolCall, text: str) -> None:
        """Add what the first of the open calls gave."""
        self.put(Message(role="tool", content=text, tool_call_id=call.id))

    def add_message(self, text: str) -> None:
        """Add what the user says. Calls that are still open will not be made: models want a result for each."""
        for call in self.open_calls():
            self.add_result(call, NOT_RUN)
        self.put(Message(role="user", content=text))

    def withdraw_message(self) -> None:
        """Take back the user's last message, if it has no answer."""
        tip = self.conversation.tip
        if tip is not None and tip.role == "user":
            self.conversation.tip_id = tip.parent_id
            self._keep()

    def change(self, change: Callable[[Conversation], T]) -> T:
        """Change the conversation, and keep the change; return what the change returns."""
        result = change(self.conversation)
        self._keep()
        return result

    def update(self, **fields: Any) -> None:
        """Set fields of the conversation, such as its title, and keep them."""
        for name, value in fields.items():
            setattr(self.conversation, name, value)
        self._keep()

    @contextlib.contextmanager
    def at(self, move: Callable[[Conversation], object]) -> Iterator[Move]:
        """Move the tip for what is said in this block; move it back afterwards unless ``stays`` is set."""
        tip_id, redo_ids = self.conversation.tip_id, list(self.conversation.redo_ids)
        move(self.conversation)
        moved = Move()
        try:
            yield moved
        finally:
            if not moved.stays:
                self.conversation.tip_id, self.conversation.redo_ids = tip_id, redo_ids
                self._keep()

    def saver(self, *, continuing: bool) -> Saver:
        """Return what keeps an answer while it is being written."""
        return Saver(self, self.conversation.tip if continuing else None)

    def put(self, message: Message) -> None:
        """Add a message, or more of it; keep it."""
        self.conversation.add(message)
        self._keep()

    def _keep(self) -> None:
        """Put what has changed into the store; if that fails, the next time tries it all again."""
        if self.is_private or not self.conversation.messages:  # an unused conversation leaves no trace
            return
        try:
            self._store().save(self.conversation)
            self.is_saved = True
        except StoreError as error:
            if self.is_saved:
                self._on_trouble(error)
            self.is_saved = False


@dataclass(slots=True)
class Move:
    """Whether a moved tip stays where it is now."""

    stays: bool = False


class Saver:
    """Keeps an answer while it is being written: the same message, longer each time.

    Args:
        talk: the conversation.
        before: the answer that is continued, if one is.
    """

    def __init__(self, talk: StoredConversation, before: Message | None) -> None:
        self._talk = talk
        self._before = before or Message(role="assistant", content="", parent_id=talk.conversation.tip_id)
        self._began = False

    def save(self, answer: PartialAnswer) -> None:
        """Keep what has arrived so far."""
        self._put(answer, status="partial")

    def finish(self, answer: PartialAnswer) -> None:
        """Keep the whole answer, or what there is of it. An empty one leaves no message behind."""
        if not answer.is_empty or self._began:
            self._put(answer, status="complete")

    def _put(self, answer: PartialAnswer, *, status: Any) -> None:
        self._began = True
        if answer.reply is not None:
            message = Message.from_reply(answer.reply)
        else:  # under way, interrupted, or failed
            reason = "abort" if status == "complete" else None
            message = Message("assistant", answer.text, reasoning=answer.reasoning, finish_reason=reason)
        self._talk.put(replace(self._before.continued(message), status=status))


def path_to(conversation: Conversation, message: Message) -> list[Message]:
    """Return the messages from the first one to this one."""
    path = [message]
    while path[-1].parent_id is not None:
        path.append(conversation.messages[path[-1].parent_id])
    return path[::-1]
