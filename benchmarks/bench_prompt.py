"""What does the next turn's prompt cost, and what did the usual way cost?

A conversation of at least 260 messages and 20,000 tokens (English, Chinese, code; fixed seed) goes on turn by turn.
Timed, in this one process, median of several:

* peer: ``tokenizer.apply_chat_template(messages, tokenize=True, add_generation_prompt=True)`` of transformers,
* peer, first: its first call, before its own cache of words knows the conversation,
* cold: the first prompt of a builder that has seen nothing,
* next turn: an answer and a question more than in the prompt before, both new,
* again: the same prompt once more,
* next turn, whole: the past rendered again, its encoded pieces known (a template that looks back costs this),
* turn 40 and turn 400: the next turn after so many,
* fit: the conversation cut to a quarter of its tokens.

Every prompt that is timed is also compared with the peer's, id by id.

    python benchmarks/bench_prompt.py                       # the demo model
    python benchmarks/bench_prompt.py --tokenizer FOLDER    # or a model's name on a hub

Prints a table, and JSON on the last line.
"""

from __future__ import annotations

import argparse
import json
import pydoc_data.topics
import random
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chatcore.models.hub import DEMO_MODEL, DEMO_MODEL_DIR
from chatcore.prompts.pieces import PieceCache
from prompt_utils import PromptBuilder

CHINESE = (
    "这个问题可以从几个方面来看。",
    "首先我们需要了解背景；",
    "其次要考虑实际情况。",
    "杭州今天多云，",
    "气温十八到二十五度。",
    "算法的复杂度取决于输入的规模。",
    "他们在河边散步，",
    "谈论着未来的计划。",
    "请把文件保存到当前目录，",
    "然后重新运行程序。",
    "数据库里一共有三百多条记录。",
    "春天的茶叶最香。",
    "这本书讲述了一个关于友谊的故事。",
)
NUM_SENTENCES = 9  # of an answer
SENTENCE_WORDS = 12

Message = dict[str, str]


def words() -> list[str]:
    """Return the words of Python's own documentation: real prose and code, in every installation."""
    return " ".join(pydoc_data.topics.topics.values()).split()


def turns(rng: random.Random) -> Iterator[list[Message]]:
    """Yield turns without end: a question and its answer, about 230 of Qwen's tokens. No sentence comes twice."""
    prose = words()
    while True:
        sentences = []
        for _ in range(NUM_SENTENCES):
            start = rng.randrange(len(prose) - SENTENCE_WORDS)
            sentences.append(" ".join(prose[start : start + SENTENCE_WORDS]))
            sentences.append("，".join(rng.choices(CHINESE, k=2)) if rng.random() < 0.3 else f"{rng.random():.3f}")
        yield [
            {"role": "user", "content": sentences[0] + "?"},
            {"role": "assistant", "content": "\n".join(sentences[1:])},
        ]


def conversation(num_turns: int, seed: int = 1) -> list[Message]:
    """Return a system message and so many turns."""
    source = turns(random.Random(seed))
    return [{"role": "system", "content": "You are a helpful assistant."}] + [
        m for _ in range(num_turns) for m in next(source)
    ]


def tokenizer_folder(name: str) -> Path:
    """Return the folder of a tokenizer: the demo model's, one that is there, or one from Hugging Face (no weights)."""
    if name == DEMO_MODEL:
        return DEMO_MODEL_DIR
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(name, allow_patterns=["*.json", "*.jinja", "*.tiktoken"]))


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


class Bench:
    """Times one model's prompts against its peer's."""

    def __init__(self, folder: Path, repeats: int) -> None:
        from transformers import AutoTokenizer

        self.folder = folder
        self.repeats = repeats
        PromptBuilder.from_pretrained(folder)  # transformers is imported now: not what is timed
        self.load_s = statistics.median(seconds(self.new_builder)[0] for _ in range(3))
        loads = [seconds(lambda: AutoTokenizer.from_pretrained(folder)) for _ in range(3)]
        self.peer_load_s = statistics.median(taken for taken, _ in loads)
        self.peers = [peer for _, peer in loads]

    def new_builder(self) -> PromptBuilder:
        return PromptBuilder.from_pretrained(self.folder)

    def peer_ids(self, messages: list[Message], which: int = 0) -> list[int]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            encoded = self.peers[which].apply_chat_template(messages, tokenize=True, add_generation_prompt=True)
        return list(encoded["input_ids"] if hasattr(encoded, "keys") else encoded)

    def median(self, run: Callable[[int], float]) -> float:
        return statistics.median(run(i) for i in range(self.repeats))

    def peer_first(self, messages: list[Message]) -> float:
        return statistics.median(seconds(lambda i=i: self.peer_ids(messages, i))[0] for i in range(len(self.peers)))

    def peer_turn(self, messages: list[Message], start: int) -> float:
        """Return what the peer takes for successive turns."""
        return self.median(lambda i: seconds(lambda: self.peer_ids(messages[: start + 2 * i]))[0])

    def next_turn(self, builder: PromptBuilder, messages: list[Message], start: int) -> float:
        """Return what successive turns take, each with a new answer and a new question."""
        builder.build(messages[: start - 2])

        def turn(i: int) -> float:
            taken, prompt = seconds(lambda: builder.build(messages[: start + 2 * i]))
            assert prompt.token_ids == self.peer_ids(messages[: start + 2 * i]), "the prompt differs from the peer's"
            return taken

        return self.median(turn)

    def cold(self, messages: list[Message]) -> float:
        builders = [self.new_builder() for _ in range(self.repeats)]
        return self.median(lambda i: seconds(lambda: builders[i].build(messages))[0])


