"""A model whose answers have random lengths, speeds and pauses; it logs each piece that arrives at the program."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.chat.terminal.scripted import ScriptedBackend, ScriptedStream, Step
from tests.reliability.faults.event_log import EventLog, History
from vllm_wrapper import Delta

__all__ = ["RandomModel", "lost_s"]

MAX_PAUSE_S = 2.5  # a model may be silent for a while in the middle of an answer


class RandomModel(ScriptedBackend):
    """Gives answers of any length, at any speed, with pauses; those of questions with "short" in them are short.

    Args:
        event_log: read by the test.
        chance: the random numbers for lengths, speeds and pauses.
    """

    def __init__(self, event_log: EventLog, chance: random.Random) -> None:
        super().__init__(window=1_000_000)
        self.event_log, self._chance = event_log, chance
        self._num_answers = 0

    def stream(
        self, messages: Sequence[Mapping[str, Any]], *, session_id: str | None = None, **options: Any
    ) -> RandomStream:
        self.requests.clear()
        self._num_answers += 1
        mark = f"answer{self._num_answers}x"
        is_short = "short" in str(messages[-1]["content"])
        self.event_log.write("asked", mark=mark)
        return RandomStream(self, [f"{mark} ", *self._random_steps(3 if is_short else 2000)], 9)

    def _random_steps(self, num_words: int) -> list[Step]:
        pace_s = self._chance.choice((0.0, 0.002, 0.02))
        steps: list[Step] = []
        for number in range(num_words):
            steps += [f"word{number} ", pace_s] if pace_s else [f"word{number} "]
            if num_words > 3 and self._chance.random() < 0.01:
                steps.append(self._chance.uniform(0.3, MAX_PAUSE_S))
        return steps


class RandomStream(ScriptedStream):
    """One answer of a :class:`RandomModel`."""

    _backend: RandomModel

    def __iter__(self) -> Iterator[Delta]:
        num_characters = 0
        for delta in super().__iter__():
            num_characters += len(delta.text)
            self._backend.event_log.write("received", num_characters=num_characters)
            yield delta


def lost_s(history: History, kept: Sequence[str], at_s: float) -> float:
    """Return how long before the fault the oldest piece had arrived that is not kept; 0 if none is missing.

    Args:
        kept: the texts of all messages that are there.
        at_s: when the fault came.
    """
    asked = history.last("asked")
    if asked is None:
        return 0.0
    num_kept = max((len(text) for text in kept if text.startswith(asked["mark"])), default=0)
    pieces = [e for e in history.events if e["event"] == "received" and e["at_s"] >= asked["at_s"]]
    missing = [piece for piece in pieces if piece["num_characters"] > num_kept]
    return float(at_s - missing[0]["at_s"]) if missing else 0.0
