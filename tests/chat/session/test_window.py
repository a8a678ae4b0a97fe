"""The choice of the turns that go into the prompt when not all fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from chat.backends.base import Fit
from chat.session.window import choose_cut
from chatcore.errors import PromptError
from tests.chat.terminal.scripted import ScriptedBackend


def talk_of(num_turns: int, tokens: int = 10) -> list[dict[str, Any]]:
    turns = [
        [{"role": "user", "content": "q" * tokens}, {"role": "assistant", "content": "a" * tokens}]
        for _ in range(num_turns)
    ]
    return [{"role": "system", "content": "s"}, *(message for turn in turns for message in turn)][:-1]


@pytest.mark.parametrize("window", [60, 100, 200, 500])
@pytest.mark.parametrize("num_turns", [3, 8, 30])
@pytest.mark.parametrize("pins", [(), (1, 2), (3, 4)])
def test_a_cut_keeps_whole_turns_the_system_message_and_the_pinned(
    window: int, num_turns: int, pins: Sequence[int]
) -> None:
    backend = ScriptedBackend(window=window)
    messages = talk_of(num_turns)
    try:
        cut = choose_cut(backend.fit, messages, pinned=pins)
    except PromptError:
        assert pins
        return
    assert cut.kept[0] == 0
    assert cut.kept[-1] == len(messages) - 1
    assert set(pins) <= set(cut.kept)
    assert sorted([*cut.kept, *cut.dropped]) == list(range(len(messages)))
    assert backend.count([messages[i] for i in cut.kept]) == cut.num_prompt_tokens <= cut.max_prompt_tokens
    assert all((index + 1 in cut.dropped) for index in cut.dropped if messages[index]["role"] == "user")
    assert cut.num_dropped_tokens in (0, backend.count([messages[i] for i in cut.dropped]))


def test_choosing_a_cut_in_a_long_conversation_takes_few_questions() -> None:
    """Each one is a message to another process."""
    backend, asked = ScriptedBackend(window=2000), 0

    def fit(messages: Sequence[Any], **options: Any) -> Fit:
        nonlocal asked
        asked += 1
        return backend.fit(messages, **options)

    choose_cut(fit, talk_of(200))
    assert asked < 20
