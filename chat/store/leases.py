"""Who is giving an answer: leases in the store, so that of several server processes one at a time goes on with a turn.

A lease names its holder and when it was last seen. One whose holder has died, or was silent for :data:`LEASE_S`, is
free. Whoever wants an answer to stop leaves a mark in its lease, which the process that generates it reads. After a
power cut nobody is at work, so leases do not wait for the disk.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from chat.store.database import Database
from chat.store.rows import to_time
from chat.store.schema import conversations, turn_leases
from chat.store.writer import LEASE_S, Writer, is_gone
from chatcore.errors import ConversationBusyError, ConversationNotFoundError, TooManyTurnsError

__all__ = ["Lease", "TurnLeases"]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to give an answer.

    Attributes:
        name: what nobody else may hold at the same time.
        turn_id: the message that is being written.
    """

    name: str
    turn_id: str


class TurnLeases:
    """The leases of one store. All methods block; they may be called from several threads.

    Args:
        database: the store's.
        writer: who holds the leases that are taken here.
    """

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer

    def take(
        self, conversation_id: str, turn_id: str, *, owner: str, name: str | None = None, max_turns: int = 0
    ) -> Lease:
        """Take the lease of a turn.

        Args:
            name: what must be free; the conversation itself if left out.
            max_turns: how many answers an owner may be given at once; 0: any number.
        Raises:
            ConversationBusyError: somebody holds it.
            ConversationNotFoundError: the owner has no such conversation.
            TooManyTurnsError: the owner is being given ``max_turns`` answers already.
        """
        name, now = name or conversation_id, time.time()
        there = sa.select(conversations.c.id).where(
            conversations.c.id == conversation_id, conversations.c.owner == owner
        )
        with self._database.write(lasts=False) as connection:
            if connection.execute(there.with_for_update()).first() is None:  # locked: two at once take turns here
                raise ConversationNotFoundError(f"there is no conversation {conversation_id}")
            row = connection.execute(sa.select(turn_leases).where(turn_leases.c.name == name)).first()
            if row is not None and _is_held(row, now):
                raise ConversationBusyError(conversation_id)
            if max_turns and self._num_held(connection, owner, now) >= max_turns:
                raise TooManyTurnsError(f"{max_turns} answers are being given to you already")
            connection.execute(turn_leases.delete().where(turn_leases.c.name == name))
            connection.execute(
                turn_leases.insert(),
                {
                    "name": name,
                    "conversation_id": conversation_id,
                    "turn_id": turn_id,
                    "owner": owner,
                    "writer": self._writer.name,
                    "seen_at_utc": now,
                    "is_cancelled": False,
                },
            )
        return Lease(name, turn_id)

    def release(self, lease: Lease) -> None:
        """Give a lease back; nothing happens if somebody else has it by now."""
        with self._database.write(lasts=False) as connection:
            connection.execute(turn_leases.delete().where(self._is(lease)))

    def renew(self, turn_ids: Collection[str]) -> None:
        """Say that these turns, whose leases were taken here, go on."""
        mine = sa.and_(turn_leases.c.writer == self._writer.name, turn_leases.c.turn_id.in_(turn_ids))
        with self._database.write(lasts=False) as connection:
            connection.execute(turn_leases.update().where(mine).values(seen_at_utc=time.time()))

    def running(self) -> set[str]:
        """Return the ids of the turns that go on: their leases were taken here, and nobody has marked or lost them."""
        mine = turn_leases.c.writer == self._writer.name
        query = sa.select(turn_leases.c.turn_id).where(mine, turn_leases.c.is_cancelled.is_(False))
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())

    def cancel(self, *, owner: str, conversation_id: str | None = None, turn_id: str | None = None) -> bool:
        """Have an answer stopped, whichever process is giving it; return whether there was one.

        Args:
            conversation_id: stop whatever is said in this conversation.
            turn_id: or stop this answer.
        """
        which = turn_leases.c.owner == owner
        if conversation_id is not None:
            which &= turn_leases.c.conversation_id == conversation_id
        if turn_id is not None:
            which &= turn_leases.c.turn_id == turn_id
        with self._database.write(lasts=False) as connection:
            return bool(connection.execute(turn_leases.update().where(which).values(is_cancelled=True)).rowcount)

    def is_held(self, name: str) -> bool:
        """Tell whether somebody holds the lease of this name."""
        with self._database.read() as connection:
            row = connection.execute(sa.select(turn_leases).where(turn_leases.c.name == name)).first()
        return row is not None and _is_held(row, time.time())

    def are_held(self, turn_ids: Collection[str]) -> set[str]:
        """Return which of these turns somebody is at work on."""
        query = sa.select(turn_leases).where(turn_leases.c.turn_id.in_(turn_ids))
        now = time.time()
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        return {row.turn_id for row in rows if _is_held(row, now)}

    def _is(self, lease: Lease) -> sa.ColumnElement[bool]:
        return sa.and_(turn_leases.c.name == lease.name, turn_leases.c.turn_id == lease.turn_id)

    @staticmethod
    def _num_held(connection: sa.Connection, owner: str, now: float) -> int:
        rows = connection.execute(sa.select(turn_leases).where(turn_leases.c.owner == owner))
        return sum(_is_held(row, now) for row in rows)


def _is_held(row: Any, now: float) -> bool:
    silent_s = now - to_time(row.seen_at_utc)
    return silent_s <= LEASE_S and not is_gone(str(row.writer), silent_s=silent_s)
