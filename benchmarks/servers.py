"""Our server and vLLM's own, side by side: the same model, the same options of the engine, each with a key."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from chat.server.process.launch import server_arguments, suit_engine
from chat.server.settings.serve import ServeSettings
from prompt_utils import PromptBuilder
from tests.serving import free_port, running_server

__all__ = ["OURS", "STOCK", "Served", "both_servers", "processor_s"]

OURS, STOCK = "ours", "stock vLLM"
START_WITHIN_S = 300.0


@dataclass(frozen=True, slots=True)
class Served:
    """A server that answers.

    Attributes:
        name: ``OURS`` or ``STOCK``.
        url: without ``/v1``.
        key: what it asks for.
        model: the name that requests use.
        pid: of its topmost process.
    """

    name: str
    url: str
    key: str
    model: str
    pid: int

    @property
    def headers(self) -> dict[str, str]:
        """What lets a request in."""
        return {"Authorization": f"Bearer {self.key}"}


def processor_s(server: Served) -> dict[str, float]:
    """Return the processor time that a server's processes have used: those of the engine, and the others."""
    top = psutil.Process(server.pid)
    used = {"engine": 0.0, "http": 0.0}
    for process in (top, *top.children(recursive=True)):
        is_engine = any(word.startswith("VLLM::") for word in process.cmdline()[:1])
        used["engine" if is_engine else "http"] += sum(process.cpu_times()[:2])
    return used


@contextlib.contextmanager
def both_servers(scratch: Path, model: Path, *options: str, alike: bool = False) -> Iterator[dict[str, Served]]:
    """Start both on a model's folder; both stay up, so that they can be asked in turn.

    Args:
        scratch: for keys, conversations and logs.
        options: of vLLM's server, for both.
        alike: vLLM's own has our blocks and logs no requests, else it is as it comes.
    """
    named = ("--model", str(model), "--served-model-name", "bench")
    with running_server(scratch / "ours", *named, *options) as ours, _stock(scratch, model, options, alike) as stock:
        yield {OURS: Served(OURS, ours.url, ours.keys["local"], "bench", ours.process.pid), STOCK: stock}


@contextlib.contextmanager
def _stock(scratch: Path, model: Path, options: tuple[str, ...], alike: bool) -> Iterator[Served]:
    port, key = free_port(), "key-of-the-benchmark"
    arguments = _stock_arguments(model, port, ["--max-model-len", "2048", *options], alike)
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_PLUGINS": ""}
    suit_engine(environment, model)
    log = scratch / "stock.log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
            env={**environment, "VLLM_API_KEY": key},
            start_new_session=True,  # as ours has one: Linux shares the cores out by session, and the load has its own
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}/health", log)
        yield Served(STOCK, f"http://127.0.0.1:{port}", key, "bench", process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _stock_arguments(model: Path, port: int, options: list[str], alike: bool) -> list[str]:
    """Return what our own server would give vLLM, without what makes it ours: the renderer and the guard, and unless
    they are to be alike, blocks of 32 tokens, and the guard's line in the log in the place of uvicorn's."""
    builder = PromptBuilder.from_pretrained(model)
    _, *words = server_arguments(ServeSettings(port=port), model, ["bench"], builder, options)
    ours = {"--tokenizer-mode": 2, "--middleware": 2}  # words of each
    if not alike:
        ours |= {"--block-size": 2, "--disable-uvicorn-access-log": 1}
    kept = ["--model", str(model)]
    skip = 0
    for word in words:
        skip = ours.get(word, max(0, skip - 1))
        if not skip:
            kept.append(word)
    return kept


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline_s = time.monotonic() + START_WITHIN_S
    while process.poll() is None and time.monotonic() < deadline_s:
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    raise SystemExit(f"vLLM's own server did not start:\n{log.read_text('utf-8', 'replace')[-3000:]}")
