"""The parts of bench_serve.py that talk turn by turn: long histories from many clients, and kept conversations."""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from benchmarks.bench_prompt import turns
from benchmarks.report import spread
from benchmarks.serve_load import Answer, Asker
from benchmarks.servers import OURS, STOCK, Served, processor_s
from chat.server.api.conversations import MAX_ITEMS

__all__ = ["measure_kept", "measure_long"]

NUM_CLIENTS = 8
NUM_HISTORY_TOKENS = 18_000
TOKENS_OF_A_TURN = 230  # Qwen's, in bench_prompt.turns
NUM_TURNS = 12  # of each client in a round
NUM_TOKENS = 16  # of each answer
WANTED = {"requests_per_s": 1.2, "p95_e2el_ms": 0.8, "turn_50_ttft": 0.6}
Messages = list[dict[str, Any]]
TIMED_TURNS = range(40, 61)  # the first two of them fill the caches
KEPT = "conversation"
FIGURES = ("requests_per_s", "p95_e2el_ms", "processor_ms_per_request", "processor_ms_per_request_of_http")
FIRST_QUESTION = "What was the first thing that I asked you?"


def new_session() -> aiohttp.ClientSession:
    """Return connections that bear slow servers and long lines."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(600), read_bufsize=1 << 20)


# -- long histories ----------------------------------------------------------------------------------------------------


async def measure_long(servers: dict[str, Served], num_rounds: int) -> dict[str, Any]:
    """Return requests per second and latencies of clients that send long conversations whole."""
    found: dict[str, dict[str, list[float]]] = {name: {figure: [] for figure in FIGURES} for name in servers}
    async with new_session() as session:
        talks = {
            name: [Talk(Asker(session, server), number) for number in range(NUM_CLIENTS)]
            for name, server in servers.items()
        }
        for name in servers:  # reads the histories into the caches
            await asyncio.gather(*(talk.go_on(2) for talk in talks[name]))
        for round_number in range(num_rounds):
            for name in sorted(servers, reverse=bool(round_number % 2)):
                began_s, used = time.perf_counter(), processor_s(servers[name])
                answers = await asyncio.gather(*(talk.go_on(NUM_TURNS) for talk in talks[name]))
                taken = [answer.e2el_ms for answer in itertools.chain(*answers)]
                seconds = time.perf_counter() - began_s
                spent = {kind: after - used[kind] for kind, after in processor_s(servers[name]).items()}
                values = (
                    len(taken) / seconds,
                    statistics.quantiles(taken, n=20, method="inclusive")[-1],
                    sum(spent.values()) * 1000 / len(taken),
                    spent["http"] * 1000 / len(taken),
                )
                for figure, value in zip(FIGURES, values, strict=True):
                    found[name][figure].append(value)
    print(f"{NUM_CLIENTS} clients with {NUM_HISTORY_TOKENS} tokens of history")
    result = {name: told(name, found[OURS][name], found[STOCK][name]) for name in found[OURS]}
    result["requests_per_s"]["wanted_at_least"] = WANTED["requests_per_s"]
    result["p95_e2el_ms"]["wanted_at_most"] = WANTED["p95_e2el_ms"]
    return result


class Talk:
    """One client's conversation, which it keeps itself and sends whole."""

    def __init__(self, asker: Asker, number: int) -> None:
        self._asker = asker
        self._source = turns(random.Random(number))
        self._messages: Messages = [{"role": "system", "content": f"You are the assistant of client {number}."}]
        for _ in range(NUM_HISTORY_TOKENS // TOKENS_OF_A_TURN):
            self._messages += next(self._source)

    async def go_on(self, num_turns: int) -> list[Answer]:
        """Have some more turns."""
        answers = []
        for _ in range(num_turns):
            self._messages.append(next(self._source)[0])
            answers.append(await self._asker.chat(self._messages, NUM_TOKENS))
            self._messages.append({"role": "assistant", "content": answers[-1].text})
        return answers


# -- a conversation that the server keeps ------------------------------------------------------------------------------


async def measure_kept(servers: dict[str, Served]) -> dict[str, Any]:
    """Return the time to the first token around turn 50, and how many bytes were sent."""
    async with new_session() as session:
        ours, stock = Asker(session, servers[OURS]), Asker(session, servers[STOCK])
        ways = {
            KEPT: await kept(ours, past("kept", TIMED_TURNS.start)),
            "stateless, ours": stateless(ours, past("ours", TIMED_TURNS.start)),
            "stateless, stock vLLM": stateless(stock, past("stock", TIMED_TURNS.start)),
        }
        first_turns = {KEPT: await kept(ours, []), **{name: stateless(ours, []) for name in ways if name != KEPT}}
        first_bytes = {name: (await ask(FIRST_QUESTION)).num_request_bytes for name, ask in first_turns.items()}
        times: dict[str, list[float]] = {name: [] for name in ways}
        sizes: dict[str, int] = {}
        source = turns(random.Random(7))
        for turn in TIMED_TURNS:
            question = next(source)[0]["content"]
            for name in random.Random(turn).sample(list(ways), len(ways)):
                answer = await ways[name](FIRST_QUESTION if turn == 50 else question)
                if turn == 50:
                    sizes[name] = answer.num_request_bytes
                if turn > TIMED_TURNS.start + 1:  # the first two fill the caches
                    times[name].append(answer.ttft_ms)
    return tell_kept(times, first_bytes, sizes)


def tell_kept(times: dict[str, list[float]], first_bytes: dict[str, int], sizes: dict[str, int]) -> dict[str, Any]:
    print("around turn 50: ms to the first token; bytes sent to ask the same in turn 1 and in turn 50")
    for name, values in times.items():
        shown = " ".join(f"{value:>8.1f}" for value in spread(values).values())
        print(f"  {name:<24} {shown}   {first_bytes[name]:>8} {sizes[name]:>8}")
    peers = [name for name in times if name != KEPT]
    ratios = {
        f"over {peer}": spread([one / other for one, other in zip(times[KEPT], times[peer], strict=True)])
        for peer in peers
    }
    for name, ratio in ratios.items():
        print(f"  {name:<32} {ratio['median']:.3f}  wanted {WANTED['turn_50_ttft']}")
    return {
        "ttft_ms": {name: spread(values, 1) for name, values in times.items()},
        "request_bytes_in_turn_1": first_bytes,
        "request_bytes_in_turn_50": sizes,
        "ratios": ratios,
        "wanted_at_most": WANTED["turn_50_ttft"],
    }


def past(name: str, num_turns: int) -> Messages:
    """Return the turns before; the name in the first keeps a conversation apart from the others in the cache."""
    source = turns(random.Random(6))
    messages = [dict(message) for _ in range(num_turns) for message in next(source)]
    messages[0]["content"] = f"{name}: {messages[0]['content']}"
    return messages


async def kept(asker: Asker, messages: Messages) -> Callable[[str], Awaitable[Answer]]:
    """Return a client of a conversation that the server keeps: it sends a question and nothing else."""
    path = "/v1/conversations"
    conversation_id = (await asker.post(path, {}))["id"]
    for start in range(0, len(messages), MAX_ITEMS):
        await asker.post(f"{path}/{conversation_id}/items", {"items": messages[start : start + MAX_ITEMS]})

    async def ask(question: str) -> Answer:
        return await asker.respond(question, NUM_TOKENS, conversation=conversation_id)

    return ask


def stateless(asker: Asker, messages: Messages) -> Callable[[str], Awaitable[Answer]]:
    """Return a client that keeps the conversation itself and sends all of it."""

    async def ask(question: str) -> Answer:
        messages.append({"role": "user", "content": question})
        answer = await asker.respond(messages, NUM_TOKENS, store=False)
        messages.append({"role": "assistant", "content": answer.text})
        return answer

    return ask


def told(name: str, ours: list[float], stock: list[float]) -> dict[str, Any]:
    """Print and return both servers' figures, and the ratio round by round."""
    ratios = [one / other for one, other in zip(ours, stock, strict=True)]
    for label, values in ((OURS, ours), (STOCK, stock), ("ratio", ratios)):
        shown = " ".join(f"{value:>8.2f}" for value in spread(values).values())
        print(f"  {name:<34}{label:<11} {shown}", flush=True)
    return {OURS: spread(ours, 2), STOCK: spread(stock, 2), "ratio": spread(ratios)}
