"""What the engine gives for one request -> deltas, and at the end a reply.

Thinking and tool calls are told from the text by vLLM's own parsers; :func:`find_parsers` picks them by the model's
chat template. An answer can be aborted from any thread at any moment, and what there is of it is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from engine_loading import first_line
from engine_thread import Arrival, EngineThread
from errors import ChatError, EngineError, SamplingError
from prompt_utils import PromptBuilder, remove_stop_words

__all__ = [
    "Answer",
    "AsyncStream",
    "Delta",
    "OutputParser",
    "Reply",
    "Stream",
    "ToolCall",
    "Usage",
    "find_parsers",
    "make_parser_class",
    "run_to_end",
]

FinishReason = Literal["stop", "length", "tool_calls", "abort"]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called.

    ``arguments`` is the JSON text that the model wrote; it may be invalid JSON.
    """

    id: str
    name: str
    arguments: str

    def as_message_part(self) -> dict[str, Any]:
        """Return the call in the shape that OpenAI's assistant messages carry."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of an answer.

    ``text`` belongs to the answer, to the thinking before it, or to the arguments of the call named ``tool_call``.
    """

    kind: Literal["text", "reasoning", "tool_call"]
    text: str
    tool_call: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost. Times run from the call, the building of the prompt included."""

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    ttft_ms: float = 0.0
    e2el_ms: float = 0.0
    dropped_turns: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer, or what there was of it when it was aborted.

    ``token_ids`` are those that the model generated, without the stop token. ``parsed`` is the object that a
    ``response_format`` asked for, None if the text is not (yet) one.
    """

    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    parsed: Any = None

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message to append to the conversation, with the ids it was generated as."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [call.as_message_part() for call in self.tool_calls]
        message["token_ids"] = list(self.token_ids)
        return message


class _Receiver:
    """What :class:`Stream` and :class:`AsyncStream` share: a request under way, and what has come of it."""

    def __init__(self, engine: EngineThread, answer: Answer, params: Any) -> None:
        from vllm.inputs import tokens_input

        self._engine = engine
        self._answer = answer
        self._pending: list[Delta] = []
        self._reply: Reply | None = None
        self._error: ChatError | None = None
        self._request_id = uuid.uuid4().hex
        engine.submit(self._request_id, tokens_input(list(answer.prompt_token_ids)), params, self._put)

    def abort(self) -> None:
        """End the answer now, keeping what there is of it; may be called from any thread, and returns at once."""
        self._put(None)
        self._engine.abort(self._request_id)

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

    def _is_open(self) -> bool:
        """Tell whether more can come; raise what ended the answer if it was an error."""
        if self._error is not None:
            raise self._error
        return self._reply is None

    def __del__(self) -> None:
        if getattr(self, "_reply", self) is None:
            self._engine.abort(self._request_id)


class Stream(_Receiver):
    """An answer under way: iterate it for deltas; ``reply`` waits for the end. Leaving its ``with`` block aborts it."""

    def __init__(self, engine: EngineThread, answer: Answer, params: Any) -> None:
        self._arrivals: queue.SimpleQueue[Arrival | None] = queue.SimpleQueue()
        super().__init__(engine, answer, params)

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> Delta:
        while not self._pending:
            if not self._is_open():
                raise StopIteration
            self._receive()
        return self._pending.pop(0)

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
    """:class:`Stream` for asyncio: ``async for`` its deltas, ``await`` its :meth:`reply`, ``async with`` it."""

    def __init__(self, engine: EngineThread, answer: Answer, params: Any) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrivals: asyncio.Queue[Arrival | None] = asyncio.Queue()
        super().__init__(engine, answer, params)

    def __aiter__(self) -> AsyncStream:
        return self

    async def __anext__(self) -> Delta:
        while not self._pending:
            if not self._is_open():
                raise StopAsyncIteration
            self._accept(await self._arrivals.get())
        return self._pending.pop(0)

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
    from vllm.inputs import tokens_input

    arrivals: queue.SimpleQueue[tuple[int, Arrival]] = queue.SimpleQueue()
    request_ids = [uuid.uuid4().hex for _ in prompts]
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


