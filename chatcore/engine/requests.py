"""What the caller asks -> what the engine gets: prompt, sampling parameters, adapter, and who collects the answer."""

from __future__ import annotations

import functools
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from chatcore.engine.lora import LoadedAdapters
from chatcore.engine.options import StopWords, Tools
from chatcore.engine.outputs import OutputCollector, OutputParser, ParserTokenizer, find_parsers, make_parser_class
from chatcore.engine.response_format import ResponseFormat, read_response_format, without_free_space
from chatcore.engine.sampling import Outputs, make_sampling_params
from chatcore.errors import SamplingError
from chatcore.prompts.builder import FittedPrompt, PromptBuilder
from chatcore.prompts.window import max_prompt_tokens
from chatcore.reply import MessageDict, Reply
from chatcore.tools.functions import as_tools

__all__ = ["ContextWindowWarning", "ReplyRequest", "RequestMaker"]

AHEAD_TOKENS = 512  # read in one step while nobody asks: whoever asks then waits for no more


class ContextWindowWarning(UserWarning):
    """Old turns were left out of the prompt because the window is full.

    To make it an error: ``warnings.simplefilter("error", ContextWindowWarning)``.
    """


class ReplyRequest(NamedTuple):
    """One request to the engine.

    ``lora_request``: vLLM's ``LoRARequest``, or None for the model alone. ``ahead``: what the engine may read once it
    has answered, as :meth:`RequestMaker.read_ahead` gives it.
    """

    answer: OutputCollector
    params: Any
    lora_request: Any
    ahead: Callable[[Reply], Iterable[Any]] | None = None


class CheckedOptions(NamedTuple):
    """What a caller asks for beside the messages, checked.

    ``prompt``: the options of :meth:`RequestMaker.fit`; ``params``: vLLM's ``SamplingParams``; ``lora_request``: as in
    :class:`ReplyRequest`; ``parse``, ``streamed``: as in :class:`chatcore.engine.outputs.OutputCollector`.
    """

    prompt: dict[str, Any]
    continue_final_message: bool
    params: Any
    lora_request: Any
    parse: Callable[[str], Any] | None
    streamed: bool


