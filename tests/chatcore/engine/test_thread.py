"""The thread that owns the engine, on a scripted engine: only the lowest seam is not real."""

from __future__ import annotations

import queue
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from chatcore.engine.thread import READ_AHEAD_AFTER_S, Arrival, EngineThread
from chatcore.errors import EngineError
from tests.patience import wait_until


class ScriptedEngine:
    """Gives each request its letters, one a step, to all requests at once."""

    def __init__(self) -> None:
        self.waiting: dict[str, list[str]] = {}
        self.added: list[tuple[str, dict[str, Any]]] = []
        self.aborted: list[str] = []
        self.threads: set[int] = set()
        self.step_may_go = threading.Event()
        self.step_may_go.set()
        self.breaks = False
        self.sleeps = 0  # the level, 0 while awake

    def sleep(self, level: int) -> None:
        self.sleeps = level

    def wake_up(self) -> None:
        self.sleeps = 0

    def add_request(self, request_id: str, prompt: str, params: Any, **options: Any) -> str:
        self.threads.add(threading.get_ident())
        if not prompt:
            raise ValueError("the prompt is empty")
        self.added.append((prompt, options))
        self.waiting[request_id] = list(prompt)
        return request_id

    def step(self) -> list[Any]:
        self.threads.add(threading.get_ident())
        self.step_may_go.wait()
        if self.breaks:
            raise RuntimeError("the device is gone")
        outputs = []
        for request_id, letters in list(self.waiting.items()):
            outputs.append(SimpleNamespace(request_id=request_id, text=letters.pop(0), finished=not letters))
            if not letters:
                del self.waiting[request_id]
        return outputs

    def abort_request(self, request_ids: list[str]) -> None:
        self.aborted += request_ids
        for request_id in request_ids:
            self.waiting.pop(request_id, None)

    def has_unfinished_requests(self) -> bool:
        return bool(self.waiting)


@pytest.fixture
def engine():
    return ScriptedEngine()


@pytest.fixture
def thread(engine):
    thread = EngineThread(lambda: engine)
    yield thread
    engine.step_may_go.set()
    thread.close()


def collect(arrivals: queue.SimpleQueue[Arrival]) -> str:
    text = ""
    while True:
        arrival = arrivals.get(timeout=10)
        if arrival.error is not None:
            raise arrival.error
        text += arrival.output.text
        if arrival.output.finished:
            return text


def test_threads_share_the_engine_and_get_their_own_outputs(engine, thread):
    results: dict[str, str] = {}

    def ask(word: str) -> None:
        arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
        thread.submit(word, word, None, arrivals.put)
        results[word] = collect(arrivals)

    words = [f"word{number}" for number in range(20)]
    callers = [threading.Thread(target=ask, args=(word,)) for word in words]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(10)
    assert results == {word: word for word in words}
    assert len(engine.threads) == 1
    assert threading.get_ident() not in engine.threads


def test_a_refused_request_is_its_owners_affair(thread):
    refused: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
    thread.submit("bad", "", None, refused.put)
    assert isinstance(refused.get(timeout=10).error, ValueError)
    accepted: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
    thread.submit("good", "ok", None, accepted.put)
    assert collect(accepted) == "ok"


def test_an_aborted_request_gets_nothing_more(engine, thread):
    engine.step_may_go.clear()
    arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
    thread.submit("a", "abc", None, arrivals.put)
    thread.abort("a")
    engine.step_may_go.set()
    assert thread.call(lambda engine: engine.aborted) == ["a"]
    while not arrivals.empty():
        assert not arrivals.get().output.finished


def test_an_engine_failure_reaches_waiting_and_later_requests(engine, thread):
    engine.step_may_go.clear()
    engine.breaks = True
    arrivals: list[queue.SimpleQueue[Arrival]] = [queue.SimpleQueue() for _ in range(3)]
    for number, receiver in enumerate(arrivals):
        thread.submit(str(number), "abc", None, receiver.put)
    engine.step_may_go.set()
    for receiver in arrivals:
        with pytest.raises(EngineError, match="the device is gone"):
            collect(receiver)
    with pytest.raises(EngineError, match="the device is gone"):
        thread.submit("late", "abc", None, print)
    assert isinstance(thread.failure, RuntimeError)


