"""A server that is asked for twice what it can answer; clients that leave all at once; conversations that lie still."""

from __future__ import annotations

import asyncio
import contextlib
import random
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.reliability import scale
from tests.reliability.load.client import LIMITS, NUM_CLIENTS, LoadClient, Outcome, owner_of, percentile
from tests.reliability.load.monitor import Monitor, cpu_seconds, server_processes

SEED = 10
MAX_REQUESTS = LIMITS["--max-requests"]
NUM_TOKENS = 8  # of an answer: as many requests as possible
WARM_S = scale.scaled(20, 1)
CAPACITY_S = scale.scaled(30, 3)
LOAD_S = scale.scaled(600, 8)
KINDS = ("chat",) * 5 + ("streamed",) * 3 + ("responses", "interactive")
# Who sends how much: one owner wants more than the whole server can do, the others nearly as much together.
SHARES = {"alice": 0.6, "bob": 0.2, "local": 0.2}
RECOVERS_WITHIN_S = 10.0
ENDS_WITHIN_S = 60.0
OVERLOAD = scale.scaled(2, 3)  # times the capacity; the short run measures that for a moment, and too low
# Requests that are taken wait for those that were taken before them. The factor is for others on the machine; a turn
# of a kept conversation goes through the store besides, which has one writer, and takes twice as long as a chat.
LATENCY_FACTORS = {"chat": 3, "streamed": 3, "responses": 6, "interactive": 6}
NUM_SLOWEST = 12  # answers that are shown one by one
LEAVING_KINDS = ("chat", "chat", "responses", "interactive")
GONE_WITHIN_S = 1
NUM_IDLE = scale.scaled(1000, 150)
IDLE_S = scale.scaled(30, 2)
# Of a process: what a run may add once caches are full. Python and malloc keep some of what was used once.
ALLOWED_GROWTH = {"rss_mb": scale.bound(16), "descriptors": scale.bound(32), "threads": scale.bound(8)}


# -- twice the capacity ------------------------------------------------------------------------------------------------


def test_twice_the_capacity_is_refused_with_429_and_503_and_recovered_from(busy_server):
    asyncio.run(_overload(busy_server))


async def _overload(server):
    chance = random.Random(SEED)
    async with LoadClient(server) as client:
        await _closed_loop(client, chance, WARM_S)
        alone_s = await _unloaded_latency(client)
        capacity = await _closed_loop(client, chance, CAPACITY_S)
        with Monitor(server_processes(server), interval_s=scale.scaled(5, 1)) as monitor:
            under_way, load_s = await _open_loop(client, chance, rate=OVERLOAD * capacity)
            recovered_s = await _recover(client, alone_s)
            outcomes = await asyncio.gather(*under_way)
        await client.wait_until(lambda: _is_empty(client), ENDS_WITHIN_S)
    figures = _figures(outcomes, capacity, alone_s, load_s) | {
        "recovered_s": round(recovered_s, 1),
        "held": monitor.figures(),
    }
    scale.keep("load", figures)
    faults = Counter(outcome.fault for outcome in outcomes if outcome.fault)
    assert not faults, f"seed {SEED}: {faults.most_common(5)}"
    assert figures["refused_429"] > 0
    assert figures["refused_503"] > 0
    for kind, answered_ms in figures["answered_ms_by_kind"].items():
        assert answered_ms["max"] <= scale.bound(figures["answered_within_ms"][kind]), kind
    assert figures["refused_ms"]["p99"] <= scale.bound(2000)  # those who ask share two cores with the server
    assert recovered_s <= scale.bound(RECOVERS_WITHIN_S)
    assert monitor.excess_growth(ALLOWED_GROWTH) == []


async def _closed_loop(client: LoadClient, chance: random.Random, for_s: float) -> float:
    """Keep the server full for some time; return how many requests it answers a second."""
    until_s = time.monotonic() + for_s

    async def worker(number: int) -> int:
        num_answers = 0
        while time.monotonic() < until_s:
            outcome = await client.measure(chance.choice(KINDS), owner_of(number), NUM_TOKENS)
            assert (outcome.status, outcome.fault) == (200, "")
            num_answers += 1
        return num_answers

    begun_s = time.monotonic()
    answers = await asyncio.gather(*(worker(number) for number in range(NUM_CLIENTS)))
    return sum(answers) / (time.monotonic() - begun_s)


