"""Somebody who talks, as the terminal does it: through ``StoredConversation`` and a store, with answers that grow."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from chat.conversations.conversation import Conversation
from chat.session.answer import PartialAnswer
from chat.session.stored import StoredConversation
from chatcore.errors import StoreError
from tests.reliability.faults.event_log import Journal, WitnessedStore
from vllm_wrapper import Delta, Reply, Usage

__all__ = ["Person", "make_reply"]

WORDS = ("lighthouse", "灯塔", "harbour", "你好", "🙂", "a\u0301", "storm", "\n\n", "naïve", "12*12=144")
WORDS += ("<|im_end|>", "'quoted'", '{"json": 1}', "")


def make_reply(text: str) -> Reply:
    """Return a finished answer."""
    return Reply(text, "", (), tuple(range(len(text))), "stop", Usage(9, 0, len(text), 10.0, 20.0))


class Person:
    """Says things, has them answered, and changes their mind, for ever.

    Args:
        store: where it is kept.
        journal: what is told to the test.
        chance: what is said and done.
        between: called before everything that is done.
    """

    def __init__(
        self, store: Any, journal: Journal, chance: random.Random, between: Callable[[], object] = lambda: None
    ) -> None:
        self._store, self._journal = WitnessedStore(store, journal), journal
        self._chance, self._between = chance, between
        self._earlier: list[Conversation] = []
        self._number = 0
        self.talk = self._new_talk()

    def talk_for_ever(self) -> None:
        """Go on until somebody kills this process."""
        acts = {self.ask: 10, self.answer_again: 2, self.undo: 2, self.pin: 1, self.edit: 1}
        acts |= {self.begin_anew: 1, self.delete_an_earlier_one: 1}
        while True:
            self._between()
            self._chance.choices(list(acts), list(acts.values()))[0]()

    # -- what they do -------------------------------------------------------------------------------------------

    def ask(self) -> None:
        self.talk.add_message(self._text(8))
        self._answer()

    def answer_again(self) -> None:
        if self.talk.turns():
            self.talk.change(lambda conversation: conversation.before_answer())
            self._answer()

    def undo(self) -> None:
        self.talk.change(lambda conversation: conversation.undo())
        if self._chance.random() < 0.5:
            self.talk.change(lambda conversation: conversation.redo())

    def pin(self) -> None:
        if turns := self.talk.turns():
            self.talk.change(lambda conversation: conversation.toggle_pin(self._chance.randint(1, len(turns))))

    def edit(self) -> None:
        if turns := self.talk.turns():
            number = self._chance.randint(1, len(turns))
            self.talk.change(lambda conversation: conversation.before_turn(number))
            self.ask()

    def begin_anew(self) -> None:
        self._earlier.append(self.talk.conversation)
        self.talk = self._new_talk()

    def delete_an_earlier_one(self) -> None:
        if self._earlier and (gone := self._earlier.pop(0)).messages:
            try:
                self._store.delete(gone.id)
            except StoreError as error:
                self._trouble(error)

    # -- inside -------------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        saver, answer = self.talk.saver(continuing=False), PartialAnswer()
        text = self._text(60)
        for start in range(0, len(text), 40):
            answer.add(Delta("text", text[start : start + 40]))
            if self._chance.random() < 0.5:
                saver.save(answer)
        answer.end(make_reply(text))
        saver.finish(answer)
        self._journal.write("answered", is_saved=self.talk.is_saved)

    def _text(self, num_words: int) -> str:
        self._number += 1
        words = self._chance.choices(WORDS, k=self._chance.randint(1, num_words))
        if self._chance.random() < 0.05:
            words += ["much"] * 4000  # more than a page of the database holds
        return f"mark{self._number}x {' '.join(words)}".rstrip()

    def _new_talk(self) -> StoredConversation:
        return StoredConversation(lambda: self._store, Conversation(), on_trouble=self._trouble)

    def _trouble(self, error: StoreError) -> None:
        self._journal.write("trouble", said=str(error), hint=error.hint)
