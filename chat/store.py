"""Where conversations are kept: one SQLite file by default, or Postgres by URL.

Every change is a transaction of its own and on disk when the call returns. Several processes may use one store at once:
messages are only ever added, each under the one that it follows, so nobody can overwrite what another has said.
"""

from __future__ import annotations

import array
import contextlib
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from chat.conversation import Conversation, Message, make_id
from chat.store_schema import MIGRATIONS, conversations, message_search, messages, metadata, store_version
from errors import ConversationNotFoundError, StoreError

__all__ = ["LOCAL_OWNER", "ConversationStore", "SearchHit", "Summary", "default_path", "search_words"]

LOCAL_OWNER = "local"
BUSY_TIMEOUT_MS = 10_000  # how long to wait for another process that writes
MIN_PREFIX = 4  # characters of an id that are enough to name a conversation, if they fit one only
EXCERPT_CHARACTERS = 30  # before and after what was searched for
HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\uac00-\ud7af"  # scripts that are written without spaces
WORDS = re.compile(rf"[{HAN}]+|[^\W_]+")


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of a list of conversations. ``unfinished``: an answer was being written when its writer died."""

    id: str
    title: str
    num_messages: int
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


def default_path() -> Path:
    """Return the store's file in the user's data folder."""
    import platformdirs

    return platformdirs.user_data_path("vllm-deploy") / "conversations.sqlite"


class ConversationStore:
    """Conversations that outlive the program.

    Args:
        where: a file, or a URL such as ``postgresql+psycopg://user@host/db``; the user's data folder if left out.
    Raises:
        StoreError: it cannot be opened: unwritable folder, damaged file, a file of a newer version.

    Example::

        store = ConversationStore()
        conversation = store.create(system="You are terse.")
        store.add(conversation, Message("user", "Hello"))
    """

    def __init__(self, where: str | Path | None = None) -> None:
        text = str(where if where is not None else default_path())
        self.file: Path | None = None
        if "://" in text:
            self.name = sa.engine.make_url(text).render_as_string(hide_password=True)
            self._engine = sa.create_engine(text, pool_pre_ping=True)
        else:
            self.file = Path(text).expanduser()
            self.name = str(self.file)
            _make_private(self.file)
            self._engine = sa.create_engine(f"sqlite:///{self.file}")
        self._open()

    @classmethod
    def in_memory(cls) -> ConversationStore:
        """Return a store that is gone with the process: for private conversations, and where no disk can be written."""
        store = cls.__new__(cls)
        store.file = None
        store.name = "memory"
        store._engine = sa.create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
        store._open()
        return store

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()

    # -- conversations ------------------------------------------------------------------------------------------

    def create(self, *, owner: str = LOCAL_OWNER, **fields: Any) -> Conversation:
        """Begin a conversation; fields are those of :class:`Conversation`."""
        conversation = Conversation(owner=owner, **fields)
        with self._write() as connection:
            connection.execute(conversations.insert().values(**_conversation_row(conversation)))
        return conversation

    def load(self, conversation_id: str, *, owner: str = LOCAL_OWNER) -> Conversation:
        """Return a conversation with all of its messages.

        Args:
            conversation_id: the id, or so much of its beginning that only one of the owner's fits.
        Raises:
            ConversationNotFoundError: none fits, or several do.
        """
        with self._read() as connection:
            row = self._find(connection, conversation_id, owner)
            found = connection.execute(
                sa.select(messages).where(messages.c.conversation_id == row.id).order_by(messages.c.position)
            )
            return _conversation(row, [_message(message) for message in found])

    def recent(self, *, owner: str = LOCAL_OWNER, limit: int = 50) -> list[Summary]:
        """Return the conversations that have messages, the latest first."""
        return self._summaries(owner, limit, only_unfinished=False)

    def unfinished(self, *, owner: str = LOCAL_OWNER, limit: int = 10) -> list[Summary]:
        """Return conversations in which an answer was being written when its writer died, the latest first."""
        return self._summaries(owner, limit, only_unfinished=True)

    def save(self, conversation: Conversation) -> None:
        """Keep everything about a conversation but its messages: title, system message, settings, tip, pins, window.

        Raises:
            ConversationNotFoundError: somebody has deleted it.
        """
        with self._write() as connection:
            self._save(connection, conversation)

    def delete(self, conversation_id: str, *, owner: str = LOCAL_OWNER) -> str:
        """Delete a conversation for ever; return its title."""
        with self._write() as connection:
            row = self._find(connection, conversation_id, owner)
            positions = sa.select(messages.c.position).where(messages.c.conversation_id == row.id)
            connection.execute(sa.delete(message_search).where(message_search.c.rowid.in_(positions)))
            connection.execute(messages.delete().where(messages.c.conversation_id == row.id))
            connection.execute(conversations.delete().where(conversations.c.id == row.id))
        return str(row.title)

    def insert(self, conversation: Conversation) -> Conversation:
        """Keep a whole conversation that was made elsewhere, under new ids; return it as it is kept."""
        new_ids = {old_id: make_id() for old_id in conversation.messages}
        copy = Conversation(
            owner=conversation.owner,
            title=conversation.title,
            system=conversation.system,
            settings=dict(conversation.settings),
            tip_id=new_ids.get(conversation.tip_id or ""),
            pinned_ids={new_ids[old_id] for old_id in conversation.pinned_ids},
        )
        with self._write() as connection:
            connection.execute(conversations.insert().values(**_conversation_row(copy)))
            for message in conversation.messages.values():
                row = _message_row(message, copy.id)
                row.update(id=new_ids[message.id], parent_id=new_ids.get(message.parent_id or ""))
                self._insert_message(connection, row)
        return self.load(copy.id, owner=copy.owner)

    # -- messages -----------------------------------------------------------------------------------------------

    def add(self, conversation: Conversation, message: Message) -> Message:
        """Put a message behind the tip, on disk and in the conversation; return it with its place in the tree.

        A message whose id is there already replaces it: begin an answer as ``partial``, write it again as it grows,
        and once more when it is complete.
        """
        known = message.id in conversation.messages
        before = (conversation.tip_id, conversation.title, list(conversation.redo_ids))
        placed = conversation.add(message)
        try:
            with self._write() as connection:
                self._save(connection, conversation)
                row = _message_row(placed, conversation.id)
                if known:
                    self._replace_message(connection, row)
                else:
                    self._insert_message(connection, row)
        except StoreError:
            if not known:  # the conversation holds what the disk holds
                conversation.tip_id, conversation.title, conversation.redo_ids = before
                del conversation.messages[placed.id]
            raise
        return placed

    # -- searching ----------------------------------------------------------------------------------------------

    def search(self, text: str, *, owner: str = LOCAL_OWNER, limit: int = 20) -> list[SearchHit]:
        """Return the messages that hold all words of a text, the latest first.

        Words match at their beginning; Chinese, Japanese and Korean text matches anywhere, from one character on.
        """
        words = search_words(text).split()
        if not words:
            return []
        condition = self._matches(words)
        query = (
            sa.select(conversations.c.title, messages.c.conversation_id, messages.c.id, messages.c.role)
            .add_columns(messages.c.content)
            .join_from(messages, conversations, conversations.c.id == messages.c.conversation_id)
            .join(message_search, message_search.c.rowid == messages.c.position)
            .where(conversations.c.owner == owner, condition)
            .order_by(messages.c.position.desc())
            .limit(limit)
        )
        with self._read() as connection:
            return [
                SearchHit(row.conversation_id, row.title, row.id, row.role, _excerpt(row.content, text))
                for row in connection.execute(query)
            ]

    def _matches(self, words: Sequence[str]) -> sa.ColumnElement[bool]:
        if self._engine.dialect.name == "sqlite":
            query = " ".join(f'"{word}"*' for word in words)  # words hold letters and digits only
            return sa.literal_column("message_search").op("MATCH", is_comparison=True)(query)
        query = " & ".join(f"{word}:*" for word in words)
        vector = sa.func.to_tsvector(sa.literal_column("'simple'"), message_search.c.words)
        return vector.op("@@")(sa.func.to_tsquery(sa.literal_column("'simple'"), query))

    # -- inside -------------------------------------------------------------------------------------------------

    def _find(self, connection: sa.Connection, conversation_id: str, owner: str) -> Any:
        chosen = sa.select(conversations).where(conversations.c.owner == owner)
        exact = connection.execute(chosen.where(conversations.c.id == conversation_id)).first()
        if exact is not None:
            return exact
        rows = []
        if len(conversation_id) >= MIN_PREFIX:
            prefix = conversations.c.id.startswith(conversation_id, autoescape=True)
            rows = list(connection.execute(chosen.where(prefix).limit(2)))
        if len(rows) == 2:
            raise ConversationNotFoundError(
                f"several conversations begin with {conversation_id}", hint="Give more of the id."
            )
        if not rows:
            raise ConversationNotFoundError(f"there is no conversation {conversation_id}")
        return rows[0]

    def _summaries(self, owner: str, limit: int, *, only_unfinished: bool) -> list[Summary]:
        count = sa.func.count(messages.c.id)
        unfinished = sa.func.max(sa.case((messages.c.status == "partial", 1), else_=0))
        query = (
            sa.select(conversations.c.id, conversations.c.title, conversations.c.updated_at_utc)
            .add_columns(count.label("num_messages"), unfinished.label("unfinished"))
            .join_from(conversations, messages, messages.c.conversation_id == conversations.c.id)
            .where(conversations.c.owner == owner)
            .group_by(conversations.c.id)
            .order_by(conversations.c.updated_at_utc.desc())
            .limit(limit)
        )
        if only_unfinished:
            ids = sa.select(messages.c.conversation_id).where(messages.c.status == "partial")
            query = query.where(conversations.c.id.in_(ids))
        with self._read() as connection:
            return [
                Summary(row.id, row.title, row.num_messages, row.updated_at_utc, bool(row.unfinished))
                for row in connection.execute(query)
            ]

    def _save(self, connection: sa.Connection, conversation: Conversation) -> None:
        conversation.updated_at_utc = time.time()
        row = _conversation_row(conversation)
        changed = connection.execute(
            conversations.update().where(conversations.c.id == conversation.id).values(**row)
        ).rowcount
        if not changed:
            raise ConversationNotFoundError(f"there is no conversation {conversation.id} any more")

    def _insert_message(self, connection: sa.Connection, row: dict[str, Any]) -> None:
        inserted = connection.execute(messages.insert().values(**row).returning(messages.c.position))
        position = inserted.scalar_one()
        if row["status"] == "complete":
            self._index(connection, position, row)

    def _replace_message(self, connection: sa.Connection, row: dict[str, Any]) -> None:
        connection.execute(messages.update().where(messages.c.id == row["id"]).values(**row))
        if row["status"] == "complete":  # a growing answer is searched once it has grown
            position = connection.execute(sa.select(messages.c.position).where(messages.c.id == row["id"])).scalar_one()
            connection.execute(sa.delete(message_search).where(message_search.c.rowid == position))
            self._index(connection, position, row)

    def _index(self, connection: sa.Connection, position: int, row: dict[str, Any]) -> None:
        if words := search_words(row["content"]):
            connection.execute(sa.insert(message_search).values(rowid=position, words=words))

    # -- the database -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._engine.dialect.name == "sqlite":
            sa.event.listen(self._engine, "connect", _prepare_sqlite)
            sa.event.listen(self._engine, "begin", _begin_sqlite)
        with self._translated():
            self._migrate()

    def _migrate(self) -> None:
        version = self._version()
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.name} was written by a newer version of this program (schema {version} of {len(MIGRATIONS)})",
                hint="Update this program, or name another store.",
            )
        if version and version < len(MIGRATIONS):
            self._keep_copy(version)
        for number, migration in enumerate(MIGRATIONS, start=1):
            if number <= version:
                continue
            with self._engine.begin() as connection:
                _lock_for_migration(connection)
                if self._read_version(connection) < number:  # another process may have been faster
                    migration(connection)
                    connection.execute(store_version.delete())
                    connection.execute(store_version.insert().values(version=number))

    def _version(self) -> int:
        with self._engine.begin() as connection:
            _lock_for_migration(connection)
            metadata.create_all(connection, tables=[store_version])
            return self._read_version(connection)

    @staticmethod
    def _read_version(connection: sa.Connection) -> int:
        return int(connection.execute(sa.select(sa.func.max(store_version.c.version))).scalar() or 0)

    def _keep_copy(self, version: int) -> None:
        """Copy the file before it is changed; Postgres has backups of its own."""
        if self.file is None:
            return
        copy = self.file.with_name(f"{self.file.name}.schema-{version}")
        if not copy.exists():
            with (
                contextlib.closing(sqlite3.connect(self.file)) as source,
                contextlib.closing(sqlite3.connect(copy)) as to,
            ):
                source.backup(to)
            copy.chmod(0o600)

    @contextlib.contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.begin() as connection:
            yield connection

    @contextlib.contextmanager
    def _read(self) -> Iterator[sa.Connection]:
        with self._translated(), self._engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the database's errors into one sentence with a remedy."""
        try:
            yield
        except sa.exc.DBAPIError as error:
            said = str(error.orig).splitlines()[0]
            raise StoreError(f"{self.name}: {said}", hint=_hint(said)) from error


