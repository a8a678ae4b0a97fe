"""Clients of a running server, as people use them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import psutil
from openai import OpenAI

from tests.serving import RunningServer

__all__ = ["GREEDY", "ask", "client_of", "http_of", "lines_of", "openai_of", "resident_mb"]

GREEDY = {"temperature": 0.0, "enable_thinking": False}
TIMEOUT_S = 120.0


@contextlib.contextmanager
def http_of(server: RunningServer, owner: str = "local") -> Iterator[httpx2.Client]:
    """A plain HTTP client with the key of an owner."""
    with httpx2.Client(base_url=server.url, headers=server.headers(owner), timeout=TIMEOUT_S) as client:
        yield client


@contextlib.contextmanager
def openai_of(server: RunningServer, owner: str = "local") -> Iterator[OpenAI]:
    """The official client, as it comes."""
    with OpenAI(base_url=f"{server.url}/v1", api_key=server.keys[owner], max_retries=0, timeout=TIMEOUT_S) as client:
        yield client


def client_of(http: httpx2.Client) -> Callable[..., dict[str, Any]]:
    """Return a function that talks in sessions and gives the reply."""

    def talk(prompt: Any, **fields: Any) -> dict[str, Any]:
        body = {"prompt": prompt, "interactive_mode": True, **GREEDY, **fields}
        reply = http.post("/v1/chat/interactive", json=body)
        assert reply.status_code == 200, reply.text
        return reply.json()

    return talk


def lines_of(http: httpx2.Client, prompt: Any, **fields: Any) -> Iterator[dict[str, Any]]:
    """Talk in a session and give the lines of the streamed reply as they come."""
    body = {"prompt": prompt, "interactive_mode": True, "stream": True, **GREEDY, **fields}
    with http.stream("POST", "/v1/chat/interactive", json=body) as reply:
        assert reply.status_code == 200, reply.read()
        for line in reply.iter_lines():
            yield json.loads(line)


def ask(openai: OpenAI, text: Any, **fields: Any) -> Any:
    """Ask for a response, without chance and without thinking."""
    no_thinking = {"chat_template_kwargs": {"enable_thinking": False}}
    return openai.responses.create(model="demo", input=text, temperature=0.0, extra_body=no_thinking, **fields)


def resident_mb(server: RunningServer) -> float:
    """Return what a server's processes have in memory, in MB; shared pages count once for each."""
    process = psutil.Process(server.process.pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True))) / 1e6
