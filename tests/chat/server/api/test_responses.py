"""``/v1/responses`` on a real server, by the official client: kept, gone on with, streamed, cancelled."""

from __future__ import annotations

import openai
import pytest

from chatcore.models.fit import BLOCK_TOKENS
from tests.chat.server.clients import ask, http_of, openai_of
from tests.patience import wait_until

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "Get the weather of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
FINAL = ("completed", "incomplete", "failed", "cancelled")
BLOCK = BLOCK_TOKENS["cpu"]  # the prefix cache keeps whole blocks


@pytest.fixture
def client(server):
    with openai_of(server) as client:
        yield client


def items_of(client, conversation):
    return list(client.conversations.items.list(conversation.id, order="asc", limit=100))


def long_answer(client, **fields):
    endless = {"ignore_eos": True, "chat_template_kwargs": {"enable_thinking": False}}
    return client.responses.create(
        model="demo", input="Hello", temperature=0.0, max_output_tokens=1200, extra_body=endless, **fields
    )


def test_a_conversation_goes_on(client):
    conversation = client.conversations.create()
    first = ask(client, "My name is Zorvan.", conversation=conversation.id)
    second = ask(client, "What is my name?", conversation={"id": conversation.id})
    assert second.output_text == "Your name is Zorvan."
    assert (second.status, second.conversation.id) == ("completed", conversation.id)
    items = items_of(client, conversation)
    assert [item.role for item in items] == ["user", "assistant"] * 2
    assert items[1].id == first.output[0].id
    assert items[3].id == second.output[0].id
    assert items[3].content[0].text == second.output_text


def test_a_response_goes_on_behind_another_one(client):
    first = ask(client, "My name is Zorvan.")
    second = ask(client, "What is my name?", previous_response_id=first.id)
    assert second.output_text == "Your name is Zorvan."
    assert (second.previous_response_id, second.conversation) == (first.id, None)
    assert [item.content[0].text for item in client.responses.input_items.list(second.id, order="asc")] == [
        "My name is Zorvan.",
        first.output_text,
        "What is my name?",
    ]


def test_answers_to_one_response_stand_side_by_side(client):
    first = ask(client, "My name is Zorvan.")
    left = ask(client, "My dog is called Rex.", previous_response_id=first.id)
    right = ask(client, "What is my name?", previous_response_id=first.id)
    assert right.output_text == "Your name is Zorvan."
    said = [item.content[0].text for item in client.responses.input_items.list(right.id)]
    assert "My dog is called Rex." not in said
    assert ask(client, "What is my name?", previous_response_id=left.id).output_text == "Your name is Zorvan."


def test_a_follow_up_by_response_id_does_not_change_the_conversation(client):
    conversation = client.conversations.create()
    response = ask(client, "My name is Zorvan.", conversation=conversation.id)
    before = items_of(client, conversation)
    assert ask(client, "What is my name?", previous_response_id=response.id).output_text == "Your name is Zorvan."
    assert items_of(client, conversation) == before


def test_a_stream_has_openais_events_and_ends_with_what_is_kept(client):
    conversation = client.conversations.create()
    events = list(ask(client, "Hello", conversation=conversation.id, stream=True))
    kinds = [event.type for event in events]
    assert (kinds[0], kinds[-1]) == ("response.created", "response.completed")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    final = events[-1].response
    assert text == final.output_text
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {final.output[0].id}
    assert events[0].response.id == final.id
    assert client.responses.retrieve(final.id).output_text == text
    assert items_of(client, conversation)[-1].id == final.output[0].id


def test_the_clients_own_stream_helper_works(client):
    with client.responses.stream(model="demo", input="Hello") as stream:
        final = stream.get_final_response()
    assert client.responses.retrieve(final.id).output_text == final.output_text


