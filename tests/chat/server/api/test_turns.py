"""Turns of kept conversations, with answers made here: what is on disk whatever happens to them."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from chat.conversations.conversation import Message
from chat.server.api import turns as turns_module
from chat.server.api.turns import Piece, RunningTurns
from chat.server.settings.retention import ServedSettings
from chat.store.local import ConversationStore
from chatcore.errors import ChatError, ConversationBusyError, EngineError, QuotaExceededError, StoreError

STOP = 7
USAGE = {"num_prompt_tokens": 5, "num_output_tokens": 3}


@pytest.fixture
def store(tmp_path):
    store = ConversationStore(tmp_path / "store.sqlite")
    yield store
    store.close()


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30))


async def words(*texts, end=None, pause_s=0.0):
    for number, text in enumerate(texts):
        await asyncio.sleep(pause_s)
        yield Piece(text=text, token_ids=[number])
    yield end or Piece(token_ids=[STOP], finish_reason="stop", usage=USAGE)


async def begun(turns, conversation, source, text="Hello"):
    turn = await turns.open(conversation.id, owner=conversation.owner)
    await turn.say([Message("user", text)], window_start_id=None)
    turn.begin(source)
    return turn


def answer_in(store, conversation):
    return store.load(conversation.id, owner=conversation.owner).tip


def test_an_answer_is_on_disk_before_its_last_piece_goes_out(store):
    conversation = store.create()

    async def talk():
        turns = RunningTurns(store, ServedSettings(), [STOP])
        turn = await begun(turns, conversation, words("Hel", "lo"))
        async for piece in turn.pieces():
            if piece.finish_reason is None:
                assert answer_in(store, conversation).role == "user"
            else:
                kept = answer_in(store, conversation)
                await turns.open(conversation.id, owner="local")  # the lease is free again
        return kept

    kept = run(talk())
    assert (kept.role, kept.content, kept.status, kept.finish_reason) == ("assistant", "Hello", "complete", "stop")
    assert (kept.token_ids, kept.usage) == ((0, 1), USAGE)


def test_the_question_is_on_disk_before_anything_is_generated(store):
    conversation = store.create()

    async def source():
        seen.append(answer_in(store, conversation).content)
        yield Piece(finish_reason="stop")

    async def talk():
        turn = await begun(RunningTurns(store, ServedSettings()), conversation, source(), "the question")
        return [piece async for piece in turn.pieces()]

    seen = []
    run(talk())
    assert seen == ["the question"]


def test_what_came_is_kept_also_when_the_engine_falls_silent(store, monkeypatch):
    """It was kept with the next piece, which may come late or never."""
    monkeypatch.setattr(turns_module, "SAVE_INTERVAL_S", 0.05)
    conversation = store.create()

    async def source():
        yield Piece(text="Once upon ")
        await asyncio.sleep(30)

    async def talk():
        await begun(RunningTurns(store, ServedSettings()), conversation, source())
        while answer_in(store, conversation).role == "user":
            await asyncio.sleep(0.01)
        return answer_in(store, conversation)

    kept = run(talk())
    assert (kept.content, kept.status) == ("Once upon ", "partial")


def test_a_long_answer_is_kept_while_it_grows(store, monkeypatch):
    monkeypatch.setattr(turns_module, "SAVE_INTERVAL_S", 0.05)
    conversation = store.create()

    async def talk():
        turn = await begun(RunningTurns(store, ServedSettings()), conversation, words(*"abcdef", pause_s=0.1))
        found = []
        async for _ in turn.pieces():
            found.append(answer_in(store, conversation))
        return found

    kept = run(talk())
    growing = [message for message in kept if message.status == "partial" and message.role == "assistant"]
    assert growing
    assert "abcdef".startswith(growing[-1].content)
    assert (kept[-1].content, kept[-1].status) == ("abcdef", "complete")


def test_all_answers_that_grow_are_written_together(store, monkeypatch):
    monkeypatch.setattr(turns_module, "SAVE_INTERVAL_S", 0.05)
    rounds = []
    grow = store.grow

    def counted(answers):
        rounds.append({answer.id for answer in answers})
        grow(answers)

    monkeypatch.setattr(store, "grow", counted)

    async def talk():
        turns = RunningTurns(store, ServedSettings())
        begins = [begun(turns, store.create(), words(*"abcdefghij", pause_s=0.1)) for _ in range(4)]
        answers = await asyncio.gather(*begins)
        for turn in answers:
            assert [piece.finish_reason async for piece in turn.pieces()][-1] == "stop"
        return {turn.id for turn in answers}

    ids = run(talk())
    assert ids in rounds
    assert max(map(len, rounds)) == 4


def test_a_growing_answer_that_cannot_be_kept_is_kept_the_next_time(store, monkeypatch):
    """Also when nothing more has come meanwhile, and when the others' could be."""
    monkeypatch.setattr(turns_module, "SAVE_INTERVAL_S", 0.05)
    conversations = [store.create(), store.create()]
    grow, failures = store.grow, [StoreError("busy"), StoreError("busy")]

    def busy_at_first(answers):
        if answers and failures:
            raise failures.pop()
        grow(answers)

    monkeypatch.setattr(store, "grow", busy_at_first)

    async def source():
        yield Piece(text="Once ")
        await asyncio.sleep(0.3)
        yield Piece(text="upon")
        await asyncio.sleep(30)

    async def talk():
        turns = RunningTurns(store, ServedSettings())
        for conversation in conversations:
            await begun(turns, conversation, source())
        while any(answer_in(store, conversation).content != "Once upon" for conversation in conversations):
            await asyncio.sleep(0.01)

    run(talk())
    assert failures == []


