"""Is our server as fast as vLLM's own, and how much faster where conversations are long?

    python benchmarks/bench_serve.py --tokenizer FOLDER [--template FILE] [--rounds 3] [--clients 1 4 16 64 128]
    python benchmarks/bench_serve.py --alike ...

Two servers are up at once, ours and ``python -m vllm.entrypoints.openai.api_server`` as it comes: the same model, the
same type of numbers, window and memory, the same parsers, a key for each, a session of its own for each. Each logs its
requests. ``--alike``: vLLM's own also has what is one option away, our blocks of 32 tokens on CPU, and no such log.
They are asked in turn, in rounds; in every second round the other one comes first. Both have answered as many clients
before anything is timed.

short prompts    the demo model, chats of one short message, 16 tokens each, streamed, by ``vllm.benchmarks.serve``:
                 requests per second, p99 of the time to the first token, processor time of all of the server's
                 processes and of those that serve HTTP
long histories   a Qwen3 of two layers with random weights and Qwen's whole vocabulary (as in bench_turns.py); eight
                 clients, each with a conversation of 18,000 tokens that it sends whole, turn after turn, as stateless
                 clients do: requests per second, p95 of the time to the last token, processor time as above
turn 50          one client at a time, ``/v1/responses``: with ``conversation``, which sends what is new alone, and
                 stateless with the whole conversation, on both servers: time to the first token, bytes of the request

A ratio is that of ours over stock vLLM's in one round; the rounds' median is reported. FOLDER holds Qwen's tokenizer;
without one the last two are left out. A part that is not run keeps its figures of before.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_prompt import turns
from benchmarks.report import kept, spread, write
from benchmarks.serve_load import run_vllm_load, write_prompts
from benchmarks.serve_turns import measure_kept, measure_long
from benchmarks.servers import OURS, STOCK, Served, both_servers, processor_s
from chatcore.models.hub import DEMO_MODEL_DIR

NUM_TOKENS = 16  # of each answer to a short prompt
REQUESTS = {1: 100, 4: 300, 16: 800, 64: 1280, 128: 1536}  # by number of clients; 6 to 10 s each on two fast cores
PARTS = ("short_prompts", "processor_ms_of_http", "long_histories", "turn_50")
WANTED = {"throughput": 0.98, "p99_ttft": 1.03}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, help="a folder with Qwen's tokenizer")
    parser.add_argument("--template", type=Path, help="a Jinja file, where that folder holds none")
    parser.add_argument("--clients", type=int, nargs="+", default=list(REQUESTS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=("short", "long"), help="one of the two models alone")
    parser.add_argument("--alike", action="store_true", help="give vLLM's own our blocks, and no log of requests")
    options = parser.parse_args()
    name = "bench_serve_alike" if options.alike else "bench_serve"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to end"))  # so that the servers are ended too
    figures = kept(name, PARTS) if options.only else {}
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as scratch:
        if importlib.util.find_spec("pandas") is None:
            print(
                "short prompts are left out: vLLM's load needs pandas; pip install --no-deps -r requirements-docs.txt"
            )
        elif options.only != "long":
            figures |= measure_short(Path(scratch, "short"), options)
        if options.tokenizer is None:
            print("long histories and turn 50 are left out: they need --tokenizer FOLDER, with Qwen's tokenizer")
        elif options.only != "short":
            figures |= measure_turns(Path(scratch, "long"), options)
    write(name, figures)


def in_turn(servers: dict[str, Served], round_number: int) -> list[Served]:
    """Return the servers in the order of a round: nobody always comes first."""
    order = list(servers.values())
    return order if round_number % 2 else order[::-1]


# -- short prompts -----------------------------------------------------------------------------------------------------


def measure_short(scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    clients: list[int] = options.clients
    scratch.mkdir()
    questions = (question["content"] for question, _ in turns(random.Random(1)))
    with both_servers(scratch, DEMO_MODEL_DIR, alike=options.alike) as servers:
        for server in servers.values():
            load_short(scratch, server, max(clients), max(clients), questions)
        by_clients = {
            str(number): compare_short(scratch, servers, number, options.rounds, questions) for number in clients
        }
        http = {name: cost_of_http(scratch, server, questions) for name, server in servers.items()}
    print(f"processor time of the process that serves HTTP: {http}")
    return {"short_prompts": by_clients, "processor_ms_of_http": http}


def cost_of_http(scratch: Path, server: Served, questions: Iterator[str]) -> dict[str, float]:
    """Return what a request, and each token of its answer, cost the process that serves HTTP: ms of processor time."""
    few, many = 16, 64
    used = [
        load_short(scratch, server, 16, 64, questions, num_tokens)["processor_ms_per_request_of_http"]
        for num_tokens in (few, many)
    ]
    per_token = (used[1] - used[0]) / (many - few)
    return {"each_token": round(per_token, 3), "each_request": round(used[0] - few * per_token, 2)}


def compare_short(
    scratch: Path, servers: dict[str, Served], num_clients: int, num_rounds: int, questions: Iterator[str]
) -> dict[str, Any]:
    """Return the figures of both servers for so many clients."""
    num_requests = REQUESTS.get(num_clients, 4 * num_clients)
    found: dict[str, dict[str, list[float]]] = {name: {} for name in servers}
    for round_number in range(num_rounds):
        for server in in_turn(servers, round_number):
            measured = load_short(scratch, server, num_clients, num_requests, questions)
            for name, value in measured.items():
                found[server.name].setdefault(name, []).append(value)
    print(f"{num_clients} clients, short prompts{'':<14} {'median':>8} {'min':>8} {'max':>8}")
    result: dict[str, Any] = {}
    for name in found[OURS]:
        ours, stock = found[OURS][name], found[STOCK][name]
        ratios = [one / other for one, other in zip(ours, stock, strict=True)]
        result[name] = {OURS: spread(ours, 2), STOCK: spread(stock, 2), "ratio": spread(ratios)}
        for label, values in ((OURS, ours), (STOCK, stock), ("ratio", ratios)):
            shown = " ".join(f"{value:>8.2f}" for value in spread(values).values())
            print(f"  {name:<24}{label:<11} {shown}", flush=True)
    result["throughput_per_s"]["wanted_at_least"] = WANTED["throughput"]
    result["p99_ttft_ms"]["wanted_at_most"] = WANTED["p99_ttft"]
    return result


def load_short(
    scratch: Path,
    server: Served,
    num_clients: int,
    num_requests: int,
    questions: Iterator[str],
    num_tokens: int = NUM_TOKENS,
) -> dict[str, float]:
    """Send short chats; return what was measured. Nobody has asked these questions before."""
    file = write_prompts(scratch / "prompts.jsonl", [next(questions) for _ in range(num_requests)])
    before = processor_s(server)
    measured = run_vllm_load(
        server, file, DEMO_MODEL_DIR, num_clients=num_clients, num_requests=num_requests, num_tokens=num_tokens
    )
    used = {name: (after - before[name]) * 1000 / num_requests for name, after in processor_s(server).items()}
    return {
        "throughput_per_s": measured["request_throughput"],
        "p99_ttft_ms": measured["p99_ttft_ms"],
        "median_ttft_ms": measured["median_ttft_ms"],
        "processor_ms_per_request": sum(used.values()),
        "processor_ms_per_request_of_http": used["http"],
    }


# -- conversations -----------------------------------------------------------------------------------------------------


def measure_turns(scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    from benchmarks.bench_turns import make_model

    model = scratch / "model"
    model.mkdir(parents=True)
    make_model(model, options.tokenizer)
    if options.template:
        (model / "chat_template.jinja").write_text(options.template.read_text("utf-8"), "utf-8")
    with both_servers(scratch, model, "--max-model-len", "40960", alike=options.alike) as servers:
        kept = asyncio.run(measure_kept(servers))
        return {"long_histories": asyncio.run(measure_long(servers, options.rounds)), "turn_50": kept}


if __name__ == "__main__":
    main()
