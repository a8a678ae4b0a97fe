"""Conversations are kept, found and shared; what a crash, a full disk or a second terminal does to them."""

from __future__ import annotations

import dataclasses
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from chat import store_database, store_schema
from chat.conversation import Conversation, Message
from chat.store import ConversationStore, default_path
from errors import ConversationNotFoundError, StoreBusyError, StoreError

ROOT = Path(__file__).resolve().parents[2]


def ask(store: ConversationStore, conversation: Conversation, question: str, answer: str = "") -> Conversation:
    """Have a turn on disk; without an answer it stays open."""
    store.add(conversation, Message("user", question))
    if answer:
        store.add(conversation, Message("assistant", answer, finish_reason="stop"))
    return conversation


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a program that uses the store."""
    code = "import dataclasses, sys, time\nfrom chat.conversation import Message\nfrom chat.store import *\n" + script
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
    )


# -- keeping ----------------------------------------------------------------------------------------------------------


def test_what_was_said_comes_back_as_it_was(store):
    conversation = store.create(system="You are terse.", settings={"temperature": 0.5, "stop": ["终"]})
    store.add(conversation, Message("user", "你好 👩‍👩‍👧\n\n  two\ttabs"))
    store.add(
        conversation,
        Message(
            "assistant",
            "",
            reasoning="hm",
            tool_calls=({"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": "\\u0000"}'}},),
            token_ids=(0, 151_645, 2**32 - 1),
            finish_reason="tool_calls",
            usage={"num_prompt_tokens": 7, "ttft_ms": 1.5},
        ),
    )
    store.add(conversation, Message("tool", "42", tool_call_id="1"))
    store.add(conversation, Message("assistant", "42"))
    conversation.pinned_ids.add(conversation.path()[0].id)
    conversation.window_start_id = conversation.path()[1].id
    conversation.undo()
    store.save(conversation)
    loaded = store.load(conversation.id)
    assert loaded == conversation
    assert list(loaded.messages) == list(conversation.messages)


def test_a_message_is_on_disk_when_add_returns(store, where):
    conversation = ask(store, store.create(), "first")
    other = ConversationStore(where)
    assert [m.content for m in other.load(conversation.id).path()] == ["first"]
    other.close()


def test_a_growing_answer_is_one_message(store):
    conversation = ask(store, store.create(), "count")
    answer = store.add(conversation, Message("assistant", "one", status="partial"))
    for text in ("one two", "one two three"):
        store.add(conversation, dataclasses.replace(answer, content=text, token_ids=(1, 2)))
    store.add(conversation, dataclasses.replace(answer, content="one two three.", status="complete"))
    kept = store.load(conversation.id)
    assert [(m.content, m.status) for m in kept.path()] == [("count", "complete"), ("one two three.", "complete")]


def test_variants_and_branches_are_kept(store):
    conversation = ask(store, store.create(), "q", "first")
    conversation.before_answer()
    store.add(conversation, Message("assistant", "second"))
    kept = store.load(conversation.id)
    assert [m.content for m in kept.variants(kept.tip_id)] == ["first", "second"]
    kept.go_to(kept.variants(kept.tip_id)[0].id)
    store.save(kept)
    assert store.load(conversation.id).tip.content == "first"


def test_an_unused_conversation_is_not_listed(store):
    store.create()
    assert store.recent() == []


def test_a_conversation_made_in_memory_is_put_into_the_store_by_save(store):
    conversation = Conversation()
    conversation.add(Message("user", "hi"))
    store.save(conversation)
    assert store.load(conversation.id) == conversation


def test_saving_what_has_not_changed_moves_nothing_in_the_list(store):
    first = ask(store, store.create(), "first", "1")
    second = ask(store, store.create(), "second", "2")
    store.save(first)
    assert [entry.id for entry in store.recent()] == [second.id, first.id]
    assert [(e.title, e.num_turns, e.num_messages) for e in store.recent(limit=1)] == [("second", 1, 2)]


def test_a_conversation_of_500_turns_comes_back(store):
    conversation = store.create()
    for number in range(500):
        conversation.add(Message("user", f"question {number}"))
        conversation.add(Message("assistant", f"answer {number}", token_ids=tuple(range(50))))
    store.save(conversation)
    kept = store.load(conversation.id)
    assert kept.num_turns == 500
    assert kept.path()[-1] == conversation.path()[-1]


def test_text_that_no_database_takes_is_replaced_not_refused(store):
    conversation = store.create(system="a\0b")
    store.add(conversation, Message("user", "half \ud83d of an emoji, NUL \0."))
    store.add(conversation, Message("assistant", "x", tool_calls=({"id": "\ud83d\0"},)))
    kept = store.load(conversation.id)
    assert kept.system == "a\ufffdb"
    assert kept.path()[0].content == "half \ufffd of an emoji, NUL \ufffd."
    assert kept.path()[1].tool_calls == ({"id": "\ufffd\0"},)


def test_chinese_stays_readable_in_the_tables(tmp_path):
    store = ConversationStore(tmp_path / "s.sqlite")
    store.create(settings={"stop": ["终止"]})
    store.close()
    with sqlite3.connect(tmp_path / "s.sqlite") as connection:
        assert connection.execute("SELECT settings FROM conversations").fetchone() == ('{"stop": ["终止"]}',)
    connection.close()


# -- whose it is, and which -------------------------------------------------------------------------------------------


def test_another_owner_sees_nothing(store):
    conversation = ask(store, store.create(owner="alice"), "secret word")
    assert store.recent(owner="bob") == []
    assert store.search("secret", owner="bob") == []
    assert [hit.conversation_id for hit in store.search("secret", owner="alice")] == [conversation.id]
    for act in (store.load, store.delete, store.settle):
        with pytest.raises(ConversationNotFoundError):
            act(conversation.id, owner="bob")
    assert store.load(conversation.id, owner="alice").path()[0].content == "secret word"


def test_a_conversation_cannot_be_taken_over_by_its_id(store):
    conversation = ask(store, store.create(owner="alice"), "mine")
    with pytest.raises(StoreError):
        store.save(Conversation(id=conversation.id, owner="bob", title="stolen"))
    assert store.load(conversation.id, owner="alice").title == "mine"


def test_the_beginning_of_an_id_is_enough(store):
    store.save(Conversation(id="abcd" + 20 * "0"))
    store.save(Conversation(id="abce" + 20 * "0"))
    assert store.load("abcd").id == "abcd" + 20 * "0"
    for wrong in ("abc", "abcf", "", "%%%%", "____", "abcd\0", "abcd\ud800", "'; --"):
        with pytest.raises(ConversationNotFoundError):
            store.load(wrong)


def test_an_ambiguous_beginning_is_told_so(store):
    store.save(Conversation(id="abcd0" + 19 * "0"))
    store.save(Conversation(id="abcd1" + 19 * "0"))
    with pytest.raises(ConversationNotFoundError, match="several"):
        store.load("abcd")


def test_deleting_takes_the_messages_out_of_the_search_too(store):
    kept = ask(store, store.create(), "common word", "1")
    gone = ask(store, store.create(), "common word", "2")
    assert store.delete(gone.id) == "common word"
    assert [hit.conversation_id for hit in store.search("common")] == [kept.id]
    assert [entry.id for entry in store.recent()] == [kept.id]


def test_saving_what_somebody_has_deleted_says_so(store, where):
    conversation = ask(store, store.create(), "q", "a")
    other = ConversationStore(where)
    other.delete(conversation.id)
    other.close()
    with pytest.raises(ConversationNotFoundError):
        ask(store, conversation, "are you there?")
    assert [m.content for m in conversation.path()] == ["q", "a"]


# -- several at once --------------------------------------------------------------------------------------------------


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


# -- crashes ----------------------------------------------------------------------------------------------------------

WRITE_AN_ANSWER = """
store = ConversationStore(sys.argv[1]); conversation = store.create()
store.add(conversation, Message("user", "count"))
answer = Message("assistant", "", status="partial")
for number in range(10_000):
    answer = dataclasses.replace(answer, content=answer.content + f"{number} ", token_ids=(*answer.token_ids, number))
    answer = store.add(conversation, answer)
    print(number, flush=True)
    time.sleep(0.01)
