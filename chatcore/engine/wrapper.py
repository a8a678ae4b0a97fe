"""A vLLM engine in this process: messages in; a reply, or a stream of deltas, out.

:class:`VLLMWrapper` finds the stop token ids, builds the prompt as token ids (:mod:`prompt_utils`), calls the engine,
separates thinking and tool calls from the text with vLLM's own parsers, and never changes what the caller handed in.

::

    from vllm_wrapper import VLLMWrapper

    with VLLMWrapper("demo") as llm:
        reply, history = llm.chat("My name is Ada.")
        reply, history = llm.chat("What is my name?", history=history)
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack

from chatcore.engine.loading import load_engine, release_engine
from chatcore.engine.lora import LoadedAdapters, engine_arguments, read_adapter
from chatcore.engine.options import (
    ChatOptions,
    ReplyOptions,
    SamplingOptions,
    StopWords,
    ToolRunOptions,
    Tools,
)
from chatcore.engine.outputs import find_parsers
from chatcore.engine.requests import RequestMaker, tool_schemas
from chatcore.engine.sampling import from_generation_config
from chatcore.engine.streams import AsyncStream, Stream, run_to_end
from chatcore.engine.thread import EngineThread
from chatcore.errors import ChatError, EngineError, InvalidMessageError, SamplingError
from chatcore.models.hub import is_demo, resolve_model
from chatcore.models.load_errors import check_loadable
from chatcore.prompts.builder import FittedPrompt, PromptBuilder
from chatcore.reply import Delta, MessageDict, Reply, ToolCall
from chatcore.tools.functions import acall_tool, as_tools, call_tool
from chatcore.tools.rounds import AskAgain, KeepResult, RunCall, Sent, Step, adrive, drive, tool_rounds

__all__ = ["ToolRun", "VLLMWrapper", "get_completion", "vLLMWrapper"]

DEFAULT_SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True, slots=True)
class ToolRun:
    """What :meth:`VLLMWrapper.run_tools` returns: the last reply, and all messages up to it."""

    reply: Reply
    messages: list[dict[str, Any]]


class VLLMWrapper:
    """Chat with a model through a vLLM engine in this process. Safe to call from several threads at once.

    Args:
        model_dir: ``demo``, a folder, or a model's id on ModelScope or Hugging Face (:mod:`chatcore.models.hub`).
        tensor_parallel_size: number of GPUs that share the model.
        gpu_memory_utilization: the part of the GPU's memory to use, 0 to 1. On CPU: the most of the free memory that
            the key/value cache may take.
        dtype: ``auto`` (what the weights are), ``bfloat16``, ``float16`` or ``float32``.
        quantization: ``awq``, ``gptq``, ``fp8``, ...; found in the model's configuration if left out.
        max_model_len: the window in tokens; what the model allows, or what memory allows if that is less, if left out.
        trust_remote_code: run Python code that comes with the model. Off: such code can do anything.
        chat_template: Jinja text, or a file that holds it, instead of the model's own.
        lora_adapters: LoRA adapters (:mod:`chatcore.engine.lora`): folders by name. An answer uses the one that it
            names with ``lora=``. Pass ``{}`` to bring them later, with :meth:`add_lora`.
        read_ahead: while nobody asks, let the engine read what the next turn's prompt will begin with, where the
            template changes what was said before (it drops old thinking).
        engine_args: further arguments of ``vllm.LLM``.
        engine: a ready ``LLMEngine`` of vLLM to use instead of a new one.
    Raises:
        ModelError: the model cannot be found, downloaded or loaded; the message says why, the hint what to do.

    Example::

        with VLLMWrapper("demo") as llm:
            reply, history = llm.chat("My name is Ada.")
            reply, history = llm.chat("What is my name?", history=history)

    Source: the positional order is that of Qwen's examples/vllm_wrapper.py.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str] = "demo",
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.9,
        dtype: str = "auto",
        quantization: str | None = None,
        *,
        max_model_len: int | None = None,
        trust_remote_code: bool = False,
        chat_template: str | None = None,
        lora_adapters: Mapping[str, str | os.PathLike[str]] | None = None,
        read_ahead: bool = True,
        engine_args: Mapping[str, Any] | None = None,
        engine: Any = None,
    ) -> None:
        self.model_dir = resolve_model(model_dir)
        arguments: dict[str, Any] = {
            "model": str(self.model_dir),
            "tensor_parallel_size": tensor_parallel_size,
            "gpu_memory_utilization": gpu_memory_utilization,
            "dtype": dtype,
            "quantization": quantization,
            "max_model_len": max_model_len,
            "trust_remote_code": trust_remote_code,
            "disable_log_stats": True,
        }
        adapters = [read_adapter(name, folder, self.model_dir) for name, folder in (lora_adapters or {}).items()]
        if lora_adapters is not None:
            arguments |= engine_arguments(adapters)
        self.prompt_builder = PromptBuilder.from_pretrained(self.model_dir, chat_template=chat_template)
        _, self._reasoning_parser = find_parsers(self.prompt_builder)
        if self._reasoning_parser:  # a thinking budget, and structured outputs after thinking, need it
            arguments["reasoning_parser"] = self._reasoning_parser
        arguments |= engine_args or {}
        self.model: Any = engine
        if engine is None:
            check_loadable(arguments)
        self._thread = EngineThread((lambda: engine) if engine is not None else lambda: self._load(arguments))
        self._adapters = LoadedAdapters(self._thread.call, self.model_dir)
        try:
            for adapter in adapters:
                self._adapters.load(adapter)
        except ChatError:
            self.close()
            raise
        self._requests = RequestMaker(self.prompt_builder, self.model, self._adapters, reads_ahead=read_ahead)
        self.max_model_len: int = self._requests.max_model_len

    # -- asking -------------------------------------------------------------------------------------------------

    def chat(
        self,
        query: str,
        history: Sequence[Sequence[str]] | None = None,
        system: str = DEFAULT_SYSTEM,
        extra_stop_words_ids: StopWords | None = (),
        *,
        stop: str | Sequence[str] = (),
        tools: Tools | None = None,
        enable_thinking: bool | None = None,
        stop_words_ids: StopWords | None = None,
        generation_config: Any = None,
        max_window_size: int | None = None,
        **sampling: Unpack[ChatOptions],
    ) -> tuple[str, list[tuple[str, str]]]:
        """Ask once; return the answer and the history with it.

        Args:
            query: what the user says.
            history: earlier ``(query, response)`` pairs, oldest first; never changed.
            system: the system message; none if empty.
            extra_stop_words_ids: token ids, or sequences of them, that end the answer beside the model's own.
            stop: strings that end the answer; they are not part of it.
            tools: Python functions, or OpenAI tool dictionaries, that the model may call.
            enable_thinking: for models that can think before they answer; None leaves it to the template.
            stop_words_ids, generation_config, max_window_size: as older scripts pass them: more stop words, sampling
                parameters in an object, and the most tokens that a prompt may have.
            sampling: fields of vLLM's ``SamplingParams``, such as ``temperature``, ``max_tokens``, ``seed`` and
                ``logit_bias``. Defaults come from the model's generation_config.json. Also the options of
                :meth:`stream`.
        Returns:
            (response, a new history list that ends with ``(query, response)``)
        Raises:
            PromptTooLongError: the query alone does not fit the window. Older turns that do not fit are left out with
                a :class:`ContextWindowWarning`.
            SamplingError: an unknown or impossible sampling parameter.

        Example::

            response, history = llm.chat("Hello!", history=None, temperature=0)
        """
        configured = {} if generation_config is None else from_generation_config(generation_config)
        reply = self.reply(
            _messages_from_history(query, history, system),
            extra_stop_words_ids=[*(extra_stop_words_ids or ()), *(stop_words_ids or ())],
            max_prompt_tokens=max_window_size,
            stop=stop,
            tools=tools,
            enable_thinking=enable_thinking,
            **{**configured, **sampling},
        )
        return reply.text, [*((asked, answered) for asked, answered in history or ()), (query, reply.text)]

    def stream_chat(
        self,
        query: str,
        history: Sequence[Sequence[str]] | None = None,
        system: str = DEFAULT_SYSTEM,
        **options: Unpack[ReplyOptions],
    ) -> Iterator[Delta]:
        """Ask once; yield the answer piece by piece. Options are those of :meth:`chat`."""
        with self.stream(_messages_from_history(query, history, system), **options) as stream:
            yield from stream

    def reply(self, messages: Sequence[MessageDict], **options: Unpack[ReplyOptions]) -> Reply:
        """Return the answer to messages (OpenAI's shape). Options are those of :meth:`stream`."""
        with Stream(self._thread, *self._requests.make(messages, "ends", **options)) as stream:
            return stream.reply

    def replies(self, messages: Sequence[MessageDict], *, n: int, **options: Unpack[ReplyOptions]) -> list[Reply]:
        """Return ``n`` answers to the same messages, generated side by side.

        Args:
            n: how many.
            options: those of :meth:`stream`. With ``seed`` the answers get ``seed``, ``seed + 1``, ..., as in vLLM.
        Raises:
            SamplingError: ``n`` is no positive number, or all answers would be the same (temperature 0).

        Example::

            for reply in llm.replies([{"role": "user", "content": "Tell me a joke."}], n=3, temperature=1.0):
                print(reply.text)
        """
        if not isinstance(n, int) or n < 1:
            raise SamplingError(f"n is {n!r}", hint="Pass how many answers you want.")
        seed = options.pop("seed", None)
        with ExitStack() as open_streams:
            streams = []
            for index in range(n):
                request = self._requests.make(messages, "ends", seed=None if seed is None else seed + index, **options)
                if n > 1 and request.params.temperature == 0:
                    raise SamplingError(
                        f"n is {n} and temperature 0: all answers would be the same", hint="Raise the temperature."
                    )
                streams.append(open_streams.enter_context(Stream(self._thread, *request._replace(ahead=None))))
            return [stream.reply for stream in streams]

    def stream(self, messages: Sequence[MessageDict], **options: Unpack[ReplyOptions]) -> Stream:
        """Begin the answer to messages; iterate the result for deltas, then read its ``reply``.

        Options:
            stop, tools, enable_thinking, extra_stop_words_ids, sampling: as in :meth:`chat`.
            continue_final_message: go on with the last message, an assistant's, instead of answering it.
            template_kwargs: further variables for the chat template.
            max_prompt_tokens: the most that a prompt may have; what the window allows if left out.
            response_format: the form that the answer must have
                (:func:`chatcore.engine.response_format.read_response_format`): a pydantic
                model, a JSON schema, a list of choices, ...; ``reply.parsed`` is the object.
            lora: name of the LoRA adapter that answers; the model alone if left out.
            logprobs, prompt_logprobs: how many of the likeliest tokens to tell at each place of the answer, or of the
                prompt; they come as ``reply.logprobs`` and ``reply.prompt_logprobs``.
        Raises:
            PromptError: the messages cannot become a prompt (:class:`InvalidMessageError`), or are too long for the
                window (:class:`PromptTooLongError`).
            SamplingError: an option that is unknown or out of range, or an adapter that is not there.
            EngineError: the engine failed, sleeps or was closed.

        Example::

            with llm.stream([{"role": "user", "content": "Count to 10."}]) as stream:
                for delta in stream:
                    print(delta.text, end="", flush=True)
            print(stream.reply.usage)
        """
        return Stream(self._thread, *self._requests.make(messages, "each", **options))

    async def areply(self, messages: Sequence[MessageDict], **options: Unpack[ReplyOptions]) -> Reply:
        """:meth:`chatcore.reply` for asyncio: other tasks run while the engine answers."""
        async with AsyncStream(self._thread, *self._requests.make(messages, "ends", **options)) as stream:
            return await stream.reply()

    def astream(self, messages: Sequence[MessageDict], **options: Unpack[ReplyOptions]) -> AsyncStream:
        """:meth:`stream` for asyncio; call it in a running event loop."""
        return AsyncStream(self._thread, *self._requests.make(messages, "each", **options))

    def generate(self, prompts: str | Sequence[str], **sampling: Unpack[SamplingOptions]) -> list[Any]:
        """Continue plain texts, without a chat template; return vLLM's ``RequestOutput`` of each, in order.

        A text is read raw, as vLLM's own ``LLM.generate`` does: control tokens that it spells are control tokens.
        """
        texts = [prompts] if isinstance(prompts, str) else list(prompts)
        params = self._requests.sampling_params(sampling, "whole")
        return run_to_end(self._thread, [self.tokenizer.encode(text) for text in texts], params)

    def run_tools(
        self, messages: Sequence[MessageDict], tools: Tools, *, max_rounds: int = 8, **options: Unpack[ToolRunOptions]
    ) -> ToolRun:
        """Answer messages, calling the functions that the model asks for and giving it what they return.

        Args:
            tools: Python functions, and sources of tools such as :class:`MCPTools`; a dictionary has no
                function behind it, and calling it tells the model so.
            max_rounds: how many answers there may be; if the last one still asks for calls, they are not made and its
                ``finish_reason`` is ``tool_calls``.
        Returns:
            the last reply, and all messages from the given ones on. What goes wrong in a function is a message that
            the model reads.
        """
        known = as_tools(tools)
        transcript = _Transcript(messages)

        def act(step: Step) -> Sent:
            match step:
                case RunCall(call):
                    return call_tool(known, call.name, call.arguments)
                case KeepResult():
                    transcript.keep(step)
                    return None
                case AskAgain():
                    return transcript.add(self.reply(transcript.messages, tools=known, **options))

        drive(tool_rounds(transcript.add(self.reply(messages, tools=known, **options)), max_rounds - 1), act)
        return transcript.as_run()

    async def arun_tools(
        self, messages: Sequence[MessageDict], tools: Tools, *, max_rounds: int = 8, **options: Unpack[ToolRunOptions]
    ) -> ToolRun:
        """:meth:`run_tools` for asyncio: coroutine functions are awaited, other functions run in a thread."""
        known = await asyncio.to_thread(as_tools, tools)
        transcript = _Transcript(messages)

        async def act(step: Step) -> Sent:
            match step:
                case RunCall(call):
                    return await acall_tool(known, call.name, call.arguments)
                case KeepResult():
                    transcript.keep(step)
                    return None
                case AskAgain():
                    return transcript.add(await self.areply(transcript.messages, tools=known, **options))

        first = transcript.add(await self.areply(messages, tools=known, **options))
        await adrive(tool_rounds(first, max_rounds - 1), act)
        return transcript.as_run()

    def reply_batch(
        self, conversations: Iterable[Sequence[MessageDict]], *, progress: bool = True, **options: Unpack[ReplyOptions]
    ) -> list[Reply | ChatError]:
        """Answer many conversations as one batch; the results are in the order of the conversations.

        A conversation that cannot be answered has its error in its place and does not stop the others.
        """
        from tqdm.auto import tqdm

        results: list[Reply | ChatError] = []
        asked = self._requests.read_options("ends", **options)
        with ExitStack() as open_streams:  # whatever ends this early, Ctrl-C too, frees the engine of all of them
            streams: list[Stream | ChatError] = []
            for messages in conversations:
                try:
                    request = self._requests.make_like(messages, asked)
                    request = request._replace(ahead=None)  # nobody goes on with a batch
                    streams.append(open_streams.enter_context(Stream(self._thread, *request)))
                except ChatError as error:
                    streams.append(error)
            for stream in tqdm(streams, desc="conversations", disable=not progress):
                try:
                    results.append(stream if isinstance(stream, ChatError) else stream.reply)
                except ChatError as error:
                    results.append(error)
        return results

    def fit(
        self,
        messages: Sequence[MessageDict],
        *,
        tools: Tools | None = None,
        enable_thinking: bool | None = None,
        max_tokens: int | None = None,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
        max_prompt_tokens: int | None = None,
    ) -> FittedPrompt:
        """Return the prompt that :meth:`stream` would use: what stays, what goes, and its length in tokens."""
        return self._requests.fit(
            messages,
            schemas=tool_schemas(tools),
            enable_thinking=enable_thinking,
            max_tokens=max_tokens,
            continue_final_message=continue_final_message,
            template_kwargs=template_kwargs,
            max_prompt_tokens=max_prompt_tokens,
        )

    def max_prompt_tokens(self, max_tokens: int | None = None) -> int:
        """Return how long a prompt may be: the window, less what is kept free for an answer of ``max_tokens``."""
        return self._requests.max_prompt_tokens(max_tokens)

    def message_tokens(self, messages: Sequence[MessageDict], *, tools: Tools | None = None) -> list[int]:
        """Return how many tokens each message takes of the prompt; a table for people."""
        return self.prompt_builder.message_tokens(messages, tools=tool_schemas(tools) or None)

    # -- what the model is --------------------------------------------------------------------------------------

    @property
    def tokenizer(self) -> Any:
        """The model's Hugging Face tokenizer."""
        return self._requests.tokenizer

    @cached_property
    def generation_config(self) -> Any:
        """The model's generation_config.json as transformers' ``GenerationConfig``."""
        from transformers import GenerationConfig

        if (self.model_dir / "generation_config.json").is_file():
            return GenerationConfig.from_pretrained(self.model_dir)
        return GenerationConfig()

    @property
    def stop_token_ids(self) -> list[int]:
        """The ids that end an answer. Adding to this list adds to them."""
        return self._requests.stop_token_ids

    @property
    def stop_words_ids(self) -> list[int]:
        """The stop token ids, under the name of the older scripts."""
        return self.stop_token_ids

    @property
    def thinks(self) -> bool:
        """Whether the model can think before it answers."""
        return self._reasoning_parser is not None

    @property
    def sampling_defaults(self) -> dict[str, Any]:
        """Sampling parameters that the model's generation_config.json sets, under vLLM's names."""
        return dict(self._requests.sampling_defaults)

    @property
    def is_alive(self) -> bool:
        """Whether the engine still works; one that failed stays failed."""
        return self._thread.failure is None

    @property
    def is_demo(self) -> bool:
        """Whether this is the embedded demo model."""
        return is_demo(self.model_dir)

    @property
    def loras(self) -> list[str]:
        """Names of the LoRA adapters that an answer may ask for."""
        return self._adapters.names

    # -- changing it --------------------------------------------------------------------------------------------

    def add_lora(self, name: str, folder: str | os.PathLike[str]) -> None:
        """Load a LoRA adapter; from then on ``lora=name`` answers with it.

        Raises:
            ModelLoadError: it cannot be read or does not fit, or the engine was not made for adapters.

        Example::

            llm = VLLMWrapper("demo", lora_adapters={})
            llm.add_lora("pirate", "adapters/pirate")
            reply, history = llm.chat("Hello!", lora="pirate")
        """
        self._adapters.add(name, folder)

    def sleep(self, level: int = 1) -> None:
        """Free the GPU's memory for other programs, until :meth:`wake_up`.

        Args:
            level: 1 keeps the weights in main memory; 2 forgets them, so that they must be loaded anew after waking
                (``llm.model.collective_rpc("reload_weights")``).
        Raises:
            EngineError: the engine was not made for it, or answers are under way.

        Example::

            llm = VLLMWrapper("Qwen/Qwen3-8B", engine_args={"enable_sleep_mode": True})
            llm.sleep()  # another program can have the GPU now
            llm.wake_up()
        """
        if not self.model.model_config.enable_sleep_mode:
            raise EngineError(
                "the engine was not made for sleeping",
                hint="On a GPU, load the model with engine_args={'enable_sleep_mode': True}.",
            )
        self._thread.sleep(level)

    def wake_up(self) -> None:
        """Take the memory back that :meth:`sleep` freed; an engine that is awake stays so."""
        self._thread.wake_up()

    # -- leaving ------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Free the engine; answers under way end with an error. Closing twice is fine."""
        self._thread.close()
        release_engine(self.model)
        self.model = None

    def __enter__(self) -> VLLMWrapper:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- inside -------------------------------------------------------------------------------------------------

    def _load(self, arguments: dict[str, Any]) -> Any:
        """Build the engine (in the engine's thread) and return the part that is stepped."""
        self.model = load_engine(arguments)
        return self.model.llm_engine


