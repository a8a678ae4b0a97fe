"""An answer under way: requests handed to the engine's thread, and what comes back of them.

An answer can be aborted from any thread at any moment; its reader is told at once, and what there is of it is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import queue
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from chatcore.engine.outputs import OutputCollector
from chatcore.engine.thread import Arrival, EngineThread
from chatcore.errors import ChatError, EngineError, SamplingError, first_line
from chatcore.reply import Delta, Reply

__all__ = ["AsyncStream", "Stream", "run_to_end"]

_request_numbers = itertools.count(1)


def _new_request_id() -> str:
    """Return what names a request to the engine's thread; the engines of a process share the numbers."""
    return f"chat-{next(_request_numbers)}"


class _Receiver:
    """What :class:`Stream` and :class:`AsyncStream` share: a request under way, and what has come of it."""

    def __init__(
        self,
        engine: EngineThread,
        answer: OutputCollector,
        params: Any,
        lora_request: Any = None,
        ahead: Callable[[Reply], Iterable[Any]] | None = None,
    ) -> None:
        from chatcore.engine.vllm_api import tokens_input

        self._open()
        self._engine = engine
        self._answer = answer
        self._ahead = ahead
        self._lora_request = lora_request
        self._pending: deque[Delta] = deque()
        self._reply: Reply | None = None
        self._error: ChatError | None = None
        self._request_id = _new_request_id()
        prompt = tokens_input(list(answer.prompt_token_ids))
        engine.submit(self._request_id, prompt, params, self._put, lora_request=lora_request)

    def abort(self) -> None:
        """End the answer now, keeping what there is of it; may be called from any thread, and returns at once."""
        self._put(None)
        self._engine.abort(self._request_id)

    def _open(self) -> None:
        """Make what the engine's thread puts its arrivals into."""
        raise NotImplementedError

    def _put(self, arrival: Arrival | None) -> None:
        """Take what the engine's thread gives, or None for an abort; :meth:`_accept` gets it in the reader's thread."""
        raise NotImplementedError

    def _accept(self, arrival: Arrival | None) -> None:
        if arrival is None:
            self._pending += self._answer.finish()
            self._reply = self._answer.reply("abort")
        elif arrival.error is not None:
            self._error = _request_error(arrival.error)
        else:
            self._pending += self._answer.take(arrival)
            assert arrival.output is not None
            if arrival.output.finished:
                self._end(arrival.output.outputs[0].finish_reason)

    def _end(self, finish_reason: str | None) -> None:
        if finish_reason == "error":
            self._error = EngineError(
                "the engine gave up on this request", hint="Its log says why (VLLM_LOGGING_LEVEL=INFO shows it)."
            )
        else:
            self._reply = self._answer.reply(finish_reason)
            if self._ahead:
                upcoming = functools.partial(self._ahead, self._reply)
                self._engine.read_ahead(upcoming, lora_request=self._lora_request)

    def _is_open(self) -> bool:
        """Tell whether more can come; raise what ended the answer if it was an error."""
        if self._error is not None:
            raise self._error
        return self._reply is None

    def __del__(self) -> None:
        if getattr(self, "_reply", self) is None:
            self._engine.abort(self._request_id)


class Stream(_Receiver):
    """An answer under way: iterate it for deltas; ``reply`` waits for the end. Leaving its ``with`` block aborts it.

    Made by :meth:`vllm_wrapper.VLLMWrapper.stream`. One thread reads it; any thread may abort it.
    """

    def _open(self) -> None:
        self._arrivals: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Delta:
        while not self._pending:
            if not self._is_open():
                raise StopIteration
            self._receive()
        return self._pending.popleft()

    @property
    def reply(self) -> Reply:
        """The finished answer; waits for it."""
        while self._is_open():
            self._receive()
        assert self._reply is not None
        return self._reply

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reply is None:
            self.abort()

    def _put(self, arrival: Arrival | None) -> None:
        self._arrivals.put(arrival)

    def _receive(self) -> None:
        try:
            self._accept(self._arrivals.get())
        except KeyboardInterrupt:
            self._engine.abort(self._request_id)
            raise


class AsyncStream(_Receiver):
    """:class:`Stream` for asyncio: ``async for`` its deltas, ``await`` its :meth:`chatcore.reply`, ``async with`` it.

    Made by :meth:`vllm_wrapper.VLLMWrapper.astream`.
    """

    def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrivals: asyncio.Queue[Arrival | None] = asyncio.Queue()

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Delta:
        while not self._pending:
            if not self._is_open():
                raise StopAsyncIteration
            self._accept(await self._arrivals.get())
        return self._pending.popleft()

    async def reply(self) -> Reply:
        """Return the finished answer. A task that is cancelled while it waits aborts the answer."""
        try:
            while self._is_open():
                self._accept(await self._arrivals.get())
        except asyncio.CancelledError:
            self.abort()
            raise
        assert self._reply is not None
        return self._reply

    async def __aenter__(self) -> AsyncStream:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._reply is None:
            self.abort()

    def _put(self, arrival: Arrival | None) -> None:
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._arrivals.put_nowait, arrival)


def run_to_end(engine: EngineThread, prompts: Sequence[Sequence[int]], params: Any) -> list[Any]:
    """Run ready token ids through the engine; return the last output of each, in order.

    Raises:
        ChatError: the engine refuses one of them; the others are aborted.
    """
    from chatcore.engine.vllm_api import tokens_input

    arrivals: queue.SimpleQueue[tuple[int, Arrival]] = queue.SimpleQueue()
    request_ids = [_new_request_id() for _ in prompts]
    outputs: dict[int, Any] = {}

    def receiver(index: int) -> Callable[[Arrival], None]:
        return lambda arrival: arrivals.put((index, arrival))

    try:
        for index, (request_id, prompt) in enumerate(zip(request_ids, prompts, strict=True)):
            engine.submit(request_id, tokens_input(list(prompt)), params, receiver(index))
        while len(outputs) < len(prompts):
            index, arrival = arrivals.get()
            if arrival.error is not None:
                raise _request_error(arrival.error)
            assert arrival.output is not None
            if arrival.output.finished:
                outputs[index] = arrival.output
    except BaseException:
        for request_id in request_ids:
            engine.abort(request_id)
        raise
    return [outputs[index] for index in range(len(prompts))]


def _request_error(error: Exception) -> ChatError:
    """Return the error to raise for one that ended a request."""
    if isinstance(error, ChatError):
        return error
    from chatcore.engine.vllm_api import VLLMClientError

    if isinstance(error, (ValueError, TypeError, VLLMClientError)):
        return SamplingError(first_line(error))
    return EngineError(f"the engine refused the request: {first_line(error)}")