_HINTS = (
    ("readonly", "Make the file and its folder writable, or name another store."),
    ("unable to open", "Make the folder writable, or name another store."),
    ("disk is full", "Free some space on the disk; what was kept before is safe."),
    ("disk I/O", "Check the disk; what was kept before is safe."),
    ("not a database", "The file is damaged or something else: move it away, or name another store."),
    ("malformed", "The file is damaged: move it away and restore a copy."),
    ("locked", "Another program holds the store: try again in a moment."),
)


def _hint(said: str) -> str:
    return next((hint for sign, hint in _HINTS if sign in said), "Check the database, or name another store.")


def _make_private(file: Path) -> None:
    """Make the folder (0700) and the file (0600), so that nobody else reads along."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise StoreError(
            f"{file} cannot be written: {error.strerror}", hint="Make the folder writable, or name another store."
        ) from error


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says, not where the driver guesses
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the write lock at once: a transaction that reads first and writes later can fail where waiting would do."""
    if connection.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        connection.exec_driver_sql("BEGIN IMMEDIATE")


def _lock_for_migration(connection: sa.Connection) -> None:
    """Keep other processes out while the schema changes; SQLite's BEGIN IMMEDIATE has done so already."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7361846)")


def search_words(text: str) -> str:
    """Return what a text is found by: its words in small letters, and each pair of neighbouring Chinese characters.

    A pair is the shortest that people search for, and an index of words alone does not find it. The last character of a
    run stands alone as well, so that every single character is the beginning of something.

    >>> search_words("Hello, 韩梅梅!")
    'hello 韩梅 梅梅 梅'
    """
    found: list[str] = []
    for run in WORDS.findall(text.lower()):
        if re.match(f"[{HAN}]", run):
            found += [run[index : index + 2] for index in range(len(run))]
        else:
            found.append(run)
    return " ".join(found)


def _excerpt(content: str, wanted: str) -> str:
    """Return the text around the first word that was searched for, in one line."""
    lowered = content.lower()
    places = [place for word in WORDS.findall(wanted.lower()) if (place := lowered.find(word)) >= 0]
    start = max(0, min(places, default=0) - EXCERPT_CHARACTERS)
    end = min(places, default=0) + len(wanted) + EXCERPT_CHARACTERS
    excerpt = " ".join(content[start:end].split())
    return ("…" if start else "") + excerpt + ("…" if end < len(content) else "")


def _conversation_row(conversation: Conversation) -> dict[str, Any]:
    return {
        "id": conversation.id,
        "owner": conversation.owner,
        "title": conversation.title,
        "system": conversation.system,
        "settings": conversation.settings,
        "tip_id": conversation.tip_id,
        "redo_ids": conversation.redo_ids,
        "pinned_ids": sorted(conversation.pinned_ids),
        "window_start_id": conversation.window_start_id,
        "created_at_utc": conversation.created_at_utc,
        "updated_at_utc": conversation.updated_at_utc,
    }


def _conversation(row: Any, found: Sequence[Message]) -> Conversation:
    fields = {column.name: getattr(row, column.name) for column in conversations.columns}
    fields["pinned_ids"] = set(row.pinned_ids)
    return Conversation(messages={message.id: message for message in found}, **fields)


def _message_row(message: Message, conversation_id: str) -> dict[str, Any]:
    token_ids = array.array("I", message.token_ids)
    if sys.byteorder == "big":
        token_ids.byteswap()
    return {
        "id": message.id,
        "conversation_id": conversation_id,
        "parent_id": message.parent_id,
        "role": message.role,
        "content": message.content,
        "reasoning": message.reasoning,
        "tool_calls": list(message.tool_calls),
        "tool_call_id": message.tool_call_id,
        "token_ids": token_ids.tobytes(),
        "finish_reason": message.finish_reason,
        "usage": dict(message.usage),
        "status": message.status,
        "created_at_utc": message.created_at_utc,
    }


def _message(row: Any) -> Message:
    token_ids = array.array("I")
    token_ids.frombytes(row.token_ids)
    if sys.byteorder == "big":
        token_ids.byteswap()
    return Message(
        role=row.role,
        content=row.content,
        id=row.id,
        parent_id=row.parent_id,
        reasoning=row.reasoning,
        tool_calls=tuple(row.tool_calls),
        tool_call_id=row.tool_call_id,
        token_ids=tuple(token_ids),
        finish_reason=row.finish_reason,
        usage=row.usage,
        status=row.status,
        created_at_utc=row.created_at_utc,
    )
