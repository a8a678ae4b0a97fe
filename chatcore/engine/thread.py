"""The thread that owns a vLLM engine.

vLLM's engine is not thread-safe, and on CPU its OpenMP threads belong to the thread that first used it. So one thread
builds the engine, adds requests to it, steps it and aborts on it; everybody else leaves orders in an inbox. Requests of
many threads thus share the engine's batch, and nobody waits for a step to end in order to be told that it was aborted.

While nobody asks, the engine can read ahead: the beginning of a prompt that is likely to come (:class:`_ReadAhead`).

Does not know messages or prompts: it moves token ids in and vLLM's outputs out.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol, TypeVar

from chatcore.errors import ChatError, EngineError

__all__ = ["Arrival", "Engine", "EngineThread"]

T = TypeVar("T")
REQUESTS_PER_STEP = 64  # taken in before a step: of a large batch, the others are prepared while the engine works

READ_AHEAD_AFTER_S = 0.1  # of silence: a program that asks at once is not disturbed
_log = logging.getLogger(__name__)


class Engine(Protocol):
    """The part of ``vllm.v1.engine.llm_engine.LLMEngine`` that is used; tests put a scripted one here."""

    def add_request(self, request_id: str, prompt: Any, params: Any, **options: Any) -> str: ...

    def step(self) -> list[Any]: ...

    def abort_request(self, request_ids: list[str]) -> None: ...

    def has_unfinished_requests(self) -> bool: ...

    def sleep(self, level: int) -> None: ...

    def wake_up(self) -> object: ...


class Arrival(NamedTuple):
    """What a request's owner receives: an output of the engine, or the error that ended the request."""

    at_s: float  # time.perf_counter() when the engine gave it
    output: Any | None
    error: Exception | None = None


class _Request(NamedTuple):
    request_id: str
    prompt: Any
    params: Any
    options: dict[str, Any]
    receive: Callable[[Arrival], None]


class _Call(NamedTuple):
    function: Callable[[Any], Any]
    future: Future[Any]


class _Abort(NamedTuple):
    request_id: str


class _Close(NamedTuple):
    pass


class _Ahead(NamedTuple):
    make_prompts: Callable[[], Iterable[Any]]
    options: dict[str, Any]


class _ReadAhead:
    """What the engine reads into its prefix cache while nobody asks; dropped as soon as somebody does.

    Used in the engine's thread alone.
    """

    def __init__(self) -> None:
        self._ahead: _Ahead | None = None
        self._prompts: Iterator[Any] | None = None  # once begun
        self._request_id = ""
        self._numbers = itertools.count(1)

    @property
    def patience_s(self) -> float | None:
        """How long the engine must have been idle before the next prompt is read; None if there is none."""
        if self._ahead is None:
            return None
        return READ_AHEAD_AFTER_S if self._prompts is None else 0.0

    def plan(self, ahead: _Ahead) -> None:
        self._ahead, self._prompts = ahead, None

    def begin_next(self, engine: Engine) -> bool:
        """Hand the next prompt to the idle engine; return whether there was one."""
        if self._ahead is None:
            return False
        try:
            if self._prompts is None:
                self._prompts = iter(self._ahead.make_prompts())
            prompt = next(self._prompts, None)
            if prompt is not None:
                self._request_id = f"ahead-{next(self._numbers)}"
                engine.add_request(self._request_id, *prompt, **self._ahead.options)
                return True
        except Exception:  # nobody has asked for it: what is wrong with a prompt is said when it is asked for
            _log.debug("the next prompt was not read ahead", exc_info=True)
        self._ahead = self._prompts = None
        return False

    def drop(self, engine: Engine) -> None:
        if self._ahead is not None:
            if self._prompts is not None and engine.has_unfinished_requests():
                engine.abort_request([self._request_id])
            self._ahead = self._prompts = None


