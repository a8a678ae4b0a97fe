"""Who asks, and where conversations are kept: what every route of ours begins with."""

from __future__ import annotations

from fastapi import Request

from chat.store import LOCAL_OWNER, ConversationStore

__all__ = ["owner_of", "store_of"]


def owner_of(request: Request) -> str:
    """Return whose request it is: the name of the key, as the guard found it; ``local`` on a server without keys."""
    return str(getattr(request.state, "owner", LOCAL_OWNER))


def store_of(request: Request) -> ConversationStore:
    """Return the store of this server's conversations. Its methods block: call them through ``asyncio.to_thread``."""
    store: ConversationStore = request.app.state.conversation_store
    return store
