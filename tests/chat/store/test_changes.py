"""Changes that somebody else has found, written by both databases: for one owner, twice if need be, all or none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chat.conversations.conversation import Conversation, Message
from chat.store.changes import Changes, find_changes, kept_by
from chat.store.writer import Writer
from chatcore.errors import ConversationNotFoundError, StoreError

ELSEWHERE = object()  # whoever keeps the conversation in another process


def said(*texts: str, **fields: object) -> Conversation:
    conversation = Conversation(**fields)  # type: ignore[arg-type]
    for text in texts:
        conversation.add(Message("user", text))
    return conversation


def changes_of(conversation: Conversation) -> Changes:
    changes = find_changes(conversation, ELSEWHERE)
    assert changes is not None
    return changes


def contents(store, conversation: Conversation) -> list[str]:
    return [message.content for message in store.load(conversation.id, owner="alice").path()]


def test_changes_that_come_twice_are_kept_once(store):
    conversation = said("one", "two")
    for _ in range(2):
        store.apply([changes_of(conversation)], owner="alice")
    assert contents(store, conversation) == ["one", "two"]
    assert [hit.role for hit in store.search("two", owner="alice")] == ["user"]


def test_more_messages_than_one_query_takes_are_kept(store):
    conversation = said(*(f"message {number}" for number in range(1100)))
    for _ in range(2):
        store.apply([changes_of(conversation)], owner="alice")
    assert len(contents(store, conversation)) == 1100


def test_the_id_of_anothers_conversation_is_not_to_be_had(store):
    conversation = said("mine", title="mine")
    store.apply([changes_of(conversation)], owner="alice")
    with pytest.raises(ConversationNotFoundError):
        store.apply([changes_of(said("his", id=conversation.id, title="his"))], owner="bob")
    assert contents(store, conversation) == ["mine"]
    assert store.load(conversation.id, owner="alice").title == "mine"


def test_a_message_of_another_conversation_cannot_be_replaced_or_followed(store):
    conversation = said("mine")
    store.apply([changes_of(conversation)], owner="alice")
    (mine,) = conversation.messages.values()
    replaced = replace(mine, content="replaced")
    follower = Message("user", "behind it", parent_id=mine.id)
    for message in (replaced, follower):
        for owner in ("alice", "bob"):
            taker = Conversation(messages={message.id: message}, tip_id=message.id)
            with pytest.raises(StoreError):
                store.apply([changes_of(taker)], owner=owner)
            with pytest.raises(ConversationNotFoundError):  # nothing of it is there
                store.load(taker.id, owner=owner)
    assert contents(store, conversation) == ["mine"]


@pytest.mark.parametrize("field", ["tip_id", "window_start_id", "redo_ids", "pinned"])
def test_messages_that_are_not_there_cannot_be_named(store, field):
    conversation = said("mine")
    changes = changes_of(conversation)
    unknown = "0" * 24
    if field == "pinned":
        changes = replace(changes, pinned=frozenset({unknown}))
    else:
        changes = replace(changes, fields={**changes.fields, field: [unknown] if field == "redo_ids" else unknown})
    with pytest.raises(StoreError, match=f"has no message {unknown}"):
        store.apply([changes], owner="alice")
    with pytest.raises(ConversationNotFoundError):
        store.load(conversation.id, owner="alice")


def test_the_turn_is_the_writers_who_is_named(store):
    conversation = said("unanswered")
    writer = Writer()
    store.apply([changes_of(conversation)], owner="alice", writer=writer.name)
    assert store.unfinished(owner="alice") == []
    writer.leave()
    assert [line.id for line in store.unfinished(owner="alice")] == [conversation.id]
    store.leave(writer.name, owner="bob")
    assert len(store.unfinished(owner="alice")) == 1
    store.leave(writer.name, owner="alice")
    assert store.unfinished(owner="alice") == []


def test_what_nobody_is_at_work_on_is_found_as_it_is(store):
    conversation = said("question")
    conversation.add(Message("assistant", "half an answer", status="partial"))
    store.apply([changes_of(conversation)], owner="alice", is_over=True)
    assert store.unfinished(owner="alice") == []
    assert [hit.role for hit in store.search("half", owner="alice")] == ["assistant"]


def test_of_several_conversations_all_are_kept_or_none(store):
    good, bad = said("good"), said("bad")
    with pytest.raises(StoreError):
        store.apply([changes_of(good), replace(changes_of(bad), tip_id="0" * 24)], owner="alice")
    assert store.recent(owner="alice") == []


def test_nothing_new_is_no_change():
    conversation = said("one")
    assert changes_of(conversation).is_new
    conversation.kept = kept_by(ELSEWHERE, conversation)
    assert find_changes(conversation, ELSEWHERE) is None
    conversation.pinned_ids.add(str(conversation.tip_id))
    assert changes_of(conversation).pinned == {conversation.tip_id}


def test_redo_after_a_failed_undo_is_written(store, monkeypatch):
    """The disk said that it had failed, and had written all the same: undo, redo, and the store held the undo."""
    conversation = store.create()
    store.add(conversation, Message("user", "question"))
    answer = store.add(conversation, Message("assistant", "answer", finish_reason="stop"))
    apply = store.apply

    def write_and_fail(*arguments, **options):
        apply(*arguments, **options)
        raise StoreError("disk I/O error")

    conversation.undo()
    conversation.pinned_ids.add(answer.id)
    monkeypatch.setattr(store, "apply", write_and_fail)
    with pytest.raises(StoreError):
        store.save(conversation)
    monkeypatch.undo()
    conversation.redo()
    conversation.pinned_ids.clear()
    store.save(conversation)
    loaded = store.load(conversation.id)
    assert (loaded.tip_id, loaded.pinned_ids) == (answer.id, set())


def test_a_cut_off_answer_that_is_sent_twice_is_stored_once(store):
    """It was put into the index of words again with the next turn, which the database refused for ever."""
    conversation = said("question")
    conversation.add(Message("assistant", "half an answer", status="partial"))
    gone = Writer()
    gone.leave()
    store.apply([changes_of(conversation)], writer=gone.name)
    for _ in range(2):  # from the outbox of a terminal, whose first try was not answered
        store.apply([changes_of(conversation)], writer=gone.name, is_over=True)
    loaded = store.load(conversation.id)
    store.add(loaded, Message("user", "next"))
    assert [m.content for m in store.load(conversation.id).path()] == ["question", "half an answer", "next"]
    assert len(store.search("half")) == 1
