"""What of a conversation goes into the prompt when not all of it fits.

Whole oldest turns go until three quarters of the window are used, and that cut stays until the window is full again:
dropping one turn at a time would change the prompt's beginning, and so lose the prefix cache, at every turn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from chat.backends.base import Fit
from chatcore.errors import PromptError
from chatcore.prompts.window import TARGET_SHARE, group_turns
from chatcore.reply import MessageDict

__all__ = ["Cut", "choose_cut"]

Fitter = Callable[[Sequence[MessageDict]], Fit]


@dataclass(frozen=True, slots=True)
class Cut:
    """Which messages go into the prompt.

    Args:
        kept: indices, in order.
        dropped: indices of those that are left out now and were not before.
        num_prompt_tokens: length of the prompt.
        max_prompt_tokens: the most that fits.
        num_dropped_tokens: by how much the newly dropped messages shorten the prompt.
    """

    kept: tuple[int, ...]
    dropped: tuple[int, ...]
    num_prompt_tokens: int
    max_prompt_tokens: int
    num_dropped_tokens: int = 0


def choose_cut(
    fit: Fitter,
    messages: Sequence[MessageDict],
    *,
    pinned: Collection[int] = (),
    already_dropped: Collection[int] = (),
) -> Cut:
    """Return which messages go into the prompt.

    Args:
        fit: counts messages (:meth:`chat.backends.base.Backend.fit`).
        messages: the whole conversation.
        pinned: indices of messages whose turns must stay.
        already_dropped: indices of messages that an earlier cut left out.
    Raises:
        PromptError: what must stay does not fit.
    """
    kept = [index for index in range(len(messages)) if index not in already_dropped]
    whole = _fit(fit, messages, kept)
    if not whole.dropped:
        return Cut(tuple(kept), (), whole.num_prompt_tokens, whole.max_prompt_tokens)
    turns = [turn for turn in group_turns(message["role"] for message in messages) if turn[0] not in already_dropped]
    candidates = [turn for turn in turns[:-1] if not set(turn) & set(pinned)]
    gone = _fewest(fit, messages, kept, candidates, int(whole.max_prompt_tokens * TARGET_SHARE))
    rest = _without(kept, gone)
    fitted = _fit(fit, messages, rest)
    if fitted.dropped:  # only because of pins: without them fit() itself would have raised
        raise PromptError(
            f"the pinned turns and the last message do not fit {fitted.max_prompt_tokens} tokens together",
            hint="/pin N unpins a turn.",
        )
    dropped = tuple(index for turn in gone for index in turn)
    return Cut(
        tuple(rest),
        dropped,
        fitted.num_prompt_tokens,
        fitted.max_prompt_tokens,
        _num_tokens(fit, messages, dropped),
    )


def _fewest(
    fit: Fitter, messages: Sequence[MessageDict], kept: Sequence[int], candidates: list[list[int]], target: int
) -> list[list[int]]:
    """Return the fewest oldest turns without which the prompt reaches the target; all of them if it never does."""
    low, high = 1, len(candidates)
    while low < high:
        middle = (low + high) // 2
        fitted = _fit(fit, messages, _without(kept, candidates[:middle]))
        if not fitted.dropped and fitted.num_prompt_tokens <= target:
            high = middle
        else:
            low = middle + 1
    return candidates[:high]


def _num_tokens(fit: Fitter, messages: Sequence[MessageDict], indices: Sequence[int]) -> int:
    """Return how many tokens these messages add to a prompt; 0 if they are too many to be counted at once."""
    last = len(messages) - 1
    with_them = _fit(fit, messages, [*indices, last])
    return 0 if with_them.dropped else with_them.num_prompt_tokens - _fit(fit, messages, [last]).num_prompt_tokens


def _fit(fit: Fitter, messages: Sequence[MessageDict], indices: Sequence[int]) -> Fit:
    return fit([messages[index] for index in indices])


def _without(kept: Sequence[int], turns: Sequence[Sequence[int]]) -> list[int]:
    gone = {index for turn in turns for index in turn}
    return [index for index in kept if index not in gone]