class EngineThread:
    """Run an engine in a thread of its own.

    Args:
        make_engine: builds the engine; called in the new thread. What it raises, the constructor raises.
    """

    def __init__(self, make_engine: Callable[[], Engine]) -> None:
        self._inbox: queue.SimpleQueue[_Request | _Call | _Abort | _Ahead | _Close] = queue.SimpleQueue()
        self._receivers: dict[str, Callable[[Arrival], None]] = {}
        self._failure: Exception | None = None
        self._closed = False
        self._read_ahead = _ReadAhead()
        self._sleeps = False  # only the engine's thread reads and writes it
        self._lock = threading.Lock()  # guards _failure and _closed against a submit that comes at the same moment
        ready: Future[Engine] = Future()
        self._thread = threading.Thread(target=self._run, args=(make_engine, ready), name="vllm-engine", daemon=True)
        self._thread.start()
        ready.result()

    def submit(
        self, request_id: str, prompt: Any, params: Any, receive: Callable[[Arrival], None], **options: Any
    ) -> None:
        """Hand a request to the engine; ``receive`` is called in the engine's thread with each output of it.

        Raises:
            EngineError: the engine has failed or was closed.
        """
        self._post(_Request(request_id, prompt, params, options, receive))

    def abort(self, request_id: str) -> None:
        """Free the engine of a request at its next step; unknown and finished ids are ignored."""
        if not self._closed:
            self._inbox.put(_Abort(request_id))

    def call(self, function: Callable[[Any], T]) -> T:
        """Run ``function(engine)`` in the engine's thread, between two steps, and return what it returns."""
        future: Future[T] = Future()
        self._post(_Call(function, future))
        return future.result()

    def read_ahead(self, make_prompts: Callable[[], Iterable[Any]], **options: Any) -> None:
        """Let the engine read prompts once it has been idle for a moment, one after the other; the last plan holds.

        Whoever asks the engine for anything ends it. ``make_prompts`` gives (prompt, sampling parameters) and is called
        in the engine's thread; each should ask for little that the one before did not, since a step that is under way
        ends before a request begins. What the engine answers is thrown away.
        """
        self._inbox.put(_Ahead(make_prompts, options))

    def sleep(self, level: int = 1) -> None:
        """Put the engine to sleep; until it wakes, requests end with an :class:`EngineError`.

        Raises:
            EngineError: answers are under way.
        """

        def fall_asleep(engine: Engine) -> None:
            if engine.has_unfinished_requests():
                raise EngineError("answers are under way", hint="Wait for them, or abort them, before sleep().")
            engine.sleep(level)
            self._sleeps = True

        self.call(fall_asleep)

    def wake_up(self) -> None:
        """Let a sleeping engine answer again; one that is awake stays so."""

        def wake(engine: Engine) -> None:
            if self._sleeps:
                engine.wake_up()
                self._sleeps = False

        self.call(wake)

    def close(self) -> None:
        """End the thread; open requests end with an :class:`EngineError`. Closing twice is fine."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._inbox.put(_Close())
        self._thread.join()

    @property
    def failure(self) -> Exception | None:
        """What killed the engine, or None while it lives."""
        return self._failure

    def _post(self, order: _Request | _Call) -> None:
        with self._lock:
            if self._failure is not None:
                raise EngineError(f"the engine has failed: {self._failure}") from self._failure
            if self._closed:
                raise EngineError("the engine was closed", hint="Make a new VLLMWrapper.")
            self._inbox.put(order)

    def _run(self, make_engine: Callable[[], Engine], ready: Future[Engine]) -> None:
        try:
            engine = make_engine()
        except BaseException as error:
            ready.set_exception(error)
            return
        ready.set_result(engine)
        try:
            while self._obey_orders(engine):
                for output in engine.step():
                    self._deliver(output)
            self._end(EngineError("the engine was closed", hint="Make a new VLLMWrapper."))
        except Exception as error:  # whatever kills the engine: its callers must hear of it, or they wait for ever
            with self._lock:
                self._failure = error
            failure = EngineError(f"the engine failed: {error or type(error).__name__}")
            failure.__cause__ = error
            self._end(failure)

    def _obey_orders(self, engine: Engine) -> bool:
        """Carry out what lies in the inbox, waiting while the engine is idle; return whether to step."""
        num_requests = 0
        while num_requests < REQUESTS_PER_STEP:
            is_idle = not engine.has_unfinished_requests()
            try:
                order = self._inbox.get(block=is_idle, timeout=self._read_ahead.patience_s)
            except queue.Empty:
                if is_idle and not self._read_ahead.begin_next(engine):
                    continue
                return True
            if not isinstance(order, _Abort):
                self._read_ahead.drop(engine)
            match order:
                case _Close():
                    return False
                case _Request():
                    self._add(engine, order)
                    num_requests += 1
                case _Abort(request_id):
                    if self._receivers.pop(request_id, None):
                        engine.abort_request([request_id])
                case _Ahead():
                    self._read_ahead.plan(order)
                case _Call(function, future):
                    _fulfil(future, function, engine)
        return True

    def _add(self, engine: Engine, request: _Request) -> None:
        if self._sleeps:
            error = EngineError("the engine sleeps", hint="Call wake_up() first.")
            request.receive(Arrival(time.perf_counter(), None, error))
            return
        self._receivers[request.request_id] = request.receive
        try:
            engine.add_request(request.request_id, request.prompt, request.params, **request.options)
        except Exception as error:  # a request that the engine refuses is its owner's affair, not the engine's end
            del self._receivers[request.request_id]
            request.receive(Arrival(time.perf_counter(), None, error))

    def _deliver(self, output: Any) -> None:
        receive = self._receivers.get(output.request_id)
        if receive is None:  # aborted while this step ran
            return
        if output.finished:
            del self._receivers[output.request_id]
        receive(Arrival(time.perf_counter(), output))

    def _end(self, error: ChatError) -> None:
        """Tell everybody who still waits."""
        for receive in self._receivers.values():
            receive(Arrival(time.perf_counter(), None, error))
        self._receivers.clear()
        while True:
            try:
                order = self._inbox.get_nowait()
            except queue.Empty:
                return
            if isinstance(order, _Request):
                order.receive(Arrival(time.perf_counter(), None, error))
            elif isinstance(order, _Call):
                order.future.set_exception(error)


def _fulfil(future: Future[Any], function: Callable[[Any], Any], engine: Engine) -> None:
    try:
        future.set_result(function(engine))
    except Exception as error:
        future.set_exception(error)
