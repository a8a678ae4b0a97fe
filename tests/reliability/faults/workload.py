"""A random workload on a store, as the terminal writes: through ``StoredConversation``, piece by piece."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from chat.conversations.conversation import Conversation
from chat.session.answer import PartialAnswer
from chat.session.stored import StoredConversation
from chatcore.errors import StoreError
from tests.reliability.faults.event_log import EventLog, LoggedStore
from vllm_wrapper import Delta, Reply, Usage

__all__ = ["Workload", "make_reply"]

WORDS = ("lighthouse", "灯塔", "harbour", "你好", "🙂", "a\u0301", "storm", "\n\n", "naïve", "12*12=144")
WORDS += ("<|im_end|>", "'quoted'", '{"json": 1}', "")


def make_reply(text: str) -> Reply:
    """Return a finished answer."""
    return Reply(text, "", (), tuple(range(len(text))), "stop", Usage(9, 0, len(text), 10.0, 20.0))


class Workload:
    """Random actions on conversations, without end: ask, regenerate, undo, pin, edit, delete.

    Args:
        store: that the conversations are kept in.
        event_log: read by the test.
        chance: the random numbers for actions and texts.
        before_each: called before each action.
    """

    def __init__(
        self, store: Any, event_log: EventLog, chance: random.Random, before_each: Callable[[], object] = lambda: None
    ) -> None:
        self._store, self._event_log = LoggedStore(store, event_log), event_log
        self._chance, self._before_each = chance, before_each
        self._earlier: list[Conversation] = []
        self._number = 0
        self.stored = self._new_conversation()

    def run_forever(self) -> None:
        """Go on until this process is killed."""
        actions = {self.ask: 10, self.regenerate: 2, self.undo: 2, self.pin: 1, self.edit: 1}
        actions |= {self.start_new: 1, self.delete_earlier: 1}
        while True:
            self._before_each()
            self._chance.choices(list(actions), list(actions.values()))[0]()

    # -- the actions -------------------------------------------------------------------------------------------

    def ask(self) -> None:
        self.stored.add_message(self._text(8))
        self._answer()

    def regenerate(self) -> None:
        if self.stored.turns():
            self.stored.change(lambda conversation: conversation.before_answer())
            self._answer()

    def undo(self) -> None:
        self.stored.change(lambda conversation: conversation.undo())
        if self._chance.random() < 0.5:
            self.stored.change(lambda conversation: conversation.redo())

    def pin(self) -> None:
        if turns := self.stored.turns():
            self.stored.change(lambda conversation: conversation.toggle_pin(self._chance.randint(1, len(turns))))

    def edit(self) -> None:
        if turns := self.stored.turns():
            number = self._chance.randint(1, len(turns))
            self.stored.change(lambda conversation: conversation.before_turn(number))
            self.ask()

    def start_new(self) -> None:
        self._earlier.append(self.stored.conversation)
        self.stored = self._new_conversation()

    def delete_earlier(self) -> None:
        if self._earlier and (gone := self._earlier.pop(0)).messages:
            try:
                self._store.delete(gone.id)
            except StoreError as error:
                self._log_trouble(error)

    # -- inside -------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        saver, answer = self.stored.saver(continuing=False), PartialAnswer()
        text = self._text(60)
        for start in range(0, len(text), 40):
            answer.add(Delta("text", text[start : start + 40]))
            if self._chance.random() < 0.5:
                saver.save(answer)
        answer.end(make_reply(text))
        saver.finish(answer)
        self._event_log.write("answered", is_saved=self.stored.is_saved)

    def _text(self, num_words: int) -> str:
        self._number += 1
        words = self._chance.choices(WORDS, k=self._chance.randint(1, num_words))
        if self._chance.random() < 0.05:
            words += ["much"] * 4000  # more than a page of the database holds
        return f"mark{self._number}x {' '.join(words)}".rstrip()

    def _new_conversation(self) -> StoredConversation:
        return StoredConversation(lambda: self._store, Conversation(), on_trouble=self._log_trouble)

    def _log_trouble(self, error: StoreError) -> None:
        self._event_log.write("trouble", said=str(error), hint=error.hint)
