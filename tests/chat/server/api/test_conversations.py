"""``/v1/conversations`` on a real server, by the official client."""

from __future__ import annotations

import asyncio

import openai
import pytest
from openai import AsyncOpenAI

from chat.conversations.conversation import Message
from chat.store.local import ConversationStore
from chat.store.remote import find_store
from tests.chat.server.clients import ask, http_of, openai_of
from tests.chat.store.storing import keep_fruit

SAID = [
    {"role": "system", "content": "You are terse."},
    {"role": "user", "content": "My name is Zorvan."},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello Zorvan."}]},
]


@pytest.fixture
def client(server):
    with openai_of(server) as client:
        yield client


def texts(items):
    return [part.text for item in items for part in item.content]


def test_a_conversation_is_created_changed_and_deleted(client):
    made = client.conversations.create(metadata={"topic": "demo"})
    assert made.id.startswith("conv_")
    assert (made.object, made.metadata) == ("conversation", {"topic": "demo"})
    assert client.conversations.retrieve(made.id) == made
    assert client.conversations.update(made.id, metadata={"topic": "other"}).metadata == {"topic": "other"}
    assert client.conversations.retrieve(made.id).metadata == {"topic": "other"}
    assert client.conversations.delete(made.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.retrieve(made.id)


def test_items_are_added_listed_found_and_deleted(client):
    conversation = client.conversations.create(items=SAID)
    added = client.conversations.items.create(conversation.id, items=[{"role": "user", "content": "And now?"}])
    assert texts(added.data) == ["And now?"]
    listed = list(client.conversations.items.list(conversation.id, order="asc"))
    assert [item.role for item in listed] == ["system", "user", "assistant", "user"]
    assert texts(listed) == ["You are terse.", "My name is Zorvan.", "Hello Zorvan.", "And now?"]
    assert texts(client.conversations.items.list(conversation.id)) == texts(listed)[::-1]
    one = client.conversations.items.retrieve(listed[2].id, conversation_id=conversation.id)
    assert one == listed[2]
    for item in listed[:2]:
        client.conversations.items.delete(item.id, conversation_id=conversation.id)
    assert texts(client.conversations.items.list(conversation.id, order="asc")) == ["Hello Zorvan.", "And now?"]
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.retrieve(listed[0].id, conversation_id=conversation.id)


def test_long_lists_come_page_by_page(client):
    said = [{"role": "user", "content": f"message {number}"} for number in range(20)]
    conversation = client.conversations.create(items=said)
    client.conversations.items.create(conversation.id, items=said[:5])
    first = client.conversations.items.list(conversation.id, limit=10, order="asc")
    assert (len(first.data), first.has_more) == (10, True)
    assert len(list(first)) == 25  # the client fetches the other pages


def test_calls_of_tools_are_kept_whole(client):
    items = [
        {"role": "user", "content": "1 + 1?"},
        {"type": "function_call", "call_id": "call_1", "name": "add", "arguments": '{"a": 1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "2"},
    ]
    conversation = client.conversations.create(items=items)
    _, call, output = list(client.conversations.items.list(conversation.id, order="asc"))
    assert (call.name, call.arguments, call.call_id) == ("add", '{"a": 1}', "call_1")
    assert (output.output, output.call_id) == ("2", "call_1")


def test_the_latest_conversations_are_listed_and_searched(client, server):
    old = client.conversations.create(items=[{"role": "user", "content": "about a quokka"}])
    new = client.conversations.create(items=[{"role": "user", "content": "about 袋熊 and a quokka"}])
    with http_of(server) as http:
        first = http.get("/v1/conversations", params={"limit": 1}).json()
        assert [line["id"] for line in first["data"]] == [new.id]
        assert first["has_more"]
        second = http.get("/v1/conversations", params={"limit": 1, "after": first["last_id"]}).json()
        assert [line["id"] for line in second["data"]] == [old.id]
        assert second["data"][0]["title"] == "about a quokka"
        found = http.get("/v1/conversations", params={"q": "quokka"}).json()
        assert [line["id"] for line in found["data"]][:2] == [new.id, old.id]
        found = http.get("/v1/conversations", params={"q": "袋熊"}).json()
        assert [line["id"] for line in found["data"]][0] == new.id


def test_conversations_are_found_however_often_another_has_the_word(server):
    store = find_store(server.url, api_key=server.keys["bob"])
    keep_fruit(store)
    with http_of(server, "bob") as http:

        def found(**query: object) -> list[str]:
            page = http.get("/v1/conversations", params=query).json()
            return [*(line["title"] for line in page["data"]), *["..."][: page["has_more"]]]

        assert found(q="apple") == ["Orchard", "Dessert"]
        assert found(q="Banana") == ["Banana notes"]
        assert found(q="apple", limit=1) == ["Orchard", "..."]
        orchard, dessert = store.find_conversations("apple")
        assert found(q="apple", limit=1, after=f"conv_{orchard.id}") == ["Dessert"]
        assert found(q="apple", limit=1, after=f"conv_{dessert.id}") == []
    for line in store.recent(limit=3):
        store.delete(line.id)
    store.close()


def test_another_owner_gets_the_same_404_as_for_a_missing_conversation(client, server):
    conversation = client.conversations.create(items=SAID)
    item = client.conversations.items.list(conversation.id).data[0].id
    response = ask(client, "Hello", conversation=conversation.id)
    missing = "conv_" + "0" * 24
    with http_of(server, "bob") as bob:
        for method, path, body in (
            ("GET", "", None),
            ("POST", "", {"metadata": {}}),
            ("DELETE", "", None),
            ("GET", "/items", None),
            ("POST", "/items", {"items": SAID}),
            ("GET", f"/items/{item}", None),
            ("DELETE", f"/items/{item}", None),
        ):
            replies = [
                bob.request(method, f"/v1/conversations/{key}{path}", json=body) for key in (conversation.id, missing)
            ]
            assert [reply.status_code for reply in replies] == [404, 404], (method, path)
            said = [reply.text.replace(missing[5:], "ID").replace(conversation.id[5:], "ID") for reply in replies]
            assert said[0] == said[1]
        assert conversation.id not in bob.get("/v1/conversations").text
        assert bob.get("/v1/conversations", params={"q": "Zorvan"}).json()["data"] == []
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            assert bob.request(method, f"/v1/responses/{response.id}{path}").status_code == 404
    with openai_of(server, "bob") as bob:
        with pytest.raises(openai.NotFoundError):
            ask(bob, "What is my name?", conversation=conversation.id)
        with pytest.raises(openai.NotFoundError):
            ask(bob, "What is my name?", previous_response_id=response.id)


def test_the_terminals_conversations_are_the_servers(client, server):
    store = ConversationStore(server.store)
    conversation = store.create(system="You are terse.")
    store.add(conversation, Message("user", "My name is Zorvan."))
    store.add(conversation, Message("assistant", "Nice to meet you, Zorvan!"))
    assert ask(client, "What is my name?", conversation=f"conv_{conversation.id}").output_text == "Your name is Zorvan."
    kept = store.load(conversation.id)
    assert [message.content for message in kept.path()][-2:] == ["What is my name?", "Your name is Zorvan."]
    assert kept.tip.token_ids
    store.close()


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("", {"metadata": {"k": "x" * 600}}, "metadata"),
        ("", {"items": [{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]}, None),
        ("", {"items": [{}]}, None),
        ("", {"unknown": 1}, None),
    ],
)
def test_what_cannot_be_kept_is_said(server, path, body, param):
    with http_of(server) as http:
        reply = http.post(f"/v1/conversations{path}", json=body)
    assert reply.status_code == 400
    assert reply.json()["error"]["message"]


def test_the_asynchronous_client_works_alike(server):
    async def talk():
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.keys["local"], max_retries=0) as client:
            conversation = await client.conversations.create(items=SAID[1:2])
            answers = [await ask(client, "What is my name?", conversation=conversation.id)]
            stream = await ask(client, "What is my name?", conversation=conversation.id, stream=True)
            async for event in stream:
                answers.append(event)
            items = [item async for item in client.conversations.items.list(conversation.id, order="asc")]
            return answers, items

    answers, items = asyncio.run(talk())
    assert answers[-1].type == "response.completed"
    assert len(items) == 5
    assert items[-1].id == answers[-1].response.output[0].id
