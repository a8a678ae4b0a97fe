"""What does the guard cost a request?

    python benchmarks/bench_guard.py [--requests 3000]

In this process, without sockets: the same request goes to a route that reads its body and answers, once as it is and
once through the guard. Its cost is the difference of the two medians, in microseconds of one core.

one message       a chat of one short message
262 messages      a chat of 262 messages, 31,000 tokens or so
32 keys           one message, when the file holds 32 keys and the last one is sent
refused key       one message with a key that nobody has
1 MB              one message of a million characters
each piece        what one piece of a streamed answer costs on its way out

The last line is JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from starlette.types import ASGIApp, Receive, Scope, Send

from chat.server.guard.middleware import Guard
from chat.server.settings.guard import GuardSettings

NUM_PIECES = 1000
WORDS = "the quick brown fox jumps over the lazy dog and goes on its way "


async def route(scope: Scope, receive: Receive, send: Send) -> None:
    """Read the body as JSON, as every route would, and answer."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message["body"]
        more = message["more_body"]
    if body:
        json.loads(body)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"ok"})


async def streaming_route(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(NUM_PIECES):
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})


async def measure(app: ASGIApp, body: bytes, key: str, times: int) -> float:
    """Return the median time of one request, in microseconds."""
    headers = [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"user-agent", b"bench")]
    headers += [(b"authorization", f"Bearer {key}".encode()), (b"content-length", str(len(body)).encode())]
    request = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "root_path": "", "query_string": b""}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        pass

    taken = []
    for _ in range(times):
        scope = {**request, "headers": list(headers), "state": {}}
        began_s = time.perf_counter()
        await app(scope, receive, send)
        taken.append(time.perf_counter() - began_s)
    return statistics.median(taken) * 1e6


def chat(num_messages: int, num_words: int) -> bytes:
    text = (WORDS * (num_words // 13 + 1))[: num_words * 5]
    messages = [{"role": ("user", "assistant")[index % 2], "content": text} for index in range(num_messages)]
    return json.dumps({"model": "demo", "messages": messages, "max_tokens": 100, "stream": True}).encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--requests", type=int, default=3000, help="requests of each kind")
    times = parser.parse_args().requests
    logging.getLogger("chat").setLevel(logging.ERROR)
    one = chat(1, 12)
    with tempfile.TemporaryDirectory(prefix="bench-guard-") as folder:
        few, many = Path(folder, "few"), Path(folder, "many")
        few.write_text("alice: key-of-alice\n")
        many.write_text("".join(f"owner{number}: key-number-{number:04d}\n" for number in range(32)))
        figures = asyncio.run(measure_all(GuardSettings(str(few)), GuardSettings(str(many)), one, times))
    for name, microseconds in figures.items():
        print(f"{name:<16}{microseconds:>10.1f} us")
    print(json.dumps({name: round(value, 2) for name, value in figures.items()}))


async def measure_all(few: GuardSettings, many: GuardSettings, one: bytes, times: int) -> dict[str, float]:
    guard = Guard(route, few, own_paths=())
    bodies = {"one message": (one, times), "262 messages": (chat(262, 90), times // 10)}
    bodies["1 MB"] = (chat(1, 200_000), times // 30)
    key = "key-of-alice"
    figures = {
        name: await measure(guard, body, key, number) - await measure(route, body, key, number)
        for name, (body, number) in bodies.items()
    }
    plain = await measure(route, one, key, times)
    figures["32 keys"] = await measure(Guard(route, many, own_paths=()), one, "key-number-0031", times) - plain
    figures["refused key"] = await measure(guard, one, "key-of-nobody", times)
    streaming = await measure(Guard(streaming_route, few, own_paths=()), one, key, times // 30)
    figures["each piece"] = (streaming - await measure(streaming_route, one, key, times // 30)) / NUM_PIECES
    return figures


if __name__ == "__main__":
    main()
