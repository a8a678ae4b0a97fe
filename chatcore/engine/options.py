"""The keyword arguments of :class:`vllm_wrapper.VLLMWrapper`'s methods, for editors and type checkers.

Nothing is checked by these types while a program runs: a name that is unknown, or a value of another type, raises a
``SamplingError`` that says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypedDict

from chatcore.engine.response_format import ResponseFormat
from chatcore.tools.functions import AnyTool

__all__ = ["ChatOptions", "ReplyOptions", "SamplingOptions", "StopWords", "ToolRunOptions", "Tools"]

StopWords = Iterable[int | Sequence[int]]
Tools = Iterable[AnyTool]


class SamplingOptions(TypedDict, total=False):
    """Fields of vLLM's ``SamplingParams`` that a caller may set. Defaults come from generation_config.json.

    Example::

        greedy: SamplingOptions = {"temperature": 0.0, "max_tokens": 100}
        llm.generate("1, 2, 3,", **greedy)

    Source: https://docs.vllm.ai/en/latest/api/vllm/sampling_params.html
    """

    temperature: float
    top_p: float
    top_k: int
    min_p: float
    presence_penalty: float
    frequency_penalty: float
    repetition_penalty: float
    seed: int | None
    max_tokens: int | None
    min_tokens: int
    stop_token_ids: Sequence[int] | None
    ignore_eos: bool
    logprobs: int | None
    prompt_logprobs: int | None
    logprob_token_ids: Sequence[int] | None
    skip_special_tokens: bool
    spaces_between_special_tokens: bool
    include_stop_str_in_output: bool
    structured_outputs: Any
    logit_bias: Mapping[int, float] | None
    allowed_token_ids: Sequence[int] | None
    extra_args: Mapping[str, Any] | None
    bad_words: Sequence[str] | None
    thinking_token_budget: int | None
    skip_reading_prefix_cache: bool | None


class ChatOptions(SamplingOptions, total=False):
    """Options of ``chat``, next to those in its signature. See ``VLLMWrapper.stream`` for what each one means."""

    continue_final_message: bool
    template_kwargs: Mapping[str, Any] | None
    response_format: ResponseFormat | None
    lora: str | None


class ToolRunOptions(ChatOptions, total=False):
    """Options of ``run_tools`` and ``arun_tools``."""

    enable_thinking: bool | None
    stop: str | Sequence[str]
    extra_stop_words_ids: StopWords | None
    max_prompt_tokens: int | None


class ReplyOptions(ToolRunOptions, total=False):
    """Options of ``reply``, ``stream``, ``replies``, ``reply_batch`` and their asyncio twins.

    Example::

        options: ReplyOptions = {"temperature": 0.0, "enable_thinking": False}
        llm.reply(messages, **options)
    """

    tools: Tools | None
