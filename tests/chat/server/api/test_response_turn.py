"""A response is on disk before anybody sees it, and the engine does not wait for the disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

import pytest

from chat.conversations.conversation import Conversation
from chat.server.api.prompts import PromptMaker
from chat.server.api.response_turn import ResponseTurn
from chat.server.api.turns import RunningTurns
from chat.server.settings.retention import ServedSettings
from chat.store.local import ConversationStore
from chatcore.errors import StoreError
from chatcore.models.hub import DEMO_MODEL_DIR
from prompt_utils import PromptBuilder

RESPONSE_ID = "0123456789abcdef01234567"


class Event:
    """An event as vLLM's serving object gives it."""

    def __init__(self, **fields: Any) -> None:
        self._fields = fields

    def model_dump(self, **_: Any) -> dict[str, Any]:
        return dict(self._fields)


class Engine:
    """vLLM's serving object with an answer of one word, or of words without end.

    ``works`` once it is asked for more than that it has begun; ``ended`` once nobody asks for more.
    """

    def __init__(self, *, is_endless: bool = False) -> None:
        self._is_endless = is_endless
        self.works = threading.Event()
        self.ended = threading.Event()

    async def create_responses(self, *_: Any) -> AsyncIterator[Event]:
        return self._events()

    async def _events(self) -> AsyncIterator[Event]:
        body = {"id": f"resp_{RESPONSE_ID}", "status": "in_progress", "output": [], "usage": None}
        yield Event(type="response.created", response=body)
        self.works.set()
        try:
            yield Event(type="response.output_text.delta", delta="Hi!")
            while self._is_endless:
                await asyncio.sleep(0.01)
                yield Event(type="response.output_text.delta", delta=" Hi!")
        finally:
            self.ended.set()
        usage = {"input_tokens": 3, "output_tokens": 1}
        yield Event(type="response.completed", response={**body, "status": "completed", "usage": usage})


class Fixture:
    """A turn that is about to begin, on a store in memory."""

    def __init__(self, *, stream: bool = True, background: bool = False) -> None:
        from vllm.entrypoints.openai.responses.protocol import ResponsesRequest

        self.store = ConversationStore.in_memory()
        self.engine = Engine(is_endless=background)
        builder = PromptBuilder.from_pretrained(DEMO_MODEL_DIR)
        self.turns = RunningTurns(self.store, ServedSettings(), builder.stop_token_ids)
        self.conversation = self.store.create()
        state = SimpleNamespace(conversation_prompts=PromptMaker(builder, 512), openai_serving_responses=self.engine)
        self._raw_request = SimpleNamespace(app=SimpleNamespace(state=state), state=SimpleNamespace())
        self._request = ResponsesRequest(model="demo", input="Hello!", stream=stream, background=background)

    async def begin(self) -> ResponseTurn:
        from chat.server.api.items import messages_of

        turn = await self.turns.open(self.conversation.id, owner="local")
        response = ResponseTurn(self._request, self._raw_request, turn, RESPONSE_ID)  # type: ignore[arg-type]
        assert await response.begin(messages_of(self._request.input)) is None
        return response

    def kept(self) -> Conversation:
        return self.store.load(self.conversation.id)


def slow_disk(monkeypatch: pytest.MonkeyPatch, store: ConversationStore) -> threading.Event:
    """Let the response get into the store once the returned event is set."""
    go_on, add = threading.Event(), store.served.add_response

    def add_slowly(*arguments: Any, **options: Any) -> None:
        assert go_on.wait(20)
        add(*arguments, **options)

    monkeypatch.setattr(store.served, "add_response", add_slowly)
    return go_on


def test_engine_runs_during_the_write_and_no_event_comes_before_it_ends(monkeypatch):
    async def check() -> list[str]:
        fixture = Fixture()
        go_on = slow_disk(monkeypatch, fixture.store)
        response = await fixture.begin()
        assert [message.content for message in fixture.kept().path()] == ["Hello!"]
        async with aclosing(response.events()) as events:
            first = asyncio.ensure_future(anext(events))
            assert await asyncio.to_thread(fixture.engine.works.wait, 20)
            await asyncio.sleep(0.1)
            assert not first.done()
            go_on.set()
            kinds = [(await first)["type"], *[event["type"] async for event in events]]
        found = await asyncio.to_thread(fixture.store.served.find_response, RESPONSE_ID, owner="local")
        assert found.body["status"] == "completed"
        assert [message.content for message in fixture.kept().path()] == ["Hello!", "Hi!"]
        return kinds

    assert asyncio.run(check()) == ["response.created", "response.output_text.delta", "response.completed"]


@pytest.mark.parametrize("stream", [True, False])
def test_a_response_that_cannot_be_kept_is_not_shown(monkeypatch, stream):
    def fail(*_: Any, **__: Any) -> None:
        raise StoreError("the disk is full")

    async def check() -> list[str]:
        fixture = Fixture(stream=stream)
        monkeypatch.setattr(fixture.store.served, "add_response", fail)
        response = await fixture.begin()
        async with aclosing(response.events()) as events:
            return [event["type"] async for event in events]

    if stream:
        assert asyncio.run(check()) == ["response.failed"]
    else:
        with pytest.raises(StoreError, match="the disk is full"):
            asyncio.run(check())


def test_a_background_response_that_cannot_be_stored_is_aborted(monkeypatch):
    def fail(*_: Any, **__: Any) -> None:
        raise StoreError("the disk is full")

    async def check() -> None:
        fixture = Fixture(stream=False, background=True)
        monkeypatch.setattr(fixture.store.served, "add_response", fail)
        response = await fixture.begin()
        with pytest.raises(StoreError, match="the disk is full"):
            await anext(response.events())
        assert await asyncio.to_thread(fixture.engine.ended.wait, 20)
        while fixture.turns.running:
            await asyncio.sleep(0.01)

    asyncio.run(check())


def test_who_leaves_before_the_disk_has_answered_loses_nothing(monkeypatch):
    async def check() -> None:
        fixture = Fixture()
        go_on = slow_disk(monkeypatch, fixture.store)
        response = await fixture.begin()
        reading = asyncio.ensure_future(anext(response.events()))
        assert await asyncio.to_thread(fixture.engine.works.wait, 20)
        reading.cancel()
        go_on.set()
        while fixture.turns.running:
            await asyncio.sleep(0.01)
        found = await asyncio.to_thread(fixture.store.served.find_response, RESPONSE_ID, owner="local")
        assert found.body["status"] in ("completed", "cancelled")
        assert fixture.kept().path()[0].content == "Hello!"

    asyncio.run(check())