def without_past(builder: PromptBuilder) -> PromptBuilder:
    """Keep a builder from going on from the settled past, as a template that looks back would."""
    builder._pasts._max_bytes = 0
    return builder


def cached_bytes(builder: PromptBuilder) -> int:
    pieces: PieceCache = builder._encoder.cache
    return pieces.num_bytes + builder._pasts._num_bytes


def measure(bench: Bench) -> dict[str, float]:
    messages = conversation(135 + bench.repeats)
    messages.pop()  # ends with a question
    start = 262
    builder = bench.new_builder()
    peer_first = bench.peer_first(messages[:start])
    num_tokens = len(bench.peer_ids(messages[:start]))
    assert num_tokens >= 20_000 or len(builder.tokenizer.control_tokens) < 10, f"only {num_tokens} tokens"
    peer = bench.peer_turn(messages, start)
    cold = bench.cold(messages[:start])
    following = bench.next_turn(builder, messages, start)
    again = bench.median(lambda i: seconds(lambda: builder.build(messages[:start]))[0])
    whole = bench.next_turn(without_past(bench.new_builder()), messages, start)
    fit = bench.median(lambda i: seconds(lambda: builder.fit(messages[:start], max_prompt_tokens=num_tokens // 4))[0])
    long = conversation(401 + bench.repeats)
    long.pop()
    turn_40 = bench.next_turn(bench.new_builder(), long, 2 * 40)
    turn_400 = bench.next_turn(bench.new_builder(), long, 2 * 400)
    peer_400 = bench.peer_turn(long, 2 * 400)
    return {
        "num_messages": start,
        "num_tokens": num_tokens,
        "load_s": bench.load_s,
        "peer_load_s": bench.peer_load_s,
        "peer_ms": peer * 1e3,
        "peer_first_ms": peer_first * 1e3,
        "cold_ms": cold * 1e3,
        "next_turn_ms": following * 1e3,
        "again_ms": again * 1e3,
        "next_turn_whole_ms": whole * 1e3,
        "fit_ms": fit * 1e3,
        "turn_40_ms": turn_40 * 1e3,
        "turn_400_ms": turn_400 * 1e3,
        "peer_turn_400_ms": peer_400 * 1e3,
        "cold_speedup": peer / cold,
        "cold_speedup_first": peer_first / cold,
        "next_turn_speedup": peer / following,
        "next_turn_whole_speedup": peer / whole,
        "turn_400_speedup": peer_400 / turn_400,
        "turn_400_to_turn_40": turn_400 / turn_40,
        "cache_mib": cached_bytes(builder) / 2**20,
    }


def print_table(found: dict[str, float]) -> None:
    print(f"{found['num_messages']:.0f} messages, {found['num_tokens']:.0f} tokens")
    rows = [
        ("peer: apply_chat_template", "peer_ms", None),
        ("peer, first", "peer_first_ms", None),
        ("cold", "cold_ms", "cold_speedup"),
        ("next turn", "next_turn_ms", "next_turn_speedup"),
        ("next turn, whole", "next_turn_whole_ms", "next_turn_whole_speedup"),
        ("again", "again_ms", None),
        ("fit to a quarter", "fit_ms", None),
        ("turn 40", "turn_40_ms", None),
        ("turn 400", "turn_400_ms", "turn_400_speedup"),
        ("turn 400, peer", "peer_turn_400_ms", None),
    ]
    print(f"{'':28}{'median ms':>12}{'times faster':>14}")
    for name, key, speedup in rows:
        print(f"{name:28}{found[key]:12.2f}{f'{found[speedup]:.1f}' if speedup else '':>14}")
    print(f"cold is {found['cold_speedup_first']:.1f} times faster than the peer's first call")
    print(f"turn 400 costs {found['turn_400_to_turn_40']:.1f} times turn 40; caches hold {found['cache_mib']:.1f} MiB")
    print(f"load {found['load_s']:.2f} s, peer {found['peer_load_s']:.2f} s (transformers imported before)")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", default="demo", help="a model's folder, or its name on a hub (default: demo)")
    parser.add_argument("--repeats", type=int, default=9, help="timings for each median")
    args = parser.parse_args()
    found = measure(Bench(tokenizer_folder(args.tokenizer), args.repeats))
    print_table(found)
    print(
        json.dumps({"tokenizer": Path(args.tokenizer).name, **{key: round(value, 4) for key, value in found.items()}})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