def test_deleting_a_conversation_does_not_stop_saving_others(store, monkeypatch):
    monkeypatch.setattr(turns_module, "SAVE_INTERVAL_S", 0.05)
    deleted, other = store.create(), store.create()

    async def source():
        yield Piece(text="Once")
        await asyncio.sleep(30)

    async def talk():
        turns = RunningTurns(store, ServedSettings())
        await begun(turns, deleted, source())
        store.delete(deleted.id)
        await begun(turns, other, source())
        while answer_in(store, other).role == "user":
            await asyncio.sleep(0.01)
        return answer_in(store, other)

    kept = run(talk())
    assert (kept.content, kept.status) == ("Once", "partial")
    assert [summary.id for summary in store.recent()] == [other.id]


def test_whoever_leaves_ends_the_answer_and_keeps_what_came(store):
    conversation = store.create()
    closed = []

    async def source():
        try:
            while True:
                yield Piece(text="x")
                await asyncio.sleep(0.01)
        finally:
            closed.append(True)

    async def talk():
        turns = RunningTurns(store, ServedSettings())
        turn = await begun(turns, conversation, source())
        async with contextlib.aclosing(turn.pieces()) as pieces:
            async for _ in pieces:
                break
        while turns.running:
            await asyncio.sleep(0.01)
        await turns.open(conversation.id, owner="local")

    run(talk())
    kept = answer_in(store, conversation)
    assert closed == [True]
    assert (kept.status, kept.finish_reason) == ("partial", "abort")
    assert set(kept.content) == {"x"}


def test_a_cancel_by_another_process_ends_the_answer_soon(store, tmp_path):
    conversation = store.create(owner="ann")
    other = ConversationStore(tmp_path / "store.sqlite")

    async def source():
        yield Piece(text="begun")
        await asyncio.sleep(60)

    async def talk():
        turn = await begun(RunningTurns(store, ServedSettings()), conversation, source())
        pieces = turn.pieces()
        await anext(pieces)
        begun_s = time.monotonic()
        assert other.leases.cancel(owner="ann", conversation_id=conversation.id)
        last = await anext(pieces)
        return last, time.monotonic() - begun_s

    last, waited_s = run(talk())
    other.close()
    assert last.finish_reason == "abort"
    assert waited_s < turns_module.LOOK_INTERVAL_S + 1.0  # the tests' machine may be busy
    assert (answer_in(store, conversation).content, answer_in(store, conversation).status) == ("begun", "partial")


