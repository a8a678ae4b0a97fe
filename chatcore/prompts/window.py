"""The context window: how much of it a prompt may take, and which turns are left out when it is full.

Whole oldest turns are left out, never the system message and never half a turn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

__all__ = ["TARGET_SHARE", "droppable_units", "group_turns", "max_prompt_tokens", "turn_numbers"]

REPLY_SHARE = 4  # at least a quarter of the window is kept free for the answer, if max_tokens wants so much
# Of the prompt's room, used after turns were left out. Dropping one turn at a time would change the prompt's beginning,
# and so lose the prefix cache, at every turn.
TARGET_SHARE = 0.75


def max_prompt_tokens(window: int, max_tokens: int | None = None) -> int:
    """Return how long a prompt may be: the window, less what is kept free for an answer of ``max_tokens``.

    >>> max_prompt_tokens(4096), max_prompt_tokens(4096, max_tokens=100)
    (3072, 3996)
    """
    share = max(1, window // REPLY_SHARE)
    return window - min(max_tokens or share, share)


def group_turns(roles: Iterable[str | None]) -> list[list[int]]:
    """Return the indices of each turn's messages. A turn begins with a user's message; a system message is in none.

    >>> group_turns(["system", "user", "assistant", "user"])
    [[1, 2], [3]]
    """
    turns: list[list[int]] = []
    for index, role in enumerate(roles):
        if role in ("system", "developer"):
            continue
        if role == "user" or not turns:
            turns.append([])
        turns[-1].append(index)
    return turns


def turn_numbers(roles: Iterable[str | None], left_out: Collection[int]) -> list[int]:
    """Return the numbers, from 1, of the turns that are left out.

    >>> turn_numbers(["user", "assistant", "user"], left_out={0, 1})
    [1]
    """
    return [number for number, turn in enumerate(group_turns(roles), start=1) if turn[0] in left_out]


def droppable_units(roles: Sequence[str | None], pinned: Collection[int] = ()) -> list[list[int]]:
    """Return what may be left out, in the order in which it goes.

    First the turns before the newest one, then, of the newest one, each tool call but the last with its results.

    >>> droppable_units(["user", "assistant", "user", "assistant", "tool", "assistant", "tool"])
    [[0, 1], [3, 4]]
    """
    turns = group_turns(roles)
    steps: list[list[int]] = []
    for index in turns[-1][1:] if turns else []:
        if roles[index] == "assistant" or not steps:
            steps.append([])
        steps[-1].append(index)
    return [unit for unit in turns[:-1] + steps[:-1] if not set(unit) & set(pinned)]
