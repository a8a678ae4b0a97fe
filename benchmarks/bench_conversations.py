"""Does a server's memory grow with the conversations that it keeps? And what does a turn cost in the 2,000th?

    python benchmarks/bench_conversations.py [--conversations 2000]

One server with the demo model, started as people start it. Every conversation is a session of two turns, each with an
answer of one token: the engine's work is small, and what is kept around it shows. After the first tenth, and then at
every further one, the resident memory of all of the server's processes is read.

growth      MB from the first tenth to the last
turn_ms     one turn as the client sees it: median of the first and of the last hundred
store_mb    the file in the end

The last line is JSON.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx

from benchmarks.report import write
from tests.chat.server.clients import resident_mb
from tests.serving import RunningServer, running_server

MB = 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--conversations", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-conversations-") as folder, running_server(Path(folder)) as server:
        write("bench_conversations", measure(server, options.conversations))


def measure(server: RunningServer, num_conversations: int) -> dict[str, object]:
    turns_ms: list[float] = []
    memory: list[float] = []
    step = max(1, num_conversations // 10)
    with httpx.Client(base_url=server.url, headers=server.headers(), timeout=120) as http:
        for number in range(1, num_conversations + 1):
            session_id = -1
            for question in (f"My number is {number}.", "What is my number?"):
                begun_s = time.perf_counter()
                session_id = talk(http, question, session_id)
                turns_ms.append((time.perf_counter() - begun_s) * 1000)
            if number % step == 0:
                memory.append(resident_mb(server))
                print(f"{number:>6} conversations  {memory[-1]:8.1f} MB", flush=True)
    figures: dict[str, object] = {
        "conversations": num_conversations,
        "memory_mb": [round(value, 1) for value in memory],
        "growth_mb": round(memory[-1] - memory[0], 1),
        "turn_ms_first": round(statistics.median(turns_ms[:100]), 1),
        "turn_ms_last": round(statistics.median(turns_ms[-100:]), 1),
        "store_mb": round(server.store.stat().st_size / MB, 1),
    }
    print(f"growth {figures['growth_mb']} MB, a turn {figures['turn_ms_first']} -> {figures['turn_ms_last']} ms")
    return figures


def talk(http: httpx.Client, question: str, session_id: int) -> int:
    body = {"prompt": question, "interactive_mode": True, "session_id": session_id, "request_output_len": 1}
    reply = http.post("/v1/chat/interactive", json={**body, "temperature": 0.0})
    reply.raise_for_status()
    return int(reply.json()["session_id"])


if __name__ == "__main__":
    main()
