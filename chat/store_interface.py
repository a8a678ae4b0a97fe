"""What every store of conversations can do, be it a file of this machine or a server; and what its lists hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chat.conversation import Conversation, Message

__all__ = ["SearchHit", "Store", "Summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of a list of conversations.

    Attributes:
        num_messages, num_turns: counted over all branches; a turn is a user message.
        unfinished: the last turn was cut off: its writer died before the answer was complete.
    """

    id: str
    title: str
    num_messages: int
    num_turns: int
    updated_at_utc: float
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class SearchHit:
    """A message that was found, and the text around the words."""

    conversation_id: str
    title: str
    message_id: str
    role: str
    excerpt: str


class Store(Protocol):
    """Keeps conversations. See :class:`chat.store.ConversationStore` for what each method does.

    Every method raises a :class:`errors.StoreError` if the store cannot be reached, read or written.
    """

    @property
    def name(self) -> str:
        """What to call the store: its file, its URL without the password, the server's address, or ``memory``."""

    @property
    def is_remote(self) -> bool:
        """Whether a server of ours keeps the conversations."""

    def create(self, *, title: str = "", system: str = "") -> Conversation: ...

    def load(self, conversation_id: str) -> Conversation: ...

    def recent(self, *, limit: int = 50) -> list[Summary]: ...

    def unfinished(self, *, limit: int = 10) -> list[Summary]: ...

    def settle(self, conversation_id: str) -> None: ...

    def save(self, conversation: Conversation) -> None: ...

    def delete(self, conversation_id: str) -> str: ...

    def insert(self, conversation: Conversation) -> Conversation: ...

    def insert_all(self, made_elsewhere: Sequence[Conversation]) -> list[Conversation]: ...

    def add(self, conversation: Conversation, message: Message) -> Message: ...

    def search(self, text: str, *, limit: int = 20) -> list[SearchHit]: ...

    def close(self) -> None: ...