def test_thinking_is_kept_as_an_item_of_its_own(client):
    conversation = client.conversations.create()
    response = client.responses.create(
        model="demo", input="What is 2 + 2?", temperature=0.0, conversation=conversation.id, reasoning={"effort": "low"}
    )
    assert [item.type for item in response.output] == ["reasoning", "message"]
    items = items_of(client, conversation)
    assert [item.type for item in items] == ["message", "reasoning", "message"]
    assert items[1].content[0].text.strip() == response.output[0].content[0].text.strip()
    assert items[1].id == response.output[0].id


@pytest.mark.parametrize("stream", [False, True])
def test_calls_of_tools_are_kept_and_answered(client, stream):
    conversation = client.conversations.create()
    options = {"conversation": conversation.id, "tools": [WEATHER]}
    response = ask(client, "What is the weather in Paris?", stream=stream, **options)
    if stream:
        response = list(response)[-1].response
    [call] = response.output
    assert (call.type, call.name, call.arguments) == ("function_call", "get_weather", '{"city": "Paris"}')
    output = {"type": "function_call_output", "call_id": call.call_id, "output": '{"temperature": 21}'}
    assert "21" in ask(client, [output], **options).output_text
    kinds = ["message", "function_call", "function_call_output", "message"]
    items = items_of(client, conversation)
    assert [item.type for item in items] == kinds
    assert (items[1].id, items[1].call_id) == (call.id, call.call_id)


def test_instructions_hold_for_one_response_and_are_not_kept(client):
    conversation = client.conversations.create()
    with_them = ask(client, "Hello", conversation=conversation.id, instructions="You are terse. " * 20)
    without = ask(client, "Hello", conversation=conversation.id)
    assert with_them.usage.input_tokens > 80
    assert without.usage.input_tokens < with_them.usage.input_tokens
    assert {item.role for item in items_of(client, conversation)} == {"user", "assistant"}


def test_the_cost_of_a_turn_does_not_grow_with_the_conversation(client, server):
    conversation = client.conversations.create(items=[{"role": "user", "content": "word " * 300}])
    prompts, cached = [], []
    for number in range(6):
        text = f"Number {number}: " + "word " * 50
        usage = ask(client, text, conversation=conversation.id, max_output_tokens=20).usage
        prompts.append(usage.input_tokens)
        cached.append(usage.input_tokens_details.cached_tokens)
    assert prompts == sorted(prompts)
    for before, now, hit in zip(prompts, prompts[1:], cached[1:], strict=False):
        assert hit >= (before - 1) // BLOCK * BLOCK, (before, now, hit)
    with http_of(server) as http:
        reply = http.post(
            "/v1/chat/interactive",
            json={"prompt": "word " * 600, "interactive_mode": True, "request_output_len": 2, "temperature": 0},
        ).json()
        metrics = http.get("/metrics").text
    assert reply["tokens"] == 2
    assert "vllm_deploy_prompt_tokens_reused_total" in metrics


def test_a_full_window_leaves_out_old_turns_and_says_so(client):
    conversation = client.conversations.create()
    num_turns = 0
    while num_turns < 8:
        num_turns += 1
        raw = client.responses.with_raw_response.create(
            model="demo", input="word " * 300, conversation=conversation.id, max_output_tokens=2
        )
        response = raw.parse()
        if response.dropped_turns:
            break
    assert response.dropped_turns[0] == 1
    assert raw.headers["x-dropped-turns"].startswith("1")
    assert len(items_of(client, conversation)) == 2 * num_turns  # nothing is lost
    with pytest.raises(openai.BadRequestError, match="tokens"):
        ask(client, "word " * 300, conversation=conversation.id, truncation="disabled")


