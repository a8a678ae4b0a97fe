"""Leases of turns: one at a time, over processes, and free when the holder has died."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time

import pytest

from chat.conversations.conversation import make_id
from chat.store import leases
from chat.store.local import ConversationStore
from chatcore.errors import ConversationBusyError, ConversationNotFoundError, QuotaExceededError

TAKE_AND_DIE = """
import os, sys
from chat.store import ConversationStore
store = ConversationStore(sys.argv[1])
store.leases.take(sys.argv[2], "turn", owner="local")
os._exit(9)
"""


def test_one_turn_at_a_time_is_given(store):
    conversation = store.create()
    lease = store.leases.take(conversation.id, make_id(), owner="local")
    with pytest.raises(ConversationBusyError):
        store.leases.take(conversation.id, make_id(), owner="local")
    assert store.leases.is_held(conversation.id)
    store.leases.release(lease)
    assert not store.leases.is_held(conversation.id)
    store.leases.take(conversation.id, make_id(), owner="local")


def test_of_many_at_once_one_gets_the_lease(where):
    stores = [ConversationStore(where) for _ in range(3)]
    conversation = stores[0].create()
    taken: list[str] = []

    def take(store):
        with contextlib.suppress(ConversationBusyError):
            taken.append(store.leases.take(conversation.id, make_id(), owner="local").turn_id)

    threads = [threading.Thread(target=take, args=(stores[i % 3],)) for i in range(9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == 1
    for store in stores:
        store.close()


def test_the_lease_of_a_process_that_died_is_free_at_once(where):
    store = ConversationStore(where)
    conversation = store.create()
    subprocess.run([sys.executable, "-c", TAKE_AND_DIE, where, conversation.id], check=False)
    assert store.leases.are_held({"turn"}) == set()
    store.leases.take(conversation.id, make_id(), owner="local")
    store.close()


def test_a_holder_that_fell_silent_loses_its_lease(where, monkeypatch):
    silent, other = ConversationStore(where), ConversationStore(where)
    conversation = silent.create()
    silent.leases.take(conversation.id, "turn", owner="local")
    monkeypatch.setattr(leases, "LEASE_S", -1.0)
    lease = other.leases.take(conversation.id, "other", owner="local")
    assert silent.leases.running() == set()
    assert other.leases.running() == {"other"}
    silent.leases.release(leases.Lease(conversation.id, "turn"))  # no longer its own
    assert other.leases.running() == {lease.turn_id}
    silent.close()
    other.close()


def test_a_renewed_lease_is_held_on(where, monkeypatch):
    holder, other = ConversationStore(where), ConversationStore(where)
    conversation = holder.create()
    holder.leases.take(conversation.id, "turn", owner="local")
    monkeypatch.setattr(leases, "LEASE_S", 0.5)
    time.sleep(0.6)
    holder.leases.renew(["turn"])
    assert other.leases.are_held(["turn"]) == {"turn"}
    time.sleep(0.6)
    holder.leases.renew(["another"])
    assert other.leases.are_held(["turn"]) == set()
    holder.close()
    other.close()


def test_a_mark_from_another_process_stops_a_turn(where):
    here, elsewhere = ConversationStore(where), ConversationStore(where)
    conversation = here.create(owner="ann")
    here.leases.take(conversation.id, "turn", owner="ann")
    assert not elsewhere.leases.cancel(owner="bob", conversation_id=conversation.id)
    assert here.leases.running() == {"turn"}
    assert elsewhere.leases.cancel(owner="ann", conversation_id=conversation.id)
    assert here.leases.running() == set()
    assert elsewhere.leases.are_held(["turn"]) == {"turn"}
    here.close()
    elsewhere.close()


def test_an_owner_is_given_so_many_answers_at_once(store):
    first, second = store.create(owner="ann"), store.create(owner="ann")
    store.leases.take(first.id, make_id(), owner="ann", max_turns=1)
    with pytest.raises(QuotaExceededError, match="1 answers"):
        store.leases.take(second.id, make_id(), owner="ann", max_turns=1)
    store.leases.take(store.create(owner="bob").id, make_id(), owner="bob", max_turns=1)


def test_somebody_elses_conversation_cannot_be_taken(store):
    conversation = store.create(owner="ann")
    with pytest.raises(ConversationNotFoundError):
        store.leases.take(conversation.id, make_id(), owner="bob")


def test_a_lease_goes_with_its_conversation(store):
    conversation = store.create()
    store.leases.take(conversation.id, "turn", owner="local")
    store.delete(conversation.id)
    assert store.leases.running() == set()
