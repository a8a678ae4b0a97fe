"""Random prompts for long runs: never the same twice, so that no cache holds all of them.

The prompt caches are bounded, and small in these runs. Memory is sampled when they are full.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.reliability import scale

__all__ = ["CACHE_FILL_TOKENS", "long_conversations", "random_message"]

CACHE_FILL_TOKENS = scale.scaled(200_000, 5_000)  # tokens, which fill the prompt caches in a full run

WORDS = [
    "ask",
    "bring",
    "count",
    "draw",
    "explain",
    "find",
    "green",
    "help",
    "idea",
    "jump",
    "kite",
    "lamp",
    "moon",
    "name",
    "open",
    "paper",
    "question",
    "river",
]


def random_message(chance: random.Random) -> str:
    """Return a message of a few words, now and then a long one."""
    num_words = 200 if chance.random() < 0.05 else chance.randint(3, 30)
    return " ".join([*chance.choices(WORDS, k=num_words), f"number {chance.randrange(10**6)}?"])


def long_conversations(chance: random.Random) -> Iterator[list[dict[str, str]]]:
    """Give conversations of twenty turns, without end."""
    while True:
        turns = [{"role": role, "content": random_message(chance)} for _ in range(19) for role in ("user", "assistant")]
        yield [*turns, {"role": "user", "content": random_message(chance)}]
