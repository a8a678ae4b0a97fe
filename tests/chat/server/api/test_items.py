"""OpenAI's items and messages: there and back."""

from __future__ import annotations

import pytest

from chat.conversations.conversation import Conversation, Message
from chat.server.api.items import (
    ItemIds,
    find_item,
    has_media,
    messages_of,
    path_items,
    read_items,
    to_items,
    without_item,
)
from chat.server.api.problems import RequestError

CALL = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


def test_a_turn_with_thinking_and_calls_is_the_same_after_a_round_trip():
    conversation = Conversation(system="You are terse.")
    conversation.add(Message("user", "What is 1 + 1?"))
    conversation.add(Message("assistant", "Let me see.", reasoning="a sum", tool_calls=(CALL,)))
    conversation.add(Message("tool", "2", tool_call_id="call_1"))
    conversation.add(Message("assistant", "2"))
    items = path_items(conversation)
    kinds = ["message", "message", "reasoning", "message", "function_call", "function_call_output", "message"]
    assert [item["type"] for item in items] == kinds
    again = messages_of(read_items(items))
    assert again.system == "You are terse."
    fields = ("role", "content", "reasoning", "tool_calls", "tool_call_id")
    read = [tuple(getattr(message, name) for name in fields) for message in again.path()]
    assert read == [tuple(getattr(message, name) for name in fields) for message in conversation.path()]


def test_text_in_parts_is_one_text():
    parts = [{"type": "input_text", "text": "one"}, {"type": "input_text", "text": "two"}]
    [message] = messages_of(read_items([{"role": "user", "content": parts}])).path()
    assert message.content == "one\ntwo"


@pytest.mark.parametrize(
    "item",
    [
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:,", "detail": "auto"}]},
        {"role": "wizard", "content": "x"},
        {"type": "item_reference", "id": "msg_1"},
        {"nothing": 1},
    ],
)
def test_what_cannot_be_kept_is_refused(item):
    with pytest.raises(Exception, match="text|role|item|Unsupported"):
        messages_of(read_items([item]))


def test_images_are_noticed():
    image = {"type": "input_image", "image_url": "data:,", "detail": "auto"}
    assert has_media([{"role": "user", "content": [image]}])
    assert not has_media([{"role": "user", "content": "text"}])
    assert not has_media("text")


def test_an_item_is_found_by_its_id_alone():
    conversation = Conversation(system="S")
    answer = conversation.add(Message("assistant", "x", reasoning="y", tool_calls=(CALL, CALL)))
    assert find_item(conversation, f"rs_{answer.id}")[1]["content"][0]["text"] == "y"
    assert find_item(conversation, f"fc_{answer.id}_1")[1]["call_id"] == "call_1"
    assert find_item(conversation, f"msg_{conversation.id}")[1]["role"] == "system"
    for unknown in (f"fc_{answer.id}_2", f"fco_{answer.id}", answer.id, "msg_" + "0" * 24, ""):
        with pytest.raises(RequestError) as caught:
            find_item(conversation, unknown)
        assert caught.value.status == 404


def test_taking_one_item_leaves_the_others():
    message = Message("assistant", "x", reasoning="y", tool_calls=(CALL,), token_ids=(1, 2))
    left = without_item(message, f"rs_{message.id}")
    assert (left.content, left.reasoning, left.token_ids) == ("x", "", ())
    left = without_item(left, f"fc_{message.id}_0")
    assert left.tool_calls == ()
    assert without_item(left, f"msg_{message.id}") is None


def test_ids_of_events_are_those_of_the_conversation():
    ids = ItemIds("0" * 24)
    added = ids.rename({"item": {"type": "message", "id": "msg_vllm"}})
    assert added["item"]["id"] == "msg_" + "0" * 24
    assert ids.rename({"item_id": "msg_vllm"})["item_id"] == added["item"]["id"]
    output = [{"type": "message", "id": "msg_vllm"}, {"type": "function_call", "id": "fc_vllm"}]
    done = ids.rename({"response": {"output": output}})["response"]["output"]
    message = Message("assistant", "x", id="0" * 24, tool_calls=(CALL,))
    assert [item["id"] for item in done] == [item["id"] for item in to_items(message)]


def test_an_answer_without_content_is_refused():
    empty = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": []}
    with pytest.raises(RequestError, match="an item lacks"):
        messages_of(read_items([empty]))