vLLMWrapper = VLLMWrapper  # the name that existing scripts import


class _Transcript:
    """The messages of a run of tools, as they grow, and the last reply."""

    def __init__(self, messages: Sequence[MessageDict]) -> None:
        self.messages: list[dict[str, Any]] = [dict(message) for message in messages]
        self._reply: Reply | None = None

    def add(self, reply: Reply) -> Sequence[ToolCall]:
        self._reply = reply
        self.messages.append(reply.message)
        return reply.tool_calls

    def keep(self, step: KeepResult) -> None:
        call = step.call
        self.messages.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": step.result})

    def as_run(self) -> ToolRun:
        assert self._reply is not None
        return ToolRun(self._reply, self.messages)


def _messages_from_history(query: str, history: Sequence[Sequence[str]] | None, system: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [{"role": "system", "content": system}] if system else []
    for index, pair in enumerate(history or ()):
        if isinstance(pair, str) or len(pair) != 2:
            raise InvalidMessageError(f"history[{index}] is not a (query, response) pair: {pair!r:.60}")
        messages += ({"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]})
    messages.append({"role": "user", "content": query})
    return messages


def get_completion(
    prompts: str | Sequence[str],
    model: str | os.PathLike[str],
    tokenizer: Any = None,
    max_tokens: int = 512,
    temperature: float = 0.8,
    top_p: float = 0.95,
    max_model_len: int | None = 2048,
    **sampling: Any,
) -> list[Any]:
    """Continue plain texts as the tutorials' function of this name does; return vLLM's outputs.

    Args:
        prompts: one text or several.
        model: as in :class:`VLLMWrapper`. Its engine is kept for the next call, and replaced when another is named.
        tokenizer: not used: the model's own is.
        max_tokens, temperature, top_p, sampling: fields of vLLM's ``SamplingParams``.
        max_model_len: the window, in tokens.

    Example::

        [output] = get_completion("1, 2, 3,", "demo", max_tokens=8)
        print(output.outputs[0].text)
    """
    key = (os.fspath(model), max_model_len)
    if key not in _completion_engines:
        for wrapper in _completion_engines.values():
            wrapper.close()
        _completion_engines.clear()
        _completion_engines[key] = VLLMWrapper(model, max_model_len=max_model_len)
    wrapper = _completion_engines[key]
    return wrapper.generate(prompts, max_tokens=max_tokens, temperature=temperature, top_p=top_p, **sampling)


_completion_engines: dict[tuple[str, int | None], VLLMWrapper] = {}  # at most one