class RequestMaker:
    """Makes requests for one engine.

    Args:
        prompt_builder: of the engine's model.
        model: the ``vllm.LLM``.
        adapters: those that the engine holds.
        reads_ahead: whether the engine reads what the next turn will begin with while it is idle.
    """

    def __init__(
        self, prompt_builder: PromptBuilder, model: Any, adapters: LoadedAdapters, *, reads_ahead: bool = True
    ) -> None:
        self.prompt_builder = prompt_builder
        self.max_model_len: int = model.model_config.max_model_len
        self.stop_token_ids: list[int] = list(prompt_builder.stop_token_ids)
        self._adapters = adapters
        self.sampling_defaults = _sampling_defaults(model)
        self.tokenizer = model.get_tokenizer()
        cache = getattr(model, "llm_engine", model).vllm_config.cache_config
        self._block_size: int = cache.block_size
        self._reads_ahead: bool = reads_ahead and bool(cache.enable_prefix_caching)
        self._parser_class = make_parser_class(*find_parsers(prompt_builder))
        self._parser_tokenizer = ParserTokenizer(self.tokenizer)

    def make(self, messages: Sequence[MessageDict], outputs: Outputs, /, **options: Any) -> ReplyRequest:
        """Build the prompt, and what collects the answer to it. Options are those of ``VLLMWrapper.stream``."""
        return self.make_like(messages, self.read_options(outputs, **options))

    def read_options(
        self,
        outputs: Outputs,
        /,
        *,
        tools: Tools | None = None,
        enable_thinking: bool | None = None,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
        stop: str | Sequence[str] = (),
        extra_stop_words_ids: StopWords | None = (),
        response_format: ResponseFormat | None = None,
        max_prompt_tokens: int | None = None,
        lora: str | None = None,
        **sampling: Any,
    ) -> CheckedOptions:
        """Check what a caller asks for, once for as many requests as are made with it.

        Raises:
            SamplingError: an option that is unknown, of a wrong kind or out of range.
        """
        _check_kinds(tools=tools, template_kwargs=template_kwargs, max_prompt_tokens=max_prompt_tokens, lora=lora)
        if sampling.get("n", 1) != 1:
            raise SamplingError(f"n is {sampling['n']}; a reply is one answer", hint="Call replies(messages, n=...).")
        parse = None
        if response_format is not None:
            form, parse = read_response_format(response_format)
            sampling["structured_outputs"] = without_free_space(form)
        params = self.sampling_params(sampling, outputs, stop=stop, extra_stop_words_ids=extra_stop_words_ids)
        prompt = {
            "schemas": tool_schemas(tools),
            "enable_thinking": enable_thinking,
            "max_tokens": params.max_tokens,
            "template_kwargs": template_kwargs,
            "max_prompt_tokens": max_prompt_tokens,
        }
        lora_request = self._adapters.request(lora)
        return CheckedOptions(prompt, continue_final_message, params, lora_request, parse, streamed=outputs == "each")

    def make_like(self, messages: Sequence[MessageDict], options: CheckedOptions) -> ReplyRequest:
        """:meth:`make`, with options that were read before."""
        started_s = time.perf_counter()
        prompt, params = options.prompt, options.params
        fitted = self.fit(messages, continue_final_message=options.continue_final_message, **prompt)
        parser = None
        if self._parser_class is not None:
            parser = OutputParser(
                self._parser_class, self._parser_tokenizer, prompt["schemas"], prompt["enable_thinking"]
            )
        answer = OutputCollector(
            parser=parser,
            prompt_token_ids=fitted.prompt.token_ids,
            stop_token_ids=params.stop_token_ids or (),
            dropped_turns=self._warn_of_dropped(messages, fitted.dropped),
            started_s=started_s,
            parse=options.parse,
            num_top=-1 if params.logprob_token_ids else max(params.logprobs or 0, params.prompt_logprobs or 0),
            streamed=options.streamed,
        )
        ahead = None
        if self._reads_ahead and not options.continue_final_message:
            ahead = functools.partial(self.read_ahead, list(messages), fitted.prompt.token_ids, prompt)
        return ReplyRequest(answer, params, options.lora_request, ahead)

    def read_ahead(
        self, messages: Sequence[MessageDict], token_ids: Sequence[int], options: Mapping[str, Any], reply: Reply
    ) -> Iterator[tuple[Any, Any]]:
        """Yield prompts, and sampling parameters, that bring the beginning of the next turn's prompt into the cache.

        There is something to read where the template changes what was said: it drops old thinking, or the empty
        thinking that the generation prompt had. Nothing where a tool's result will come next.

        Args:
            messages: what was answered.
            token_ids: the prompt that was made of them.
            options: those of :meth:`fit`.
            reply: the answer.
        """
        from vllm import SamplingParams

        from chatcore.engine.vllm_api import tokens_input

        if reply.tool_calls:
            return
        questions = ({"role": "user", "content": text} for text in ("?", "Go on"))
        one, other = (
            self.fit([*messages, reply.message, question], **options).prompt.token_ids for question in questions
        )
        next_ids = one[: _num_common(one, other)]
        known = _num_common([*token_ids, *reply.token_ids], next_ids) // self._block_size
        params = SamplingParams(max_tokens=1, detokenize=False)
        step = max(1, AHEAD_TOKENS // self._block_size)
        last = len(next_ids) // self._block_size
        for num_blocks in [*range(known + step, last, step), last][: last - known]:
            yield tokens_input(next_ids[: num_blocks * self._block_size]), params

    def fit(
        self,
        messages: Sequence[MessageDict],
        *,
        schemas: Sequence[Mapping[str, Any]] = (),
        enable_thinking: bool | None = None,
        max_tokens: int | None = None,
        continue_final_message: bool = False,
        template_kwargs: Mapping[str, Any] | None = None,
        max_prompt_tokens: int | None = None,
    ) -> FittedPrompt:
        """Return the prompt, and what had to go for it. ``schemas`` are the tools', in OpenAI's shape."""
        limit = self.max_prompt_tokens(max_tokens)
        keywords = dict(template_kwargs or {})
        if enable_thinking is not None:
            keywords["enable_thinking"] = enable_thinking
        return self.prompt_builder.fit(
            messages,
            max_prompt_tokens=min(limit, max_prompt_tokens or limit),
            tools=schemas or None,
            add_generation_prompt=not continue_final_message,
            continue_final_message=continue_final_message,
            **keywords,
        )

    def max_prompt_tokens(self, max_tokens: int | None = None) -> int:
        """Return how long a prompt may be if the answer may have ``max_tokens``."""
        return max_prompt_tokens(self.max_model_len, max_tokens)

    def sampling_params(
        self,
        sampling: Mapping[str, Any],
        outputs: Outputs,
        *,
        stop: str | Sequence[str] = (),
        extra_stop_words_ids: StopWords | None = (),
    ) -> Any:
        """Return vLLM's ``SamplingParams``: what the caller says, over what the model's configuration says."""
        return make_sampling_params(
            sampling,
            defaults=self.sampling_defaults,
            stop_token_ids=self.stop_token_ids,
            tokenizer=self.tokenizer,
            stop=stop,
            extra_stop_words_ids=extra_stop_words_ids,
            outputs=outputs,
        )

    def _warn_of_dropped(self, messages: Sequence[MessageDict], dropped: Sequence[int]) -> int:
        """Say how many turns are left out, if any; return the number."""
        num_turns: int = sum(messages[index]["role"] == "user" for index in dropped)
        if num_turns:
            warnings.warn(
                f"the window of {self.max_model_len} tokens is full; turns left out: the oldest {num_turns}",
                ContextWindowWarning,
                stacklevel=_callers_level(),
            )
        return num_turns


OPTION_KINDS: dict[str, tuple[type, str]] = {
    "tools": (Iterable, "a list of functions or JSON schemas"),
    "template_kwargs": (Mapping, "a dictionary"),
    "max_prompt_tokens": (int, "a whole number"),
    "lora": (str, "a name"),
}


def _check_kinds(**options: Any) -> None:
    """Refuse options of a wrong kind; they may come from a file."""
    for name, value in options.items():
        kind, words = OPTION_KINDS[name]
        if value is not None and not isinstance(value, kind):
            raise SamplingError(f"{name} is {value!r:.80}; it is {words}")


def _num_common(one: Sequence[int], other: Sequence[int]) -> int:
    """Return how many tokens two sequences begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _callers_level() -> int:
    """Return how far up the stack the first caller outside this package is, for ``warnings.warn``."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back and _is_ours(frame.f_globals.get("__name__", "")):
        level, frame = level + 1, frame.f_back
    return level


def _is_ours(module_name: str) -> bool:
    return module_name.partition(".")[0] == __name__.partition(".")[0]


def tool_schemas(tools: Tools | None) -> list[Mapping[str, Any]]:
    """Return tools in OpenAI's shape, as templates and parsers read them."""
    return [tool.schema for tool in as_tools(tools)]


def _sampling_defaults(model: Any) -> dict[str, Any]:
    """Return what the model's generation_config.json sets, under vLLM's names."""
    defaults = dict(model.model_config.get_diff_sampling_param())
    if "max_new_tokens" in defaults:
        defaults["max_tokens"] = defaults.pop("max_new_tokens")
    return defaults
