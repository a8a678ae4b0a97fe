"""How much of the engine's throughput reaches the caller, in batches and from many threads?

    python benchmarks/bench_batch.py [--model demo] [--conversations 256] [--threads 64] [--max-tokens 64] [--rounds 5]

Output tokens per second, medians over the rounds, all on one engine in one process, in turn:

* ``LLM.generate on ids``: the limit: vLLM's own loop on ready token ids.
* ``LLM.chat``: vLLM's own way from messages, its renderer included.
* ``reply_batch``: ours from messages, thinking and tool calls parsed.
* ``64 threads, chat()`` against ``reply_batch`` of the same conversations.

Greedy, ``ignore_eos``, so that everybody generates the same number of tokens; the prefix cache is emptied before each.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vllm_wrapper import VLLMWrapper


def make_conversations(number: int) -> list[list[dict[str, Any]]]:
    return [
        [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": f"My name is Ada{index} and my number is {index * 37}."},
            {"role": "assistant", "content": f"Nice to meet you, Ada{index}!"},
            {"role": "user", "content": "Count from 1 to 100."},
        ]
        for index in range(number)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--conversations", type=int, default=256)
    parser.add_argument("--threads", type=int, default=64)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with VLLMWrapper(options.model) as llm:
        figures = measure(llm, options)
    limit, batch = figures["LLM.generate on ids"], figures["reply_batch"]
    print(f"{'output tokens per second':<30} {'median':>9} {'/ limit':>8}")
    for name, rate in figures.items():
        print(f"{name:<30} {rate:>9.0f} {rate / limit:>8.3f}")
    threads, same = figures[f"{options.threads} threads, chat()"], figures[f"reply_batch of {options.threads}"]
    print(f"threads / batch of the same: {threads / same:.3f}")
    print(
        json.dumps(
            {
                "batch_over_generate": round(batch / limit, 3),
                "batch_over_chat": round(batch / figures["LLM.chat"], 3),
                "threads_over_batch": round(threads / same, 3),
                "tokens_per_s": {name: round(rate) for name, rate in figures.items()},
            }
        )
    )


def measure(llm: VLLMWrapper, options: argparse.Namespace) -> dict[str, float]:
    from vllm import SamplingParams

    sampling = {"temperature": 0.0, "max_tokens": options.max_tokens, "ignore_eos": True}
    params = SamplingParams(**sampling)
    conversations = make_conversations(options.conversations)
    few = conversations[: options.threads]
    prompts = [{"prompt_token_ids": llm.prompt_builder.build(messages).token_ids} for messages in conversations]

    def in_engine_thread(function: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: llm._thread.call(lambda engine: function())

    def from_threads() -> None:
        def ask(messages: list[dict[str, Any]]) -> None:
            history = [(messages[1]["content"], messages[2]["content"])]
            llm.chat(messages[3]["content"], history, messages[0]["content"], **sampling)

        threads = [threading.Thread(target=ask, args=(messages,)) for messages in few]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "LLM.generate on ids": (
            in_engine_thread(lambda: llm.model.generate(prompts, params, use_tqdm=False)),
            len(prompts),
        ),
        "LLM.chat": (in_engine_thread(lambda: llm.model.chat(conversations, params, use_tqdm=False)), len(prompts)),
        "reply_batch": (lambda: llm.reply_batch(conversations, progress=False, **sampling), len(prompts)),
        f"reply_batch of {len(few)}": (lambda: llm.reply_batch(few, progress=False, **sampling), len(few)),
        f"{len(few)} threads, chat()": (from_threads, len(few)),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for round_number in range(options.rounds + 1):
        for name, (run, number) in ways.items():
            llm._thread.call(lambda engine: engine.reset_prefix_cache())
            started_s = time.perf_counter()
            run()
            if round_number:  # the first round warms up
                rates[name].append(number * options.max_tokens / (time.perf_counter() - started_s))
    return {name: statistics.median(values) for name, values in rates.items()}


if __name__ == "__main__":
    main()
