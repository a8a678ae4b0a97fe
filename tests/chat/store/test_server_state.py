"""Sessions, responses, deleted messages and pages of the list: what a server needs of the store."""

from __future__ import annotations

import pytest

from chat.conversations.conversation import Message
from chat.store.changes import Changes
from chat.store.server_state import KeptResponse
from chatcore.errors import ConversationNotFoundError, ResponseNotFoundError


def test_a_session_leads_its_owner_to_a_conversation(store):
    conversation = store.create(owner="ann")
    number, conversation_id = store.served.begin_session(conversation.id, None, owner="ann")
    assert number > 0
    assert conversation_id == conversation.id
    assert store.served.find_session(number, owner="ann") == conversation.id
    assert store.served.find_session(number, owner="bob") is None
    store.served.end_session(number, owner="bob")
    assert store.served.find_session(number, owner="ann") == conversation.id
    store.served.end_session(number, owner="ann")
    assert store.served.find_session(number, owner="ann") is None
    assert store.load(conversation.id, owner="ann") == conversation


def test_two_owners_may_use_one_number(store):
    mine, yours = store.create(owner="ann"), store.create(owner="bob")
    store.served.begin_session(mine.id, 7, owner="ann")
    store.served.begin_session(yours.id, 7, owner="bob")
    assert store.served.find_session(7, owner="ann") == mine.id
    assert store.served.find_session(7, owner="bob") == yours.id


def test_of_two_that_want_one_number_the_first_gets_it(store):
    first, second = store.create(owner="ann"), store.create(owner="ann")
    assert store.served.begin_session(first.id, 7, owner="ann") == (7, first.id)
    assert store.served.begin_session(second.id, 7, owner="ann") == (7, first.id)


def test_sessions_expire_and_go_with_their_conversation(store):
    conversation = store.create()
    store.served.begin_session(conversation.id, 7, owner="local")
    assert store.served.expire_sessions(3600) == 0
    assert store.served.expire_sessions(-1) == 1
    store.served.begin_session(conversation.id, 7, owner="local")
    store.delete(conversation.id)
    assert store.served.find_session(7, owner="local") is None


def test_a_response_is_kept_found_and_deleted_by_its_owner(store):
    conversation = store.create(owner="ann")
    response = KeptResponse("a" * 24, conversation.id, "m1", {"status": "in_progress"})
    store.served.add_response(response, owner="ann")
    store.served.update_response("a" * 24, {"text": "你好"}, owner="ann")
    store.served.update_response("a" * 24, {"text": "forged"}, owner="bob")
    found = store.served.find_response("a" * 24, owner="ann")
    assert (found.message_id, found.body) == ("m1", {"text": "你好"})
    with pytest.raises(ResponseNotFoundError):
        store.served.find_response("a" * 24, owner="bob")
    with pytest.raises(ResponseNotFoundError):
        store.served.delete_response("a" * 24, owner="bob")
    assert store.served.delete_response("a" * 24, owner="ann") == (conversation.id, 0)
    store.served.update_response("a" * 24, {"text": "too late"}, owner="ann")
    with pytest.raises(ResponseNotFoundError):
        store.served.find_response("a" * 24, owner="ann")


def test_a_response_needs_a_conversation_of_its_owner(store):
    conversation = store.create(owner="ann")
    with pytest.raises(ConversationNotFoundError):
        store.served.add_response(KeptResponse("a" * 24, conversation.id, "m", {}), owner="bob")


def test_conversations_are_counted_for_each_owner(store):
    store.create(owner="ann")
    store.create(owner="ann")
    store.create(owner="bob")
    assert store.served.num_conversations("ann") == 2


def test_what_follows_a_deleted_message_moves_up(store):
    conversation = store.create()
    question = store.add(conversation, Message("user", "a secret"))
    answer = store.add(conversation, Message("assistant", "noted"))
    store.add(conversation, Message("user", "more"))
    conversation.pinned_ids, conversation.window_start_id = {question.id}, question.id
    store.save(conversation)
    store.delete_message(conversation, question.id)
    kept = store.load(conversation.id)
    assert kept == conversation
    assert [message.content for message in kept.path()] == ["noted", "more"]
    assert (kept.pinned_ids, kept.window_start_id) == (set(), answer.id)
    assert store.search("secret") == []
    store.delete_message(kept, kept.tip_id)
    assert [message.content for message in store.load(conversation.id).path()] == ["noted"]
    store.add(kept, Message("user", "again"))
    assert [message.content for message in store.load(conversation.id).path()] == ["noted", "again"]


def test_a_list_goes_on_behind_a_conversation(store):
    ids = [store.create().id for _ in range(5)]
    found = [summary.id for summary in store.recent(limit=2, with_empty=True)]
    while page := store.recent(limit=2, after=found[-1], with_empty=True):
        found += [summary.id for summary in page]
    assert found == ids[::-1]
    assert store.recent() == []
    with pytest.raises(ConversationNotFoundError):
        store.recent(after=ids[0], owner="bob")


def test_changes_without_fields_apply_to_existing_conversations_only(store):
    conversation = store.create()
    message = Message("user", "hello")
    nothing = frozenset()
    store.apply([Changes(conversation.id, False, {}, nothing, nothing, (message,), None)])
    assert store.load(conversation.id).messages[message.id].content == "hello"
    with pytest.raises(ConversationNotFoundError):
        store.apply([Changes("0", False, {}, nothing, nothing, (), None)])
