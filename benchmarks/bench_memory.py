"""How much more memory than vLLM alone do we take, and does it grow with the turns?

    python benchmarks/bench_memory.py [--runs 2] [--turns 2000]

resident       a process with ``VLLMWrapper`` against one with plain ``vllm.LLM``: the same model (demo), the same
               engine arguments, the engine in that process in both; each has answered the same 32 questions. MB of
               resident memory, processes of both kinds in turn. Wanted: at most 1.05 of the plain one's.
turns          one ``VLLMWrapper``, conversations of 20 turns with answers of two tokens, every sentence a new one:
               resident memory after the first tenth of the turns and after all, what the prompt caches hold of it,
               then what Python's own allocations grow by over as many turns again (tracemalloc)
prompt cache   a builder of prompts without an engine, given five times what its cache may hold: the most that the cache
               held, and how much the process grew
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import psutil  # noqa: E402

from benchmarks.bench_prompt import turns  # noqa: E402
from benchmarks.report import spread, write  # noqa: E402
from chatcore.models.hub import DEMO_MODEL_DIR  # noqa: E402

WANTED = 1.05
MB = 1e6
NUM_QUESTIONS = 32
SESSION_TURNS = 20  # of one conversation
WINDOW = 2048
KV_CACHE_BYTES = 16 << 20  # full after a hundred turns
OURS, PLAIN = "VLLMWrapper", "vllm.LLM"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--turns", type=int, default=2000)
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)  # what a process of this script is for
    options = parser.parse_args()
    if options.part:
        print(json.dumps(PARTS[options.part](options.turns)))
        return
    found: dict[str, list[dict[str, Any]]] = {OURS: [], PLAIN: []}
    for run in range(options.runs):
        for name in (OURS, PLAIN) if run % 2 else (PLAIN, OURS):
            found[name].append(in_own_process(name, options.turns))
    write(
        "bench_memory",
        {
            "resident": tell_resident(found),
            "turns": tell_turns(in_own_process("turns", options.turns)),
            "prompt_cache": tell_cache(in_own_process("cache", options.turns)),
        },
    )


def in_own_process(part: str, num_turns: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--part", part, "--turns", str(num_turns)]
    environment = {**os.environ, "VLLM_LOGGING_LEVEL": "ERROR", "OMP_NUM_THREADS": "1", "VLLM_NO_USAGE_STATS": "1"}
    process = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    lines = [line for line in process.stdout.splitlines() if line.startswith("{")]
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def resident_mb() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss / MB)


# -- against vLLM alone ------------------------------------------------------------------------------------------------


def run_ours(_: int) -> dict[str, Any]:
    from vllm_wrapper import VLLMWrapper

    with VLLMWrapper("demo") as llm:
        loaded_mb = resident_mb()
        for messages in questions():
            llm.reply(messages, temperature=0.0, max_tokens=16)
        return {"loaded_mb": loaded_mb, "answered_mb": resident_mb()}


def run_plain(_: int) -> dict[str, Any]:
    from chatcore.engine.loading import cpu_arguments

    chosen = {"model": str(DEMO_MODEL_DIR), "gpu_memory_utilization": 0.9, "dtype": "auto", "quantization": None}
    arguments = cpu_arguments({**chosen, "max_model_len": None, "disable_log_stats": True})
    from vllm import LLM, SamplingParams

    llm = LLM(**arguments)
    loaded_mb = resident_mb()
    for messages in questions():
        llm.chat(messages, SamplingParams(temperature=0.0, max_tokens=16), use_tqdm=False)
    return {"loaded_mb": loaded_mb, "answered_mb": resident_mb()}


def questions() -> Iterator[list[dict[str, Any]]]:
    source = turns(random.Random(1))
    for _ in range(NUM_QUESTIONS):
        yield [dict(next(source)[0])]


def tell_resident(found: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for moment in ("loaded_mb", "answered_mb"):
        values = {name: [run[moment] for run in runs] for name, runs in found.items()}
        ratio = spread([one / other for one, other in zip(values[OURS], values[PLAIN], strict=True)])
        result[moment] = {**{name: spread(each, 0) for name, each in values.items()}, "ratio": ratio}
        shown = ", ".join(f"{name} {spread(each, 0)['median']:.0f}" for name, each in values.items())
        print(f"{moment:<14}{shown}: {ratio['median']} ({ratio['min']} to {ratio['max']})")
    result["wanted_at_most"] = WANTED
    return result


# -- turns -------------------------------------------------------------------------------------------------------------


def run_turns(num_turns: int) -> dict[str, Any]:
    from benchmarks.bench_prompt import cached_bytes
    from vllm_wrapper import VLLMWrapper

    source = turns(random.Random(1))
    tenth = max(1, num_turns // 10)
    # A small key/value cache: its pages become resident when they are first used, which is no growth to look for here.
    with VLLMWrapper("demo", max_model_len=WINDOW, engine_args={"kv_cache_memory_bytes": KV_CACHE_BYTES}) as llm:

        def have_turns(number: int) -> None:
            messages: list[dict[str, Any]] = []
            for turn in range(number):
                if turn % SESSION_TURNS == 0:
                    messages = []
                messages.append(next(source)[0])
                messages.append(llm.reply(messages, temperature=0.0, max_tokens=2).message)

        memory, cached = [], []
        for _ in range(num_turns // tenth):
            have_turns(tenth)
            memory.append(resident_mb())
            cached.append(cached_bytes(llm.prompt_builder) / MB)
        tracemalloc.start()
        have_turns(tenth)
        gc.collect()
        traced_before, cached_before = tracemalloc.get_traced_memory()[0], cached_bytes(llm.prompt_builder)
        have_turns(num_turns)
        gc.collect()
        return {
            "num_turns": num_turns,
            "resident_mb": memory,
            "prompt_cache_mb": cached,
            "traced_growth_mb": (tracemalloc.get_traced_memory()[0] - traced_before) / MB,
            "traced_prompt_cache_mb": (cached_bytes(llm.prompt_builder) - cached_before) / MB,
        }


def tell_turns(found: dict[str, Any]) -> dict[str, Any]:
    memory, cached = found["resident_mb"], found["prompt_cache_mb"]
    growth, of_cache = memory[-1] - memory[0], cached[-1] - cached[0]
    print(f"{found['num_turns']} turns: resident {memory[0]:.1f} -> {memory[-1]:.1f} MB", end="")
    print(f", {growth:+.1f} MB, of which the prompt caches {of_cache:+.1f} MB")
    print(f"as many again: Python's allocations {found['traced_growth_mb']:+.2f} MB", end="")
    print(f", of which the prompt caches {found['traced_prompt_cache_mb']:+.2f} MB")
    rounded = {name: [round(value, 1) for value in found[name]] for name in ("resident_mb", "prompt_cache_mb")}
    return {
        "num_turns": found["num_turns"],
        **rounded,
        "growth_mb": round(growth, 1),
        "growth_of_prompt_cache_mb": round(of_cache, 1),
        "traced_growth_mb": round(found["traced_growth_mb"], 2),
        "traced_growth_of_prompt_cache_mb": round(found["traced_prompt_cache_mb"], 2),
    }


# -- the cache of prompts ----------------------------------------------------------------------------------------------


def run_cache(_: int) -> dict[str, Any]:
    from benchmarks.bench_prompt import cached_bytes
    from chatcore.prompts.builder import DEFAULT_CACHE_BYTES
    from prompt_utils import PromptBuilder

    builder = PromptBuilder.from_pretrained(DEMO_MODEL_DIR)
    source = turns(random.Random(1))
    before_mb, most, num_ids = resident_mb(), 0, 0
    while num_ids * 40 < 5 * DEFAULT_CACHE_BYTES:  # an id takes 40 bytes in the cache
        messages = [dict(message) for _ in range(SESSION_TURNS) for message in next(source)]
        num_ids += len(builder.build(messages[:-1]).token_ids)
        most = max(most, cached_bytes(builder))
    return {
        "limit_mb": DEFAULT_CACHE_BYTES / MB,
        "most_mb": most / MB,
        "process_growth_mb": resident_mb() - before_mb,
        "num_tokens": num_ids,
    }


def tell_cache(found: dict[str, Any]) -> dict[str, Any]:
    print(
        f"prompt cache: {found['num_tokens']:,} tokens went through; it held {found['most_mb']:.1f} MB at most of "
        f"{found['limit_mb']:.1f}; the process grew by {found['process_growth_mb']:.1f} MB"
    )
    return {name: round(value, 1) for name, value in found.items()}


PARTS = {OURS: run_ours, PLAIN: run_plain, "turns": run_turns, "cache": run_cache}

if __name__ == "__main__":
    main()
