"""Keeping a store in order: what is too old goes, the file shrinks, a copy is made, and what is in it is counted."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import sqlalchemy as sa

from chat.store.local import ConversationStore
from chat.store.schema import conversations, messages, responses, sessions
from chatcore.errors import StoreError

__all__ = ["Expired", "OwnerLine", "StoreInfo", "backup", "describe_store", "expire", "vacuum"]

DAY_S = 24 * 3600.0


class Retention(Protocol):
    """How long conversations are kept; see :class:`chat.server.settings.retention.ServedSettings`."""

    @property
    def retention_days(self) -> float: ...

    @property
    def retention_days_of(self) -> Mapping[str, float]: ...

    @property
    def session_idle_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Expired:
    """What was deleted."""

    num_conversations: int
    num_sessions: int


@dataclass(frozen=True, slots=True)
class OwnerLine:
    """What one owner has."""

    owner: str
    num_conversations: int
    num_messages: int
    updated_at_utc: float


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """What a store holds.

    Attributes:
        num_bytes: size of the database.
        owners: those who have conversations, by name.
    """

    name: str
    num_bytes: int
    num_conversations: int
    num_messages: int
    num_sessions: int
    num_responses: int
    owners: tuple[OwnerLine, ...]


def expire(store: ConversationStore, retention: Retention) -> Expired:
    """Delete the conversations, and forget the sessions, in which nothing was said for too long.

    Conversations in which an answer is being given stay: they have just been written to.
    """
    num_sessions = store.served.expire_sessions(retention.session_idle_s) if retention.session_idle_s else 0
    special = retention.retention_days_of
    num_conversations = sum(
        store.delete_older_than(time.time() - days * DAY_S, owner=owner) for owner, days in special.items() if days
    )
    if retention.retention_days:
        before = time.time() - retention.retention_days * DAY_S
        num_conversations += store.delete_older_than(before, but_owners=tuple(special))
    return Expired(num_conversations, num_sessions)


def vacuum(store: ConversationStore) -> tuple[int, int]:
    """Give back the space of what was deleted; return the size before and after, in bytes."""
    before = _num_bytes(store)
    with store.database.outside_transaction() as connection:
        connection.exec_driver_sql("VACUUM")
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, _num_bytes(store)


def backup(store: ConversationStore, target: Path, *, overwrite: bool = False) -> int:
    """Copy a store's file while programs go on writing to it; return the size of the copy, in bytes.

    Raises:
        StoreError: the store is no file (Postgres has ``pg_dump``), the copy exists already, or it cannot be written.
    """
    if store.file is None:
        raise StoreError(f"{store.name} is no file", hint="Use the database's own tool: pg_dump.")
    if target.exists() and not overwrite:
        raise StoreError(f"{target} exists already", hint="Name another file, or add --overwrite.")
    if target.exists() and target.samefile(store.file):
        raise StoreError(f"{target} is the store itself", hint="Name another file.")
    growing = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        os.close(os.open(growing, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        with (
            contextlib.closing(sqlite3.connect(store.file)) as source,
            contextlib.closing(sqlite3.connect(growing)) as copy,
        ):
            source.backup(copy)
            damage = copy.execute("PRAGMA quick_check").fetchone()[0]
        if damage != "ok":
            raise StoreError(f"the copy is damaged: {damage}", hint="Check the disk, and the store itself.")
        growing.replace(target)
    except (OSError, sqlite3.Error) as error:
        raise StoreError(f"{target} cannot be written: {error}", hint="Name a folder with enough room.") from error
    finally:
        growing.unlink(missing_ok=True)
    return target.stat().st_size


def describe_store(store: ConversationStore) -> StoreInfo:
    """Count what a store holds."""
    each = (
        sa.select(conversations.c.owner, sa.func.count(sa.distinct(conversations.c.id)).label("num_conversations"))
        .add_columns(sa.func.count(messages.c.id).label("num_messages"))
        .add_columns(sa.func.max(conversations.c.updated_at_utc).label("updated_at_utc"))
        .join_from(conversations, messages, messages.c.conversation_id == conversations.c.id, isouter=True)
        .group_by(conversations.c.owner)
        .order_by(conversations.c.owner)
    )
    with store.database.read() as connection:
        owners = tuple(
            OwnerLine(row.owner, row.num_conversations, row.num_messages, row.updated_at_utc)
            for row in connection.execute(each)
        )
        num_sessions, num_responses = (
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (sessions, responses)
        )
    return StoreInfo(
        name=store.name,
        num_bytes=_num_bytes(store),
        num_conversations=sum(line.num_conversations for line in owners),
        num_messages=sum(line.num_messages for line in owners),
        num_sessions=num_sessions,
        num_responses=num_responses,
        owners=owners,
    )


def _num_bytes(store: ConversationStore) -> int:
    if store.file is not None:
        files = (store.file, store.file.with_name(f"{store.file.name}-wal"))
        return sum(file.stat().st_size for file in files if file.exists())
    with store.database.read() as connection:
        return int(connection.exec_driver_sql("SELECT pg_database_size(current_database())").scalar_one())