def test_an_answer_cancelled_before_its_first_token_is_not_stored(store):
    conversation = store.create()

    async def source():
        await asyncio.sleep(60)
        yield Piece(text="never")

    async def talk():
        turn = await begun(RunningTurns(store, ServedSettings()), conversation, source())
        await asyncio.sleep(0.05)
        turn.cancel()
        return [piece.finish_reason async for piece in turn.pieces()]

    assert run(talk()) == ["abort"]
    assert answer_in(store, conversation).role == "user"


@pytest.mark.parametrize(
    ("raised", "said"),
    [(EngineError("the engine died"), "the engine died"), (ZeroDivisionError(), "the server failed")],
)
def test_an_engine_that_fails_is_said_and_what_came_is_kept(store, raised, said):
    conversation = store.create()

    async def source():
        yield Piece(text="half", tool_calls=[{"id": "call"}])
        raise raised

    async def talk():
        turn = await begun(RunningTurns(store, ServedSettings()), conversation, source())
        return [piece async for piece in turn.pieces()]

    with pytest.raises(ChatError, match=said):
        run(talk())
    kept = answer_in(store, conversation)
    assert (kept.content, kept.status, kept.tool_calls) == ("half", "partial", ())


def test_an_answer_that_cannot_be_kept_is_not_called_finished(store, monkeypatch):
    conversation = store.create()

    async def talk():
        turn = await begun(RunningTurns(store, ServedSettings()), conversation, words("Hello"))

        def fail(*_):
            raise StoreError("the disk is full")

        monkeypatch.setattr(store, "add", fail)
        return [piece async for piece in turn.pieces()]

    with pytest.raises(StoreError, match="the disk is full"):
        run(talk())
    assert store.leases.running() == set()


def test_what_is_to_be_done_at_the_end_is_done_before_the_lease_is_free(store):
    conversation = store.create()
    seen = []

    async def talk():
        turn = await turns.open(conversation.id, owner="local")
        turn.on_end = lambda answer, error: seen.append((answer.content, error, store.leases.are_held([turn.id])))
        turn.begin(words("Hello"))
        return turn.id, [piece async for piece in turn.pieces()]

    turns = RunningTurns(store, ServedSettings())
    turn_id, _ = run(talk())
    assert seen == [("Hello", None, {turn_id})]


def test_an_answer_that_stays_goes_on_when_nobody_listens(store):
    conversation = store.create()

    async def talk():
        turns = RunningTurns(store, ServedSettings())
        turn = await turns.open(conversation.id, owner="local")
        turn.stays = True
        turn.begin(words("He", "llo", pause_s=0.05))
        async with contextlib.aclosing(turn.pieces()) as pieces:
            await anext(pieces)
        while turns.running:
            await asyncio.sleep(0.01)

    run(talk())
    assert answer_in(store, conversation).content == "Hello"


def test_a_conversation_gives_one_answer_at_a_time(store):
    conversation = store.create()

    async def talk():
        turns = RunningTurns(store, ServedSettings())
        turn = await turns.open(conversation.id, owner="local")
        with pytest.raises(ConversationBusyError):
            await turns.open(conversation.id, owner="local")
        await turn.close()
        await (await turns.open(conversation.id, owner="local")).close()

    run(talk())


def test_quotas_hold_for_each_owner(store):
    turns = RunningTurns(store, ServedSettings(max_conversations=2, max_turns=1))
    first, second = turns.create(owner="ann"), turns.create(owner="ann")
    with pytest.raises(QuotaExceededError, match="2 conversations"):
        turns.create(owner="ann")
    turns.create(owner="bob")

    async def talk():
        await turns.open(first.id, owner="ann")
        with pytest.raises(QuotaExceededError):
            await turns.open(second.id, owner="ann")

    run(talk())


def test_thinking_is_kept_without_the_blank_lines_of_its_markup(store):
    conversation = store.create()

    async def source():
        yield Piece(reasoning="\nI think\n")
        yield Piece(text="\n\nYes")
        yield Piece(finish_reason="stop")

    async def talk():
        turn = await begun(RunningTurns(store, ServedSettings()), conversation, source())
        return [piece async for piece in turn.pieces()]

    run(talk())
    assert (answer_in(store, conversation).reasoning, answer_in(store, conversation).content) == ("I think", "Yes")
