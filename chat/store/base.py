"""What every store of conversations can do, be it a file of this machine or a server; and what its lists hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from chat.conversations.conversation import Conversation, Message

__all__ = ["SearchHit", "Store", "Summary"]


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of a list of conversations.

    Attributes:
        num_messages, num_turns: counted over all branches; a turn is a user message.
        unfinished: the last turn was cut off: its writer died before the answer was complete.
        excerpt: from the newest message that has the words of a search; empty if only the title has them.
    """

    id: str
    title: str
    num_messages: int
    num_turns: int
    updated_at_utc: float
    unfinished: bool = False
    excerpt: str = ""


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

    Every method raises a :class:`chatcore.errors.StoreError` if the store cannot be reached, read or written.
    """

    @property
    def name(self) -> str:
        """What to call the store: its file, its URL without the password, the server's address, or ``memory``."""

    @property
    def is_remote(self) -> bool:
        """Whether a server of ours keeps the conversations."""

    def create(self, *, title: str = "", system: str = "") -> Conversation:
        """Begin a conversation."""

    def load(self, conversation_id: str) -> Conversation:
        """Return a conversation by its id."""

    def recent(self, *, limit: int = 50) -> list[Summary]:
        """Return the conversations in which something was said last, the latest first."""

    def unfinished(self, *, limit: int = 10) -> list[Summary]:
        """Return those whose last turn was cut off, the latest first."""

    def settle(self, conversation_id: str) -> None:
        """Leave a cut-off turn as it is: it is not offered again."""

    def save(self, conversation: Conversation) -> None:
        """Keep what has changed of a conversation."""

    def delete(self, conversation_id: str) -> str:
        """Delete a conversation for ever; return its title."""

    def insert(self, conversation: Conversation) -> Conversation:
        """Keep a whole conversation that was made elsewhere, under new ids; return it as it is kept."""

    def insert_all(self, made_elsewhere: Sequence[Conversation]) -> list[Conversation]:
        """Keep several as :meth:`insert` does: all of them or none."""

    def add(self, conversation: Conversation, message: Message) -> Message:
        """Put a message behind the tip, or a grown one in its own place; it is kept when this returns."""

    def find_conversations(self, words: str, *, limit: int = 20) -> list[Summary]:
        """Return the conversations that have all of these words in the title or in one message, the latest first."""

    def close(self) -> None:
        """Let go of the file or the connections."""
