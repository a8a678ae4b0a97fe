"""The tables of the store, and the steps that bring an older store up to date.

A step is a function in :data:`MIGRATIONS`; it runs once, in a transaction of its own, and the number of steps done is
kept in the database. A released step is never changed: what comes later is a new step.
"""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

__all__ = [
    "MIGRATIONS",
    "conversations",
    "message_search",
    "messages",
    "metadata",
    "responses",
    "sessions",
    "store_version",
    "turn_leases",
    "turns_under_way",
]

metadata = sa.MetaData()

store_version = sa.Table("store_version", metadata, sa.Column("version", sa.Integer, nullable=False))

conversations = sa.Table(
    "conversations",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("title", sa.Text, nullable=False),
    sa.Column("system", sa.Text, nullable=False),
    sa.Column("settings", sa.JSON, nullable=False),
    sa.Column("tip_id", sa.String(32)),
    sa.Column("redo_ids", sa.JSON, nullable=False),
    sa.Column("pinned_ids", sa.JSON, nullable=False),
    sa.Column("window_start_id", sa.String(32)),
    sa.Column("created_at_utc", sa.Float, nullable=False),
    sa.Column("updated_at_utc", sa.Float, nullable=False),
    sa.Index("conversations_of_owner", "owner", "updated_at_utc"),
)

messages = sa.Table(
    "messages",
    metadata,
    # BigInteger does not count up by itself in SQLite.
    sa.Column("position", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("id", sa.String(32), nullable=False, unique=True),
    sa.Column("conversation_id", sa.String(32), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    sa.Column("parent_id", sa.String(32)),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("content", sa.Text, nullable=False),
    sa.Column("reasoning", sa.Text, nullable=False),
    sa.Column("tool_calls", sa.JSON, nullable=False),
    sa.Column("tool_call_id", sa.Text),
    sa.Column("token_ids", sa.LargeBinary, nullable=False),  # unsigned 32-bit integers, little-endian
    sa.Column("finish_reason", sa.Text),
    sa.Column("usage", sa.JSON, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("created_at_utc", sa.Float, nullable=False),
    sa.Index("messages_of_conversation", "conversation_id", "position"),
)

# One row for each turn that is not over: its last message, and who is at work on it. A row whose writer is gone marks
# a conversation that was cut off.
turns_under_way = sa.Table(
    "turns_under_way",
    metadata,
    sa.Column("message_id", sa.String(32), sa.ForeignKey("messages.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("conversation_id", sa.String(32), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    sa.Column("writer", sa.Text, nullable=False),  # chat.store.writer
    sa.Column("seen_at_utc", sa.Float, nullable=False),  # when the writer last wrote
    sa.Index("turns_under_way_of_conversation", "conversation_id"),
)

# One row for each answer that a server is giving (chat.store.leases). The name is the conversation's id where only one
# turn may run at a time.
turn_leases = sa.Table(
    "turn_leases",
    metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("conversation_id", sa.String(32), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    sa.Column("turn_id", sa.String(32), nullable=False),  # the message that is being written
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("writer", sa.Text, nullable=False),  # chat.store.writer
    sa.Column("seen_at_utc", sa.Float, nullable=False),
    sa.Column("is_cancelled", sa.Boolean, nullable=False),
    sa.Index("turn_leases_of_writer", "writer"),
    sa.Index("turn_leases_of_turn", "turn_id"),
)

# The numbers under which clients of /v1/chat/interactive know their conversations.
sessions = sa.Table(
    "sessions",
    metadata,
    sa.Column("owner", sa.Text, primary_key=True),
    sa.Column("session_id", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("conversation_id", sa.String(32), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    sa.Index("sessions_of_conversation", "conversation_id"),
)

# What /v1/responses gave; the message is the answer, behind which the next response goes on.
responses = sa.Table(
    "responses",
    metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("conversation_id", sa.String(32), sa.ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    sa.Column("message_id", sa.String(32), nullable=False),
    sa.Column("body", sa.JSON, nullable=False),
    sa.Column("created_at_utc", sa.Float, nullable=False),
    sa.Index("responses_of_conversation", "conversation_id"),
)

# What is searched (chat.store.search), by the message's position.
message_search = sa.table("message_search", sa.column("rowid", sa.Integer), sa.column("words", sa.Text))


def first_schema(connection: sa.Connection) -> None:
    """Conversations, messages, and full-text search."""
    metadata.create_all(connection, tables=[conversations, messages, turns_under_way])
    if connection.dialect.name == "sqlite":
        # Without indexes of their own, beginnings of one to three characters would be put together from all the words
        # that have them: 22 ms instead of 0.1 ms in 30,000 messages.
        connection.exec_driver_sql(
            "CREATE VIRTUAL TABLE message_search USING fts5(words, tokenize='unicode61', prefix='1 2 3')"
        )
        return
    connection.exec_driver_sql(
        "CREATE TABLE message_search (rowid BIGINT PRIMARY KEY REFERENCES messages(position) ON DELETE CASCADE,"
        " words TSVECTOR NOT NULL)"
    )
    connection.exec_driver_sql("CREATE INDEX message_search_words ON message_search USING gin (words)")


def server_tables(connection: sa.Connection) -> None:
    """What servers keep: who is answering, sessions, responses."""
    metadata.create_all(connection, tables=[turn_leases, sessions, responses])


MIGRATIONS: tuple[Callable[[sa.Connection], None], ...] = (first_schema, server_tables)