async def _unloaded_latency(client: LoadClient) -> float:
    """Return how long one request takes when there is no other."""
    return statistics.median([(await client.measure("chat", "local", NUM_TOKENS)).latency_s for _ in range(5)])


async def _open_loop(
    client: LoadClient, chance: random.Random, *, rate: float
) -> tuple[Sequence[asyncio.Task[Outcome]], float]:
    """Send requests at a rate, whatever becomes of those before; return them as they are under way."""
    tasks = []
    begun_s = next_s = time.monotonic()
    while next_s - begun_s < LOAD_S:
        await asyncio.sleep(max(0.0, next_s - time.monotonic()))
        owner = chance.choices(list(SHARES), list(SHARES.values()))[0]
        tasks.append(asyncio.create_task(client.measure(chance.choice(KINDS), owner, NUM_TOKENS)))
        next_s += chance.expovariate(rate)
    return tasks, time.monotonic() - begun_s


async def _recover(client: LoadClient, alone_s: float) -> float:
    """Return how long after the load a new request is answered as fast as before it."""
    ended_s = time.monotonic()
    while time.monotonic() - ended_s < 3 * RECOVERS_WITHIN_S:
        outcome = await client.measure("chat", "local", NUM_TOKENS)
        if outcome.status == 200 and outcome.latency_s < 2 * alone_s + 0.5:
            break
        await asyncio.sleep(0.1)
    return time.monotonic() - ended_s


async def _is_empty(client: LoadClient) -> bool:
    return not await client.num_engine_requests() and not await client.metric("vllm_deploy_requests_in_flight")


def _figures(outcomes: Sequence[Outcome], capacity: float, alone_s: float, load_s: float) -> dict[str, Any]:
    answered = [outcome for outcome in outcomes if outcome.status == 200]
    refused = [outcome for outcome in outcomes if outcome.status in (429, 503)]
    begun_s = outcomes[0].sent_at_s
    halves_s = begun_s + load_s / 2
    answered_per_s = sum(outcome.sent_at_s + outcome.latency_s < begun_s + load_s for outcome in answered) / load_s
    return {
        "load_s": round(load_s),
        "seed": SEED,
        "places": MAX_REQUESTS,
        "capacity_per_s": round(capacity, 1),
        "sent_per_s": round(len(outcomes) / load_s, 1),
        "sent": len(outcomes),
        "answered": len(answered),
        "answered_per_s": round(answered_per_s, 1),
        "refused_429": sum(outcome.status == 429 for outcome in refused),
        "refused_503": sum(outcome.status == 503 for outcome in refused),
        "faults": sum(bool(outcome.fault) for outcome in outcomes),
        "alone_ms": round(alone_s * 1000),
        "answered_ms": _spread([outcome.latency_s for outcome in answered]),
        "answered_ms_by_kind": {
            kind: _spread([outcome.latency_s for outcome in answered if outcome.kind == kind])
            for kind in sorted({outcome.kind for outcome in answered})
        },
        "slowest": [
            {"kind": outcome.kind, "at_s": round(outcome.sent_at_s - begun_s, 1), "ms": round(outcome.latency_s * 1000)}
            for outcome in sorted(answered, key=lambda outcome: -outcome.latency_s)[:NUM_SLOWEST]
        ],
        "answered_ms_by_halves": [
            _spread([outcome.latency_s for outcome in answered if (outcome.sent_at_s < halves_s) is first])["p50"]
            for first in (True, False)
        ],
        "answered_within_ms": {
            kind: round(factor * MAX_REQUESTS / answered_per_s * 1000) for kind, factor in LATENCY_FACTORS.items()
        },
        "refused_ms": _spread([outcome.latency_s for outcome in refused]),
    }


def _spread(values_s: Sequence[float]) -> dict[str, int]:
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(percentile(values_s, share) * 1000) for name, share in shares.items()}


# -- all leave at once -------------------------------------------------------------------------------------------------


def test_disconnecting_two_hundred_streams_frees_the_engine(busy_server):
    asyncio.run(_disconnect(busy_server))


