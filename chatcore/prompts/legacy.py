"""Prompts the way scripts build them that were written after Qwen's example: ChatML, without a template.

New programs use :class:`prompt_utils.PromptBuilder`.
"""

from __future__ import annotations

import re
import sys
import warnings
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from chatcore.errors import PromptError
from chatcore.prompts.stop_tokens import control_token_id
from chatcore.prompts.tokenizer import PromptTokenizer

__all__ = ["build_prompt"]


def build_prompt(
    generation_config: Any,
    tokenizer: Any,
    query: str,
    history: Sequence[tuple[str, str]] | None = None,
    system: str = "",
) -> tuple[str, list[int]]:
    """Build a ChatML prompt the way scripts do that were written after Qwen's example: its text and its token ids.

    The newest turns of ``history`` that fit ``generation_config.max_window_size`` tokens are kept, all of them if it
    names no size. A query that is too long is cut at its end, with a warning. Text cannot become control tokens.

    Args:
        tokenizer: as for :func:`find_stop_token_ids`.
        history: ``(query, response)``, oldest first; not changed.
    Raises:
        PromptError: the tokenizer has no ChatML tokens.

    >>> tokenizer = PromptTokenizer.from_pretrained("chatcore/models/demo")
    >>> text, token_ids = build_prompt(None, tokenizer, "Hello!", history=[], system="Be brief.")
    >>> text.splitlines()[:3]
    ['<|im_start|>system', 'Be brief.<|im_end|>', '<|im_start|>user']
    """
    im_start, im_end = (control_token_id(tokenizer, text) for text in ("<|im_start|>", "<|im_end|>"))
    if im_start is None or im_end is None:
        raise PromptError("this tokenizer knows no <|im_start|> and <|im_end|>, so it has no ChatML prompts")
    plain = _plain_tokenizer(tokenizer)
    line_break = plain.encode("\n")

    def block(role: str, content_ids: Sequence[int]) -> list[int]:
        return [im_start, *plain.encode(role), *line_break, *content_ids, im_end]

    def text_of(role: str, content: str) -> str:
        return f"<|im_start|>{role}\n{content}<|im_end|>"

    system_ids = block("system", plain.encode(system))
    ending = [*line_break, im_start, *plain.encode("assistant"), *line_break]
    left = _window_size(generation_config) - len(system_ids) - len(line_break) - len(block("user", [])) - len(ending)
    query_ids = plain.encode(query)
    if len(query_ids) > left:
        warnings.warn(f"the query has {len(query_ids)} tokens and is cut to {max(left, 0)}", stacklevel=2)
        query_ids, query = _cut(query_ids, max(left, 0), plain)
    left -= len(query_ids)
    past_text, past_ids = "", list[int]()
    for user, assistant in reversed(history or []):
        turn = [*line_break, *block("user", plain.encode(user)), *line_break]
        turn += block("assistant", plain.encode(assistant))
        if len(turn) > left:
            break
        past_text = f"\n{text_of('user', user)}\n{text_of('assistant', assistant)}{past_text}"
        past_ids = turn + past_ids
        left -= len(turn)
    text = f"{text_of('system', system)}{past_text}\n{text_of('user', query)}\n<|im_start|>assistant\n"
    return text, [*system_ids, *past_ids, *line_break, *block("user", query_ids), *ending]


def _window_size(generation_config: Any) -> int:
    size = getattr(generation_config, "max_window_size", None)
    return size if isinstance(size, int) else sys.maxsize


def _cut(token_ids: Sequence[int], most: int, tokenizer: TextTokenizer) -> tuple[list[int], str]:
    """Return the first ids and their text; less, where that would end inside a character."""
    for end in range(most, max(most - 4, 0), -1):
        text = tokenizer.decode(token_ids[:end])
        if not text.endswith("\ufffd"):
            return list(token_ids[:end]), text
    return [], ""


class TextTokenizer(Protocol):
    """Ordinary text to ids and back."""

    def encode(self, text: str) -> list[int]: ...

    def decode(self, token_ids: Iterable[int]) -> str: ...


class CallersTokenizer:
    """A tokenizer that a caller brought, kept from reading control tokens in text.

    For tokenizers that are no file of the `tokenizers` library, such as the first Qwen generation's own.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._control_ids = {control_token_id(tokenizer, text) for text in ("<|im_start|>", "<|im_end|>")}

    def encode(self, text: str) -> list[int]:
        try:
            ids = self._tokenizer.encode(text, allowed_special=set(), disallowed_special=())
        except TypeError:  # not the first generation's
            ids = self._tokenizer.encode(text)
        if self._control_ids.isdisjoint(ids):
            return list(ids)
        # It reads them all the same. Cut in two behind the first character, a spelling is none any more.
        return [token_id for part in re.split(r"(?<=<)(?=\|)", text) for token_id in self._tokenizer.encode(part)]

    def decode(self, token_ids: Iterable[int]) -> str:
        return str(self._tokenizer.decode(list(token_ids)))


_PLAIN_TOKENIZERS: weakref.WeakKeyDictionary[Any, TextTokenizer] = weakref.WeakKeyDictionary()


def _plain_tokenizer(tokenizer: Any) -> TextTokenizer:
    """Return what encodes ordinary text with a caller's vocabulary; made once for each tokenizer."""
    if isinstance(tokenizer, PromptTokenizer):
        return tokenizer
    plain = _PLAIN_TOKENIZERS.get(tokenizer)
    if plain is None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        plain = CallersTokenizer(tokenizer) if backend is None else PromptTokenizer.from_json(backend.to_str())
        _PLAIN_TOKENIZERS[tokenizer] = plain
    return plain
