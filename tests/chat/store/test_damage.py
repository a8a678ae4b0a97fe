"""Files that are no store of ours, or are one no longer: refused as they are, and read as far as they go."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import replace

import pytest

from chat.conversations.conversation import Conversation, Message
from chat.store.changes import find_changes
from chat.store.local import ConversationStore
from chat.store.writer import is_gone
from chatcore.errors import StoreError


@pytest.fixture
def file(tmp_path):
    """A store with two conversations."""
    file = tmp_path / "store.sqlite"
    store = ConversationStore(file)
    for text in ("first", "second"):
        conversation = store.create(title=text)
        store.add(conversation, Message("user", text))
        store.add(conversation, Message("assistant", "yes", token_ids=(1, 2)))
    store.close()
    return file


def execute(file, statement, *values):
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute(statement, values)
        database.commit()


def test_the_database_of_another_program_stays_as_it_was(tmp_path):
    file = tmp_path / "theirs.sqlite"
    execute(file, "CREATE TABLE messages (who TEXT)")
    file.chmod(0o644)
    before = file.read_bytes()
    with pytest.raises(StoreError, match="holds something else"):
        ConversationStore(file)
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (before, 0o644)


@pytest.mark.parametrize("version", ["three", -1, 2.5, b"\xff"])
def test_a_version_that_is_none_is_refused(file, version):
    execute(file, "UPDATE store_version SET version = ?", version)
    before = file.read_bytes()
    with pytest.raises(StoreError, match="its version is"):
        ConversationStore(file)
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("token_ids", 7),
        ("token_ids", b"abc"),
        ("tool_calls", "[1]"),
        ("tool_calls", "not JSON"),
        ("usage", "null"),
        ("content", b"bytes"),
        ("created_at_utc", "yesterday"),
        ("created_at_utc", 1e300),
        ("parent_id", "0" * 24),
    ],
)
def test_a_damaged_message_spoils_its_own_conversation_only(file, column, value):
    execute(file, f"UPDATE messages SET {column} = ? WHERE position = 2", value)
    store = ConversationStore(file)
    whole, spoiled = store.recent()
    with pytest.raises(StoreError, match="damaged"):
        store.load(spoiled.id)
    assert [message.content for message in store.load(whole.id).path()] == ["second", "yes"]
    store.close()


def test_a_message_that_follows_itself_is_found(file):
    """Whoever went back from it would go round for ever."""
    execute(file, "UPDATE messages SET parent_id = id WHERE position = 2")
    store = ConversationStore(file)
    with pytest.raises(StoreError, match="itself"):
        store.load(store.recent()[1].id)
    store.close()


@pytest.mark.parametrize("field", ["title", "settings", "pinned_ids", "updated_at_utc"])
def test_a_list_shows_damaged_conversations_too(file, field):
    execute(file, f"UPDATE conversations SET {field} = x'ff' WHERE title = 'first'")
    store = ConversationStore(file)
    assert len(store.recent()) == 2
    assert store.search("second")
    with pytest.raises(StoreError, match="damaged"):
        store.load(next(line.id for line in store.recent() if line.title != "second"))
    store.close()


def test_messages_cannot_be_written_in_a_circle():
    """A client of a server names what each of its messages follows."""
    store = ConversationStore.in_memory()
    conversation = Conversation()
    first = conversation.add(Message("user", "first"))
    second = conversation.add(Message("assistant", "second"))
    changes = find_changes(conversation, store)
    circle = replace(changes, messages=(replace(first, parent_id=second.id), second))
    with pytest.raises(StoreError, match="follow itself"):
        store.apply([circle])
    assert store.recent(with_empty=True) == []
    store.apply([changes])
    with pytest.raises(StoreError, match="follow itself"):
        store.apply([replace(circle, is_new=False)])
    assert [message.content for message in store.load(conversation.id).path()] == ["first", "second"]


@pytest.mark.parametrize("name", ["", "nobody", "a b c d e", "a b c d e f g"])
def test_a_writer_whose_name_is_none_is_gone(name):
    assert is_gone(name, silent_s=0)


def test_a_name_that_no_file_can_have_is_refused():
    with pytest.raises(StoreError, match="cannot be written"):
        ConversationStore("a\0b")
