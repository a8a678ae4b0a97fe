"""Where an answer ends: the stop token ids of a model, found from whatever names them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from chatcore.errors import PromptError
from chatcore.prompts.template import MARK, Alphabet, TracedTemplate
from chatcore.prompts.tokenizer import ControlToken, PromptTokenizer

__all__ = ["control_token_id", "find_stop_token_ids", "find_turn_end", "remove_stop_words"]


def find_stop_token_ids(tokenizer: Any, generation_config: Any = None) -> list[int]:
    """Return the ids that end an answer, each once.

    They come from the model's generation config, from what the tokenizer calls the end of a text or of a turn, and
    from what its chat template writes behind an answer. So a chat model whose config names ``<|endoftext|>`` only still
    stops at ``<|im_end|>``; and at ``<|im_start|>``, should it begin a turn of its own.

    Args:
        tokenizer: a Hugging Face tokenizer, one of the first Qwen generation, or a :class:`PromptTokenizer`.
        generation_config: an object or dictionary whose ``eos_token_id`` is an id, a list of ids or missing; or None.

    >>> tokenizer = PromptTokenizer.from_pretrained("chatcore/models/demo")
    >>> [tokenizer.decode([token_id]) for token_id in find_stop_token_ids(tokenizer)]
    ['<|im_end|>', '<|im_start|>']
    """
    if isinstance(generation_config, Mapping):
        configured = generation_config.get("eos_token_id")
    else:
        configured = getattr(generation_config, "eos_token_id", None)
    found = list(configured) if isinstance(configured, Iterable) else [configured]
    found += [getattr(tokenizer, name, None) for name in ("eos_token_id", "im_end_id", "im_start_id", "eod_id")]
    found += [control_token_id(tokenizer, text) for text in ("<|im_end|>", "<|im_start|>")]
    found.append(_template_turn_end(tokenizer))
    return list(dict.fromkeys(token_id for token_id in found if isinstance(token_id, int)))


def control_token_id(tokenizer: Any, text: str) -> int | None:
    if isinstance(tokenizer, PromptTokenizer):
        return tokenizer.token_to_id(text)
    attribute = {"<|im_start|>": "im_start_id", "<|im_end|>": "im_end_id"}.get(text, "")
    token_id = getattr(tokenizer, attribute, None)
    if not isinstance(token_id, int) and hasattr(tokenizer, "get_added_vocab"):
        token_id = tokenizer.get_added_vocab().get(text)
    return token_id if isinstance(token_id, int) else None


def _template_turn_end(tokenizer: Any) -> int | None:
    """Return the turn-end token of the template that a Hugging Face tokenizer carries."""
    source = getattr(tokenizer, "chat_template", None)
    added = getattr(tokenizer, "added_tokens_decoder", None)
    if not isinstance(source, str) or not isinstance(added, Mapping):
        return None
    control_tokens = [ControlToken(i, token.content, bool(token.special)) for i, token in added.items()]
    names = {name: str(text) for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
    try:
        return find_turn_end(TracedTemplate(source, Alphabet(control_tokens), names))
    except PromptError:
        return None


def remove_stop_words(token_ids: Iterable[int], stop_words_ids: Collection[int]) -> list[int]:
    """Return the ids without the stop ids at their end. The argument is not changed.

    >>> remove_stop_words([1, 9, 2, 9, 8], [8, 9])
    [1, 9, 2]
    """
    kept = list(token_ids)
    while kept and kept[-1] in stop_words_ids:
        kept.pop()
    return kept


def find_turn_end(template: TracedTemplate) -> int | None:
    """Return the id of the control token that the template writes behind an answer, or None if it writes none."""
    answer = "Hello"
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": answer}]
    try:
        rendered = template.render(messages, add_generation_prompt=False)
    except PromptError:
        return None
    _, found, behind = rendered.rpartition(answer)
    if not found or not behind.startswith(MARK):
        return None
    return template.alphabet.token(behind[1]).id
