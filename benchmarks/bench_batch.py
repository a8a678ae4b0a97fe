"""How much of the engine's throughput reaches the caller, in batches and from many threads?

    python benchmarks/bench_batch.py [--model demo] [--conversations 256] [--threads 64] [--max-tokens 32] [--rounds 3]
    python benchmarks/bench_batch.py --random 8 768  # a Qwen3 of so many layers and such a width, random weights

Output tokens per second, all on one engine in one process, one way after the other in each round:

* ``LLM.generate on ids``: the limit: vLLM's own loop on ready token ids.
* ``LLM.chat``: vLLM's own way from messages, its renderer included.
* ``reply_batch``: ours from messages, thinking and tool calls parsed.
* ``64 threads, chat()`` against ``reply_batch`` of the same conversations.

vLLM's two ways have its own detokenizer, as in programs without this package; the engine is the same for all. Greedy,
``ignore_eos``, so that everybody generates the same number of tokens; the prefix cache is emptied before each. A ratio
is that of two ways in one round; the rounds' median is reported, since a machine's speed changes with what else it
does. On CPU, where the engine works in this process, the same ratios are also told of processor time: it is what
remains comparable on a machine that others use. Nearly all of it is the engine's own arithmetic; on two quiet cores a
round takes about half a minute.

What is ours costs the same beside any model, so it weighs most beside the demo model, a two-hundredth of the smallest
Qwen3: ``--random`` tells what is left of it beside a larger one.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_growth import make_sized_model
from benchmarks.bench_turns import stock_detokenizer
from benchmarks.report import kept, spread, write
from vllm_wrapper import VLLMWrapper

GENERATE, CHAT, BATCH, FEW, THREADS = (
    "LLM.generate on ids",
    "LLM.chat",
    "reply_batch",
    "reply_batch of few",
    "threads, chat()",
)
Rates = dict[str, list[float]]  # by way, one for each round
RATIOS = {  # what is reported: one way over another, and the least that it should be
    "batch_over_generate": (BATCH, GENERATE, 0.97),
    "batch_over_chat": (BATCH, CHAT, 1.0),
    "threads_over_batch": (THREADS, FEW, 0.9),
}


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
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--random", type=int, nargs=2, metavar=("LAYERS", "WIDTH"), help="a model of random weights")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model, size_mb = options.model, 0
        if options.random:
            model = str(Path(folder) / "model")
            size_mb = make_sized_model(Path(model), *options.random)
        with VLLMWrapper(model) as llm:
            rates, cpu_rates = measure(llm, options)
    print(f"{'output tokens per second':<28} {'median':>8} {'min':>8} {'max':>8}")
    for name, values in rates.items():
        print(f"{name:<28} {statistics.median(values):>8.0f} {min(values):>8.0f} {max(values):>8.0f}")
    figures: dict[str, Any] = {
        "ratios": ratios_of(rates, "of time"),
        "ratios_of_processor_time": ratios_of(cpu_rates, "of processor time"),
    }
    figures["tokens_per_s"] = {name: spread(values, 0) for name, values in rates.items()}
    if options.random:
        write("bench_batch", {**kept("bench_batch", list(figures)), "random": {"size_mb": size_mb, **figures}})
    else:
        write("bench_batch", {**figures, **kept("bench_batch", ["random"])})


def ratios_of(rates: Rates, of_what: str) -> dict[str, Any]:
    """Return and print the ratios, round by round."""
    ratios = {}
    for name, (one, other, least) in RATIOS.items():
        values = [a / b for a, b in zip(rates[one], rates[other], strict=True)]
        ratios[name] = {**spread(values), "wanted": least}
        print(
            f"{name:<28} {statistics.median(values):>8.3f} {min(values):>8.3f} {max(values):>8.3f}  "
            f"wanted {least}, {of_what}"
        )
    return ratios


def measure(llm: VLLMWrapper, options: argparse.Namespace) -> tuple[Rates, Rates]:
    """Return the rates of each way, one for each round: tokens per second, and per second of processor time."""
    from vllm import SamplingParams

    sampling = {"temperature": 0.0, "max_tokens": options.max_tokens, "ignore_eos": True}
    params = SamplingParams(**sampling)
    conversations = make_conversations(options.conversations)
    few = conversations[: options.threads]
    prompts = [{"prompt_token_ids": llm.prompt_builder.build(messages).token_ids} for messages in conversations]

    def as_vllm_does(function: Callable[[], Any]) -> Callable[[], Any]:
        def run(engine: Any) -> None:
            with stock_detokenizer():
                function()

        return lambda: llm._thread.call(run)

    ways: dict[str, tuple[Callable[[], Any], int]] = {
        GENERATE: (as_vllm_does(lambda: llm.model.generate(prompts, params, use_tqdm=False)), len(prompts)),
        CHAT: (as_vllm_does(lambda: llm.model.chat(conversations, params, use_tqdm=False)), len(prompts)),
        BATCH: (lambda: llm.reply_batch(conversations, progress=False, **sampling), len(prompts)),
        FEW: (lambda: llm.reply_batch(few, progress=False, **sampling), len(few)),
        THREADS: (lambda: ask_from_threads(llm, few, sampling), len(few)),
    }
    rates: Rates = {name: [] for name in ways}
    cpu_rates: Rates = {name: [] for name in ways}
    for round_number in range(options.rounds + 1):
        order = list(ways) if round_number % 2 else list(reversed(ways))  # nobody always comes first
        for name in order:
            run, number = ways[name]
            llm._thread.call(lambda engine: engine.reset_prefix_cache())
            started_s, started_cpu_s = time.perf_counter(), time.process_time()
            run()
            if round_number:  # the first round warms up
                num_tokens = number * options.max_tokens
                rates[name].append(num_tokens / (time.perf_counter() - started_s))
                cpu_rates[name].append(num_tokens / (time.process_time() - started_cpu_s))
        print(f"round {round_number} of {options.rounds}", file=sys.stderr, flush=True)
    return rates, cpu_rates


def ask_from_threads(llm: VLLMWrapper, conversations: list[list[dict[str, Any]]], sampling: dict[str, Any]) -> None:
    """Ask each conversation's question in a thread of its own."""

    def ask(messages: list[dict[str, Any]]) -> None:
        history = [(messages[1]["content"], messages[2]["content"])]
        llm.chat(messages[3]["content"], history, messages[0]["content"], **sampling)

    threads = [threading.Thread(target=ask, args=(messages,)) for messages in conversations]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