"""


def kill_when(process: subprocess.Popen[str], said: str) -> None:
    for line in process.stdout:
        if line.strip() == said:
            break
    process.send_signal(signal.SIGKILL)
    process.stdout.read()
    process.stdout.close()
    assert process.wait(10) == -signal.SIGKILL


def test_kill_9_in_the_middle_of_an_answer_keeps_what_was_written(where):
    """The program dies between two writes or within one; whatever it reported as written is there at the next start."""
    kill_when(start(WRITE_AN_ANSWER, where), "20")
    store = ConversationStore(where)
    [entry] = store.unfinished()
    assert (entry.title, entry.num_turns, entry.unfinished) == ("count", 1, True)
    conversation = store.load(entry.id)
    question, answer = conversation.path()
    assert question.content == "count"
    assert answer.status == "partial"
    assert answer.content.startswith(" ".join(map(str, range(21))))
    assert len(answer.token_ids) == len(answer.content.split())
    store.close()


def test_kill_9_before_the_answer_leaves_the_question_to_be_resumed(where):
    script = "s = ConversationStore(sys.argv[1]); s.add(s.create(), Message('user', 'q')); print('x'); time.sleep(60)"
    kill_when(start(script, where), "x")
    store = ConversationStore(where)
    [entry] = store.unfinished()
    assert [m.content for m in store.load(entry.id).path()] == ["q"]
    assert store.recent()[0].unfinished
    store.close()


def test_kill_9_between_a_tool_call_and_its_result_leaves_the_turn_to_be_resumed(where):
    script = """