def test_closing_ends_what_is_under_way_and_twice_is_fine(engine, thread):
    engine.step_may_go.clear()
    arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
    thread.submit("a", "abcdefgh", None, arrivals.put)
    closer = threading.Thread(target=thread.close)
    closer.start()
    engine.step_may_go.set()
    closer.join(10)
    thread.close()
    with pytest.raises(EngineError, match="closed"):
        collect(arrivals)
    with pytest.raises(EngineError, match="closed"):
        thread.submit("b", "abc", None, arrivals.put)


def test_what_building_the_engine_raises_the_constructor_raises():
    def fail() -> Any:
        raise OSError("no such device")

    with pytest.raises(OSError, match="no such device"):
        EngineThread(fail)


def test_call_runs_between_steps_and_hands_errors_back(thread):
    assert thread.call(lambda engine: engine.has_unfinished_requests()) is False
    with pytest.raises(AttributeError):
        thread.call(lambda engine: engine.no_such_thing)


def test_a_sleeping_engine_refuses_requests_until_it_wakes(engine, thread):
    thread.sleep(2)
    assert engine.sleeps == 2
    refused: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
    thread.submit("a", "abc", None, refused.put)
    error = refused.get(timeout=10).error
    assert isinstance(error, EngineError)
    assert "wake_up" in error.hint
    thread.wake_up()
    thread.wake_up()  # awake already: nothing happens
    assert engine.sleeps == 0
    answered: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
    thread.submit("b", "abc", None, answered.put)
    assert collect(answered) == "abc"


def test_an_engine_that_answers_does_not_fall_asleep(engine, thread):
    arrivals: queue.SimpleQueue[Arrival] = queue.SimpleQueue()
    thread.submit("a", "a" * 100_000, None, arrivals.put)  # many steps
    with pytest.raises(EngineError, match="answers are under way"):
        thread.sleep()
    assert engine.sleeps == 0
    thread.abort("a")
    thread.sleep()
    assert engine.sleeps == 1


# -- reading ahead ----------------------------------------------------------------------------------------------------


def test_an_idle_engine_reads_ahead_one_prompt_after_the_other(engine, thread):
    thread.read_ahead(lambda: [("ab", None), ("abcd", None)], lora_request="an adapter")
    wait_until(lambda: len(engine.added) == 2 and not engine.waiting)
    assert [(prompt, options) for prompt, options in engine.added] == [
        ("ab", {"lora_request": "an adapter"}),
        ("abcd", {"lora_request": "an adapter"}),
    ]
    assert engine.aborted == []


def test_who_asks_at_once_is_not_disturbed_by_reading_ahead(engine, thread):
    made = []
    thread.read_ahead(lambda: made.append(1) or [("ahead", None)])
    arrivals = queue.SimpleQueue()
    thread.submit("1", "abc", None, arrivals.put)
    assert collect(arrivals) == "abc"
    time.sleep(READ_AHEAD_AFTER_S * 3)
    assert made == []
    assert [prompt for prompt, _ in engine.added] == ["abc"]


def test_who_asks_ends_what_is_read_ahead(engine, thread):
    engine.step_may_go.clear()
    thread.read_ahead(lambda: [("a long prompt", None), ("a longer prompt", None)])
    wait_until(lambda: engine.added)
    arrivals = queue.SimpleQueue()
    thread.submit("1", "abc", None, arrivals.put)
    engine.step_may_go.set()
    assert collect(arrivals) == "abc"
    assert engine.aborted == ["ahead-1"]
    assert [prompt for prompt, _ in engine.added] == ["a long prompt", "abc"]


def test_an_engine_that_reads_ahead_can_sleep(engine, thread):
    engine.step_may_go.clear()
    thread.read_ahead(lambda: [("a long prompt", None)])
    wait_until(lambda: engine.added)
    threading.Timer(0.05, engine.step_may_go.set).start()
    thread.sleep()
    assert engine.sleeps == 1


@pytest.mark.parametrize("prompts", [[("", None)], None], ids=["a prompt that the engine refuses", "no prompts"])
def test_reading_ahead_breaks_nothing(engine, thread, prompts):
    asked = threading.Event()
    thread.read_ahead(lambda: asked.set() or prompts)
    assert asked.wait(10)
    arrivals = queue.SimpleQueue()
    thread.submit("1", "abc", None, arrivals.put)
    assert collect(arrivals) == "abc"
