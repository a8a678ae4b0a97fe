"""What the store's routes refuse, and that nothing is kept of it. What they do: tests/chat/store/test_remote.py."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from chat.conversations.conversation import Message, make_id
from chat.conversations.files import message_to_dict
from chat.store.local import ConversationStore
from chat.store.writer import Writer
from tests.chat.store.store_server import StoreServer

HEADERS = {"Authorization": "Bearer key-of-local"}
WRITER = Writer().name
NOBODYS_ID = "0123456789abcdef01234567"


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[StoreServer]:
    server = StoreServer(ConversationStore(tmp_path_factory.mktemp("store") / "conversations.sqlite"))
    yield server
    server.stop()
    server.store.close()


@pytest.fixture
def client(server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=f"{server.url}/store", headers=HEADERS) as client:
        yield client


def changes(*messages: Message, **said: Any) -> dict[str, Any]:
    """Return a request that puts a conversation of these messages into the store."""
    one = {
        "conversation_id": make_id(),
        "is_new": True,
        "fields": {"title": "a title", "tip_id": messages[-1].id if messages else None},
        "messages": [message_to_dict(message) for message in messages],
        "tip_id": messages[-1].id if messages else None,
    }
    return {"writer": WRITER, "changes": [one | said]}


def put(body: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    """Return a body with a value at a place such as ``changes.0.fields.title``."""
    body = copy.deepcopy(body)
    holder: Any = body
    *way, last = place.split(".")
    for step in way:
        holder = holder[int(step) if step.isdigit() else step]
    holder[int(last) if last.isdigit() else last] = value
    return body


def test_what_is_right_is_kept(server, client):
    body = changes(Message("user", "hello"))
    assert client.post("/changes", json=body).status_code == 204
    assert client.post("/changes", json=body).status_code == 204  # twice is once
    conversation = server.store.load(body["changes"][0]["conversation_id"])
    assert [message.content for message in conversation.messages.values()] == ["hello"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("writer", "somebody"),
        ("writer", "a b 99999999999999999999 1 01234567"),
        ("changes", []),
        ("changes.0.conversation_id", ""),
        ("changes.0.conversation_id", "../../etc"),
        ("changes.0.conversation_id", "a" * 33),
        ("changes.0.owner", "bob"),
        ("changes.0.fields.owner", "bob"),
        ("changes.0.fields.title", "t" * 1001),
        ("changes.0.fields.settings", []),
        ("changes.0.fields.created_at_utc", -1),
        ("changes.0.fields.created_at_utc", 1e13),
        ("changes.0.messages.0.role", "root"),
        ("changes.0.messages.0.content", None),
        ("changes.0.messages.0.id", "a b"),
        ("changes.0.messages.0.status", "done"),
        ("changes.0.messages.0.token_ids", [-1]),
        ("changes.0.messages.0.token_ids", [2**32]),
        ("changes.0.messages.0.conversation_id", "of another"),
        ("changes.0.pinned", ["no id!"]),
    ],
)
def test_what_is_wrong_is_refused(server, client, place, value):
    body = put(changes(Message("user", "hello")), place, value)
    assert client.post("/changes", json=body).status_code == 422  # 400 behind vLLM's own handlers
    assert nothing_is_kept(server, body)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        ("changes.0.fields.tip_id", NOBODYS_ID),
        ("changes.0.fields.redo_ids", [NOBODYS_ID]),
        ("changes.0.fields.window_start_id", NOBODYS_ID),
        ("changes.0.messages.0.parent_id", NOBODYS_ID),
        ("changes.0.pinned", [NOBODYS_ID]),
    ],
)
def test_a_message_that_is_not_there_cannot_be_named(server, client, place, value):
    body = put(changes(Message("user", "hello")), place, value)
    answer = client.post("/changes", json=body)
    assert answer.status_code == 409
    assert "has no message" in answer.json()["error"]["message"]
    assert nothing_is_kept(server, body)


def test_of_several_changes_all_are_kept_or_none(server, client):
    good, bad = changes(Message("user", "good")), changes(Message("user", "bad"), tip_id=make_id())
    body = {"writer": WRITER, "changes": [*good["changes"], *bad["changes"]]}
    assert client.post("/changes", json=body).status_code == 409
    assert nothing_is_kept(server, good)


def test_numbers_that_json_does_not_have_are_refused(server, client):
    body = changes(Message("user", "hello"))
    text = httpx2.Request("POST", "http://x", json=body).content.decode()
    text = text.replace('"title":"a title"', '"title":"a title","settings":{"x":NaN}')
    answer = client.post("/changes", content=text, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422)
    assert nothing_is_kept(server, body)


def test_one_id_for_two_messages_is_refused(server, client):
    message = Message("user", "hello")
    body = changes(message, message)
    assert client.post("/changes", json=body).status_code == 400
    assert nothing_is_kept(server, body)


@pytest.mark.parametrize("path", ["/conversations/%00", "/conversations/%ED%A0%80", "/conversations/" + "a" * 65])
def test_an_odd_id_is_no_conversation(client, path):
    assert client.get(path).status_code in (404, 422)
    assert client.delete(path).status_code in (404, 422)


@pytest.mark.parametrize("query", ["limit=0", "limit=100001", "limit=x", "unfinished=perhaps"])
def test_an_odd_list_is_refused(client, query):
    assert client.get(f"/conversations?{query}").status_code == 422


@pytest.mark.parametrize("text", ["", " ", '"', "*", "a AND", "NEAR(", "\x00", "𝒳", "a" * 1000])
def test_any_text_can_be_searched_for(client, text):
    assert client.get("/search", params={"text": text}).status_code == 200
    assert client.get("/find", params={"words": text}).status_code == 200


def test_only_search_results_have_the_field_excerpt(server, client):
    body = changes(Message("user", "zebra"))
    assert client.post("/changes", json=body).status_code == 204
    (found,) = client.get("/find", params={"words": "zebra"}).json()["data"]
    assert (found["id"], found["excerpt"]) == (body["changes"][0]["conversation_id"], "zebra")
    (listed,) = [line for line in client.get("/conversations").json()["data"] if line["id"] == found["id"]]
    assert found == listed | {"excerpt": "zebra"}
    assert "excerpt" not in listed


@pytest.mark.parametrize("query", ["", "words=a&limit=0", "words=a&limit=100001", "words=" + "a" * 1001])
def test_an_odd_search_is_refused(client, query):
    assert client.get(f"/find?{query}").status_code == 422


def test_another_owners_writer_cannot_be_made_to_leave(server, client):
    body = changes(Message("user", "unanswered"))
    body["writer"] = body["writer"].replace(WRITER.split(" ")[2], "4194304", 1)  # a process that is not there
    assert client.post("/changes", json=body).status_code == 204
    conversation_id = body["changes"][0]["conversation_id"]
    with httpx2.Client(base_url=f"{server.url}/store", headers={"Authorization": "Bearer key-of-bob"}) as bob:
        assert bob.post("/leave", json={"writer": body["writer"]}).status_code == 204
    assert conversation_id in [line.id for line in server.store.unfinished()]
    assert client.post("/leave", json={"writer": body["writer"]}).status_code == 204
    assert conversation_id not in [line.id for line in server.store.unfinished()]


def nothing_is_kept(server: StoreServer, body: dict[str, Any]) -> bool:
    ids = [one["conversation_id"] for one in body["changes"]]
    return not {line.id for line in server.store.recent(limit=1000, with_empty=True)} & set(ids)
