"""How long until the first token of turn N, with 3,000 to 27,000 tokens of history?

    python benchmarks/bench_turns.py --tokenizer FOLDER [--histories 3000 10000 27000] [--turns 15]

FOLDER holds a Qwen tokenizer (tokenizer.json, tokenizer_config.json). The model is a Qwen3 of two layers with random
weights and the whole vocabulary, made on the spot: the engine's own work is small, as it is on a GPU, and what stands
around it shows. One engine, in this process. Four conversations of the same turns grow side by side, so that nobody
finds the others' prefix cache; each turn adds an answer of about 200 tokens and a short question. Timed, until the
first token, one after the other in each turn:

* ``ready ids``: ``LLM.generate`` on the prompt's token ids, made beforehand: the limit.
* ``LLM.chat``: vLLM's own way from messages, with its own detokenizer, which reads the whole prompt.
* ``LLM.chat, short``: the same with our detokenizer, which the engine of all the others has.
* ``ours``: ``VLLMWrapper.reply`` from messages.

A ratio is that of two ways in one turn; the turns' median is reported. Then:

* ``num_cached_tokens`` of a conversation whose answers are sampled at temperature 1.3: at each turn it should be the
  whole past up to the last block (with a template that keeps history as it was; --template brings one).
* The folder's own template, of Qwen3, which leaves the empty thinking of an answer without thinking out of the next
  prompt; answers of 1,000 tokens: the first token of the next turn with reading ahead while the user types (--pause
  seconds), and without.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.bench_prompt import tokenizer_folder, turns
from benchmarks.report import spread, write
from vllm_wrapper import VLLMWrapper

AHEAD, NOT_AHEAD = "reading ahead", "not reading ahead"
ANSWER_TOKENS = 1000
WANTED_AHEAD = 0.5  # at most, of the time without
IDS, CHAT, SHORT_CHAT, OURS = "ready ids", "LLM.chat", "LLM.chat, short", "ours"
WANTED = {3000: 0.65, 10000: 0.4, 27000: 0.35}  # at most, of LLM.chat's time
WANTED_OVER_LIMIT = 1.15
TEMPERATURE = 1.3
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 64,
    "max_position_embeddings": 40960,
    "vocab_size": 151936,
    "rms_norm_eps": 1e-6,
    "rope_theta": 1e6,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}

Message = dict[str, Any]


def make_model(folder: Path, tokenizer: Path) -> Path:
    """Write a model of random weights that reads and writes a tokenizer's vocabulary."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tokenizer / file).is_file():
            shutil.copy(tokenizer / file, folder / file)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [151645, 151643]}), "utf-8")
    torch.manual_seed(0)
    model = Qwen3ForCausalLM(Qwen3Config(**CONFIG)).to(torch.bfloat16)
    model.save_pretrained(folder)
    return folder


def opening(llm: VLLMWrapper, num_tokens: int, name: str, source: Iterator[list[Message]]) -> list[Message]:
    """Return a conversation of about so many tokens; the name in its first message keeps it apart from the others."""
    messages: list[Message] = [{"role": "system", "content": f"You are the assistant of {name}."}]
    while llm.prompt_builder.count(messages) < num_tokens:
        messages += [dict(message) for message in next(source)]
    return messages


def first_token_ms(llm: VLLMWrapper, num_tokens: int, num_turns: int) -> dict[str, list[float]]:
    """Return the times of each way, one for each turn."""
    from vllm import SamplingParams

    params = SamplingParams(temperature=0.0, max_tokens=1)

    def generate(messages: list[Message]) -> Callable[[], Any]:
        prompt = {"prompt_token_ids": llm.prompt_builder.build(messages).token_ids}
        return lambda: llm._thread.call(lambda engine: llm.model.generate(prompt, params, use_tqdm=False))

    def chat(messages: list[Message]) -> Callable[[], Any]:
        return lambda: llm._thread.call(lambda engine: llm.model.chat(messages, params, use_tqdm=False))

    def stock_chat(messages: list[Message]) -> Callable[[], Any]:
        def run() -> None:
            with stock_detokenizer():
                chat(messages)()

        return run

    def ours(messages: list[Message]) -> Callable[[], Any]:
        return lambda: llm.reply(messages, temperature=0.0, max_tokens=1)

    ways = {IDS: generate, CHAT: stock_chat, SHORT_CHAT: chat, OURS: ours}
    conversations = {name: opening(llm, num_tokens, name, turns(random.Random(1))) for name in ways}
    times: dict[str, list[float]] = {name: [] for name in ways}
    source = turns(random.Random(2))
    for turn in range(num_turns + 2):
        question, answer = next(source)
        for name in random.Random(turn).sample(list(ways), len(ways)):
            conversations[name].append(question)
            run = ways[name](conversations[name])
            started_s = time.perf_counter()
            run()
            if turn > 1:  # the first two fill the caches
                times[name].append((time.perf_counter() - started_s) * 1000)
            conversations[name].append(answer)
            fill_cache(llm, conversations[name])
    return times


@contextlib.contextmanager
def stock_detokenizer() -> Iterator[None]:
    """Let vLLM make its own detokenizers for a while, as it does in programs without this package."""
    from vllm.v1.engine import detokenizer

    short = detokenizer.FastIncrementalDetokenizer
    detokenizer.FastIncrementalDetokenizer = short.__mro__[1]
    try:
        yield
    finally:
        detokenizer.FastIncrementalDetokenizer = short


