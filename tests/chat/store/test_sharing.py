"""Several terminals, threads and processes use one store at once."""

from __future__ import annotations

import contextlib
import sqlite3
import threading

import pytest

from chat.store import database
from chat.store.local import ConversationStore
from chat.store.schema import MIGRATIONS
from tests.chat.store.storing import ask, start


def test_what_another_terminal_has_set_is_not_taken_back(store, where):
    mine = ask(store, store.create(), "q", "a")
    other = ConversationStore(where)
    theirs = other.load(mine.id)
    first, second = mine.path()
    theirs.title = "renamed"
    theirs.pinned_ids.add(first.id)
    other.save(theirs)
    mine.pinned_ids.add(second.id)
    ask(store, mine, "next")
    now = store.load(mine.id)
    assert now.title == "renamed"
    assert now.pinned_ids == {first.id, second.id}
    assert now.tip.content == "next"
    theirs.pinned_ids.remove(first.id)
    other.save(theirs)
    assert store.load(mine.id).pinned_ids == {second.id}
    other.close()


def test_two_terminals_in_one_conversation_make_branches(store, where):
    mine = ask(store, store.create(), "q", "a")
    other = ConversationStore(where)
    theirs = other.load(mine.id)
    ask(other, theirs, "theirs")
    ask(store, mine, "mine")
    now = store.load(mine.id)
    assert [m.content for m in now.variants(now.tip_id)] == ["theirs", "mine"]
    other.close()


def test_two_processes_that_write_at_once_lose_nothing(where):
    store = ConversationStore(where)
    conversation = store.create()
    script = """
store = ConversationStore(sys.argv[1]); conversation = store.load(sys.argv[2])
for number in range(40):
    store.add(conversation, Message("user", f"{sys.argv[3]} {number}"))
"""
    writers = [start(script, where, conversation.id, name) for name in ("left", "right")]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    for writer in writers:
        writer.stdout.close()
    said = [message.content for message in store.load(conversation.id).messages.values()]
    store.close()
    assert sorted(said) == sorted(f"{name} {number}" for name in ("left", "right") for number in range(40))
    assert [text for text in said if text.startswith("left")] == [f"left {number}" for number in range(40)]


def test_processes_that_open_a_new_store_at_once_all_succeed(where):
    script = "ConversationStore(sys.argv[1]).create(); print('ok')"
    openers = [start(script, where) for _ in range(4)]
    assert [opener.communicate(timeout=60)[0] for opener in openers] == ["ok\n"] * 4


def test_a_store_that_another_process_makes_between_two_looks_is_ours(postgres_url, monkeypatch):
    looks: list[int] = []
    look = database._read_version

    def look_before_the_other_is_done(connection):
        looks.append(version := look(connection))
        if len(looks) == 1:
            ConversationStore(postgres_url).close()
        return version

    monkeypatch.setattr(database, "_read_version", look_before_the_other_is_done)
    ConversationStore(postgres_url).close()
    assert looks[0] == 0
    assert looks[-1] == len(MIGRATIONS)


def test_opening_waits_for_whoever_holds_a_new_file(tmp_path):
    file = tmp_path / "s.sqlite"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        lets_go = threading.Timer(0.3, other.rollback)
        lets_go.start()
        ConversationStore(file).close()
        lets_go.join()


@pytest.mark.parametrize("kind", ["file", "memory"])
def test_threads_may_share_a_store(kind, tmp_path):
    store = ConversationStore.in_memory() if kind == "memory" else ConversationStore(tmp_path / "s.sqlite")
    failures: list[BaseException] = []

    def talk() -> None:
        try:
            conversation = store.create()
            for number in range(20):
                ask(store, conversation, f"q{number}", f"a{number}")
                store.recent()
                store.search("a1")
            assert store.load(conversation.id).num_turns == 20
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=talk) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(store.recent()) == 6
    store.close()
