"""Conversations are kept, each for its owner, and come back as they were."""

from __future__ import annotations

import dataclasses
import sqlite3
import time
from dataclasses import replace

import pytest

from chat.conversations.conversation import Conversation, Message
from chat.store.local import ConversationStore
from chat.store.schema import turns_under_way
from chat.store.writer import LEASE_S
from chatcore.errors import ConversationNotFoundError, StoreError
from tests.chat.store.storing import ask

# -- keeping -----------------------------------------------------------------------------------------------------------


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


def test_answers_grow_together_and_whatever_is_no_growing_answer_stays(store):
    conversations = [store.create() for _ in range(3)]
    questions = [store.add(conversation, Message("user", "q")) for conversation in conversations]
    answers = [store.add(conversation, Message("assistant", "one", status="partial")) for conversation in conversations]
    store.add(conversations[1], replace(answers[1], content="over", status="complete", finish_reason="stop"))
    store.delete(conversations[2].id)
    grown = [replace(answer, content="one two", reasoning="why", token_ids=(1, 2)) for answer in answers]
    store.grow([*grown, Message("assistant", "nobody knows it", status="partial"), questions[0]])
    tip = store.load(conversations[0].id).tip
    assert tip == grown[0]
    assert store.load(conversations[1].id).tip.content == "over"
    with pytest.raises(ConversationNotFoundError):
        store.load(conversations[2].id)
    store.grow([])


def test_a_growing_answer_shows_others_that_its_writer_is_there(store):
    """Others on another machine know nothing but when something was written."""
    conversation = store.create()
    store.add(conversation, Message("user", "q"))
    answer = store.add(conversation, Message("assistant", "one", status="partial"))
    with store.database.write() as connection:
        elsewhere = {"writer": "far boot 1 1 a", "seen_at_utc": time.time() - 2 * LEASE_S}
        connection.execute(turns_under_way.update().values(**elsewhere))
    assert [summary.id for summary in store.unfinished()] == [conversation.id]
    store.grow([replace(answer, content="one two")])
    assert store.unfinished() == []


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


# -- whose it is, and which --------------------------------------------------------------------------------------------


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


# -- from elsewhere ----------------------------------------------------------------------------------------------------


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