class Answer:
    """Collects what the engine gives for one request."""

    def __init__(
        self,
        *,
        parser: OutputParser | None,
        prompt_token_ids: Sequence[int],
        stop_token_ids: Sequence[int],
        dropped_turns: int,
        started_s: float,
        parse: Callable[[str], Any] | None = None,
    ) -> None:
        self.prompt_token_ids = prompt_token_ids
        self._parser = parser
        self._stop_token_ids = stop_token_ids
        self._dropped_turns = dropped_turns
        self._started_s = started_s
        self._parse = parse
        self._first_token_s: float | None = None
        self._last_s = started_s
        self._num_cached_tokens = 0
        self._token_ids: list[int] = []
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._tool_calls: dict[int, ToolCall] = {}

    def take(self, arrival: Arrival) -> list[Delta]:
        """Add an output of the engine; return what it adds to the answer."""
        output = arrival.output
        assert output is not None
        completion = output.outputs[0]
        self._last_s = arrival.at_s
        self._num_cached_tokens = output.num_cached_tokens or self._num_cached_tokens
        self._token_ids += completion.token_ids
        if self._first_token_s is None and completion.token_ids:
            self._first_token_s = arrival.at_s
        if self._parser is None:
            return self._keep([Delta("text", completion.text)] if completion.text else [])
        pieces = self._parser.feed(completion.text, list(completion.token_ids), self.prompt_token_ids, output.finished)
        return self._keep(self._deltas(pieces))

    def finish(self) -> list[Delta]:
        """Close an answer that was aborted: what the parser held back comes out."""
        if self._parser is None or not self._token_ids:
            return []
        return self._keep(self._deltas(self._parser.feed("", [], self.prompt_token_ids, finished=True)))

    def reply(self, finish_reason: str | None) -> Reply:
        reason: Any = "tool_calls" if self._tool_calls and finish_reason == "stop" else finish_reason
        token_ids = (
            remove_stop_words(self._token_ids, self._stop_token_ids) if finish_reason == "stop" else self._token_ids
        )
        first_s = self._first_token_s if self._first_token_s is not None else self._last_s
        text = "".join(self._text)
        return Reply(
            text=text,
            reasoning="".join(self._reasoning).rstrip("\n"),
            tool_calls=tuple(self._tool_calls[index] for index in sorted(self._tool_calls)),
            token_ids=tuple(token_ids),
            finish_reason=reason,
            usage=Usage(
                num_prompt_tokens=len(self.prompt_token_ids),
                num_cached_tokens=self._num_cached_tokens,
                num_output_tokens=len(self._token_ids),
                ttft_ms=(first_s - self._started_s) * 1000,
                e2el_ms=(self._last_s - self._started_s) * 1000,
                dropped_turns=self._dropped_turns,
            ),
            parsed=self._parse(text) if self._parse and finish_reason == "stop" else None,
        )

    def _deltas(self, message: Any) -> list[Delta]:
        """Turn vLLM's DeltaMessage into ours, and remember the tool calls that it builds up."""
        if message is None:
            return []
        deltas = []
        if message.reasoning:
            deltas.append(Delta("reasoning", message.reasoning))
        if message.content:
            deltas.append(Delta("text", message.content))
        for part in message.tool_calls or ():
            name = (part.function and part.function.name) or ""
            arguments = (part.function and part.function.arguments) or ""
            call = self._tool_calls.get(part.index, ToolCall(part.id or "", "", ""))
            call = replace(call, name=call.name + name, arguments=call.arguments + arguments)
            self._tool_calls[part.index] = call
            deltas.append(Delta("tool_call", arguments, call.name))
        return deltas

    def _keep(self, deltas: list[Delta]) -> list[Delta]:
        """Add deltas to the answer, without the blank lines around thinking: they belong to the markup."""
        kept = []
        for delta in deltas:
            if delta.kind != "tool_call":
                pieces = self._reasoning if delta.kind == "reasoning" else self._text
                if not pieces and self._parser is not None:
                    delta = replace(delta, text=delta.text.lstrip("\n"))
                if not delta.text:
                    continue
                pieces.append(delta.text)
            kept.append(delta)
        return kept


class OutputParser:
    """vLLM's parsers of reasoning and tool calls, for one answer."""

    def __init__(
        self,
        parser_class: Any,
        tokenizer: Any,
        tools: Sequence[Mapping[str, Any]] | None,
        enable_thinking: bool | None,
    ) -> None:
        from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest

        keywords = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
        self._request = ChatCompletionRequest(
            model="",
            messages=[{"role": "user", "content": ""}],
            tools=list(tools) if tools else None,
            tool_choice="auto" if tools else "none",
        )
        self._parser = parser_class(tokenizer, self._request.tools, chat_template_kwargs=keywords)

    def feed(self, text: str, token_ids: list[int], prompt_token_ids: Sequence[int], finished: bool) -> Any:
        return self._parser.parse_delta(text, token_ids, self._request, list(prompt_token_ids), finished=finished)


def find_parsers(prompt_builder: PromptBuilder) -> tuple[str | None, str | None]:
    """Return the names of vLLM's (tool parser, reasoning parser) that read what a model with this template writes.

    The template tells: it shows the format in which calls are to be written, and whether thinking comes first.
    """
    template = prompt_builder.chat_template or ""
    tool_parser = None
    if "<tool_call>" in template:
        tool_parser = "qwen3_coder" if "<function=" in template else "hermes"
    reasoning_parser = None
    if "<｜Assistant｜>" in template and "</think>" in template:
        reasoning_parser = "deepseek_r1"
    elif "</think>" in template and _thinks(prompt_builder):
        reasoning_parser = "qwen3"
    return tool_parser, reasoning_parser


def _thinks(prompt_builder: PromptBuilder) -> bool:
    """Tell whether answers begin with thinking: the prompt opens it, or thinking can be switched off."""
    question = [{"role": "user", "content": "?"}]
    prompt = prompt_builder.build(question).text
    return prompt.rstrip().endswith("<think>") or prompt != prompt_builder.build(question, enable_thinking=False).text


def make_parser_class(tool_parser: str | None, reasoning_parser: str | None) -> Any:
    """Return the class of vLLM's that joins these two parsers, or None if there are none."""
    if tool_parser is None and reasoning_parser is None:
        return None
    from vllm.parser.parser_manager import ParserManager

    return ParserManager.get_parser(
        tool_parser_name=tool_parser, reasoning_parser_name=reasoning_parser, enable_auto_tools=tool_parser is not None
    )


def _request_error(error: Exception) -> ChatError:
    """Return the error to raise for one that ended a request."""
    if isinstance(error, ChatError):
        return error
    from vllm.exceptions import VLLMClientError

    if isinstance(error, (ValueError, TypeError, VLLMClientError)):
        return SamplingError(first_line(error))
    return EngineError(f"the engine refused the request: {first_line(error)}")
