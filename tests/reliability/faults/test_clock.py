"""A clock that jumps during writes: by seconds, years, back to 1970.

Only ``time.time`` of the writing process jumps: what the programs read the time of day from. Setting the machine's own
clock would disturb everything else on it.
"""

from __future__ import annotations

import random
import time

from chat.conversations.conversation import Message
from chat.store.local import ConversationStore
from tests.reliability.faults.checks import check_store
from tests.reliability.faults.fault import Faults
from tests.reliability.faults.writer import WriterProcess, store_opener

JUMPS_S = (0.5, 31.0, 3600.0, 86400.0, 400 * 86400.0, 20 * 365 * 86400.0)


class Clock:
    """The time of day, as a process sees it whose clock is set again and again."""

    def __init__(self, seed: str) -> None:
        self._chance, self._real, self._offset_s = random.Random(seed), time.time, 0.0

    def __call__(self) -> float:
        return max(0.0, self._real() + self._offset_s)

    def jump(self) -> None:
        """Jump now and then, ahead or back."""
        time.time = self
        if self._chance.random() < 0.3:
            self._offset_s = self._chance.choice((-1, 1)) * self._chance.choice(JUMPS_S)
        elif self._chance.random() < 0.05:
            self._offset_s = -self._real()


def test_nothing_is_lost_or_out_of_order_when_the_clock_jumps(faults: Faults) -> None:
    for fault in faults.of("clock jumps", full=24, short=3):
        with fault:
            where = fault.folder / "store.sqlite"
            with WriterProcess(fault, store_opener(where), before_each=Clock(fault.name).jump) as writer:
                writer.wait_for_progress(10)
                history = writer.kill()
            check_store(where, history)


def test_the_writer_itself_is_not_called_gone_when_its_clock_jumps(tmp_path, monkeypatch) -> None:
    store, other = (ConversationStore(tmp_path / "store.sqlite") for _ in range(2))
    conversation = store.create()
    for jump_s in JUMPS_S:
        for sign in (1, -1):
            now_s = time.time() + sign * jump_s
            monkeypatch.setattr(time, "time", lambda now_s=now_s: now_s)
            store.add(conversation, Message("user", "question"))
            monkeypatch.undo()
            assert not other.unfinished()
    store.close()
    other.close()
