"""The file of a store: whose it is, how it grows up, and what happens if it cannot be used."""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from chat.conversations.conversation import Message
from chat.store import database as store_database
from chat.store import schema as store_schema
from chat.store.local import ConversationStore, default_path
from chatcore.errors import StoreBusyError, StoreError
from tests.chat.store.storing import ask

# -- the file ----------------------------------------------------------------------------------------------------------


def test_the_file_is_for_the_owner_alone(tmp_path):
    file = tmp_path / "new folder" / "a b?%23.sqlite"
    store = ConversationStore(file)
    ask(store, store.create(), "secret")
    for path in (file, file.with_name(file.name + "-wal")):
        assert path.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    store.close()
    file.chmod(0o644)
    ConversationStore(file).close()
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_default_is_the_users_data_folder():
    store = ConversationStore()
    assert store.file == default_path()
    assert str(default_path()).startswith(os.environ["XDG_DATA_HOME"])
    store.close()


def test_every_commit_reaches_the_disk(tmp_path):
    store = ConversationStore(tmp_path / "s.sqlite")
    with store._database.read() as connection:
        settings = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    store.close()
    assert settings == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 10_000}


def test_only_what_nobody_would_miss_does_not_wait_for_the_disk(tmp_path):
    store = ConversationStore(tmp_path / "s.sqlite")
    conversation = store.create()
    waits = []

    def note(connection):
        waits.append(connection.exec_driver_sql("PRAGMA synchronous").scalar())

    sa.event.listen(store._database._engine, "commit", note)
    lease = store.leases.take(conversation.id, "turn", owner="local")
    store.add(conversation, Message("user", "kept"))
    store.leases.release(lease)
    store.save(conversation)
    store.close()
    assert waits == [1, 2, 1, 2]


def test_opening_again_changes_nothing(store, where):
    conversation = ask(store, store.create(), "q", "a")
    for _ in range(2):
        again = ConversationStore(where)
        assert again.load(conversation.id) == conversation
        again.close()


def add_column(connection: sa.Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE conversations ADD COLUMN colour TEXT")


def fail(connection: sa.Connection) -> None:
    add_column(connection)
    connection.exec_driver_sql("INSERT INTO no_such_table VALUES (1)")


def columns(where: str) -> set[str]:
    url = where.replace("postgresql://", "postgresql+psycopg://") if "://" in where else f"sqlite:///{where}"
    engine = sa.create_engine(url)
    found = {column["name"] for column in sa.inspect(engine).get_columns("conversations")}
    engine.dispose()
    return found


def test_an_older_store_is_brought_up_to_date_and_copied_before(where, monkeypatch):
    old = ConversationStore(where)
    conversation = ask(old, old.create(), "q", "a")
    old.close()
    monkeypatch.setattr(store_database, "MIGRATIONS", (*store_database.MIGRATIONS, add_column))
    for _ in range(2):
        new = ConversationStore(where)
        assert new.load(conversation.id) == conversation
        new.close()
    assert "colour" in columns(where)
    if "://" in where:
        return
    copy = Path(f"{where}.schema-{len(store_schema.MIGRATIONS)}")
    assert copy.stat().st_mode & 0o777 == 0o600
    assert "colour" not in columns(str(copy))
    monkeypatch.undo()
    kept = ConversationStore(copy)
    assert kept.load(conversation.id) == conversation
    kept.close()


def test_a_migration_that_fails_leaves_nothing_behind(where, monkeypatch):
    ConversationStore(where).close()
    before = columns(where)
    monkeypatch.setattr(store_database, "MIGRATIONS", (*store_database.MIGRATIONS, fail))
    with pytest.raises(StoreError):
        ConversationStore(where)
    monkeypatch.undo()
    assert columns(where) == before
    ConversationStore(where).close()


def test_a_store_of_a_newer_version_is_refused_untouched(where, monkeypatch):
    with monkeypatch.context() as newer:
        newer.setattr(store_database, "MIGRATIONS", (*store_database.MIGRATIONS, add_column))
        ConversationStore(where).close()
    with pytest.raises(StoreError, match=r"newer version.*schema 3 of 2") as caught:
        ConversationStore(where)
    assert "Update" in caught.value.hint


# -- trouble -----------------------------------------------------------------------------------------------------------


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file/sub") as caught:
        ConversationStore(tmp_path / "file" / "sub" / "s.sqlite")
    assert "writable" in caught.value.hint


def test_a_file_that_is_no_database_is_refused_untouched(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("not a database, but somebody's notes\n" * 100)
    before = file.read_bytes()
    with pytest.raises(StoreError, match=r"notes\.txt"):
        ConversationStore(file)
    assert file.read_bytes() == before


def test_the_database_of_another_program_is_refused_untouched(tmp_path):
    file = tmp_path / "places.sqlite"
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="holds something else"):
        ConversationStore(file)
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("bookmarks",)]
    connection.close()


def test_a_full_disk_is_told_and_the_conversation_goes_on_in_memory(tmp_path):
    store = ConversationStore(tmp_path / "s.sqlite")
    conversation = ask(store, store.create(), "q", "a")
    limit_pages(store, 1)
    with pytest.raises(StoreError, match="full") as caught:
        store.add(conversation, Message("user", "x" * 1_000_000))
    assert "space" in caught.value.hint
    assert str(tmp_path) in str(caught.value)
    limit_pages(store, 1_000_000)
    assert [m.content for m in conversation.path()] == ["q", "a"], "the conversation holds what the disk holds"
    memory = ConversationStore.in_memory()
    ask(memory, conversation, "still there?", "yes")
    assert memory.load(conversation.id).num_turns == 2
    memory.close()
    store.save(conversation)
    assert store.load(conversation.id).num_turns == 2, "what was said meanwhile is kept once there is space again"
    store.close()


def limit_pages(store: ConversationStore, max_pages: int) -> None:
    """Give SQLite no more pages than these (of those it has it keeps all): it then fails as on a full disk."""
    with store._database.read() as connection:
        connection.exec_driver_sql(f"PRAGMA max_page_count = {max_pages}")


def test_a_store_that_stays_busy_is_told_so(tmp_path, monkeypatch):
    monkeypatch.setattr(store_database, "BUSY_TIMEOUT_MS", 50)
    store = ConversationStore(tmp_path / "s.sqlite")
    blocker = sqlite3.connect(tmp_path / "s.sqlite", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusyError, match="locked"):
        store.create()
    assert store.recent() == [], "reading goes on meanwhile"
    blocker.execute("ROLLBACK")
    blocker.close()
    store.create()
    store.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql://me:hunter2@127.0.0.1:1/db", "connect"),
        ("postgresql://me@/db?host=/nowhere&password=hunter2", "/nowhere"),
        ("mysql://me:hunter2@host/db", "Postgres, not mysql"),
        ("postgresql://me:hunter2@host:port/db", "malformed"),
    ],
)
def test_a_url_that_leads_nowhere_is_told_without_its_password(url, words):
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match=words) as caught:
        ConversationStore(url)
    assert "hunter2" not in str(caught.value) + caught.value.hint


def test_a_missing_driver_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match="psycopg") as caught:
        ConversationStore("postgresql://host/db")
    assert "pip install" in caught.value.hint
