"""Requests to a server, timed: by vLLM's own load generator, and turn by turn in conversations."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.servers import Served

__all__ = ["Answer", "Asker", "write_prompts", "run_vllm_load"]


def write_prompts(file: Path, prompts: list[str]) -> Path:
    """Write prompts as vLLM's load generator reads them."""
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), "utf-8")
    return file


def run_vllm_load(
    server: Served, prompts: Path, tokenizer: Path, *, num_clients: int, num_requests: int, num_tokens: int
) -> dict[str, Any]:
    """Send short chats with ``vllm.benchmarks.serve``, streamed; return what it has measured.

    Args:
        prompts: a file of :func:`write_prompts`.
        num_tokens: of each answer; every one is so long.
    """
    from vllm.benchmarks.serve import add_cli_args, main
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    options = {
        "backend": "openai-chat",
        "endpoint": "/v1/chat/completions",
        "base-url": server.url,
        "header": f"Authorization=Bearer {server.key}",
        "model": server.model,
        "tokenizer": str(tokenizer),
        "dataset-name": "custom",
        "dataset-path": str(prompts),
        "custom-output-len": str(num_tokens),
        "num-prompts": str(num_requests),
        "max-concurrency": str(num_clients),
        "temperature": "0",
    }
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    parser: argparse.ArgumentParser = FlexibleArgumentParser()
    add_cli_args(parser)
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        result: dict[str, Any] = main(
            parser.parse_args([*words, "--skip-chat-template", "--disable-shuffle", "--ignore-eos", "--disable-tqdm"])
        )
    if result["failed"]:
        raise SystemExit(f"{server.name} failed {result['failed']} requests:\n{said.getvalue()[-2000:]}")
    return result


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, as its client saw it.

    Attributes:
        ttft_ms: until the first piece that says something.
        e2el_ms: until the last.
        num_request_bytes: of the body that was sent.
    """

    text: str
    ttft_ms: float
    e2el_ms: float
    num_request_bytes: int


class Asker:
    """A client that keeps its connections, and reads answers as they stream.

    Args:
        session: an ``aiohttp.ClientSession``.
    """

    def __init__(self, session: Any, server: Served) -> None:
        self._session = session
        self._server = server

    async def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Send something that is not timed; return the reply."""
        async with self._session.post(self._server.url + path, json=body, headers=self._server.headers) as reply:
            found: dict[str, Any] = await reply.json()
            if reply.status != 200:
                raise SystemExit(f"{self._server.name}: {path}: {found}")
            return found

    async def chat(self, messages: list[dict[str, Any]], num_tokens: int) -> Answer:
        """Ask ``/v1/chat/completions`` with a whole conversation."""
        body = {"messages": messages, "max_tokens": num_tokens, "ignore_eos": True}
        return await self._ask("/v1/chat/completions", body)

    async def respond(self, said: Any, num_tokens: int, **fields: Any) -> Answer:
        """Ask ``/v1/responses``."""
        return await self._ask("/v1/responses", {"input": said, "max_output_tokens": num_tokens, **fields})

    async def _ask(self, path: str, fields: dict[str, Any]) -> Answer:
        body = json.dumps({"model": self._server.model, "stream": True, "temperature": 0.0, **fields}).encode()
        headers = {**self._server.headers, "Content-Type": "application/json"}
        pieces: list[str] = []
        began_s = time.perf_counter()
        first_s = 0.0
        async with self._session.post(self._server.url + path, data=body, headers=headers) as reply:
            if reply.status != 200:
                raise SystemExit(f"{self._server.name}: {path}: {reply.status} {await reply.text()}")
            async for line in reply.content:
                if piece := _said(line):
                    first_s = first_s or time.perf_counter()
                    pieces.append(piece)
        ended_s = time.perf_counter()
        return Answer("".join(pieces), (first_s - began_s) * 1e3, (ended_s - began_s) * 1e3, len(body))


def _said(line: bytes) -> str:
    """Return what a line of a stream adds to the answer."""
    if not line.startswith(b"data: {"):
        return ""
    event = json.loads(line[6:])
    if "choices" in event:
        return "".join(choice["delta"].get("content") or "" for choice in event["choices"])
    return str(event.get("delta") or "") if str(event.get("type")).endswith("_text.delta") else ""