def fill_cache(llm: VLLMWrapper, messages: list[Message]) -> None:
    """Let the engine read an answer, as it has read those that it wrote itself. Not timed."""
    from vllm import SamplingParams

    token_ids = llm.prompt_builder.build(messages, add_generation_prompt=False).token_ids
    params = SamplingParams(max_tokens=1)
    llm._thread.call(lambda engine: llm.model.generate({"prompt_token_ids": token_ids}, params, use_tqdm=False))


def read_ahead_ms(llm: VLLMWrapper, num_turns: int, pause_s: float) -> dict[str, list[float]]:
    """Return the times to the first token after answers of 1,000 tokens, with reading ahead and without."""
    answers = {"temperature": 0.0, "max_tokens": ANSWER_TOKENS, "ignore_eos": True, "enable_thinking": False}
    source = turns(random.Random(4))
    conversations = {name: opening(llm, 1000, name, turns(random.Random(5))) for name in (AHEAD, NOT_AHEAD)}
    times: dict[str, list[float]] = {name: [] for name in conversations}
    for turn in range(num_turns + 1):
        question = next(source)[0]
        for name in random.Random(turn).sample(list(conversations), 2):
            llm._requests._reads_ahead = name == AHEAD
            conversations[name].append(question)
            reply = llm.reply(conversations[name], **answers)
            if turn:  # before the first there was nothing to read ahead
                times[name].append(reply.usage.ttft_ms)
            conversations[name].append(reply.message)
            time.sleep(pause_s)
    llm._requests._reads_ahead = True
    return times


def cached_shares(llm: VLLMWrapper, num_tokens: int, num_turns: int) -> list[float]:
    """Return, for each turn, how much of the past that could be cached was: 1.0 is all of it."""
    block = llm.model.llm_engine.vllm_config.cache_config.block_size
    plain = [i for i in range(151_643) if "\ufffd" not in llm.tokenizer.decode([i])]  # whole characters, no control
    source = turns(random.Random(3))
    messages = opening(llm, num_tokens, "sampling", source)
    shares, past = [], 0
    for turn in range(num_turns):
        messages.append(next(source)[0])
        reply = llm.reply(
            messages, temperature=TEMPERATURE, seed=turn, max_tokens=100, ignore_eos=True, allowed_token_ids=plain
        )
        if turn:
            shares.append(reply.usage.num_cached_tokens / (past // block * block))
        past = reply.usage.num_prompt_tokens + reply.usage.num_output_tokens - 1  # the last token is not yet computed
        messages.append(reply.message)
    return shares


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", default="Qwen/Qwen3-0.6B", help="a folder, or a model's name on Hugging Face")
    parser.add_argument("--template", type=Path, help="a Jinja file, where the folder holds none")
    parser.add_argument("--histories", type=int, nargs="+", default=list(WANTED))
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--pause", type=float, default=3.0, help="seconds that the user reads and types")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-turns-"))
    try:
        make_model(folder, tokenizer_folder(options.tokenizer))
        if options.template:
            shutil.copy(options.template, folder / "chat_template.jinja")
        with VLLMWrapper(folder) as llm:
            figures = {str(history): measure(llm, history, options.turns) for history in options.histories}
            shares = cached_shares(llm, min(options.histories), options.turns)
        if options.template:
            (folder / "chat_template.jinja").unlink()
        with VLLMWrapper(folder) as llm:
            ahead = measure_ahead(llm, min(options.turns, 5), options.pause)
    finally:
        shutil.rmtree(folder)
    print(f"cached of the past at temperature {TEMPERATURE}: {min(shares):.3f} at least, of {len(shares)} turns")
    write(
        "bench_turns", {"histories": figures, "reading_ahead": ahead, "cached_share_at_temperature_1.3": spread(shares)}
    )


def measure_ahead(llm: VLLMWrapper, num_turns: int, pause_s: float) -> dict[str, Any]:
    times = read_ahead_ms(llm, num_turns, pause_s)
    ratios = [one / other for one, other in zip(times[AHEAD], times[NOT_AHEAD], strict=True)]
    print(f"answers of {ANSWER_TOKENS} tokens, thinking switched off: ms to the first token of the next turn")
    for name, values in times.items():
        print(f"  {name:<18} {statistics.median(values):>8.1f} {min(values):>8.1f} {max(values):>8.1f}")
    print(f"  {'ratio':<18} {statistics.median(ratios):>8.3f} {min(ratios):>8.3f} {max(ratios):>8.3f}  {WANTED_AHEAD}")
    return {
        "ttft_ms": {name: spread(values, 1) for name, values in times.items()},
        "ratio": {**spread(ratios), "wanted": WANTED_AHEAD},
    }


def measure(llm: VLLMWrapper, num_tokens: int, num_turns: int) -> dict[str, Any]:
    times = first_token_ms(llm, num_tokens, num_turns)
    peers = {"over_chat": CHAT, "over_short_chat": SHORT_CHAT, "over_limit": IDS}
    ratios = {
        name: [ours / other for ours, other in zip(times[OURS], times[peer], strict=True)]
        for name, peer in peers.items()
    }
    wanted = {"over_chat": WANTED.get(num_tokens), "over_short_chat": None, "over_limit": WANTED_OVER_LIMIT}
    print(f"{num_tokens} tokens of history: ms to the first token")
    for name, values in times.items():
        print(f"  {name:<16} {statistics.median(values):>8.1f} {min(values):>8.1f} {max(values):>8.1f}")
    for name, values in ratios.items():
        print(f"  {name:<16} {statistics.median(values):>8.3f} {min(values):>8.3f} {max(values):>8.3f}  {wanted[name]}")
    return {
        "ttft_ms": {name: spread(values, 1) for name, values in times.items()},
        "ratios": {name: {**spread(values), "wanted": wanted[name]} for name, values in ratios.items()},
    }


if __name__ == "__main__":
    main()