def test_deleting_the_last_response_deletes_its_conversation(client):
    first = ask(client, "My name is Zorvan.")
    second = ask(client, "What is my name?", previous_response_id=first.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(first.id)
    assert client.responses.retrieve(second.id) == second
    before = client.get("/conversations?limit=1", cast_to=object)["data"][0]["id"]
    client.responses.delete(second.id)
    assert client.get("/conversations?limit=1", cast_to=object)["data"][0]["id"] != before


def test_a_background_response_is_given_without_a_connection(client):
    response = ask(client, "My name is Zorvan.", background=True)
    assert (response.status in ("in_progress", "completed"), response.background) == (True, True)
    done = wait_until(lambda: (got := client.responses.retrieve(response.id)).status in FINAL and got)
    assert (done.status, bool(done.output_text)) == ("completed", True)
    assert ask(client, "What is my name?", previous_response_id=response.id).output_text == "Your name is Zorvan."


def test_a_background_response_is_cancelled_and_keeps_what_came(client):
    response = long_answer(client, background=True)
    cancelled = client.responses.cancel(response.id)
    assert cancelled.status == "cancelled"
    assert client.responses.retrieve(response.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError, match="cancelled"):
        client.responses.cancel(response.id)


def test_a_stream_is_cancelled_from_elsewhere(client):
    stream = long_answer(client, stream=True)
    first = next(iter(stream))
    client.responses.cancel(first.response.id)
    last = list(stream)[-1]
    assert (last.type, last.response.status) == ("response.incomplete", "cancelled")


def test_disconnecting_a_stream_keeps_the_partial_answer_and_unlocks(client):
    conversation = client.conversations.create()
    with long_answer(client, conversation=conversation.id, stream=True) as stream:
        response_id = next(iter(stream)).response.id
        next(event for event in stream if event.type == "response.output_text.delta")
        with pytest.raises(openai.ConflictError):
            ask(client, "Hello", conversation=conversation.id)
        with pytest.raises(openai.ConflictError):
            client.conversations.items.create(conversation.id, items=[{"role": "user", "content": "beside"}])
    wait_until(lambda: client.responses.retrieve(response_id).status == "cancelled")
    items = items_of(client, conversation)
    assert [item.status for item in items] == ["completed", "incomplete"]
    assert ask(client, "Hello", conversation=conversation.id).status == "completed"


def test_nothing_is_kept_on_demand(client):
    before = client.get("/conversations?limit=1", cast_to=object)
    response = ask(client, "My name is Zorvan.", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)
    kept = ask(client, "My name is Zorvan.")
    unkept = ask(client, "What is my name?", previous_response_id=kept.id, store=False)
    assert unkept.output_text == "Your name is Zorvan."
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(unkept.id)
    after = client.get("/conversations?limit=2", cast_to=object)["data"]
    assert after[1:] == before["data"]


def test_both_a_conversation_and_a_previous_response_are_one_too_many(client):
    response = ask(client, "Hello")
    conversation = client.conversations.create()
    with pytest.raises(openai.BadRequestError, match="not both"):
        ask(client, "Hello", previous_response_id=response.id, conversation=conversation.id)


@pytest.mark.parametrize("unknown", ["resp_" + "0" * 24, "resp_x", "'; DROP TABLE responses"])
def test_an_unknown_response_is_not_found(client, unknown):
    with pytest.raises(openai.NotFoundError):
        ask(client, "Hello", previous_response_id=unknown)


def test_a_request_that_vllm_refuses_leaves_nothing_behind(client):
    before = client.get("/conversations?limit=1", cast_to=object)["data"]
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="none-such", input="Hello")
    conversation = client.conversations.create()
    with pytest.raises(openai.BadRequestError):
        ask(client, "Hello", conversation=conversation.id, top_p=-1)
    image = {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "auto"}
    with pytest.raises(openai.BadRequestError, match="text"):
        ask(client, [{"role": "user", "content": [image]}], conversation=conversation.id)
    assert items_of(client, conversation) == []
    assert ask(client, "Hello", conversation=conversation.id).status == "completed"  # nobody holds it
    client.conversations.delete(conversation.id)
    assert client.get("/conversations?limit=1", cast_to=object)["data"] == before


def test_vllms_other_routes_work_as_they_did(client):
    messages = [{"role": "user", "content": "Hello"}]
    assert client.chat.completions.create(model="demo", messages=messages).choices[0].message.content
    assert client.models.list().data[0].id == "demo"
