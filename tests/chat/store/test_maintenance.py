"""Backup, vacuum, expiry and figures of a store; the command that does them."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field

import pytest
import sqlalchemy as sa

from chat.cli import store as store_command
from chat.conversations.conversation import Message
from chat.store.local import ConversationStore
from chat.store.maintenance import backup, describe_store, expire, vacuum
from chatcore.errors import ConversationNotFoundError, StoreError
from tests import program

READ_ONLY = "PRAGMA query_only = ON"


@dataclass
class Retention:
    retention_days: float = 0.0
    retention_days_of: dict[str, float] = field(default_factory=dict)
    session_idle_s: float = 0.0


def talk(store, text="hello", **fields):
    conversation = store.create(**fields)
    store.add(conversation, Message("user", text))
    store.add(conversation, Message("assistant", f"you said {text}"))
    return conversation


def make_old(store, conversation, days):
    conversation.updated_at_utc = time.time() - days * 24 * 3600
    with store.database.write() as connection:
        connection.exec_driver_sql(
            f"UPDATE conversations SET updated_at_utc = {conversation.updated_at_utc} WHERE id = '{conversation.id}'"
        )


def test_a_backup_taken_while_somebody_writes_is_whole(tmp_path):
    store = ConversationStore(tmp_path / "store.sqlite")
    conversation = talk(store)
    ended = threading.Event()

    def write():
        while not ended.is_set():
            talk(store, "more")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        num_bytes = backup(store, tmp_path / "copy.sqlite")
    finally:
        ended.set()
        writer.join()
    assert (tmp_path / "copy.sqlite").stat().st_mode & 0o777 == 0o600
    assert num_bytes == (tmp_path / "copy.sqlite").stat().st_size > 0
    copy = ConversationStore(tmp_path / "copy.sqlite")
    assert copy.load(conversation.id) == conversation
    assert copy.search("hello")
    copy.close()
    store.close()


def test_a_backup_never_replaces_what_nobody_named(tmp_path):
    store = ConversationStore(tmp_path / "store.sqlite")
    (tmp_path / "other").write_text("mine")
    with pytest.raises(StoreError, match="exists already"):
        backup(store, tmp_path / "other")
    assert (tmp_path / "other").read_text() == "mine"
    with pytest.raises(StoreError, match="the store itself"):
        backup(store, tmp_path / "store.sqlite", overwrite=True)
    with pytest.raises(StoreError, match="cannot be written"):
        backup(store, tmp_path / "nowhere" / "copy")
    assert backup(store, tmp_path / "other", overwrite=True) > 0
    store.close()


def test_postgres_is_backed_up_by_its_own_tool(postgres_url, tmp_path):
    store = ConversationStore(postgres_url)
    with pytest.raises(StoreError, match="is no file") as caught:
        backup(store, tmp_path / "copy")
    assert "pg_dump" in caught.value.hint
    store.close()


def test_vacuum_gives_space_back_and_keeps_the_rest(where):
    store = ConversationStore(where)
    kept = talk(store)
    large = talk(store, "x" * 2_000_000)
    store.delete(large.id)
    before, after = vacuum(store)
    if store.file is not None:
        assert after < before - 1_000_000
    assert store.load(kept.id) == kept
    store.close()


def test_old_conversations_go_and_their_words_are_not_found_any_more(store):
    old, new = talk(store, "apple"), talk(store, "pear")
    make_old(store, old, days=31)
    assert expire(store, Retention()).num_conversations == 0
    assert expire(store, Retention(retention_days=30)).num_conversations == 1
    with pytest.raises(ConversationNotFoundError):
        store.load(old.id)
    assert store.search("apple") == []
    assert store.load(new.id) == new
    assert [hit.conversation_id for hit in store.search("pear")][:1] == [new.id]


def test_an_owner_may_have_a_time_of_its_own(store):
    mine, yours, theirs = (talk(store, owner=owner) for owner in ("ann", "bob", "eve"))
    for conversation in (mine, yours, theirs):
        make_old(store, conversation, days=10)
    expired = expire(store, Retention(retention_days=7, retention_days_of={"ann": 5, "bob": 0}))
    assert expired.num_conversations == 2
    assert store.load(yours.id, owner="bob") == yours
    assert describe_store(store).num_conversations == 1


def test_the_figures_of_a_store(store):
    for owner in ("ann", "ann", "bob"):
        conversation = talk(store, owner=owner)
    store.served.begin_session(conversation.id, 7, owner="bob")
    store.create(owner="eve")
    info = describe_store(store)
    assert (info.num_conversations, info.num_messages, info.num_sessions, info.num_responses) == (4, 6, 1, 0)
    found = [(line.owner, line.num_conversations, line.num_messages) for line in info.owners]
    assert found == [("ann", 2, 4), ("bob", 1, 2), ("eve", 1, 0)]
    assert info.num_bytes > 0


def test_check_writable_refuses_a_read_only_store(tmp_path):
    store = ConversationStore(tmp_path / "store.sqlite")
    store.check_writable()
    store.close()
    sa.event.listen(store.database._engine, "connect", lambda connection, _: connection.execute(READ_ONLY))
    with pytest.raises(StoreError, match="readonly") as caught:
        store.check_writable()
    assert "writable" in caught.value.hint
    store.close()


def test_the_command_shows_copies_shrinks_and_deletes(tmp_path):
    environment = {"env": {**os.environ, "VLLMDEPLOY_STORE": str(tmp_path / "store.sqlite")}}
    store = ConversationStore(tmp_path / "store.sqlite")
    make_old(store, talk(store, owner="ann"), days=31)
    talk(store)
    store.close()
    shown = program.run("store", "info", **environment)
    assert "2 conversations, 4 messages" in shown.stdout
    assert "ann" in shown.stdout
    assert "bytes" in program.run("store", "backup", str(tmp_path / "copy"), **environment).stdout
    again = program.run("store", "backup", str(tmp_path / "copy"), **environment)
    assert (again.returncode, again.stderr.splitlines()[0].partition(":")[0]) == (1, "error")
    refused = program.run("store", "expire", "30", **environment)
    assert (refused.returncode, "nothing was deleted" in refused.stdout) == (1, True)
    assert program.run("store", "expire", "30", "--yes", **environment).stdout == "1 deleted\n"
    assert "now" in program.run("store", "vacuum", **environment).stdout


def test_days_are_a_number_above_zero():
    assert store_command.parse_days("0.5") == 0.5
    for text in ("0", "-1", "soon", "nan"):
        with pytest.raises(Exception, match="no number of days"):
            store_command.parse_days(text)
