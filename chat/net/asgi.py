"""What applications that stand before another one share."""

from __future__ import annotations

from starlette.types import Message, Receive

__all__ = ["replay"]


def replay(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives a body that was read already, and then whatever the server says."""
    waiting = [body]

    async def receive_again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return receive_again