async def _disconnect(server):
    async with LoadClient(server) as client, contextlib.AsyncExitStack() as leaving:
        kinds = (LEAVING_KINDS[number % len(LEAVING_KINDS)] for number in range(NUM_CLIENTS))
        streams = [client.open_stream(kind, owner_of(number)) for number, kind in enumerate(kinds)]
        await asyncio.gather(*(leaving.enter_async_context(stream) for stream in streams))
        assert await client.num_engine_requests() == NUM_CLIENTS
        await leaving.aclose()

        async def is_idle() -> bool:
            return not await client.num_engine_requests()

        gone_s = await client.wait_until(is_idle, ENDS_WITHIN_S)
        await client.wait_until(lambda: _is_empty(client), ENDS_WITHIN_S)

        async def is_kept() -> bool:
            return not await client.metric("vllm_deploy_conversations_open")

        kept_s = gone_s + await client.wait_until(is_kept, ENDS_WITHIN_S)
    scale.keep("leaving", {"clients": NUM_CLIENTS, "gone_s": round(gone_s, 2), "kept_s": round(kept_s, 2)})
    assert gone_s <= scale.bound(GONE_WITHIN_S)


def test_a_background_response_keeps_its_place_until_it_has_ended(busy_server):
    asyncio.run(_background(busy_server))


async def _background(server):
    async with LoadClient(server) as client:
        asked = {"model": "demo", "input": "Count.", "background": True, "max_output_tokens": 1500, "ignore_eos": True}
        status, _, content = await client.request("/v1/responses", asked)
        assert status == 200, content
        assert await client.metric("vllm_deploy_requests_in_flight") == 1
        response_id = content.decode().split('"id":"')[1].split('"')[0]
        assert (await client.request(f"/v1/responses/{response_id}/cancel", {}))[0] == 200
        await client.wait_until(lambda: _is_empty(client), ENDS_WITHIN_S)


# -- conversations that lie still --------------------------------------------------------------------------------------


def test_idle_conversations_cost_nothing(busy_server):
    asyncio.run(_idle(busy_server))


async def _idle(server):
    processes = server_processes(server)
    async with LoadClient(server) as client:
        await _start_sessions(client, range(100))  # pools and caches fill with the first ones
    before = await _idle_usage(processes)
    async with LoadClient(server) as client:
        await _start_sessions(client, range(NUM_IDLE))
    after = await _idle_usage(processes)
    cost = {name: round(after[name] - before[name], 3) for name in before}
    scale.keep("idle", {"conversations": NUM_IDLE, "before": before, "after": after, "cost": cost})
    assert cost["rss_mb"] <= scale.bound(32)
    assert cost["threads"] <= 8
    assert cost["descriptors"] <= 20  # the pool of the store grows to five connections, of three files each
    assert cost["cpu_share"] <= scale.bound(0.05)


async def _start_sessions(client: LoadClient, numbers: range) -> None:
    """Begin sessions with a turn each; the short run begins most of them without an answer."""
    turns = asyncio.Semaphore(32)

    async def start(number: int) -> None:
        async with turns:
            if number % scale.scaled(1, 20) == 0:
                outcome = await client.measure("interactive", owner_of(number), 1)
                assert (outcome.status, outcome.fault) == (200, "")
            else:
                content = [{"type": "message", "role": "user", "content": f"This is conversation {number}."}]
                assert (await client.request("/v1/conversations", {"items": content}, owner=owner_of(number)))[0] == 200

    await asyncio.gather(*(start(number) for number in numbers))


async def _idle_usage(processes) -> dict[str, float]:
    """Return what the processes hold, all together, and how much of a core they need for nothing."""
    await asyncio.sleep(0.5)
    _, held = Monitor(processes, interval_s=1).sample()
    begun_s, used_s = time.monotonic(), cpu_seconds(processes)
    await asyncio.sleep(IDLE_S)
    share = (cpu_seconds(processes) - used_s) / (time.monotonic() - begun_s)
    units = ("rss_mb", "descriptors", "threads")
    sums = {unit: sum(value for name, value in held.items() if name.endswith(unit)) for unit in units}
    return {"cpu_share": round(share, 3), **{unit: round(value, 1) for unit, value in sums.items()}}
