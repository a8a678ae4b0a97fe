"""What has arrived of an answer, while it is being written and afterwards."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from chatcore.errors import ChatError
from chatcore.reply import Delta, Reply

__all__ = ["SAVE_INTERVAL_S", "PartialAnswer", "kept_meanwhile"]

SAVE_INTERVAL_S = 0.7  # so that a saved answer is never more than a second behind, the writing of it included


@dataclass(slots=True)
class PartialAnswer:
    """What has arrived of an answer.

    Args:
        text, reasoning: as far as they came.
        reply: the finished reply; None if there is none, because of an error or because an abort was not confirmed.
        error: what ended the answer, if it failed.
        interrupted: whoever asked ended it.
        terminated: the signal that told the process to end, if one did.
        num_deltas: pieces that arrived.
    """

    text: str = ""
    reasoning: str = ""
    reply: Reply | None = None
    error: ChatError | None = None
    interrupted: bool = False
    terminated: int | None = None
    num_deltas: int = 0
    started_s: float = field(default_factory=time.monotonic)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to keep. A model may also end its answer at once: that is an answer."""
        ended_by_itself = self.reply is not None and not self.interrupted
        return not self.text and not self.reasoning and not ended_by_itself

    @property
    def num_tokens(self) -> int:
        """Number of tokens that were generated; of pieces that arrived, if an abort was not confirmed."""
        return self.reply.usage.num_output_tokens if self.reply else self.num_deltas

    def add(self, delta: Delta) -> None:
        """Take the next piece."""
        self.num_deltas += 1
        if delta.kind == "text":
            self.text += delta.text
        elif delta.kind == "reasoning":
            self.reasoning += delta.text

    def end(self, reply: Reply) -> None:
        """Take the finished reply."""
        self.reply = reply
        self.text, self.reasoning = reply.text, reply.reasoning


@contextlib.contextmanager
def kept_meanwhile(answer: PartialAnswer, save: Callable[[PartialAnswer], object]) -> Iterator[None]:
    """Keep what has arrived of an answer while a block receives it, at least every second, in another thread.

    So a model that falls silent in the middle of an answer does not keep what it said before from being saved.

    Args:
        save: keeps it; the block must leave alone what this changes.
    """
    is_over = threading.Event()

    def keep() -> None:
        num_saved = 0
        while not is_over.wait(SAVE_INTERVAL_S):
            if answer.num_deltas > num_saved:
                num_saved = answer.num_deltas
                save(answer)

    thread = threading.Thread(target=keep, name="keep-answer", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
