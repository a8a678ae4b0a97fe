"""The ASGI middleware in front of every path of the server.

``vllm serve MODEL --middleware chat.server.guard.Guard``
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chat.server.guard.middleware import Guard

__all__ = ["Guard"]


def __getattr__(name: str) -> Any:
    """Import the middleware only when it is used: its parts are imported without vLLM's metrics."""
    if name != "Guard":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from chat.server.guard.middleware import Guard

    return Guard
