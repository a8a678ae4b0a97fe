"""Many clients of a server in one loop: one session for all, since two hundred would take seconds to make."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.serving import OWNERS, RunningServer

__all__ = ["LIMITS", "NUM_CLIENTS", "LoadClient", "Outcome", "make_request", "owner_of", "percentile"]

NUM_CLIENTS = 200  # that are answered at once
# The prompt cache is small, so that it is emptied and filled again many times in a run: what still grows is none of it.
LIMITS = {
    "--max-num-seqs": NUM_CLIENTS,
    "--max-requests": 210,
    "--max-requests-per-owner": 100,
    "--prompt-cache-mb": 4,
}
LONG_ANSWER_TOKENS = 1800  # tokens: minutes, when two hundred are answered at once
REQUEST_TIMEOUT_S = 90.0  # a request that takes longer would never end


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request.

    Attributes:
        status: of the reply; 0: there was none.
        sent_at_s: on the clock of ``time.monotonic``.
        fault: what is wrong with the reply; empty: nothing.
    """

    kind: str
    owner: str
    status: int
    sent_at_s: float
    latency_s: float
    fault: str = ""


class LoadClient:
    """Clients of one server, in an ``async with`` block."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server

    async def __aenter__(self) -> LoadClient:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_S)
        self.http = aiohttp.ClientSession(self.server.url, connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.close()
        await asyncio.sleep(0)

    async def request(
        self, path: str, body: Any = None, *, owner: str = "local", method: str = "", headers: Any = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers (in lower case) and body of one reply; a body of bytes is sent as it is."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        sent = {**self.server.headers(owner), "Content-Type": "application/json"} if headers is None else headers
        async with self.http.request(
            method or ("GET" if data is None else "POST"), path, data=data, headers=sent
        ) as reply:
            return reply.status, {name.lower(): value for name, value in reply.headers.items()}, await reply.read()

    async def measure(self, kind: str, owner: str, num_tokens: int) -> Outcome:
        """Send a request for a short answer, read all of it, and check it."""
        path, body = make_request(kind, num_tokens)
        sent_at_s, status = time.monotonic(), 0
        try:
            status, headers, content = await self.request(path, body, owner=owner)
            fault = _find_fault(kind, status, headers, content, num_tokens)
        except TimeoutError:
            fault = "it hangs"
        except aiohttp.ClientError as error:
            fault = f"the connection broke: {error!r}"
        return Outcome(kind, owner, status, sent_at_s, time.monotonic() - sent_at_s, fault)

    @contextlib.asynccontextmanager
    async def open_stream(self, kind: str, owner: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """Give a long streamed answer that has begun to arrive; the end of the block closes the connection."""
        path, body = make_request(kind, LONG_ANSWER_TOKENS)
        reply = await self.http.post(path, json={**body, "stream": True}, headers=self.server.headers(owner))
        try:
            assert reply.status == 200, await reply.text()
            async for line in reply.content:
                if b"delta" in line or b'"tokens":' in line:
                    break
            yield reply
        finally:
            reply.close()

    async def metric(self, name: str) -> float:
        """Return the sum over a metric's lines whose name and labels begin so."""
        text = (await self.request("/metrics"))[2].decode()
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

    async def num_engine_requests(self) -> float:
        """Return how many requests the engine has, running or waiting."""
        return await self.metric("vllm:num_requests_running") + await self.metric("vllm:num_requests_waiting{")

    async def wait_until(self, holds: Any, within_s: float) -> float:
        """Wait until a coroutine function gives something true; return how long it took."""
        begun_s = time.monotonic()
        while not await holds():
            assert time.monotonic() - begun_s < within_s, f"not within {within_s} s"
            await asyncio.sleep(0.05)
        return time.monotonic() - begun_s


def make_request(kind: str, num_tokens: int) -> tuple[str, dict[str, Any]]:
    """Return path and body of a request for an answer of so many tokens."""
    content = "Count from 1 to 100."
    if kind == "responses":
        return "/v1/responses", {"model": "demo", "input": content, "max_output_tokens": num_tokens, "ignore_eos": True}
    if kind == "interactive":
        return "/v1/chat/interactive", {
            "prompt": content,
            "interactive_mode": True,
            "request_output_len": num_tokens,
            "ignore_eos": True,
        }
    body = {"model": "demo", "messages": [{"role": "user", "content": content}], "max_tokens": num_tokens}
    return "/v1/chat/completions", {**body, "ignore_eos": True, "stream": kind == "streamed"}


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def owner_of(number: int) -> str:
    """Return an owner for a client by its number: all have equally many."""
    return OWNERS[number % len(OWNERS)]


def _find_fault(kind: str, status: int, headers: dict[str, str], content: bytes, num_tokens: int) -> str:
    """Return what is wrong with a reply: it must be whole, or refuse in good order."""
    if status in (429, 503):
        error = json.loads(content)["error"]
        known = {429: "rate_limit_exceeded", 503: "server_busy"}[status]
        return "" if error["code"] == known and headers.get("retry-after") == "1" else f"refused with {error}"
    if status != 200:
        return f"status {status}: {content[:200]!r}"
    if kind == "streamed":
        return "" if content.rstrip().endswith(b"data: [DONE]") else f"the stream broke off: {content[-200:]!r}"
    reply = json.loads(content)
    got = {"responses": lambda: reply["usage"]["output_tokens"], "interactive": lambda: reply["tokens"]}
    num_got = got.get(kind, lambda: reply["usage"]["completion_tokens"])()
    return "" if num_got == num_tokens else f"{num_got} tokens of {num_tokens}"
