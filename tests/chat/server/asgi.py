"""ASGI without a server: requests as a server would hand them on, to the byte."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from chat.server.guard.middleware import Guard
from chat.server.settings.guard import GuardSettings

__all__ = ["Reply", "Routes", "ask", "guard_with"]


@dataclass
class Reply:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]


class Routes:
    """What stands behind the guard: it keeps what reached it, and answers."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope, receive, send):
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    @property
    def json(self) -> dict[str, Any]:
        """The body that reached the routes last."""
        return json.loads(self.bodies[-1])


def guard_with(
    tmp_path, routes=None, *, keys="alice: alice-secret\nbob: bob-secret\nlocal-secret\n", **settings
) -> Guard:
    """Return a guard in front of the routes, with a file of keys."""
    file = tmp_path / "keys"
    file.write_text(keys)
    return Guard(routes or Routes(), GuardSettings(key_file=str(file), **settings), own_paths=())


def ask(
    guard,
    path="/v1/chat/completions",
    body=None,
    *,
    method="POST",
    key="alice-secret",
    headers=(),
    pieces=None,
    **scope,
) -> Reply:
    """Send one request; ``body`` is JSON or bytes, ``pieces`` a body in several messages."""
    if isinstance(body, dict):
        body = json.dumps(body).encode()
    waiting = list(pieces if pieces is not None else [body or b""])
    sent = [(b"authorization", f"Bearer {key}".encode())] if key else []
    sent += list(headers)
    if body and pieces is None and not any(name == b"content-length" for name, _ in sent):
        sent.append((b"content-length", str(len(body)).encode()))
    reply = Reply()

    async def receive():
        if not waiting:
            return {"type": "http.disconnect"}
        piece = waiting.pop(0)
        if piece is None:
            await asyncio.sleep(3600)
        return {"type": "http.request", "body": piece, "more_body": bool(waiting)}

    async def send(message):
        if message["type"] == "http.response.start":
            reply.status = message["status"]
            reply.headers = {name.decode().lower(): value.decode() for name, value in message["headers"]}
        else:
            reply.body += message.get("body", b"")

    request = {"type": "http", "method": method, "path": path, "root_path": "", "query_string": b"", "headers": sent}
    asyncio.run(guard({**request, **scope}, receive, send))
    return reply
