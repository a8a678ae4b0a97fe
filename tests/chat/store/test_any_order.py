"""Anything done to a stored conversation in any order: the store holds what memory holds, and nothing ever goes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from chat.conversations.conversation import Message
from chat.store.base import Store
from chat.store.local import ConversationStore
from chatcore.errors import ConversationNotFoundError
from tests.chat.store.storing import assert_same, path

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


class AnyOrder(RuleBasedStateMachine):
    """What people do to a conversation; after each step the store is compared with memory."""

    where: str

    def open(self) -> Store:
        return ConversationStore(self.where)

    @initialize()
    def begin(self) -> None:
        self.store = self.open()
        self.conversation = self.store.create()
        self.said: dict[str, str] = {}

    @rule(content=TEXT)
    def ask(self, content: str) -> None:
        self._add(Message("user", content))

    @precondition(lambda self: self.conversation.tip is not None)
    @rule(content=TEXT, token_ids=st.lists(st.integers(0, 2**32 - 1), max_size=3))
    def answer(self, content: str, token_ids: list[int]) -> None:
        self._add(Message("assistant", content, token_ids=tuple(token_ids)))

    @precondition(lambda self: self.conversation.tip is not None)
    @rule(pieces=st.lists(TEXT, min_size=1, max_size=3), completes=st.booleans())
    def stream(self, pieces: list[str], completes: bool) -> None:
        answer = Message("assistant", "", status="partial")
        self.store.add(self.conversation, answer)
        for number in range(len(pieces)):
            status = "complete" if completes and number == len(pieces) - 1 else "partial"
            self._add(replace(answer, content="".join(pieces[: number + 1]), status=status))

    @rule(number=st.integers(1, 3))
    def undo(self, number: int) -> None:
        self.conversation.undo(number)
        self.store.save(self.conversation)

    @rule(number=st.integers(1, 3))
    def redo(self, number: int) -> None:
        self.conversation.redo(number)
        self.store.save(self.conversation)

    @precondition(lambda self: self.conversation.num_turns)
    @rule(content=TEXT)
    def regenerate(self, content: str) -> None:
        question = self.conversation.before_answer()
        answer = self._add(Message("assistant", content))
        assert answer.parent_id == question.id
        assert answer in self.conversation.variants(answer.id)

    @precondition(lambda self: self.conversation.num_turns)
    @rule(data=st.data(), content=TEXT)
    def edit(self, data: st.DataObject, content: str) -> None:
        self.conversation.before_turn(data.draw(st.integers(1, self.conversation.num_turns)))
        self._add(Message("user", content))

    @precondition(lambda self: self.conversation.messages)
    @rule(data=st.data())
    def go_to(self, data: st.DataObject) -> None:
        chosen = data.draw(st.sampled_from(list(self.conversation.messages)))
        self.conversation.go_to(chosen)
        assert chosen in [message.id for message in self.conversation.path()]
        self.store.save(self.conversation)

    @precondition(lambda self: self.conversation.num_turns)
    @rule(data=st.data())
    def pin_and_cut(self, data: st.DataObject) -> None:
        number = data.draw(st.integers(1, self.conversation.num_turns))
        self.conversation.toggle_pin(number)
        self.conversation.window_start_id = self.conversation.turn(number).id
        self.store.save(self.conversation)

    @rule(title=TEXT, system=TEXT)
    def name(self, title: str, system: str) -> None:
        self.conversation.title, self.conversation.system = title, system
        self.conversation.settings["top_k"] = len(title)
        self.store.save(self.conversation)

    @rule()
    def leave_and_come_back(self) -> None:
        self.store.close()
        self.store = self.open()
        self.conversation = self.store.load(self.conversation.id)

    @rule()
    def copy(self) -> None:
        kept = self.store.insert(self.conversation)
        assert path(self.store.load(kept.id)) == path(self.conversation)

    @invariant()
    def memory_and_store_are_equal(self) -> None:
        assert_same(self.store.load(self.conversation.id), self.conversation)

    @invariant()
    def nothing_ever_goes(self) -> None:
        kept = {message.id: message.content for message in self.conversation.messages.values()}
        assert self.said.items() <= kept.items()

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.delete(self.conversation.id)
            with pytest.raises(ConversationNotFoundError):
                self.store.load(self.conversation.id)
            self.store.close()

    def _add(self, message: Message) -> Message:
        placed = self.store.add(self.conversation, message)
        self.said[placed.id] = placed.content
        return placed


def test_memory_and_store_stay_equal_whatever_is_done(where):
    class Machine(AnyOrder):
        pass

    Machine.where = where
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=12,
            stateful_step_count=15,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
