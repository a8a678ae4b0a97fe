"""Where conversations are kept: one SQLite file by default, or Postgres by URL.

Every change is a transaction of its own and on disk when the call returns. Several processes may use one store at once:
messages are only ever added, each under the one that it follows, and of the rest only what has changed is written, so
nobody overwrites what another has said or set.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from chat.conversation import Conversation, Message, make_id
from chat.store_database import Database
from chat.store_rows import UNSTORABLE, to_conversation, to_conversation_row, to_message, to_message_row
from chat.store_schema import conversations, message_search, messages, turns_under_way
from chat.store_search import add_to_index, make_excerpt, matching, remove_from_index
from chat.store_writer import Writer, is_gone
from errors import ConversationNotFoundError, StoreError

__all__ = ["LOCAL_OWNER", "ConversationStore", "SearchHit", "Summary", "default_path"]

LOCAL_OWNER = "local"
MIN_PREFIX = 4  # characters of an id that are enough to name a conversation, if they fit one only


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


@dataclass(frozen=True, slots=True)
class _Kept:
    """What a store holds of a conversation, as far as this process knows."""

    store: ConversationStore
    row: Mapping[str, Any]
    messages: Mapping[str, Message | None]  # None: it is there, but in which state is not known


def default_path() -> Path:
    """Return the store's file in the user's data folder."""
    import platformdirs

    return platformdirs.user_data_path("vllm-deploy") / "conversations.sqlite"


class ConversationStore:
    """Conversations that outlive the program. May be used from several threads.

    Text is kept as it is, except for NUL and halves of surrogate pairs, which databases do not take: these become
    U+FFFD.

    Args:
        where: a file, or a URL such as ``postgresql://user@host/db``; the user's data folder if left out.
    Raises:
        StoreError: it cannot be opened: unwritable folder, damaged file, a file of a newer version.

    Example::

        store = ConversationStore()
        conversation = store.create(system="You are terse.")
        store.add(conversation, Message("user", "Hello"))
    """

    def __init__(self, where: str | Path | None = None) -> None:
        self._use(Database(where if where is not None else default_path()))

    @classmethod
    def in_memory(cls) -> ConversationStore:
        """Return a store that is gone with the process: for private conversations, and where no disk can be written."""
        store = cls.__new__(cls)
        store._use(Database(None))
        return store

    def _use(self, database: Database) -> None:
        self._database = database
        self._writer = Writer()

    @property
    def file(self) -> Path | None:
        """The file, if it is one."""
        return self._database.file

    @property
    def name(self) -> str:
        """What to call the store: its file, its URL without the password, or ``memory``."""
        return self._database.name

    def close(self) -> None:
        """Let go of the database. Questions that were left unanswered on purpose do not count as cut off."""
        with contextlib.suppress(StoreError), self._database.write() as connection:
            partial = sa.select(messages.c.id).where(messages.c.status == "partial")
            mine = turns_under_way.c.writer == self._writer.name
            if connection.execute(sa.select(turns_under_way.c.message_id).where(mine).limit(1)).first():
                connection.execute(turns_under_way.delete().where(mine, turns_under_way.c.message_id.not_in(partial)))
        self._writer.leave()
        self._database.close()

    # -- conversations ------------------------------------------------------------------------------------------

    def create(self, *, owner: str = LOCAL_OWNER, **fields: Any) -> Conversation:
        """Begin a conversation; fields are those of :class:`Conversation`."""
        conversation = Conversation(owner=owner, **fields)
        self.save(conversation)
        return conversation

    def load(self, conversation_id: str, *, owner: str = LOCAL_OWNER) -> Conversation:
        """Return a conversation with all of its messages.

        Args:
            conversation_id: the id, or so much of its beginning that only one of the owner's fits.
        Raises:
            ConversationNotFoundError: none fits, or several do.
        """
        with self._database.read() as connection:
            row = self._find(connection, conversation_id, owner)
            found = connection.execute(
                sa.select(messages).where(messages.c.conversation_id == row.id).order_by(messages.c.position)
            )
            conversation = to_conversation(row, [to_message(message) for message in found])
        if conversation.tip_id is not None and conversation.tip_id not in conversation.messages:
            # Postgres shows each query its own moment, and between these two somebody has deleted it.
            raise ConversationNotFoundError(f"there is no conversation {conversation_id}")
        conversation.kept = _Kept(self, to_conversation_row(conversation), dict(conversation.messages))
        return conversation

    def recent(self, *, owner: str = LOCAL_OWNER, limit: int = 50) -> list[Summary]:
        """Return the conversations that have messages, the latest first."""
        has_messages = sa.exists().where(messages.c.conversation_id == conversations.c.id)
        with self._database.read() as connection:
            return self._summaries(connection, (conversations.c.owner == owner, has_messages), limit)

    def unfinished(self, *, owner: str = LOCAL_OWNER, limit: int = 10) -> list[Summary]:
        """Return conversations whose last turn was cut off, the latest first.

        That is one whose question is without an answer, or whose answer is not complete, and whose writer is gone. An
        answer that another terminal is writing at this moment is not among them. Whoever goes on with such a
        conversation takes it off the list; so does :meth:`settle`.
        """
        with self._database.read() as connection:
            ids = self._cut_off(connection)
            return self._summaries(connection, (conversations.c.owner == owner, conversations.c.id.in_(ids)), limit)

    def settle(self, conversation_id: str, *, owner: str = LOCAL_OWNER) -> None:
        """Leave a cut-off turn as it is: the conversation is no longer among the unfinished. Nothing is deleted."""
        with self._database.write() as connection:
            row = self._find(connection, conversation_id, owner)
            self._take_over(connection, row.id)

    def save(self, conversation: Conversation) -> None:
        """Keep whatever has changed: new and longer messages, title, system message, settings, tip, pins, window.

        A conversation that the store does not hold yet is put into it. What another process has changed meanwhile
        stays, unless the same was changed here.

        Raises:
            ConversationNotFoundError: somebody has deleted it.
        """
        kept = conversation.kept if isinstance(conversation.kept, _Kept) and conversation.kept.store is self else None
        if kept is not None and not _changed(conversation, kept) and kept.row == to_conversation_row(conversation):
            return
        conversation.updated_at_utc = time.time()
        with self._database.write() as connection:
            now_kept = self._save(connection, conversation, kept)
            if _changed(conversation, kept) or kept is None or conversation.tip_id != kept.row["tip_id"]:
                self._note_turn(connection, conversation)
        conversation.kept = now_kept

    def delete(self, conversation_id: str, *, owner: str = LOCAL_OWNER) -> str:
        """Delete a conversation for ever; return its title."""
        with self._database.write() as connection:
            row = self._find(connection, conversation_id, owner)
            remove_from_index(connection, sa.select(messages.c.position).where(messages.c.conversation_id == row.id))
            connection.execute(conversations.delete().where(conversations.c.id == row.id))  # the rest goes with it
        return str(row.title)

    def insert(self, conversation: Conversation) -> Conversation:
        """Keep a whole conversation that was made elsewhere, under new ids; return it as it is kept."""
        return self.insert_all([conversation])[0]

    def insert_all(self, made_elsewhere: Sequence[Conversation]) -> list[Conversation]:
        """Keep several conversations as :meth:`insert` does: all of them, or none if the store fails."""
        copies = [_copy(conversation) for conversation in made_elsewhere]
        with self._database.write() as connection:
            kept = [self._save(connection, copy, None) for copy in copies]
            for copy in copies:  # nobody is writing them any more
                self._index(connection, messages.c.conversation_id == copy.id)
        for copy, state in zip(copies, kept, strict=True):
            copy.kept = state
        return copies

    # -- messages -----------------------------------------------------------------------------------------------

    def add(self, conversation: Conversation, message: Message) -> Message:
        """Put a message behind the tip, on disk and in the conversation; return it with its place in the tree.

        A message whose id is there already is replaced: begin an answer as ``partial``, write it again as it grows,
        and once more when it is complete. If the store fails, the conversation is what it was.
        """
        replaced = conversation.messages.get(message.id)
        before = (conversation.title, list(conversation.redo_ids), conversation.tip_id)
        placed = conversation.add(message)
        try:
            self.save(conversation)
        except StoreError:
            if replaced is None:
                conversation.forget(placed)
            else:
                conversation.messages[message.id] = replaced
            conversation.title, conversation.redo_ids, conversation.tip_id = before
            raise
        return placed

    # -- searching ----------------------------------------------------------------------------------------------

    def search(self, text: str, *, owner: str = LOCAL_OWNER, limit: int = 20) -> list[SearchHit]:
        """Return the messages that hold all words of a text, the latest first.

        Words match at their beginning; Chinese, Japanese and Korean text matches anywhere, from one character on.
        """
        condition = matching(text, self._database.dialect)
        if condition is None:
            return []
        query = (
            sa.select(conversations.c.title, messages.c.conversation_id, messages.c.id, messages.c.role)
            .add_columns(messages.c.content)
            .join_from(message_search, messages, message_search.c.rowid == messages.c.position)
            .join(conversations, conversations.c.id == messages.c.conversation_id)
            .where(conversations.c.owner == owner, condition)
            .order_by(message_search.c.rowid.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            return [
                SearchHit(row.conversation_id, row.title, row.id, row.role, make_excerpt(row.content, text))
                for row in connection.execute(query)
            ]

    # -- inside -------------------------------------------------------------------------------------------------

    def _find(self, connection: sa.Connection, conversation_id: str, owner: str) -> Any:
        if UNSTORABLE.search(conversation_id):
            raise ConversationNotFoundError(f"there is no conversation {conversation_id!r}")
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

    def _summaries(
        self, connection: sa.Connection, conditions: Sequence[sa.ColumnElement[bool]], limit: int
    ) -> list[Summary]:
        """Return lines of a list. Only the messages of the conversations that are on it are counted."""
        chosen = (
            sa.select(conversations.c.id, conversations.c.title, conversations.c.updated_at_utc)
            .where(*conditions)
            .order_by(conversations.c.updated_at_utc.desc())
            .limit(limit)
            .subquery()
        )
        query = (
            sa.select(chosen, sa.func.count(messages.c.position).label("num_messages"))
            .add_columns(sa.func.sum(sa.case((messages.c.role == "user", 1), else_=0)).label("num_turns"))
            .join_from(chosen, messages, messages.c.conversation_id == chosen.c.id, isouter=True)
            .group_by(chosen.c.id, chosen.c.title, chosen.c.updated_at_utc)
            .order_by(chosen.c.updated_at_utc.desc())
        )
        cut_off = self._cut_off(connection)
        return [
            Summary(row.id, row.title, row.num_messages, row.num_turns, row.updated_at_utc, row.id in cut_off)
            for row in connection.execute(query)
        ]

    def _save(self, connection: sa.Connection, conversation: Conversation, kept: _Kept | None) -> _Kept:
        """Write what differs from what is kept; return what is kept then."""
        if kept is None:
            kept = self._begin(connection, conversation)
        else:
            self._save_row(connection, conversation, kept)
        for message in _changed(conversation, kept):
            self._save_message(connection, message, conversation.id, is_new=message.id not in kept.messages)
        return _Kept(self, to_conversation_row(conversation), dict(conversation.messages))

    def _begin(self, connection: sa.Connection, conversation: Conversation) -> _Kept:
        """Put a conversation into the store, or find the part of it that is there already."""
        row = to_conversation_row(conversation)
        there = conversations.c.id == conversation.id
        changed = connection.execute(
            conversations.update().where(there, conversations.c.owner == conversation.owner).values(**row)
        ).rowcount
        if not changed:
            connection.execute(conversations.insert().values(**row))
            return _Kept(self, {**row, "tip_id": None}, {})
        ids = connection.execute(sa.select(messages.c.id).where(messages.c.conversation_id == conversation.id))
        return _Kept(self, row, dict.fromkeys((message_id for (message_id,) in ids), None))

    def _save_row(self, connection: sa.Connection, conversation: Conversation, kept: _Kept) -> None:
        row = to_conversation_row(conversation)
        there = conversations.c.id == conversation.id
        changed = {name: value for name, value in row.items() if value != kept.row[name]}
        if "pinned_ids" in changed:
            pins = connection.execute(sa.select(conversations.c.pinned_ids).where(there).with_for_update()).scalar()
            before, now = set(kept.row["pinned_ids"]), conversation.pinned_ids
            changed["pinned_ids"] = sorted((set(pins or ()) | (now - before)) - (before - now))
        if not connection.execute(conversations.update().where(there).values(**changed)).rowcount:
            raise ConversationNotFoundError(f"there is no conversation {conversation.id} any more")

    def _save_message(self, connection: sa.Connection, message: Message, conversation_id: str, *, is_new: bool) -> None:
        row = to_message_row(message, conversation_id)
        written = messages.insert() if is_new else messages.update().where(messages.c.id == message.id)
        position = connection.execute(written.values(**row).returning(messages.c.position)).scalar_one()
        if message.status == "complete":  # a growing answer is found once it has grown
            if not is_new:
                remove_from_index(connection, [position])
            add_to_index(connection, position, message.content)

    # -- turns under way ----------------------------------------------------------------------------------------

    def _note_turn(self, connection: sa.Connection, conversation: Conversation) -> None:
        """Remember the last turn while it is not over; whoever goes on with a cut-off one takes it over."""
        self._take_over(connection, conversation.id)
        tip = conversation.tip
        if tip is None or not _is_open(tip):
            return
        connection.execute(turns_under_way.delete().where(turns_under_way.c.message_id == tip.id))
        connection.execute(
            turns_under_way.insert().values(
                message_id=tip.id,
                conversation_id=conversation.id,
                writer=self._writer.name,
                seen_at_utc=time.time(),
            )
        )

    def _take_over(self, connection: sa.Connection, conversation_id: str) -> None:
        """Forget the turns that were under way here, or whose writer is gone. What is there of their answers stays."""
        rows = connection.execute(
            sa.select(turns_under_way).where(turns_under_way.c.conversation_id == conversation_id)
        ).all()
        gone = [row.message_id for row in rows if _writer_is_gone(row)]
        mine = [row.message_id for row in rows if row.writer == self._writer.name]
        if gone or mine:
            connection.execute(turns_under_way.delete().where(turns_under_way.c.message_id.in_(gone + mine)))
        if gone:
            self._index(connection, messages.c.id.in_(gone))

    @staticmethod
    def _index(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
        """Have answers found that will not grow any more."""
        partial = sa.select(messages.c.position, messages.c.content).where(which, messages.c.status == "partial")
        for position, content in connection.execute(partial).all():
            add_to_index(connection, position, content)

    @staticmethod
    def _cut_off(connection: sa.Connection) -> set[str]:
        return {row.conversation_id for row in connection.execute(sa.select(turns_under_way)) if _writer_is_gone(row)}


def _copy(conversation: Conversation) -> Conversation:
    """Return the same conversation with ids that nobody has used."""
    new_ids: dict[str | None, str | None] = {None: None}
    new_ids |= {old_id: make_id() for old_id in conversation.messages}
    return dataclasses.replace(
        conversation,
        id=make_id(),
        settings=dict(conversation.settings),
        messages={
            str(new_ids[m.id]): dataclasses.replace(m, id=str(new_ids[m.id]), parent_id=new_ids[m.parent_id])
            for m in conversation.messages.values()
        },
        tip_id=new_ids[conversation.tip_id],
        redo_ids=[new_ids[old_id] for old_id in conversation.redo_ids],
        pinned_ids={str(new_ids[old_id]) for old_id in conversation.pinned_ids},
        window_start_id=new_ids[conversation.window_start_id],
        kept=None,
    )


def _changed(conversation: Conversation, kept: _Kept | None) -> list[Message]:
    """Return the messages that are not on disk as they are now."""
    known = kept.messages if kept else {}
    return [message for message in conversation.messages.values() if known.get(message.id) is not message]


def _is_open(message: Message) -> bool:
    """Tell whether a turn that ends in this message still waits for something."""
    return message.role in ("user", "tool") or message.status == "partial" or message.finish_reason == "tool_calls"


def _writer_is_gone(row: Any) -> bool:
    return is_gone(row.writer, silent_s=time.time() - row.seen_at_utc)
