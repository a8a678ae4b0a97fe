"""What a server keeps beside conversations: numbers of sessions, and what ``/v1/responses`` gave.

Everything has an owner, and another owner's things are not there.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from chat.store.database import Database
from chat.store.rows import damaged
from chat.store.schema import conversations, responses, sessions
from chatcore.errors import ConversationNotFoundError, ResponseNotFoundError

__all__ = ["KeptResponse", "ServedThings"]

INSERT_SESSION = sa.text(
    "INSERT INTO sessions (owner, session_id, conversation_id) VALUES (:owner, :session_id, :conversation_id)"
    " ON CONFLICT DO NOTHING"
)
MAX_SESSION_ID = 2**31 - 1  # clients in other languages read the number as a 32-bit integer


@dataclass(frozen=True, slots=True)
class KeptResponse:
    """A response of ``/v1/responses``.

    Attributes:
        message_id: the answer; the next response goes on behind it.
        body: the response object as the client gets it.
    """

    id: str
    conversation_id: str
    message_id: str
    body: Mapping[str, Any]


class ServedThings:
    """Sessions and responses of one store. All methods block; they may be called from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- sessions -----------------------------------------------------------------------------------------------

    def find_session(self, session_id: int, *, owner: str) -> str | None:
        """Return the id of the conversation behind a session's number."""
        query = sa.select(sessions.c.conversation_id).where(_is_session(session_id, owner))
        with self._database.read() as connection:
            return connection.execute(query).scalar()

    def begin_session(self, conversation_id: str, session_id: int | None, *, owner: str) -> tuple[int, str]:
        """Give a conversation a session's number; of several that want one number at once the first gets it.

        Args:
            session_id: the number; a fresh one if it is None.
        Returns:
            the number, and the id of the conversation that has it.
        """
        with self._database.write() as connection:
            while True:
                number = 1 + secrets.randbelow(MAX_SESSION_ID) if session_id is None else session_id
                values = {"owner": owner, "session_id": number, "conversation_id": conversation_id}
                is_free = bool(connection.execute(INSERT_SESSION, values).rowcount)
                if is_free or session_id is not None:
                    break
            query = sa.select(sessions.c.conversation_id).where(_is_session(number, owner))
            return number, connection.execute(query).scalar_one()

    def end_session(self, session_id: int, *, owner: str) -> None:
        """Forget a session's number; its conversation stays."""
        with self._database.write() as connection:
            connection.execute(sessions.delete().where(_is_session(session_id, owner)))

    def expire_sessions(self, idle_s: float) -> int:
        """Forget the sessions in whose conversations nothing was said for so long; return how many."""
        idle = sa.select(conversations.c.id).where(conversations.c.updated_at_utc < time.time() - idle_s)
        with self._database.write() as connection:
            return connection.execute(sessions.delete().where(sessions.c.conversation_id.in_(idle))).rowcount

    # -- responses ----------------------------------------------------------------------------------------------

    def add_response(self, response: KeptResponse, *, owner: str) -> None:
        """Keep a new response.

        Raises:
            ConversationNotFoundError: the owner has no such conversation.
        """
        with self._database.write() as connection:
            if connection.execute(_conversation(response.conversation_id, owner)).first() is None:
                raise ConversationNotFoundError(f"there is no conversation {response.conversation_id} any more")
            connection.execute(
                responses.insert(),
                {
                    "id": response.id,
                    "owner": owner,
                    "conversation_id": response.conversation_id,
                    "message_id": response.message_id,
                    "body": dict(response.body),
                    "created_at_utc": time.time(),
                },
            )

    def update_response(self, response_id: str, body: Mapping[str, Any], *, owner: str) -> None:
        """Keep what has become of a response; one that was deleted meanwhile stays deleted."""
        there = sa.and_(responses.c.id == response_id, responses.c.owner == owner)
        with self._database.write() as connection:
            connection.execute(responses.update().where(there).values(body=dict(body)))

    def find_response(self, response_id: str, *, owner: str) -> KeptResponse:
        """Return a response.

        Raises:
            ResponseNotFoundError: the owner has no such response.
        """
        query = sa.select(responses).where(responses.c.id == response_id, responses.c.owner == owner)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        if row is None:
            raise ResponseNotFoundError(response_id)
        if not isinstance(row.body, dict):
            raise damaged(f"response {response_id} is of a wrong kind")
        return KeptResponse(row.id, row.conversation_id, row.message_id, row.body)

    def delete_response(self, response_id: str, *, owner: str) -> tuple[str, int]:
        """Delete a response; return its conversation's id, and how many responses are left of that one.

        Raises:
            ResponseNotFoundError: the owner has no such response.
        """
        found = self.find_response(response_id, owner=owner)
        left = sa.select(sa.func.count()).where(responses.c.conversation_id == found.conversation_id)
        with self._database.write() as connection:
            connection.execute(responses.delete().where(responses.c.id == response_id))
            return found.conversation_id, connection.execute(left).scalar_one()

    # -- quotas -------------------------------------------------------------------------------------------------

    def num_conversations(self, owner: str) -> int:
        """Return how many conversations an owner has."""
        query = sa.select(sa.func.count()).select_from(conversations).where(conversations.c.owner == owner)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())


def _is_session(session_id: int, owner: str) -> sa.ColumnElement[bool]:
    return sa.and_(sessions.c.session_id == session_id, sessions.c.owner == owner)


def _conversation(conversation_id: str, owner: str) -> sa.Select[tuple[Any]]:
    return sa.select(conversations.c.id).where(conversations.c.id == conversation_id, conversations.c.owner == owner)
