"""Who asks, and what this process works with: what every route of ours begins with."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from fastapi import Request

from chat.store.local import LOCAL_OWNER, ConversationStore

if TYPE_CHECKING:
    from chat.server.api.prompts import PromptMaker
    from chat.server.api.turns import RunningTurns
    from chat.server.limits.places import Place

__all__ = ["cache_salt_of", "dropped_header", "owner_of", "place_of", "prompts_of", "store_of", "turns_of"]

DROPPED_HEADER = "X-Dropped-Turns"


def owner_of(request: Request) -> str:
    """Return whose request it is: the name of the key, as the guard found it; ``local`` on a server without keys."""
    return str(getattr(request.state, "owner", LOCAL_OWNER))


def cache_salt_of(request: Request) -> str | None:
    """Return what keeps the prefix cache of this owner apart from that of others, as the guard made it."""
    salt: str | None = getattr(request.state, "cache_salt", None)
    return salt


def place_of(request: Request) -> Place | None:
    """Return the request's place among those that the engine answers at once; None behind no guard."""
    return getattr(request.state, "place", None)


def store_of(request: Request) -> ConversationStore:
    """Return the store of this server's conversations. Its methods block: call them through ``asyncio.to_thread``."""
    store: ConversationStore = request.app.state.conversation_store
    return store


def turns_of(request: Request) -> RunningTurns:
    """Return the turns that this process is giving answers in."""
    turns: RunningTurns = request.app.state.conversation_turns
    return turns


def prompts_of(request: Request) -> PromptMaker:
    """Return what makes the prompts of stored conversations."""
    prompts: PromptMaker = request.app.state.conversation_prompts
    return prompts


def dropped_header(turns: Sequence[int]) -> dict[str, str]:
    """Return the header that names the turns which the window does not hold, in ranges; none if it holds all.

    >>> dropped_header([1, 2, 3, 7])
    {'X-Dropped-Turns': '1-3,7'}
    """
    if not turns:
        return {}
    starts = [turns[0], *(after for before, after in pairwise(turns) if after != before + 1)]
    ends = [*(before for before, after in pairwise(turns) if after != before + 1), turns[-1]]
    ranges = (str(start) if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))
    return {DROPPED_HEADER: ",".join(ranges)}
