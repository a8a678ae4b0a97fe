"""The conversation tree: moving the tip, never losing a message."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chat.conversations.conversation import Conversation, Message, from_dicts, make_id, make_title
from chatcore.errors import InvalidMessageError
from vllm_wrapper import Reply, ToolCall, Usage


def talk(*contents: str) -> Conversation:
    """Return a conversation of contents, user and assistant in turn."""
    conversation = Conversation()
    for index, content in enumerate(contents):
        conversation.add(Message("assistant" if index % 2 else "user", content))
    return conversation


def path(conversation: Conversation) -> list[str]:
    return [message.content for message in conversation.path()]


def test_messages_follow_one_another():
    conversation = talk("a", "A", "b")
    assert path(conversation) == ["a", "A", "b"]
    assert [message.parent_id for message in conversation.path()[1:]] == list(conversation.messages)[:2]
    assert conversation.path()[0].parent_id is None
    assert conversation.tip.content == "b"
    assert conversation.num_turns == 2


def test_an_unused_conversation_has_no_tip():
    conversation = Conversation()
    assert (conversation.tip, conversation.path(), conversation.as_dicts()) == (None, [], [])
    assert (conversation.undo(), conversation.redo()) == (0, 0)


def test_ids_are_long_and_different():
    ids = {make_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert {len(name) for name in ids} == {24}


def test_the_system_message_is_a_setting_that_comes_first():
    conversation = talk("a")
    conversation.system = "Be kind."
    assert conversation.as_dicts() == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a"}]
    assert path(conversation) == ["a"]


def test_a_message_in_openais_shape_holds_only_what_it_has():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = Message("assistant", "x", reasoning="why", tool_calls=(call,), token_ids=(1, 2))
    assert message.as_dict() == {
        "role": "assistant",
        "content": "x",
        "reasoning_content": "why",
        "tool_calls": [call],
        "token_ids": [1, 2],
    }
    assert Message("tool", "y", tool_call_id="1").as_dict() == {"role": "tool", "content": "y", "tool_call_id": "1"}


# -- growing answers --------------------------------------------------------------------------------------------------


def test_an_answer_grows_in_its_place():
    conversation = talk("a")
    begun = conversation.add(Message("assistant", "on", status="partial"))
    grown = conversation.add(replace(begun, content="one", status="complete"))
    assert path(conversation) == ["a", "one"]
    assert (grown.id, grown.status) == (begun.id, "complete")
    assert len(conversation.messages) == 2


def test_an_answer_written_again_without_its_place_stays_in_it():
    """Who made the message may still hold it as it was before it had a place; that once cut off the whole path."""
    conversation = talk("a", "A", "b")
    begun = Message("assistant", "", status="partial")
    conversation.add(begun)
    conversation.add(replace(begun, content="B"))
    assert path(conversation) == ["a", "A", "b", "B"]


def test_a_message_that_grows_keeps_what_can_be_redone():
    conversation = talk("a", "A", "b", "B")
    conversation.undo()
    conversation.add(replace(conversation.tip, content="AA"))
    assert conversation.redo() == 1
    assert path(conversation) == ["a", "AA", "b", "B"]


# -- moving the tip ---------------------------------------------------------------------------------------------------


def test_undo_and_redo_move_by_whole_turns():
    conversation = talk("a", "A", "b", "B", "c", "C")
    assert conversation.undo() == 1
    assert path(conversation) == ["a", "A", "b", "B"]
    assert conversation.undo(5) == 2
    assert path(conversation) == []
    assert conversation.redo() == 1
    assert path(conversation) == ["a", "A"]
    assert conversation.redo(5) == 2
    assert path(conversation) == ["a", "A", "b", "B", "c", "C"]


def test_undo_takes_an_unanswered_question_and_a_tool_call_as_one_turn():
    conversation = talk("a", "A", "b")
    conversation.undo()
    assert path(conversation) == ["a", "A"]
    conversation.redo()
    conversation.add(Message("assistant", "", tool_calls=({"id": "1"},)))
    conversation.add(Message("tool", "21", tool_call_id="1"))
    conversation.add(Message("assistant", "B"))
    conversation.undo()
    assert path(conversation) == ["a", "A"]


def test_nothing_can_be_redone_once_something_else_was_said():
    conversation = talk("a", "A", "b", "B")
    conversation.undo()
    conversation.add(Message("user", "c"))
    assert conversation.redo() == 0
    assert path(conversation) == ["a", "A", "c"]
    assert {message.content for message in conversation.messages.values()} == {"a", "A", "b", "B", "c"}


def test_another_answer_is_a_variant():
    conversation = talk("a", "A")
    question = conversation.before_answer()
    assert question.content == "a"
    second = conversation.add(Message("assistant", "A2"))
    assert [message.content for message in conversation.variants(second.id)] == ["A", "A2"]
    assert path(conversation) == ["a", "A2"]


def test_there_is_nothing_to_answer_before_the_first_question():
    with pytest.raises(InvalidMessageError, match="no message to answer") as caught:
        Conversation().before_answer()
    assert caught.value.hint


def test_an_edited_turn_begins_a_branch_and_the_old_one_stays():
    conversation = talk("a", "A", "b", "B", "c", "C")
    old_tip = conversation.tip_id
    assert conversation.before_turn(2).content == "b"
    conversation.add(Message("user", "b2"))
    assert path(conversation) == ["a", "A", "b2"]
    conversation.go_to(old_tip)
    assert path(conversation) == ["a", "A", "b", "B", "c", "C"]


def test_the_first_turn_can_be_edited():
    conversation = talk("a", "A")
    conversation.before_turn(1)
    first = conversation.add(Message("user", "a2"))
    assert path(conversation) == ["a2"]
    assert [message.content for message in conversation.variants(first.id)] == ["a", "a2"]


def test_going_to_a_message_goes_on_to_what_was_said_last_behind_it():
    conversation = talk("a", "A", "b", "B")
    first = conversation.path()[1].id
    conversation.before_turn(2)
    conversation.add(Message("user", "b2"))
    conversation.add(Message("assistant", "B2"))
    conversation.undo(2)
    conversation.go_to(first)
    assert path(conversation) == ["a", "A", "b2", "B2"]
    assert conversation.redo() == 0


@pytest.mark.parametrize("number", [0, 3, -1])
def test_a_turn_that_is_not_there_is_said_to_be(number):
    conversation = talk("a", "A", "b")
    for ask in (conversation.turn, conversation.before_turn, conversation.toggle_pin):
        with pytest.raises(InvalidMessageError, match=f"there is no turn {number}") as caught:
            ask(number)
        assert "There are 2 turns" in caught.value.hint
    assert path(conversation) == ["a", "A", "b"]


def test_a_long_conversation_is_quick():
    """500 turns; a walk that looked at all messages for each step would take a quarter of a million looks."""
    conversation = talk(*[f"message {index}" for index in range(1000)])
    assert conversation.num_turns == 500
    assert len(path(conversation)) == 1000
    first = next(iter(conversation.messages))
    conversation.undo(500)
    conversation.go_to(first)
    assert len(path(conversation)) == 1000


# -- the window -------------------------------------------------------------------------------------------------------


def test_a_pin_is_toggled_by_its_turn():
    conversation = talk("a", "A", "b")
    assert conversation.toggle_pin(2) is True
    assert conversation.pinned_ids == {conversation.turn(2).id}
    assert conversation.toggle_pin(2) is False
    assert conversation.pinned_ids == set()


def test_the_window_begins_at_its_message_or_at_the_first():
    conversation = talk("a", "A", "b", "B")
    assert conversation.window_start() == 0
    conversation.window_start_id = conversation.turn(2).id
    assert conversation.window_start() == 2
    conversation.undo()
    assert conversation.window_start() == 0


# -- titles -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("", ""),
        (" \n\t\n", ""),
        ("\n\n  Hello   there \nsecond", "Hello there"),
        ("a" * 48, "a" * 48),
        ("中" * 24, "中" * 24),
    ],
)
def test_the_title_is_the_first_line(text, title):
    assert make_title(text) == title


def test_a_long_title_is_cut_by_columns_and_says_so():
    assert len(make_title("a" * 200)) <= 49
    assert make_title("a" * 200).endswith("a…")
    assert len(make_title("中" * 200)) <= 25
    assert make_title("中" * 200).endswith("中…")


def test_a_title_cannot_steer_the_terminal():
    title = make_title("\x1b]0;owned\x07\x1b[31mred\x9b1m\u202eabc")
    assert "red" in title
    assert not any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in title)


def test_the_first_question_makes_the_title_unless_there_is_one():
    conversation = talk("first", "A", "second")
    assert conversation.title == "first"
    named = Conversation(title="mine")
    named.add(Message("user", "first"))
    assert named.title == "mine"


# -- from OpenAI's shape ----------------------------------------------------------------------------------------------


def test_openais_messages_become_a_conversation_and_back():
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "", "reasoning_content": "why", "tool_calls": [call], "token_ids": [1]},
        {"role": "tool", "content": "r", "tool_call_id": "1"},
    ]
    conversation = from_dicts(messages, owner="me")
    assert conversation.as_dicts() == messages
    assert (conversation.owner, conversation.system) == ("me", "Be kind.")


def test_a_later_system_message_stays_where_it_is():
    messages = [{"role": "user", "content": "a"}, {"role": "system", "content": "now be brief"}]
    assert from_dicts(messages).as_dicts() == messages


@pytest.mark.parametrize("message", [{"content": "a"}, {"role": 1, "content": "a"}, {"role": "user", "content": [1]}])
def test_what_is_no_message_is_refused_with_its_number(message):
    with pytest.raises(InvalidMessageError, match=r"^messages\[1\]: ") as caught:
        from_dicts([{"role": "user", "content": "a"}, message])
    assert caught.value.index == 1


# -- answers ----------------------------------------------------------------------------------------------------------


CALL = ToolCall("call-1", "calculator", '{"expression": "12 * 12"}')


def test_a_reply_becomes_a_message_with_all_that_is_known_of_it():
    reply = Reply("", "I call.", (CALL,), (7, 8), "tool_calls", Usage(num_output_tokens=2))
    message = Message.from_reply(reply)
    assert (message.reasoning, message.token_ids, message.finish_reason) == ("I call.", (7, 8), "tool_calls")
    assert message.tool_calls == (CALL.as_message_part(),)
    assert message.usage["num_output_tokens"] == 2


@pytest.mark.parametrize("reason", ["abort", "length"])
def test_a_call_that_was_cut_off_is_no_call(reason):
    assert Message.from_reply(Reply("Let me", tool_calls=(CALL,), finish_reason=reason)).tool_calls == ()


def test_a_continued_answer_keeps_its_place_and_its_ids_if_all_are_known():
    begun = Message("assistant", "One, ", token_ids=(1,), finish_reason="length", parent_id="asked")
    more = Message.from_reply(Reply("two.", token_ids=(2, 3)))
    whole = begun.continued(more)
    assert (whole.id, whole.parent_id, whole.created_at_utc) == (begun.id, "asked", begun.created_at_utc)
    assert (whole.content, whole.token_ids, whole.finish_reason) == ("One, two.", (1, 2, 3), "stop")
    assert replace(begun, token_ids=()).continued(more).token_ids == ()