s = ConversationStore(sys.argv[1]); c = s.create(); s.add(c, Message("user", "q"))
s.add(c, Message("assistant", "", tool_calls=({"id": "1"},), finish_reason="tool_calls")); print("x"); time.sleep(60)
"""
    kill_when(start(script, where), "x")
    store = ConversationStore(where)
    assert len(store.unfinished()) == 1
    store.close()


def test_an_answer_that_another_terminal_is_writing_is_not_unfinished(where):
    writer = start(WRITE_AN_ANSWER, where)
    writer.stdout.readline()
    store = ConversationStore(where)
    assert store.unfinished() == []
    assert [entry.unfinished for entry in store.recent()] == [False]
    kill_when(writer, "5")
    assert [entry.title for entry in store.unfinished()] == ["count"]
    store.close()


@pytest.mark.parametrize("how", ["goes on", "takes back", "settles"])
def test_a_cut_off_turn_is_offered_until_somebody_decides(where, how):
    kill_when(start(WRITE_AN_ANSWER, where), "3")
    store = ConversationStore(where)
    conversation = store.load(store.unfinished()[0].id)
    if how == "goes on":
        ask(store, conversation, "next", "answer")
    elif how == "takes back":
        conversation.undo()
        store.save(conversation)
    else:
        store.settle(conversation.id)
    assert store.unfinished() == []
    assert len(store.load(conversation.id).messages) >= 2
    assert [hit.role for hit in store.search("2 3")] == ["assistant"], "what there is of the answer is found"
    store.close()


def test_a_question_that_was_left_open_on_purpose_is_not_offered(where):
    store = ConversationStore(where)
    ask(store, store.create(), "never mind")
    store.close()
    again = ConversationStore(where)
    assert again.unfinished() == []
    again.close()


def test_a_finished_conversation_is_not_offered_after_a_crash(where):
    script = """
