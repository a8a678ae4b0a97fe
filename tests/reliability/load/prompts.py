"""What people say in long runs: never the same twice, so that no cache holds all of it.

The prompt caches are bounded, and small in these runs. Memory is looked at when they are full.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from tests.reliability import scale

__all__ = ["FILLING", "long_talks", "said"]

FILLING = scale.scaled(200_000, 5_000)  # tokens, which fill the prompt caches in a full run

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


def said(chance: random.Random) -> str:
    """Return a message of a few words, now and then a long one."""
    num_words = 200 if chance.random() < 0.05 else chance.randint(3, 30)
    return " ".join([*chance.choices(WORDS, k=num_words), f"number {chance.randrange(10**6)}?"])


def long_talks(chance: random.Random) -> Iterator[list[dict[str, str]]]:
    """Give conversations that are at their twentieth question, for ever."""
    while True:
        turns = [{"role": role, "content": said(chance)} for _ in range(19) for role in ("user", "assistant")]
        yield [*turns, {"role": "user", "content": said(chance)}]
