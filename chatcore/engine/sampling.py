"""What the caller says about sampling -> vLLM's ``SamplingParams``."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from chatcore.engine.options import StopWords
from chatcore.errors import SamplingError, first_line

if TYPE_CHECKING:
    from vllm import SamplingParams

__all__ = ["from_generation_config", "make_sampling_params"]

Outputs = Literal["each", "ends", "whole"]

# The wrapper decides these.
OURS = frozenset({"output_kind", "stream_interval", "detokenize", "skip_clone", "output_text_buffer_length"})
TOKEN_IDS = range(2**31)
SEEDS = range(-(2**63), 2**64)  # what PyTorch's random generators take
FIRST_AND_LAST = 1 << 30  # as the interval between two outputs: only the first token's comes before the last
GENERATION_CONFIG_NAMES = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty", "max_new_tokens")


def make_sampling_params(
    sampling: Mapping[str, Any],
    *,
    defaults: Mapping[str, Any],
    stop_token_ids: Iterable[int],
    tokenizer: Any,
    stop: str | Sequence[str] = (),
    extra_stop_words_ids: StopWords | None = (),
    outputs: Outputs,
) -> SamplingParams:
    """Return vLLM's sampling parameters for one request.

    Args:
        sampling: what the caller says, under vLLM's names; holds against ``defaults``.
        defaults: what the model's generation_config.json says.
        stop_token_ids: the model's own; more may stand in ``sampling``.
        tokenizer: turns stop words of several tokens into strings.
        stop: strings that end the answer.
        extra_stop_words_ids: single ids, or sequences of them, that end it.
        outputs: which the engine gives: ``each`` token's; the ``ends``: the first token's, which tells the time to it,
            and the rest in one; or the ``whole``, once it is finished.
    Raises:
        SamplingError: an unknown name, with the nearest known ones, or an impossible value.
    """
    from chatcore.engine.vllm_api import RequestOutputKind

    _check_names(sampling)
    values = {"max_tokens": None, **defaults, **sampling}  # None: the rest of the window; vLLM's own default is 16
    if not isinstance(stop, (str, Sequence)):
        raise SamplingError(f"stop is {stop!r:.80}", hint="Pass a string, or a list of strings.")
    stops = [stop] if isinstance(stop, str) else list(stop)
    # As in vLLM, ignore_eos leaves out what ends a turn of the model, not what the caller adds.
    ids = [
        *(() if values.get("ignore_eos") else stop_token_ids),
        *_ids("stop_token_ids", values.get("stop_token_ids") or ()),
    ]
    for word in _stop_words(extra_stop_words_ids):
        if len(word) == 1:
            ids += word
        else:  # the engine stops at single ids and at strings
            stops.append(tokenizer.decode(word))
    kind = RequestOutputKind.FINAL_ONLY if outputs == "whole" else RequestOutputKind.DELTA
    values.update(stop=stops or None, stop_token_ids=ids, output_kind=kind)
    if outputs == "ends":
        values["stream_interval"] = FIRST_AND_LAST
    return _validate(values)


def _stop_words(words: StopWords | None) -> list[list[int]]:
    """Return sequences of token ids; a single id is one of length 1."""
    name = "extra_stop_words_ids"
    if words is not None and (isinstance(words, str | Mapping) or not isinstance(words, Iterable)):
        raise _no_ids(name, words)
    return [[*_ids(name, (word,))] if isinstance(word, int) else _ids(name, word) for word in words or ()]


def _ids(name: str, ids: Any) -> list[int]:
    """Return token ids as a list."""
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise _no_ids(name, ids)
    found = list(ids)
    if not all(type(token_id) is int and token_id in TOKEN_IDS for token_id in found):
        raise _no_ids(name, found)
    return found


def _no_ids(name: str, value: Any) -> SamplingError:
    return SamplingError(f"{name} is {value!r:.80}", hint="Token ids are whole numbers from 0 on.")


def _validate(values: dict[str, Any]) -> SamplingParams:
    """Check kinds and ranges: a value of a wrong kind would break the engine's step, and with it everybody's answer."""
    from pydantic import ValidationError
    from vllm import SamplingParams

    from chatcore.engine.vllm_api import StructuredOutputsParams, VLLMClientError

    kinds = _kinds()
    for name, value in values.items():
        try:
            if name == "structured_outputs" and isinstance(value, Mapping):
                value = StructuredOutputsParams(**value)
            values[name] = kinds[name].validate_python(value)
        except ValidationError as error:
            raise SamplingError(f"{name} is {value!r:.80}: {error.errors()[-1]['msg']}") from error
        except (ValueError, TypeError, VLLMClientError) as error:
            raise SamplingError(f"{name} is {value!r:.80}: {_sentence(error)}") from error
    try:
        params = SamplingParams(**values)
    except (ValueError, TypeError, VLLMClientError) as error:
        raise SamplingError(_sentence(error)) from error
    if params.seed is not None and params.seed not in SEEDS:
        raise SamplingError(f"seed is {params.seed}; it must be in [{SEEDS.start}, {SEEDS.stop})")
    return params


@functools.cache
def _kinds() -> dict[str, Any]:
    """Return what checks the kind of each sampling parameter, by name."""
    from pydantic import TypeAdapter
    from vllm import SamplingParams

    hints = get_type_hints(SamplingParams, include_extras=True)
    return {name: TypeAdapter(hint) for name, hint in hints.items() if not name.startswith("_")}


def _sentence(error: BaseException) -> str:
    """Return vLLM's sentence without what it adds for programs."""
    return _DETAILS.split(first_line(error))[0]


_DETAILS = re.compile(r" \(parameter=|: \{'")  # what vLLM adds to a sentence for programs


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


def _check_names(sampling: Mapping[str, Any]) -> None:
    known = _kinds().keys() - OURS
    for name in sampling:
        if name not in known:
            nearest = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            hint = f"Did you mean {' or '.join(nearest)}?" if nearest else f"Known: {', '.join(sorted(known))}."
            raise SamplingError(f"unknown sampling parameter {name!r}", hint=hint)
