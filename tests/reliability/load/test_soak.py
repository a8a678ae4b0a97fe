"""A server and a program with the library, used in every way for long: nothing that they hold may grow."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator

import psutil
import pytest

from tests.program import ROOT
from tests.reliability import scale
from tests.reliability.load.client import LoadClient
from tests.reliability.load.generator import LoadGenerator
from tests.reliability.load.monitor import PROBE, Monitor, probe_environment, server_processes
from tests.reliability.load.prompts import CACHE_FILL_TOKENS, long_conversations
from tests.serving import RunningServer

SEED = 10
SOAK_S = scale.scaled(1200, 15)
# An owner, and if the generator keeps conversations: one for each owner, so that none deletes what another uses.
GENERATORS = (("alice", True), ("bob", True), ("alice", False), ("bob", False))
# From the first third of the run to its end, of each process, by the line through the samples. What is held: a leak of
# two hundred bytes a request would be more in a full run. What the system has given a process is more, by the free
# space between what lives, and that settles slowly.
ALLOWED_GROWTH = {
    "held_mb": scale.bound(4),
    "objects": scale.bound(20_000),
    "rss_mb": scale.bound(12),
    "descriptors": scale.bound(8),
    "threads": scale.bound(8),
    "mb": 8,
}
# SQLite puts the log back into the file when it holds a thousand pages; readers may put that off.
MAX_WAL_MB = 16.0


@pytest.fixture
def library_process(busy_server: RunningServer) -> Iterator[subprocess.Popen[str]]:
    """A process that uses the library, and the same store as the server, as a terminal on that machine does."""
    command = [sys.executable, "-m", "tests.reliability.load.library_load", str(busy_server.store)]
    output = busy_server.store.with_name("library.log").open("w")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": output, "text": True}
    environment = os.environ | probe_environment(busy_server.store.with_name("held"))
    with output, subprocess.Popen(command, cwd=ROOT, env=environment, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def test_the_probe_is_added_to_the_python_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "other")
    environment = probe_environment(tmp_path / "probe")
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(PROBE), "other"]


def test_nothing_grows_in_a_long_life(busy_server, library_process):
    server, store = server_processes(busy_server), busy_server.store
    log = store.with_name("library.log")
    assert library_process.stdout.readline() == "ready\n", log.read_text()[-3000:]
    files = {"wal": store.with_name(f"{store.name}-wal"), "store": store}
    asyncio.run(_fill_caches(busy_server))
    interval_s = scale.scaled(5, 1)
    processes = {**server, "library": psutil.Process(library_process.pid)}
    with Monitor(processes, files, interval_s=interval_s, folder=store.with_name("held")) as monitor:
        done, faults = asyncio.run(_soak(busy_server))
    assert not faults, f"seed {SEED}: {len(faults)} faults, the first are {faults[:3]}"
    output, _ = library_process.communicate(timeout=120)
    assert library_process.returncode == 0, log.read_text()[-3000:]
    library_done = json.loads(output)
    figures = {
        "soak_s": SOAK_S,
        "seed": SEED,
        "done": dict(done),
        "library_done": library_done,
        "held": monitor.figures(),
    }
    scale.keep("soak", {**figures, "allowed_growth": ALLOWED_GROWTH})
    assert min(done.values()) > 0
    assert monitor.excess_growth(ALLOWED_GROWTH) == []
    assert figures["held"]["wal mb"]["max"] <= MAX_WAL_MB


async def _fill_caches(server: RunningServer) -> None:
    """Send so many tokens that the server's prompt caches are full."""
    num_tokens, conversations = 0, long_conversations(random.Random(SEED))
    async with LoadClient(server) as client:
        while num_tokens < CACHE_FILL_TOKENS:
            status, _, reply = await client.request("/tokenize", {"model": "demo", "messages": next(conversations)})
            assert status == 200, reply[:300]
            num_tokens += json.loads(reply)["count"]


async def _soak(server: RunningServer) -> tuple[Counter[str], list[str]]:
    """Run all load generators; return how often each action ran, and the faults."""
    until_s = time.monotonic() + SOAK_S
    faults: list[str] = []
    async with LoadClient(server) as client:
        generators = [
            LoadGenerator(client, owner, seed=f"{SEED}/{number}", keeps_conversations=keeps)
            for number, (owner, keeps) in enumerate(GENERATORS)
        ]

        async def work(generator: LoadGenerator) -> None:
            while time.monotonic() < until_s:
                try:
                    await generator.step()
                except (AssertionError, OSError, TimeoutError, KeyError) as error:
                    faults.append(repr(error)[:1000])

        await asyncio.gather(*(work(generator) for generator in generators))

        async def is_idle() -> bool:
            return not await client.num_engine_requests() and not await client.metric("vllm_deploy_requests_in_flight")

        with contextlib.suppress(AssertionError):
            await client.wait_until(is_idle, 10.0)
        if not await is_idle():
            faults.append("requests are left over")
    return sum((generator.done for generator in generators), Counter()), faults
