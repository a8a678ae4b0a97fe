"""What people say in long runs: never the same twice, so that no cache holds all of it."""

from __future__ import annotations

import random

__all__ = ["said"]

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
