"""A conversation that is going on, with calls of tools in it."""

from __future__ import annotations

import pytest

from chat.conversations.conversation import Conversation, Message
from chat.session.answer import PartialAnswer
from chat.session.stored import NOT_RUN, StoredConversation
from chat.store.local import ConversationStore
from vllm_wrapper import Reply, ToolCall

CALLS = (ToolCall("call-1", "add", '{"a": 1}'), ToolCall("call-2", "add", '{"a": 2}'))


@pytest.fixture
def talk(tmp_path) -> StoredConversation:
    kept = ConversationStore(tmp_path / "conversations.sqlite")
    return StoredConversation(lambda: kept, Conversation(), on_trouble=lambda error: pytest.fail(str(error)))


def answer(talk: StoredConversation, reply: Reply) -> None:
    talk.saver(continuing=False).finish(PartialAnswer(reply.text, reply=reply))


def ask_for_calls(talk: StoredConversation) -> None:
    talk.add_message("How much is it?")
    answer(talk, Reply("", tool_calls=CALLS, finish_reason="tool_calls"))


def test_calls_are_open_until_they_have_a_result(talk):
    assert talk.open_calls() == []
    ask_for_calls(talk)
    assert talk.open_calls() == list(CALLS)
    talk.add_result(CALLS[0], "1")
    assert talk.open_calls() == [CALLS[1]]
    talk.add_result(CALLS[1], "2")
    assert talk.open_calls() == []


def test_a_turn_holds_the_calls_and_their_results(talk):
    ask_for_calls(talk)
    talk.add_result(CALLS[0], "1")
    talk.add_result(CALLS[1], "2")
    answer(talk, Reply("3"))
    (turn,) = talk.turns()
    assert [message.role for message in turn.messages] == ["assistant", "tool", "tool", "assistant"]
    assert turn.answer is turn.messages[-1]


def test_calls_that_are_left_open_get_a_result_before_the_next_message(talk):
    """Servers refuse a conversation in which a call has none."""
    ask_for_calls(talk)
    talk.add_result(CALLS[0], "1")
    talk.add_message("Never mind.")
    messages = talk.messages()
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user"]
    assert (messages[3]["tool_call_id"], messages[3]["content"]) == ("call-2", NOT_RUN)


def test_another_answer_to_a_question_with_calls_is_a_variant(talk):
    ask_for_calls(talk)
    talk.add_result(CALLS[0], "1")
    talk.add_result(CALLS[1], "2")
    answer(talk, Reply("3"))
    with talk.at(lambda conversation: conversation.before_answer()) as moved:
        answer(talk, Reply("It is 3."))
        moved.stays = True
    assert [variant.content for variant in talk.variants()] == ["", "It is 3."]
    assert talk.turns()[0].variant == 2


def test_a_tool_call_survives_the_store(talk, tmp_path):
    ask_for_calls(talk)
    talk.add_result(CALLS[0], "晴")
    kept = ConversationStore(tmp_path / "conversations.sqlite").load(talk.conversation.id)
    assert kept.as_dicts() == talk.messages()
    assert isinstance(kept.path()[-1], Message)


def test_a_pinned_turn_is_not_counted_as_left_out(talk):
    for question in ("one", "two", "three"):
        talk.add_message(question)
        answer(talk, Reply("yes"))
    talk.conversation.toggle_pin(1)
    talk.conversation.window_start_id = talk.conversation.turn(3).id
    assert talk.dropped_turns() == [2]
    assert [message["content"] for message in talk.prompt_messages()] == ["one", "yes", "three", "yes"]
