"""Who uses the page: everybody at this machine as one person, or each with a login of their own."""

from __future__ import annotations

import contextlib
import hmac
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from chat.conversations.conversation import Conversation, Message
from chat.web.session import Person
from chatcore.errors import ChatError

if TYPE_CHECKING:
    from chat.backends.base import Backend
    from chat.store.base import Store, Summary
    from chat.store.local import ConversationStore

__all__ = ["MAX_KEY_CHARACTERS", "OwnedStore", "People", "by_key_file", "by_server"]

MAX_LOGINS = 1000  # the oldest is logged out then
MAX_KEY_CHARACTERS = 1024
CHECK_TIMEOUT_S = 15.0  # for a server to say whether it knows a key

Admit = Callable[[str], "tuple[str, Store, Backend] | None"]


class People:
    """Those who are logged in, by the token in their cookie.

    Args:
        everyone: who all visitors are, if nobody has to log in.
        admit: returns the name, the store and the backend behind a key; None if there is no such key.
    """

    def __init__(self, *, everyone: Person | None = None, admit: Admit | None = None) -> None:
        self._everyone = everyone
        self._admit = admit
        self._by_token: dict[str, Person] = {}

    @property
    def needs_login(self) -> bool:
        """Whether somebody has to tell a key."""
        return self._everyone is None

    def find(self, token: str | None) -> Person | None:
        """Return who sent a cookie; None if nobody is logged in with it."""
        return self._everyone or self._by_token.get(token or "")

    def by_id(self, person_id: str | None) -> Person | None:
        """Return a person that :meth:`find` found."""
        people = [self._everyone] if self._everyone else list(self._by_token.values())
        return next((person for person in people if person and person.id == person_id), None)

    def log_in(self, key: str) -> str | None:
        """Return a token for the cookie of whoever has this key; None if nobody has.

        Raises:
            ChatError: that could not be found out.
        """
        admitted = self._admit(key) if self._admit and len(key) <= MAX_KEY_CHARACTERS else None
        if admitted is None:
            return None
        name, store, backend = admitted
        while len(self._by_token) >= MAX_LOGINS:
            self.log_out(next(iter(self._by_token)))
        token = secrets.token_urlsafe(32)
        self._by_token[token] = Person(secrets.token_urlsafe(16), name, store, backend)
        return token

    def log_out(self, token: str) -> None:
        """Forget a login."""
        self._by_token.pop(token, None)


def by_key_file(owners: Mapping[str, str], store: ConversationStore, backend: Backend) -> Admit:
    """Admit those whose keys stand in a file, each to their own conversations in one store.

    Args:
        owners: the owner of each key.
    """

    def admit(key: str) -> tuple[str, Store, Backend] | None:
        given = key.encode()
        matching = [owner for known, owner in owners.items() if hmac.compare_digest(known.encode(), given)]
        if not matching:
            return None
        own: Store = OwnedStore(store, matching[0])
        return matching[0], own, backend

    return admit


def by_server(url: str, model: str | None) -> Admit:
    """Admit those whose key a server of ours takes, to the conversations that it keeps for them."""

    def admit(key: str) -> tuple[str, Store, Backend] | None:
        from chat.backends.openai_server import ServerBackend
        from chat.store.remote import find_store

        backend = ServerBackend(url, api_key=key, model=model)
        error = backend.wait_until_ready(CHECK_TIMEOUT_S).error
        if error is not None:
            backend.close()
            raise error
        store = find_store(url, api_key=key)
        if store is None:
            backend.close()
            raise ChatError(f"{url} keeps no conversations", hint="Use a server of this program: vllm_deploy.py serve.")
        with contextlib.suppress(ChatError):
            return str((store.describe() or {}).get("owner", "")), store, backend
        return "", store, backend

    return admit


class OwnedStore:
    """One owner's conversations in a store of several owners."""

    is_remote = False

    def __init__(self, store: ConversationStore, owner: str) -> None:
        self._store = store
        self._owner = owner
        self.name = store.name

    def create(self, *, title: str = "", system: str = "") -> Conversation:
        return self._store.create(owner=self._owner, title=title, system=system)

    def load(self, conversation_id: str) -> Conversation:
        return self._store.load(conversation_id, owner=self._owner)

    def recent(self, *, limit: int = 50) -> list[Summary]:
        return self._store.recent(owner=self._owner, limit=limit)

    def unfinished(self, *, limit: int = 10) -> list[Summary]:
        return self._store.unfinished(owner=self._owner, limit=limit)

    def settle(self, conversation_id: str) -> None:
        self._store.settle(conversation_id, owner=self._owner)

    def save(self, conversation: Conversation) -> None:
        conversation.owner = self._owner
        self._store.save(conversation)

    def delete(self, conversation_id: str) -> str:
        return self._store.delete(conversation_id, owner=self._owner)

    def insert(self, conversation: Conversation) -> Conversation:
        return self.insert_all([conversation])[0]

    def insert_all(self, made_elsewhere: Sequence[Conversation]) -> list[Conversation]:
        for conversation in made_elsewhere:
            conversation.owner = self._owner
        return self._store.insert_all(made_elsewhere)

    def add(self, conversation: Conversation, message: Message) -> Message:
        conversation.owner = self._owner
        return self._store.add(conversation, message)

    def find_conversations(self, words: str, *, limit: int = 20) -> list[Summary]:
        return self._store.find_conversations(words, owner=self._owner, limit=limit)

    def close(self) -> None:
        """Nothing: the store is everybody's."""
