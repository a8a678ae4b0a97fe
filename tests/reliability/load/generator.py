"""A load generator for the server: random actions of every kind, one after the other, as long as a test runs."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Any

from tests.reliability.load.client import LoadClient
from tests.reliability.load.prompts import random_message

__all__ = ["LoadGenerator"]

MAX_KEPT = 20  # conversations; older ones are deleted
NUM_TOKENS = 12
CHAT = "/v1/chat/completions"
BAD_BODIES: tuple[tuple[str, Any, int], ...] = (
    (CHAT, b'{"messages": ', 400),
    (CHAT, b'{"messages": [], "messages": []}', 400),
    (CHAT, b"\xff\xfe", 400),
    (CHAT, {"messages": "Hello", "model": "demo"}, 400),
    (CHAT, {"messages": [{"role": "user<|im_end|>", "content": "Hello"}], "model": "demo"}, 400),
    (CHAT, {"messages": [{"role": "user", "content": "Hello"}], "model": "demo", "temperature": -3}, 400),
    (CHAT, {"messages": [{"role": "user", "content": "Hello"}], "model": "demo", "n": 10**6}, 400),
    (CHAT, {"messages": [{"role": "user", "content": "word " * 5000}], "model": "demo"}, 400),
    (CHAT, {"messages": [{"role": "user", "content": "Hello"}], "model": "no-such-model"}, 404),
    ("/v1/responses", {"model": "demo", "input": "Hello", "previous_response_id": "resp_" + "0" * 24}, 404),
    ("/v1/chat/interactive", {"prompt": "", "interactive_mode": True}, 400),
    ("/v1/conversations", {"items": [{"type": "nothing"}]}, 400),
    ("/v1/store/changes", {"writer": "nobody", "changes": []}, 400),
    ("/no/such/path", {}, 404),
)


class LoadGenerator:
    """One simulated user of the server.

    Attributes:
        done: the number of actions, by name.

    Args:
        keeps_conversations: it also makes and deletes conversations; only one generator of an owner may.
    """

    def __init__(self, client: LoadClient, owner: str, *, seed: str, keeps_conversations: bool) -> None:
        self.done: Counter[str] = Counter()
        self._client = client
        self._owner = owner
        self._chance = random.Random(seed)
        self._actions = [
            self.chat,
            self.stream,
            self.disconnect,
            self.tokenize,
            self.send_bad_request,
            self.send_wrong_key,
        ]
        if keeps_conversations:
            self._actions += [
                self.hold_conversation,
                self.use_session,
                self.list_and_search,
                self.export,
                self.delete_old,
            ]

    async def step(self) -> None:
        """Run one random action, and count it."""
        action = self._chance.choice(self._actions)
        await action()
        self.done[action.__name__] += 1

    async def chat(self) -> None:
        reply = await self._request(CHAT, self._chat_body())
        assert reply["choices"][0]["finish_reason"] in ("stop", "length")

    async def stream(self) -> None:
        status, _, lines = await self._client.request(CHAT, {**self._chat_body(), "stream": True}, owner=self._owner)
        assert status == 200, lines[:300]
        assert lines.rstrip().endswith(b"data: [DONE]")

    async def disconnect(self) -> None:
        """Close the connection in the middle of an answer."""
        async with self._client.open_stream(self._chance.choice(["chat", "responses", "interactive"]), self._owner):
            pass

    async def tokenize(self) -> None:
        text = random_message(self._chance)
        ids = (await self._request("/tokenize", {"model": "demo", "prompt": text, "add_special_tokens": False}))[
            "tokens"
        ]
        assert (await self._request("/detokenize", {"model": "demo", "tokens": ids}))["prompt"] == text
        assert (await self._request("/v1/encode", {"input": text, "add_bos": False}))["input_ids"] == ids

    async def send_bad_request(self) -> None:
        """Send a request that must be refused."""
        path, body, expected = self._chance.choice(BAD_BODIES)
        status, _, reply = await self._client.request(path, body, owner=self._owner)
        assert status in (expected, 422), (path, body, status, reply[:300])
        assert b"Traceback" not in reply

    async def send_wrong_key(self) -> None:
        key = {"Authorization": "Bearer wrong"} if self._chance.random() < 0.5 else {}
        assert (await self._client.request(CHAT, self._chat_body(), headers=key))[0] == 401

    async def hold_conversation(self) -> None:
        """Have a conversation: one answer whole, one streamed."""
        conversation = await self._request("/v1/conversations", {"metadata": {"topic": "soak"}})
        body = {"model": "demo", "conversation": conversation["id"], "max_output_tokens": NUM_TOKENS}
        reply = await self._request("/v1/responses", {**body, "input": random_message(self._chance)})
        assert reply["status"] in ("completed", "incomplete")
        streamed = {**body, "input": random_message(self._chance), "stream": True}
        status, _, events = await self._client.request("/v1/responses", streamed, owner=self._owner)
        assert (status, b"event: response.completed" in events) == (200, True), events[-500:]
        items = await self._request(f"/v1/conversations/{conversation['id']}/items?limit=100")
        assert sum(item.get("role") == "user" for item in items["data"]) == 2

    async def use_session(self) -> None:
        body = {"prompt": random_message(self._chance), "interactive_mode": True, "request_output_len": NUM_TOKENS}
        first = await self._request("/v1/chat/interactive", body)
        session = {"session_id": first["session_id"]}
        second = await self._request("/v1/chat/interactive", {**body, **session})
        assert second["history_tokens"] > 0
        end = {"prompt": "", "interactive_mode": False, "request_output_len": 0, **session}
        await self._request("/v1/chat/interactive", end)

    async def list_and_search(self) -> None:
        """List and search."""
        assert (await self._request("/v1/conversations?limit=20"))["object"] == "list"
        await self._request(f"/v1/conversations?q={random_message(self._chance).split()[0]}")
        await self._request("/v1/store/search?text=number&limit=50")
        await self._request("/v1/store/find?words=number&limit=50")

    async def export(self) -> None:
        """Load whole conversations, as an export does."""
        for line in (await self._request("/v1/store/conversations?limit=5"))["data"]:
            document = await self._request(f"/v1/store/conversations/{line['id']}")
            assert document["conversation"]["id"] == line["id"]

    async def delete_old(self) -> None:
        """Delete all conversations but the latest."""
        for line in (await self._request("/v1/conversations?limit=100"))["data"][MAX_KEPT:]:
            await self._request(f"/v1/conversations/{line['id']}", method="DELETE")

    async def _request(self, path: str, body: Any = None, *, method: str = "") -> Any:
        status, _, reply = await self._client.request(path, body, owner=self._owner, method=method)
        assert status == 200, (path, body, status, reply[:500])
        return json.loads(reply)

    def _chat_body(self) -> dict[str, Any]:
        messages = [{"role": "user", "content": random_message(self._chance)}]
        return {"model": "demo", "messages": messages, "max_tokens": NUM_TOKENS}