s = ConversationStore(sys.argv[1]); c = s.create()
s.add(c, Message("user", "q")); s.add(c, Message("assistant", "a", finish_reason="stop")); print("x"); time.sleep(60)
"""
    kill_when(start(script, where), "x")
    store = ConversationStore(where)
    assert store.unfinished() == []
    assert len(store.recent()) == 1
    store.close()


# -- searching --------------------------------------------------------------------------------------------------------

TEXTS = {
    "zh": "请用vLLM部署通义千问，谢谢",
    "en": "The quick brown fox runs; naïve café, snake_case",
    "mixed": "部分服务 已经署名 ＡＢＣ 東京タワー 한국어",
}


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("部署", {"zh"}),
        ("千问", {"zh"}),
        ("部", {"zh", "mixed"}),
        ("谢", {"zh"}),
        ("问", {"zh"}),
        ("通义千问", {"zh"}),
        ("部署服务", set()),
        ("vllm部署", {"zh"}),
        ("VLL", {"zh"}),
        ("quick FOX", {"en"}),
        ("brow", {"en"}),
        ("rown", set()),
        ("quick 部署", set()),
        ("naive cafe", {"en"}),
        ("café", {"en"}),
        ("case", {"en"}),
        ("abc", {"mixed"}),
        ("タワー", {"mixed"}),
        ("국어", {"mixed"}),
        ("", set()),
        ("  ，。!", set()),
        ('fox" OR "', set()),
        ("fox*", {"en"}),
        ("NEAR(fox)", set()),
        ("fox' & 'quick", {"en"}),
        ("%", set()),
    ],
)
def test_messages_are_found_by_their_words(store, question, found):
    ids = {ask(store, store.create(), text).id: name for name, text in TEXTS.items()}
    assert {ids[hit.conversation_id] for hit in store.search(question)} == found


def test_the_newest_hit_comes_first_with_the_text_around_it(store):
    ask(store, store.create(title="old"), "needle")
    new = ask(store, store.create(title="new"), 20 * "hay " + "needle" + 20 * " hay")
    first, second = store.search("needle")
    assert (first.title, second.title) == ("new", "old")
    assert first.conversation_id == new.id
    assert "needle" in first.excerpt
    assert first.excerpt.startswith("…")
    assert first.excerpt.endswith("…")
    assert len(store.search("needle", limit=1)) == 1


def test_a_growing_answer_is_found_once_it_is_complete(store):
    conversation = ask(store, store.create(), "q")
    answer = store.add(conversation, Message("assistant", "needle", status="partial"))
    assert store.search("needle") == []
    store.add(conversation, dataclasses.replace(answer, content="pin", status="complete"))
    assert store.search("needle") == []
    assert len(store.search("pin")) == 1


def test_a_message_as_long_as_a_book_is_kept_and_found(store):
    text = " ".join(f"word{number}" for number in range(100_000)) + " " + "x" * 10_000
    conversation = ask(store, store.create(), text)
    assert store.load(conversation.id).path()[0].content == text
    assert len(store.search("word17")) == 1


# -- from elsewhere ---------------------------------------------------------------------------------------------------


def test_a_conversation_from_elsewhere_gets_ids_of_its_own(store):
    original = ask(store, store.create(system="s"), "q", "first")
    original.before_answer()
    original.pinned_ids.add(original.path()[0].id)
    original.add(Message("assistant", "second", status="partial"))
    copy = store.insert(original)
    assert store.load(copy.id) == copy
    assert copy.id != original.id
    assert not set(copy.messages) & set(original.messages)
    assert [m.content for m in copy.variants(copy.tip_id)] == ["first", "second"]
    assert copy.pinned_ids == {copy.path()[0].id}
    assert {hit.conversation_id for hit in store.search("second")} == {copy.id}
    ask(store, copy, "next")
    assert store.load(copy.id).tip.content == "next"


def test_of_several_conversations_all_are_kept_or_none(store):
    good = Conversation()
    good.add(Message("user", "hi"))
    broken = Conversation()
    broken.add(Message(None, "a role that no database takes"))  # type: ignore[arg-type]
    with pytest.raises(StoreError):
        store.insert_all([good, broken])
    assert store.recent() == []
    assert len(store.insert_all([good, good])) == len(store.recent()) == 2


# -- the file ---------------------------------------------------------------------------------------------------------


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


# -- trouble ----------------------------------------------------------------------------------------------------------


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
