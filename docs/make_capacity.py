"""Reckon the tables of capacity.md, and put them there: python docs/make_capacity.py

Every number that goes in is named here, with where it is from. The page's tables are made of nothing else; a test
holds the page to that.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent / "capacity.md"
PEOPLE = (10, 1_000, 1_000_000)

# -- assumed: what people do -------------------------------------------------------------------------------------------
SECONDS_PER_TURN = 60.0  # of one person who is at it: asks, reads, thinks, types
ANSWER_TOKENS = 300
HISTORY_TOKENS = 6_000  # of a conversation, in the middle of its life
BYTES_PER_TOKEN = 4.0  # of text, in UTF-8
EVENT_BYTES = 250  # one token on the way to the client, as an event of a stream

# -- published ---------------------------------------------------------------------------------------------------------
GPU_TOKENS_PER_S = 2_200.0  # each H200, DeepSeek models, many nodes: vLLM, 2025-12-17
SECONDS_PER_TOKEN = 0.013  # one stream of an 8B model on one H100: vLLM, 2024-09-05
KV_LAYERS, KV_HEADS, HEAD_SIZE = 36, 8, 128  # Qwen3-8B's config.json
WEIGHTS_GB = 16.4  # Qwen3-8B in bfloat16
GPU_GB = 80.0  # H100

# -- assumed: what was found nowhere -----------------------------------------------------------------------------------
GPU_SHARE = 0.9  # of its memory: vLLM's default
GPU_RESERVED_GB = 4.0  # for what a step computes
PREFILL_TOKENS_PER_S = 20_000.0  # of one GPU, an 8B model
HIT_SHARE = 0.9  # of the turns whose past is still cached, where there is a tier for it
POSTGRES_COMMITS_PER_S = 5_000.0  # of one database machine
ROUTER_EVENTS_PER_S = 100_000.0  # of one router process

# -- measured: docs/performance.md -------------------------------------------------------------------------------------
COMMIT_MS = 3.6  # SQLite, p50, on the slower machine
# That wait for the disk: question, response; the answer's begin; answer, response: counted in chat/server.
COMMITS_PER_TURN = 5
SAVE_INTERVAL_S = 0.7  # between those of a process for all answers that it is giving
API_MS_PER_REQUEST = 5.1  # processor time of the process that serves HTTP
API_MS_PER_TOKEN = 0.26

KV_BYTES_PER_TOKEN = KV_LAYERS * KV_HEADS * HEAD_SIZE * 2 * 2  # keys and values, two bytes each
KV_TOKENS_PER_GPU = (GPU_GB * GPU_SHARE - WEIGHTS_GB - GPU_RESERVED_GB) * 1e9 / KV_BYTES_PER_TOKEN
ANSWER_S = ANSWER_TOKENS * SECONDS_PER_TOKEN


def of_one_turn() -> list[tuple[str, str, str]]:
    """Return rows: what, how it is reckoned, result."""
    api_ms = API_MS_PER_REQUEST + ANSWER_TOKENS * API_MS_PER_TOKEN
    row_bytes = ANSWER_TOKENS * (BYTES_PER_TOKEN + 6)
    return [
        (
            "KV cache of one token",
            f"{KV_LAYERS} layers x {KV_HEADS} heads x {HEAD_SIZE} x 2 (keys, values) x 2 bytes",
            f"{KV_BYTES_PER_TOKEN:,} bytes",
        ),
        (
            "KV cache of one conversation",
            f"{HISTORY_TOKENS:,} tokens x {KV_BYTES_PER_TOKEN:,} bytes",
            f"{HISTORY_TOKENS * KV_BYTES_PER_TOKEN / 1e9:.2f} GB",
        ),
        (
            "tokens that one GPU holds",
            f"({GPU_GB:.0f} GB x {GPU_SHARE} - {WEIGHTS_GB} GB - {GPU_RESERVED_GB:.0f} GB) / {KV_BYTES_PER_TOKEN:,}",
            f"{KV_TOKENS_PER_GPU:,.0f}, {KV_TOKENS_PER_GPU / HISTORY_TOKENS:.0f} conversations",
        ),
        ("time to write an answer", f"{ANSWER_TOKENS} tokens x {SECONDS_PER_TOKEN * 1000:.0f} ms", f"{ANSWER_S:.1f} s"),
        (
            "commits that wait for the disk",
            "question, response; the answer's begin; answer, response",
            f"{COMMITS_PER_TURN}, {COMMITS_PER_TURN * COMMIT_MS:.0f} ms of SQLite's one writer",
        ),
        (
            "time of the process that serves HTTP",
            f"{API_MS_PER_REQUEST} ms + {ANSWER_TOKENS} tokens x {API_MS_PER_TOKEN} ms",
            f"{api_ms:.0f} ms of one core",
        ),
        (
            "bytes sent to the client",
            f"{ANSWER_TOKENS} tokens x {EVENT_BYTES} bytes",
            f"{ANSWER_TOKENS * EVENT_BYTES / 1e3:.0f} KB",
        ),
        (
            "bytes sent by a stateless client",
            f"{HISTORY_TOKENS:,} tokens x {BYTES_PER_TOKEN:.0f} bytes",
            f"{HISTORY_TOKENS * BYTES_PER_TOKEN / 1e3:.0f} KB; with `conversation`, the question alone",
        ),
        (
            "bytes kept of an answer",
            f"{ANSWER_TOKENS} x ({BYTES_PER_TOKEN:.0f} of text + 6 of its id)",
            f"{row_bytes / 1e3:.0f} KB",
        ),
    ]


def of_people(num_people: int) -> dict[str, str]:
    """Return what so many people at once need, by name."""
    turns_per_s = num_people / SECONDS_PER_TURN
    tokens_per_s = turns_per_s * ANSWER_TOKENS
    api_cores = turns_per_s * (API_MS_PER_REQUEST + ANSWER_TOKENS * API_MS_PER_TOKEN) / 1000
    kv_tokens = num_people * HISTORY_TOKENS
    missing = turns_per_s * HISTORY_TOKENS
    growing_per_s = min(turns_per_s * ANSWER_S, math.ceil(api_cores)) / SAVE_INTERVAL_S
    commits_per_s = turns_per_s * COMMITS_PER_TURN + growing_per_s
    sent_gbit = tokens_per_s * EVENT_BYTES * 8 / 1e9
    return {
        "turns per second": figure(turns_per_s),
        "answers being written": figure(turns_per_s * ANSWER_S),
        "tokens per second": figure(tokens_per_s),
        "GPUs to write them": whole(tokens_per_s / GPU_TOKENS_PER_S),
        "KV cache of all conversations, GB": figure(kv_tokens * KV_BYTES_PER_TOKEN / 1e9),
        "GPUs to hold it": whole(kv_tokens / KV_TOKENS_PER_GPU),
        "GPUs to read every past again instead": whole(missing / PREFILL_TOKENS_PER_S),
        f"the same, {HIT_SHARE:.0%} of the pasts cached": whole(missing * (1 - HIT_SHARE) / PREFILL_TOKENS_PER_S),
        "cores that serve HTTP": whole(api_cores),
        "commits per second": figure(commits_per_s),
        "SQLite's writer is busy": f"{commits_per_s * COMMIT_MS / 10:,.0f} %",
        "Postgres machines": whole(commits_per_s / POSTGRES_COMMITS_PER_S),
        "routers": whole(tokens_per_s / ROUTER_EVENTS_PER_S),
        "to the clients, Gbit/s": figure(sent_gbit),
        "from stateless clients, Gbit/s": figure(turns_per_s * HISTORY_TOKENS * BYTES_PER_TOKEN * 8 / 1e9),
        "kept in a day, GB": figure(turns_per_s * 86_400 * ANSWER_TOKENS * (BYTES_PER_TOKEN + 6) / 1e9),
    }


def figure(value: float) -> str:
    """Return a number with three digits that count."""
    digits = max(0, 2 - math.floor(math.log10(value)))
    return (
        f"{round(value, digits):,.{digits}f}" if digits else f"{round(value, 2 - math.floor(math.log10(value))):,.0f}"
    )


def whole(value: float) -> str:
    """Return how many are needed."""
    return f"{math.ceil(value):,}"


def tables() -> dict[str, str]:
    """Return the page's tables by name, as Markdown."""
    turn = ["| | reckoned | one turn |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in of_one_turn())]
    columns = [of_people(number) for number in PEOPLE]
    head = ["| people at once | " + " | ".join(f"{number:,}" for number in PEOPLE) + " |", "|---|---|---|---|"]
    rows = [f"| {name} | " + " | ".join(column[name] for column in columns) + " |" for name in columns[0]]
    return {"turn": "\n".join(turn), "people": "\n".join([*head, *rows])}


def page(text: str) -> str:
    """Return the page with its tables as they are reckoned now."""
    for name, table in tables().items():
        pattern = rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)"
        made = table + "\n"
        text, found = re.subn(pattern, lambda match, made=made: match[1] + made + match[2], text, flags=re.DOTALL)
        assert found == 1, name
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text("utf-8")), "utf-8")
