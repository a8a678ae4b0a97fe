"""Answers of vLLM's own serving objects, as pieces for :mod:`chat.server.api.turns`."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi.responses import JSONResponse

from chat.server.api.turns import Piece
from chatcore.errors import EngineError

__all__ = ["Clock", "chat_pieces", "is_error", "refused"]


class Clock:
    """The times of one answer, from when it was asked for."""

    def __init__(self) -> None:
        self._started_s = time.perf_counter()
        self._first_s: float | None = None

    def first(self) -> None:
        """Note that something has come."""
        if self._first_s is None:
            self._first_s = time.perf_counter()

    def usage(self, *, prompt: int, cached: int, output: int, dropped_turns: int) -> dict[str, float]:
        """Return what the answer cost, under the names of :class:`chatcore.reply.Usage`."""
        now_s = time.perf_counter()
        return {
            "num_prompt_tokens": prompt,
            "num_cached_tokens": cached,
            "num_output_tokens": output,
            "ttft_ms": ((self._first_s or now_s) - self._started_s) * 1000,
            "e2el_ms": (now_s - self._started_s) * 1000,
            "dropped_turns": dropped_turns,
        }


def is_error(answer: Any) -> bool:
    """Tell whether vLLM refuses a request instead of answering it."""
    from chat.server.vllm_plugin.compatibility import ErrorResponse

    return isinstance(answer, ErrorResponse)


def refused(answer: Any) -> JSONResponse:
    """Return vLLM's own words for why it refuses a request."""
    return JSONResponse(answer.model_dump(mode="json", by_alias=True), answer.error.code)


async def chat_pieces(events: AsyncIterator[str], clock: Clock, *, dropped_turns: int = 0) -> AsyncIterator[Piece]:
    """Read the events of a streamed ``/v1/chat/completions`` that was asked for token ids and usage.

    Raises:
        EngineError: the engine failed.
    """
    finish_reason, usage = "stop", None
    async for event in events:
        data = event.removeprefix("data: ").strip()
        if not data.startswith("{"):  # [DONE], or a comment that keeps the connection alive
            continue
        chunk = json.loads(data)
        if "error" in chunk:
            raise EngineError(str(chunk["error"].get("message", "the engine failed")))
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            finish_reason = choice.get("finish_reason") or finish_reason
            delta = choice["delta"]
            text, reasoning = delta.get("content") or "", delta.get("reasoning") or ""
            token_ids = choice.get("token_ids") or ()
            if text or reasoning or token_ids:
                clock.first()
                yield Piece(text=text, reasoning=reasoning, token_ids=token_ids)
    yield Piece(finish_reason=finish_reason, usage=_usage(usage or {}, clock, dropped_turns))


def _usage(usage: Mapping[str, Any], clock: Clock, dropped_turns: int) -> dict[str, float]:
    return clock.usage(
        prompt=usage.get("prompt_tokens", 0),
        cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
        output=usage.get("completion_tokens", 0),
        dropped_turns=dropped_turns,
    )
