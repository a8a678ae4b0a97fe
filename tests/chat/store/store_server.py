"""The store's routes, and a model that only counts, on a real socket: a server that starts in no time and dies."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from chat.server.api import store_routes
from chat.server.api.turns import RunningTurns
from chat.server.settings.retention import ServedSettings
from chat.store.local import ConversationStore

OWNERS = {"key-of-local": "local", "key-of-bob": "bob"}
UNIT_S = 0.01


WORDS = [f"word{number} " for number in range(400)]
model_routes = APIRouter()


@model_routes.get("/v1/models")
def models() -> dict[str, Any]:
    return {"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "x"}]}


@model_routes.post("/v1/chat/completions")
async def chat(request: Request) -> StreamingResponse:
    """Say 400 words slowly to the word ``long``, and one word to all else."""
    said = (await request.json())["messages"][-1]["content"]

    async def chunks() -> AsyncIterator[str]:
        for word in WORDS if said == "long" else ["short"]:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
            yield f"data: {json.dumps(chunk)}\n\n"
            await asyncio.sleep(2 * UNIT_S)
        yield "data: [DONE]\n\n"

    return StreamingResponse(chunks(), media_type="text/event-stream")


class StoreServer:
    """A server whose conversations are in a store.

    Attributes:
        before: called with the path of each request.
        cuts: paths; the next request to one is done, and then the connection is cut instead of answering.
    """

    def __init__(self, store: ConversationStore) -> None:
        self.store = store
        self.before: Callable[[str], None] = lambda path: None
        self.cuts: dict[str, bool] = {}
        self.settings = ServedSettings()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/v1"
        self.start()

    def start(self) -> None:
        app = FastAPI()
        app.include_router(store_routes.router)
        app.include_router(model_routes)
        app.state.conversation_store = self.store
        app.state.conversation_turns = RunningTurns(self.store, self.settings)
        app.add_middleware(Keys, server=self)
        config = uvicorn.Config(app, port=self.port, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(UNIT_S)

    def stop(self) -> None:
        """Go away; conversations stay in the store."""
        self._server.should_exit = True
        self._server.force_exit = True
        self._thread.join()


class Keys:
    """As the guard does: find the owner by the key."""

    def __init__(self, app: Any, server: StoreServer) -> None:
        self.app, self.server = app, server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = dict(scope["headers"]).get(b"authorization", b"").decode().removeprefix("Bearer ")
        if given not in OWNERS:
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"no"})
            return
        scope.setdefault("state", {})["owner"] = OWNERS[given]
        self.server.before(scope["path"])
        if self.server.cuts.pop(scope["path"], False):
            await self.app(scope, receive, _drop)
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
            raise ConnectionResetError  # in the middle of an answer: uvicorn ends the connection
        await self.app(scope, receive, send)


async def _drop(message: Any) -> None:
    """Do not answer."""
