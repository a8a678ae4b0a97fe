"""What the caller says about sampling -> vLLM's ``SamplingParams``."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine_loading import first_line
from errors import SamplingError

if TYPE_CHECKING:
    from vllm import SamplingParams

__all__ = ["StopWords", "from_generation_config", "make_sampling_params"]

StopWords = Iterable[int | Sequence[int]]

OURS = frozenset({"output_kind", "detokenize", "skip_clone", "output_text_buffer_length"})  # the wrapper decides these
GENERATION_CONFIG_NAMES = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")


def make_sampling_params(
    sampling: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    stop_token_ids: Iterable[int],
    tokenizer: Any,
    stop: str | Sequence[str] = (),
    extra_stop_words_ids: StopWords | None = (),
    streaming: bool,
) -> SamplingParams:
    """Return vLLM's sampling parameters for one request.

    Args:
        sampling: what the caller says, under vLLM's names; holds against ``defaults``.
        defaults: what the model's generation_config.json says.
        stop_token_ids: the model's own; more may stand in ``sampling``.
        tokenizer: turns stop words of several tokens into strings.
        stop: strings that end the answer.
        extra_stop_words_ids: single ids, or sequences of them, that end it.
        streaming: outputs as they come, or one at the end.
    Raises:
        SamplingError: an unknown name, with the nearest known ones, or an impossible value.
    """
    from vllm import SamplingParams
    from vllm.exceptions import VLLMClientError
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

    _check_names(sampling, inspect.signature(SamplingParams).parameters)
    values = {"max_tokens": None, **defaults, **sampling}  # None: the rest of the window; vLLM's own default is 16
    if values.get("n", 1) != 1:
        raise SamplingError(
            f"n is {values['n']}; a reply is one answer", hint="Pass the conversation n times to reply_batch."
        )
    stops = [stop] if isinstance(stop, str) else list(stop)
    ids = [*stop_token_ids, *(values.get("stop_token_ids") or ())]
    for word in extra_stop_words_ids or ():
        if isinstance(word, int):
            ids.append(word)
        elif len(word) == 1:
            ids.append(word[0])
        else:  # the engine stops at single ids and at strings
            stops.append(tokenizer.decode(list(word)))
    values.update(stop=stops or None, stop_token_ids=ids)
    values["output_kind"] = RequestOutputKind.DELTA if streaming else RequestOutputKind.FINAL_ONLY
    try:
        if isinstance(values.get("structured_outputs"), Mapping):
            values["structured_outputs"] = StructuredOutputsParams(**values["structured_outputs"])
        return SamplingParams(**values)
    except (ValueError, TypeError, VLLMClientError) as error:
        raise SamplingError(first_line(error)) from error


def from_generation_config(generation_config: Any) -> dict[str, Any]:
    """Return the sampling parameters that a generation config sets, under vLLM's names.

    Args:
        generation_config: transformers' ``GenerationConfig``, a dictionary, or any object with such attributes.

    >>> from_generation_config({"temperature": 0.5, "max_new_tokens": 64, "chat_format": "chatml"})
    {'temperature': 0.5, 'max_tokens': 64}
    """
    if isinstance(generation_config, Mapping):
        said = dict(generation_config)
    elif hasattr(generation_config, "to_diff_dict"):  # what differs from transformers' own defaults
        said = generation_config.to_diff_dict()
    else:
        said = vars(generation_config)
    values = {name: said[name] for name in GENERATION_CONFIG_NAMES if said.get(name) is not None}
    if said.get("do_sample") is False:
        values["temperature"] = 0.0
    if "max_new_tokens" in values:
        values["max_tokens"] = values.pop("max_new_tokens")
    return values


def _check_names(sampling: Mapping[str, Any], parameters: Iterable[str]) -> None:
    known = [name for name in parameters if not name.startswith("_") and name not in OURS]
    for name in sampling:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(nearest)}?" if nearest else f"Known: {', '.join(sorted(known))}."
            raise SamplingError(f"unknown sampling parameter {name!r}", hint=hint)
