"""What must hold after every fault, whatever it was."""

from __future__ import annotations

import contextlib
import random
import re
import sqlite3
from pathlib import Path

from chat.conversations.conversation import Conversation
from chat.session.answer import PartialAnswer
from chat.session.stored import StoredConversation
from chat.store.changes import is_open
from chat.store.local import ConversationStore
from chatcore.errors import ConversationNotFoundError
from tests.reliability.faults.event_log import Expected, History, state_of
from tests.reliability.faults.workload import make_reply

__all__ = ["check_integrity", "check_next_turn", "check_readable", "check_store", "random_delay"]

MARK = re.compile(r"mark\d+x")


def check_store(where: str | Path, history: History, *, sole_writer: bool = True) -> None:
    """Check that a store holds an expected state of each conversation, is undamaged, and takes the next turn.

    Args:
        where: the store.
        history: of all that was written into it.
        sole_writer: the history is of its only writer, so that it holds no other conversations.
    """
    check_integrity(where)
    with contextlib.closing(ConversationStore(where)) as store:
        for conversation_id, expected in history.expected.items():
            _check_conversation(store, conversation_id, expected)
        there = {line.id for line in store.recent(limit=10_000, with_empty=True)}
        if sole_writer:
            assert there <= history.expected.keys(), "conversations that are not in the history"
        unfinished = {line.id for line in store.unfinished(limit=10_000)}
        for conversation_id in there & history.expected.keys():
            conversation = store.load(conversation_id)
            assert (conversation_id in unfinished) <= _ends_open(conversation), "a finished turn is called cut off"
            check_next_turn(store, conversation)
    check_integrity(where)


def _check_conversation(store: ConversationStore, conversation_id: str, expected: Expected) -> None:
    try:
        conversation: Conversation | None = store.load(conversation_id)
    except ConversationNotFoundError:
        conversation = None
    state = state_of(conversation) if conversation is not None else None
    assert expected.allows(state), f"expected: {expected}\nthere: {state}"
    for message in conversation.messages.values() if conversation is not None else ():
        if message.status == "complete" and (mark := MARK.match(message.content)):
            found = [hit.message_id for hit in store.search(mark[0], limit=1000)]
            assert found.count(message.id) == 1, f"{mark[0]} is found {found.count(message.id)} times"


def _ends_open(conversation: Conversation) -> bool:
    return any(
        is_open(role=m.role, status=m.status, finish_reason=m.finish_reason) for m in conversation.messages.values()
    )


def check_next_turn(store: ConversationStore, conversation: Conversation) -> None:
    """Go on with a conversation as the terminal does, and read it back."""
    before = [(m.id, m.content, m.status) for m in conversation.path()]
    stored = StoredConversation(lambda: store, conversation, on_trouble=_fail)
    stored.add_message("What did I say?")
    saver, answer = stored.saver(continuing=False), PartialAnswer(text="You")
    saver.save(answer)
    answer.end(make_reply("You said that."))
    saver.finish(answer)
    path = store.load(conversation.id).path()
    assert [(m.id, m.content, m.status) for m in path[:-2]] == before
    assert [m.content for m in path[-2:]] == ["What did I say?", "You said that."]
    assert conversation.id not in {line.id for line in store.unfinished(limit=10_000)}


def _fail(error: Exception) -> None:
    raise AssertionError("the next turn is not kept") from error


def check_readable(where: str | Path, history: History) -> list[str]:
    """Check that the conversations are in an expected state, without changing them; return the texts of all messages.

    The disk may be full: nothing can be written then.
    """
    texts: list[str] = []
    with contextlib.closing(ConversationStore(where)) as store:
        there = {line.id for line in store.recent(limit=10_000, with_empty=True)}
        for conversation_id, expected in history.expected.items():
            state = state_of(store.load(conversation_id)) if conversation_id in there else None
            assert expected.allows(state), f"expected: {expected}\nthere: {state}"
            texts += [message[3] for message in (state or {"messages": ()})["messages"]]
    return texts


def check_integrity(where: str | Path) -> None:
    """Let the database check itself: its pages, its indexes, its references, the index of words."""
    if "://" in str(where):
        _check_postgres(str(where))
        return
    with contextlib.closing(sqlite3.connect(where)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
        if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'message_search'").fetchone():
            connection.execute("INSERT INTO message_search (message_search) VALUES ('integrity-check')")


def _check_postgres(url: str) -> None:
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
        indexes = connection.execute(
            "SELECT c.oid FROM pg_class c JOIN pg_am a ON a.oid = c.relam"
            " WHERE a.amname = 'btree' AND c.relnamespace = 'public'::regnamespace"
        ).fetchall()
        for (index,) in indexes:
            connection.execute("SELECT bt_index_check(%s::oid::regclass, true)", (index,))
        tables = connection.execute(
            "SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
        ).fetchall()
        for (table,) in tables:
            assert connection.execute("SELECT * FROM verify_heapam(%s::oid::regclass)", (table,)).fetchall() == []


def random_delay(chance: random.Random) -> float:
    """Return a time in seconds before a fault: mostly within a commit, sometimes long after one."""
    return chance.choice((0.0, chance.uniform(0, 0.002), chance.uniform(0, 0.02)))
