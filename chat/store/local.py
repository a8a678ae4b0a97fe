"""Where conversations are kept: one SQLite file by default, or Postgres by URL.

Every change is a transaction of its own and on disk when the call returns. Several processes may use one store at once:
messages are only ever added, each under the one that it follows, and of the rest only what has changed is written, so
nobody overwrites what another has said or set.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from chat.conversations.conversation import Conversation, Message, find_stray
from chat.store.base import SearchHit, Summary
from chat.store.changes import (
    Changes,
    add_message,
    copy_with_new_ids,
    doubt,
    find_changes,
    is_open,
    kept_by,
    take_changes,
)
from chat.store.database import Database
from chat.store.leases import TurnLeases
from chat.store.rows import (
    UNSTORABLE,
    to_conversation,
    to_conversation_row,
    to_growth,
    to_message,
    to_message_row,
    to_time,
)
from chat.store.schema import conversations, message_search, messages, turns_under_way
from chat.store.search import add_to_index, in_title, make_excerpt, matching, newest_hits, remove_from_index
from chat.store.server_state import ServedThings
from chat.store.writer import Writer, is_gone
from chatcore.errors import ConversationNotFoundError, StoreError

__all__ = ["LOCAL_OWNER", "ConversationStore", "SearchHit", "Summary", "default_path"]

LOCAL_OWNER = "local"
MAX_VARIABLES = 1000  # in one query; SQLite takes 32,766
INSERT_MESSAGE = messages.insert().returning(messages.c.position)
UPDATE_MESSAGE = messages.update().where(messages.c.id == sa.bindparam("message_id")).returning(messages.c.position)
NOTE_TURN = sa.text(
    "INSERT INTO turns_under_way (message_id, conversation_id, writer, seen_at_utc)"
    " VALUES (:message_id, :conversation_id, :writer, :seen_at_utc)"
    " ON CONFLICT (message_id) DO UPDATE SET writer = excluded.writer, seen_at_utc = excluded.seen_at_utc"
)
GROW = messages.update().where(messages.c.id == sa.bindparam("answer_id"), messages.c.status == "partial")
SEE = turns_under_way.update().where(turns_under_way.c.message_id == sa.bindparam("answer_id"))
MIN_PREFIX = 4  # characters of an id that are enough to name a conversation, if they fit one only


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

    Attributes:
        leases: who is giving an answer at this moment; for servers.
        served: sessions and responses; for servers.
    """

    is_remote = False

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
        self.leases = TurnLeases(database, self._writer)
        self.served = ServedThings(database)

    @property
    def database(self) -> Database:
        """What is behind it; for upkeep."""
        return self._database

    @property
    def file(self) -> Path | None:
        """The file, if it is one."""
        return self._database.file

    @property
    def name(self) -> str:
        """What to call the store: its file, its URL without the password, or ``memory``."""
        return self._database.name

    def check_writable(self) -> None:
        """Write something and take it back.

        Raises:
            StoreError: that cannot be done: the disk is full, the file or the account may only read.
        """
        self._database.check_writable()

    def close(self) -> None:
        """Let go of the database. Questions that were left unanswered on purpose do not count as cut off."""
        with contextlib.suppress(StoreError):
            self.leave(self._writer.name)
        self._writer.leave()
        self._database.close()

    def leave(self, writer: str, *, owner: str | None = None) -> None:
        """Note that a writer has ended: what it left unanswered was left so on purpose. Half answers stay cut off."""
        condition = turns_under_way.c.writer == writer
        if owner is not None:
            owned = sa.select(conversations.c.id).where(conversations.c.owner == owner)
            condition &= turns_under_way.c.conversation_id.in_(owned)
        partial = sa.select(messages.c.id).where(messages.c.status == "partial")
        with self._database.write() as connection:
            if connection.execute(sa.select(turns_under_way.c.message_id).where(condition).limit(1)).first():
                connection.execute(
                    turns_under_way.delete().where(condition, turns_under_way.c.message_id.not_in(partial))
                )

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
        conversation.kept = kept_by(self, conversation)
        return conversation

    def load_head(self, conversation_id: str, *, owner: str = LOCAL_OWNER) -> Conversation:
        """Return a conversation without its messages: to look at, not to save.

        Raises:
            ConversationNotFoundError: there is none.
        """
        with self._database.read() as connection:
            row = self._find(connection, conversation_id, owner)
        return replace(to_conversation(row, []), tip_id=None, redo_ids=[], pinned_ids=set(), window_start_id=None)

    def recent(
        self, *, owner: str = LOCAL_OWNER, limit: int = 50, after: str | None = None, with_empty: bool = False
    ) -> list[Summary]:
        """Return the conversations that have messages, the latest first.

        Args:
            after: the id of a conversation; those behind it in the list are returned.
            with_empty: return those without messages too.
        """
        conditions = [conversations.c.owner == owner]
        if not with_empty:
            conditions.append(sa.exists().where(messages.c.conversation_id == conversations.c.id))
        with self._database.read() as connection:
            if after is not None:
                conditions.append(self._comes_after(connection, after, owner))
            return self._summaries(connection, conditions, limit)

    def unfinished(self, *, owner: str = LOCAL_OWNER, limit: int = 10) -> list[Summary]:
        """Return conversations whose last turn was cut off, the latest first.

        That is one whose question is without an answer, or whose answer is not complete, and whose writer is gone. An
        answer that another terminal is writing at this moment is not among them. Whoever goes on with such a
        conversation takes it off the list; so does :meth:`settle`.
        """
        with self._database.read() as connection:
            ids = self._cut_off(connection)
            return self._summaries(connection, (conversations.c.owner == owner, conversations.c.id.in_(ids)), limit)

    def settle(self, conversation_id: str, *, owner: str = LOCAL_OWNER, writer: str | None = None) -> None:
        """Leave a cut-off turn as it is: the conversation is no longer among the unfinished. Nothing is deleted."""
        with self._database.write() as connection:
            row = self._find(connection, conversation_id, owner)
            self._take_over(connection, row.id, writer or self._writer.name)

    def save(self, conversation: Conversation) -> None:
        """Keep whatever has changed: new and longer messages, title, system message, settings, tip, pins, window.

        A conversation that the store does not hold yet is put into it. What another process has changed meanwhile
        stays, unless the same was changed here.

        Raises:
            ConversationNotFoundError: somebody has deleted it.
        """
        if (changes := take_changes(conversation, self)) is not None:
            try:
                self.apply([changes], owner=conversation.owner)
            except StoreError:
                doubt(conversation, changes)
                raise
            conversation.kept = kept_by(self, conversation)

    def apply(
        self,
        several: Iterable[Changes],
        *,
        owner: str = LOCAL_OWNER,
        writer: str | None = None,
        is_over: bool = False,
    ) -> None:
        """Write changes that :mod:`chat.store.changes` found, in this process or elsewhere: all of them, or none.

        Args:
            writer: who wrote them, as a :class:`chat.store.writer.Writer` is named; this store itself if left out.
            is_over: nobody is at work on these conversations.
        Raises:
            ConversationNotFoundError: one is not there any more, or belongs to somebody else.
            StoreError: they name messages that are not there.
        """
        with self._database.write() as connection:
            for changes in several:
                self._apply(connection, changes, owner, writer or self._writer.name, is_over=is_over)

    def delete(self, conversation_id: str, *, owner: str = LOCAL_OWNER) -> str:
        """Delete a conversation for ever; return its title."""
        with self._database.write() as connection:
            row = self._find(connection, conversation_id, owner)
            remove_from_index(connection, sa.select(messages.c.position).where(messages.c.conversation_id == row.id))
            connection.execute(conversations.delete().where(conversations.c.id == row.id))  # the rest goes with it
        return str(row.title)

    def delete_older_than(self, before_utc: float, *, owner: str | None = None, but_owners: Sequence[str] = ()) -> int:
        """Delete for ever the conversations in which nothing was said since; return how many.

        Args:
            before_utc: seconds since 1970.
            owner: whose; everybody's if left out.
            but_owners: whose stay.
        """
        old = conversations.c.updated_at_utc < before_utc
        old &= conversations.c.owner.not_in(but_owners) if owner is None else conversations.c.owner == owner
        num_deleted = 0
        while True:  # a part at a time, so that nobody waits long for the write lock
            with self._database.write() as connection:
                ids = connection.execute(sa.select(conversations.c.id).where(old).limit(MAX_VARIABLES)).scalars().all()
                if not ids:
                    return num_deleted
                of_them = messages.c.conversation_id.in_(ids)
                remove_from_index(connection, sa.select(messages.c.position).where(of_them))
                connection.execute(conversations.delete().where(conversations.c.id.in_(ids), old))
            num_deleted += len(ids)

    def insert(self, conversation: Conversation) -> Conversation:
        """Keep a whole conversation that was made elsewhere, under new ids; return it as it is kept."""
        return self.insert_all([conversation])[0]

    def insert_all(self, made_elsewhere: Sequence[Conversation]) -> list[Conversation]:
        """Keep several conversations as :meth:`insert` does: all of them, or none if the store fails."""
        copies = [copy_with_new_ids(conversation) for conversation in made_elsewhere]
        with self._database.write() as connection:
            for copy in copies:
                if (changes := find_changes(copy, self)) is not None:
                    self._apply(connection, changes, copy.owner, self._writer.name, is_over=True)
        for copy in copies:
            copy.kept = kept_by(self, copy)
        return copies

    # -- messages -----------------------------------------------------------------------------------------------

    def add(self, conversation: Conversation, message: Message) -> Message:
        """Put a message behind the tip, on disk and in the conversation; return it with its place in the tree.

        A message whose id is there already is replaced: begin an answer as ``partial``, write it again as it grows,
        and once more when it is complete. If the store fails, the conversation is what it was.
        """
        return add_message(conversation, message, self.save)

    def grow(self, answers: Sequence[Message]) -> None:
        """Write again what has come of partial answers that are kept: any number of them for the price of one.

        Answers that are not kept, or no longer partial, are passed over.
        """
        if not answers:
            return
        now = time.time()
        with self._database.write() as connection:
            connection.execute(GROW, [{"answer_id": answer.id, **to_growth(answer)} for answer in answers])
            connection.execute(SEE, [{"answer_id": answer.id, "seen_at_utc": now} for answer in answers])

    def delete_message(self, conversation: Conversation, message_id: str) -> None:
        """Delete a message for ever, on disk and in the conversation; what follows it moves up to what it followed."""
        parent_id = conversation.messages[message_id].parent_id
        there = messages.c.conversation_id == conversation.id
        conversation.remove(message_id)
        self.save(conversation)
        with self._database.write() as connection:
            # Behind it another process may have said something that is not known here.
            behind = sa.and_(there, messages.c.parent_id == message_id)
            connection.execute(messages.update().where(behind).values(parent_id=parent_id))
            gone = sa.and_(there, messages.c.id == message_id)
            remove_from_index(connection, sa.select(messages.c.position).where(gone))
            connection.execute(messages.delete().where(gone))
        conversation.kept = kept_by(self, conversation)

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
                SearchHit(row.conversation_id, row.title, row.id, row.role, make_excerpt(str(row.content), text))
                for row in connection.execute(query)
            ]

    def find_conversations(
        self, words: str, *, owner: str = LOCAL_OWNER, limit: int = 20, after: str | None = None
    ) -> list[Summary]:
        """Return the conversations that have all of these words in the title or in one message, the latest first.

        Words match as in :meth:`search`. Each line has an excerpt of the newest message that has the words.

        Args:
            after: the id of a conversation; those that follow it in the list are returned.
        """
        hits = newest_hits(words, self._database.dialect)
        if hits is None:
            return []
        query = (
            sa.select(conversations.c.id, hits.c.position)
            .join_from(conversations, hits, hits.c.conversation_id == conversations.c.id, isouter=True)
            .where(conversations.c.owner == owner, sa.or_(hits.c.position.is_not(None), in_title(words)))
            .order_by(conversations.c.updated_at_utc.desc(), conversations.c.id.desc())
            .limit(limit)
        )
        with self._database.read() as connection:
            if after is not None:
                query = query.where(self._comes_after(connection, after, owner))
            positions = {row.id: row.position for row in connection.execute(query)}
            lines: dict[str, Summary] = {}
            for start in range(0, len(positions), MAX_VARIABLES):
                part = dict(islice(positions.items(), start, start + MAX_VARIABLES))
                excerpts = self._excerpts(connection, list(part.values()), words)
                for line in self._summaries(connection, [conversations.c.id.in_(part)], MAX_VARIABLES):
                    lines[line.id] = replace(line, excerpt=excerpts.get(line.id, ""))
        return [lines[conversation_id] for conversation_id in positions if conversation_id in lines]

    @staticmethod
    def _excerpts(connection: sa.Connection, positions: Sequence[int | None], words: str) -> dict[str, str]:
        """Return excerpts of messages, by conversation."""
        chosen = messages.c.position.in_([position for position in positions if position is not None])
        rows = connection.execute(sa.select(messages.c.conversation_id, messages.c.content).where(chosen))
        return {row.conversation_id: make_excerpt(str(row.content), words) for row in rows}

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

    def _comes_after(self, connection: sa.Connection, conversation_id: str, owner: str) -> sa.ColumnElement[bool]:
        """Return the condition of being further down in a list than a conversation."""
        last = self._find(connection, conversation_id, owner)
        place = sa.tuple_(conversations.c.updated_at_utc, conversations.c.id)
        return place < sa.tuple_(sa.literal(last.updated_at_utc), sa.literal(last.id))

    def _summaries(
        self, connection: sa.Connection, conditions: Sequence[sa.ColumnElement[bool]], limit: int
    ) -> list[Summary]:
        """Return lines of a list. Only the messages of the conversations that are on it are counted."""
        chosen = (
            sa.select(conversations.c.id, conversations.c.title, conversations.c.updated_at_utc)
            .where(*conditions)
            .order_by(conversations.c.updated_at_utc.desc(), conversations.c.id.desc())
            .limit(limit)
            .subquery()
        )
        query = (
            sa.select(chosen, sa.func.count(messages.c.position).label("num_messages"))
            .add_columns(sa.func.sum(sa.case((messages.c.role == "user", 1), else_=0)).label("num_turns"))
            .join_from(chosen, messages, messages.c.conversation_id == chosen.c.id, isouter=True)
            .group_by(chosen.c.id, chosen.c.title, chosen.c.updated_at_utc)
            .order_by(chosen.c.updated_at_utc.desc(), chosen.c.id.desc())
        )
        cut_off = self._cut_off(connection)
        return [
            Summary(
                str(row.id),
                str(row.title),
                row.num_messages,
                row.num_turns,
                to_time(row.updated_at_utc),
                row.id in cut_off,
            )
            for row in connection.execute(query)
        ]

    def _apply(self, connection: sa.Connection, changes: Changes, owner: str, writer: str, *, is_over: bool) -> None:
        self._write(connection, changes, owner)
        if is_over:
            self._index(connection, messages.c.conversation_id == changes.conversation_id)
        elif changes.concern_turn:
            self._note_turn(connection, changes, writer)

    def _write(self, connection: sa.Connection, changes: Changes, owner: str) -> None:
        """Write changes. What another process has changed meanwhile stays, unless the same was changed here."""
        there = sa.and_(conversations.c.id == changes.conversation_id, conversations.c.owner == owner)
        row = to_conversation_row(changes.fields)
        if changes.pinned or changes.unpinned:
            pins = connection.execute(sa.select(conversations.c.pinned_ids).where(there).with_for_update()).scalar()
            row["pinned_ids"] = sorted((set(pins or ()) | changes.pinned) - changes.unpinned)
        kept: dict[str, str | None] = {}
        if changes.is_new and not self._is_taken(connection, changes.conversation_id):
            values = {"pinned_ids": [], **row, "id": changes.conversation_id, "owner": owner}
            connection.execute(conversations.insert(), values)
        elif self._update(connection, there, row):
            kept = self._kept_parents(connection, changes)
        else:
            raise ConversationNotFoundError(f"there is no conversation {changes.conversation_id} any more")
        if unknown := changes.named_ids - kept.keys() - {message.id for message in changes.messages}:
            raise StoreError(f"conversation {changes.conversation_id} has no message {min(unknown)}")
        for message in changes.messages:
            self._write_message(connection, message, changes.conversation_id, is_new=message.id not in kept)
        if changes.may_close_circle(kept):
            mine = sa.select(messages.c.id, messages.c.parent_id)
            mine = mine.where(messages.c.conversation_id == changes.conversation_id)
            if stray := find_stray({row.id: row.parent_id for row in connection.execute(mine)}):
                raise StoreError(f"message {stray} would follow itself")

    @staticmethod
    def _update(connection: sa.Connection, there: sa.ColumnElement[bool], row: dict[str, Any]) -> bool:
        """Change a conversation's row; tell whether there is one."""
        if not row:  # messages alone
            return connection.execute(sa.select(conversations.c.id).where(there)).first() is not None
        return bool(connection.execute(conversations.update().where(there).values(**row)).rowcount)

    @staticmethod
    def _is_taken(connection: sa.Connection, conversation_id: str) -> bool:
        """Tell whether there is a conversation of this id, whoever owns it."""
        return (
            connection.execute(sa.select(conversations.c.id).where(conversations.c.id == conversation_id)).first()
            is not None
        )

    @staticmethod
    def _kept_parents(connection: sa.Connection, changes: Changes) -> dict[str, str | None]:
        """Return the messages that the changes hold or name, and that are there already: what each follows."""
        named = sorted(changes.named_ids | {message.id for message in changes.messages})
        mine = messages.c.conversation_id == changes.conversation_id
        found: dict[str, str | None] = {}
        for start in range(0, len(named), MAX_VARIABLES):
            part = messages.c.id.in_(named[start : start + MAX_VARIABLES])
            rows = connection.execute(sa.select(messages.c.id, messages.c.parent_id).where(mine, part))
            found |= {row.id: row.parent_id for row in rows}
        return found

    def _write_message(
        self, connection: sa.Connection, message: Message, conversation_id: str, *, is_new: bool
    ) -> None:
        row = to_message_row(message, conversation_id)
        if is_new:
            position = connection.execute(INSERT_MESSAGE, row).scalar_one()
        else:
            position = connection.execute(UPDATE_MESSAGE, row | {"message_id": message.id}).scalar_one()
        if message.status == "complete":  # a growing answer is found once it has grown
            if not is_new:
                remove_from_index(connection, [position])
            add_to_index(connection, position, message.content)

    # -- turns under way ----------------------------------------------------------------------------------------

    def _note_turn(self, connection: sa.Connection, changes: Changes, writer: str) -> None:
        """Remember the last turn while it is not over; whoever goes on with a cut-off one takes it over."""
        self._take_over(connection, changes.conversation_id, writer)
        tip = changes.tip or self._find_tip(connection, changes)
        if tip is not None and is_open(role=tip.role, status=tip.status, finish_reason=tip.finish_reason):
            under_way = {"message_id": tip.id, "conversation_id": changes.conversation_id}
            connection.execute(NOTE_TURN, {**under_way, "writer": writer, "seen_at_utc": time.time()})

    @staticmethod
    def _find_tip(connection: sa.Connection, changes: Changes) -> Any:
        tip = sa.and_(messages.c.id == changes.tip_id, messages.c.conversation_id == changes.conversation_id)
        columns = messages.c.id, messages.c.role, messages.c.status, messages.c.finish_reason
        return connection.execute(sa.select(*columns).where(tip)).first()

    def _take_over(self, connection: sa.Connection, conversation_id: str, writer: str) -> None:
        """Forget the turns that were under way here, or whose writer is gone. What is there of their answers stays."""
        rows = connection.execute(
            sa.select(turns_under_way).where(turns_under_way.c.conversation_id == conversation_id)
        ).all()
        gone = [row.message_id for row in rows if _writer_is_gone(row)]
        mine = [row.message_id for row in rows if row.writer == writer]
        if gone or mine:
            connection.execute(turns_under_way.delete().where(turns_under_way.c.message_id.in_(gone + mine)))
        if gone:
            self._index(connection, messages.c.id.in_(gone))

    @staticmethod
    def _index(connection: sa.Connection, which: sa.ColumnElement[bool]) -> None:
        """Have answers found that will not grow any more."""
        partial = sa.select(messages.c.position, messages.c.content).where(which, messages.c.status == "partial")
        rows = connection.execute(partial).all()
        remove_from_index(connection, [position for position, _ in rows])  # they may be there already
        for position, content in rows:
            add_to_index(connection, position, content)

    @staticmethod
    def _cut_off(connection: sa.Connection) -> set[str]:
        return {row.conversation_id for row in connection.execute(sa.select(turns_under_way)) if _writer_is_gone(row)}


def _writer_is_gone(row: Any) -> bool:
    return is_gone(str(row.writer), silent_s=time.time() - to_time(row.seen_at_utc))
