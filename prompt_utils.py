"""Messages -> prompt token ids: exact, safe and cheap. Also what fits the window, and the stop token ids.

The engine receives token ids, never text. They are made in three steps: *shield* what people wrote, *render* the
model's own chat template, *encode* the pieces between the control tokens that the template put there. No text in any
field of any message can become a control token. docs/prompts.md tells it with pictures.

>>> PromptBuilder.from_pretrained("demo_model/model")  # doctest: +SKIP
>>> builder.build([{"role": "user", "content": "Hello"}]).token_ids  # doctest: +SKIP

Imports no torch, no transformers and no vllm; transformers' Jinja renderer is loaded with the first builder.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from errors import InvalidMessageError, PromptError, PromptTooLongError
from prompt_encoding import PromptTokenizer
from prompt_template import (
    CUT,
    MARK,
    Alphabet,
    TracedTemplate,
    read_literals,
)

__all__ = ["FittedPrompt", "Prompt", "PromptBuilder", "PromptTokenizer", "find_stop_token_ids", "remove_stop_words"]

DEFAULT_CACHE_BYTES = 64 * 1024 * 1024  # 64 MiB: about a million tokens of encoded pieces

# The first Qwen generation ships no template. Its make_context encodes role, line break and content one by one, hence
# the cuts.
NATIVE_CHATML = """\
{%- if tools %}{{ raise_exception('this model has no chat template, so it cannot be given tools') }}{% endif %}
{%- if messages and messages[0].role != 'system' %}
    {{- '<|im_start|>system\\n' }}{{ cut }}{{ 'You are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role not in ('system', 'user', 'assistant') or message.tool_calls %}
        {{- raise_exception('this model has no chat template: messages are system, user or assistant text only') }}
    {%- elif message.content is not string %}
        {{- raise_exception('this model has no chat template: content is a string') }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + cut + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads.

    Attributes:
        text: for people; control tokens are spelled out.
        token_ids: for the engine.
    """

    text: str
    token_ids: list[int]


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """A prompt that fits the window, and what had to go for it.

    Attributes:
        prompt: the prompt of the messages that stay.
        messages: those messages, in order.
        dropped: positions of the messages that went, in the list that was given.
    """

    prompt: Prompt
    messages: list[Mapping[str, Any]]
    dropped: list[int]


class PieceCache:
    """Encoded pieces, kept in bounded memory: what was not asked for lately goes.

    Two dictionaries instead of a linked list: new entries go into the young one; when it holds half of the bytes, it
    becomes the old one, and what the old one held is forgotten. Reads and writes are single dictionary operations, so
    threads need no lock.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_young_bytes = max_bytes // 2
        self._young: dict[str, tuple[list[int], str]] = {}
        self._old: dict[str, tuple[list[int], str]] = {}
        self._young_bytes = 0

    def get(self, piece: str) -> tuple[list[int], str] | None:
        found = self._young.get(piece)
        if found is None and (found := self._old.get(piece)) is not None:
            self.put(piece, found)
        return found

    def put(self, piece: str, encoded: tuple[list[int], str]) -> None:
        num_bytes = 300 + 4 * len(piece) + 40 * len(encoded[0])  # containers, two strings, one int object per id
        if num_bytes > self._max_young_bytes:
            return
        if self._young_bytes + num_bytes > self._max_young_bytes:
            self._old, self._young, self._young_bytes = self._young, {}, 0
        self._young[piece] = encoded
        self._young_bytes += num_bytes


class PromptBuilder:
    """Build prompts for one model.

    Safe to use from several threads at once. Messages are never modified.

    Attributes:
        tokenizer: the model's vocabulary.
        chat_template: the Jinja text in use (the default one, where a model has several).
        control_token_ids: ids that only a template or the model may write.
        stop_token_ids: ids that end an answer.
    """

    def __init__(
        self,
        tokenizer: PromptTokenizer,
        chat_template: str | Mapping[str, str],
        *,
        generation_config: Mapping[str, Any] | None = None,
        max_cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> None:
        self.tokenizer = tokenizer
        self.control_token_ids = frozenset(token.id for token in tokenizer.control_tokens)
        self._cache = PieceCache(max_cache_bytes)
        sources = {"default": chat_template} if isinstance(chat_template, str) else dict(chat_template)
        literals = set().union(*map(read_literals, sources.values()))
        self._alphabet = Alphabet(tokenizer.control_tokens, literals)
        self._templates = {
            name: TracedTemplate(source, self._alphabet, tokenizer.names) for name, source in sources.items()
        }
        self.chat_template = self._template_for(None).source
        self.stop_token_ids = find_stop_token_ids(tokenizer, generation_config)

    @classmethod
    def from_pretrained(
        cls,
        model_dir: str | Path,
        *,
        chat_template: str | Path | None = None,
        max_cache_bytes: int = DEFAULT_CACHE_BYTES,
    ) -> PromptBuilder:
        """Read the tokenizer and the chat template in a model's folder.

        Args:
            model_dir: a folder on this machine.
            chat_template: Jinja text, or a path to a file that holds it; the model's own if left out.
            max_cache_bytes: memory for encoded pieces, in bytes.
        Raises:
            ModelLoadError: the tokenizer is missing or cannot be read.
            PromptError: the model has no chat template, or it is not valid.
        """
        folder = Path(model_dir)
        if chat_template is None:
            source = find_chat_template(folder)
        else:
            source = _read_template_argument(chat_template)
        return cls(
            PromptTokenizer.from_pretrained(folder),
            source,
            generation_config=_read_json(folder / "generation_config.json"),
            max_cache_bytes=max_cache_bytes,
        )

    def build(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        **template_kwargs: Any,
    ) -> Prompt:
        """Return the prompt for a conversation.

        Args:
            messages: oldest first, OpenAI's shape.
            tools: JSON schemas of tools, OpenAI's shape.
            add_generation_prompt: end with the header of the assistant's answer.
            continue_final_message: end inside the last message instead, for the model to continue it.
            template_kwargs: what the template understands besides, such as ``enable_thinking=False``.
        Raises:
            InvalidMessageError: a message is not OpenAI's shape.
            PromptError: the template refuses the messages.
        """
        rendered = self._render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            template_kwargs=template_kwargs,
        )
        return self._encode(rendered)

    def count(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> int:
        """Return the length of the prompt that :meth:`build` would give, in tokens. Same options."""
        return len(self.build(messages, **options).token_ids)

    def fit(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        max_prompt_tokens: int,
        target_prompt_tokens: int | None = None,
        pinned: Collection[int] = (),
        **options: Any,
    ) -> FittedPrompt:
        """Return the prompt of as many newest turns as fit."""
        prompt = self.build(messages, **options)
        if len(prompt.token_ids) <= max_prompt_tokens:
            return FittedPrompt(prompt, list(messages), [])
        limit = max_prompt_tokens if target_prompt_tokens is None else min(max_prompt_tokens, target_prompt_tokens)
        for dropped in _cuts(messages, pinned):
            gone = set(dropped)
            kept = [message for i, message in enumerate(messages) if i not in gone]
            prompt = self.build(kept, **options)
            if len(prompt.token_ids) <= limit:
                return FittedPrompt(prompt, kept, dropped)
        if len(prompt.token_ids) <= max_prompt_tokens:
            return FittedPrompt(prompt, kept, dropped)
        raise PromptTooLongError(len(prompt.token_ids), max_prompt_tokens)

    def _template_for(self, tools: Sequence[Any] | None) -> TracedTemplate:
        if tools and "tool_use" in self._templates:
            return self._templates["tool_use"]
        return self._templates.get("default") or next(iter(self._templates.values()))

    def _render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None,
        add_generation_prompt: bool,
        continue_final_message: bool,
        template_kwargs: Mapping[str, Any],
    ) -> str:
        if not messages:
            raise InvalidMessageError("a conversation has at least one message")
        template = self._template_for(tools)
        shield = template.shield
        shielded = [shield.message(message, i) for i, message in enumerate(messages)]
        try:
            tools = None if tools is None else [shield.value(tool) for tool in tools]
            variables = {name: shield.value(value) for name, value in template_kwargs.items()}
        except (TypeError, RecursionError) as error:
            raise PromptError(f"a tool or template option is not JSON: {error}") from error
        if template.source == NATIVE_CHATML:
            variables["cut"] = CUT
        if continue_final_message:
            return template.render_open(shielded, tools=tools, template_kwargs=variables)
        return template.render(
            shielded, tools=tools, add_generation_prompt=add_generation_prompt, template_kwargs=variables
        )

    def _encode(self, rendered: str) -> Prompt:
        """Encode rendered text: control tokens where the template put them, ordinary text between."""
        cache = self._cache
        first, *pieces = rendered.split(MARK)
        ids: list[int] = []
        texts: list[str] = []
        if first:
            text = self._alphabet.plain(first)
            ids += self.tokenizer.encoder.encode(text, begins_prompt=True)
            texts.append(text)
        for piece in pieces:
            encoded = cache.get(piece)
            if encoded is None:
                encoded = self._encode_piece(piece)
                cache.put(piece, encoded)
            ids += encoded[0]
            texts.append(encoded[1])
        return Prompt("".join(texts), ids)

    def _encode_piece(self, piece: str) -> tuple[list[int], str]:
        token = self._alphabet.token(piece[0])
        ids, texts = [token.id], [token.text]
        for part in piece[1:].split(CUT):
            text = self._alphabet.plain(part)
            texts.append(text)
            if token.strips_right:
                text = text.lstrip()
            if text:
                ids += self.tokenizer.encode(text)
        return ids, "".join(texts)


def _cuts(messages: Sequence[Mapping[str, Any]], pinned: Collection[int]) -> Iterator[list[int]]:
    """Yield what may be dropped: one turn more each time, oldest first."""
    turns: list[list[int]] = []
    for i, message in enumerate(messages):
        if i == 0 and message.get("role") in ("system", "developer"):
            continue
        if message.get("role") == "user" or not turns:
            turns.append([])
        turns[-1].append(i)
    dropped: list[int] = []
    for turn in turns[:-1]:
        if not set(turn) & set(pinned):
            dropped = [*dropped, *turn]
            yield dropped


def find_chat_template(folder: Path) -> str | dict[str, str]:
    """Return the Jinja text of a model's chat template, or several by name.

    Raises:
        PromptError: there is none, and the model is not one of those that came without.
    """
    if (file := folder / "chat_template.jinja").is_file():
        return file.read_text("utf-8")
    for name in ("tokenizer_config.json", "chat_template.json"):
        template = _read_json(folder / name).get("chat_template")
        if isinstance(template, str):
            return template
        if isinstance(template, list):
            return {entry["name"]: entry["template"] for entry in template}
    config = _read_json(folder / "config.json")
    chat_format = _read_json(folder / "generation_config.json").get("chat_format", config.get("chat_format"))
    if chat_format == "chatml" or (chat_format is None and config.get("model_type") == "qwen"):
        return NATIVE_CHATML
    raise PromptError(
        f"{folder.name} holds no chat template", hint="Give one: chat_template= takes Jinja text or a path to a file."
    )


def _read_template_argument(chat_template: str | Path) -> str:
    text = str(chat_template)
    if isinstance(chat_template, Path) or not any(sign in text for sign in "{\n"):
        file = Path(text)
        if not file.is_file():
            raise PromptError(f"there is no chat template file {text}", hint="Give Jinja text or a path to a file.")
        return file.read_text("utf-8")
    return text


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}


def find_stop_token_ids(tokenizer: Any, generation_config: Any = None) -> list[int]:
    """Return the ids that end an answer, each once.

    Args:
        tokenizer: a Hugging Face tokenizer or a :class:`PromptTokenizer`.
        generation_config: an object or dictionary with ``eos_token_id``, or None.
    """
    if isinstance(generation_config, Mapping):
        configured = generation_config.get("eos_token_id")
    else:
        configured = getattr(generation_config, "eos_token_id", None)
    found = list(configured) if isinstance(configured, Iterable) else [configured]
    found += [getattr(tokenizer, name, None) for name in ("eos_token_id", "eod_id", "im_end_id", "im_start_id")]
    found += [_control_token_id(tokenizer, text) for text in ("<|im_end|>", "<|im_start|>")]
    return list(dict.fromkeys(i for i in found if isinstance(i, int)))


def _control_token_id(tokenizer: Any, text: str) -> int | None:
    if isinstance(tokenizer, PromptTokenizer):
        return tokenizer.token_to_id(text)
    added = getattr(tokenizer, "get_added_vocab", dict)()
    return added.get(text)


def remove_stop_words(token_ids: Iterable[int], stop_words_ids: Collection[int]) -> list[int]:
    """Return the ids without the stop ids at their end. The argument is not changed.

    >>> remove_stop_words([1, 2, 9, 9], [9])
    [1, 2]
    """
    kept = list(token_ids)
    while kept and kept[-1] in stop_words_ids:
        kept.pop()
    return kept


def _build_prompt(
    generation_config: Any,
    tokenizer: PromptTokenizer,
    query: str,
    history: Sequence[tuple[str, str]] | None = None,
    system: str = "",
) -> tuple[str, list[int]]:
    """Build a ChatML prompt as scripts written after Qwen's example do; text and token ids.

    The newest history that fits ``generation_config.max_window_size`` is kept. A query that is too long is cut at its
    end, with a warning.
    """
    im_start, im_end = (_control_token_id(tokenizer, text) for text in ("<|im_start|>", "<|im_end|>"))
    if im_start is None or im_end is None:
        raise PromptError("this tokenizer knows no <|im_start|> and <|im_end|>, so it has no ChatML prompts")
    encode = tokenizer.encode
    line_break = encode("\n")

    def block(role: str, content: str) -> tuple[str, list[int]]:
        ids = [im_start, *encode(role), *line_break, *encode(content), im_end]
        return f"<|im_start|>{role}\n{content}<|im_end|>", ids

    window = getattr(generation_config, "max_window_size", None)
    left = window if isinstance(window, int) else 1 << 62
    system_text, system_ids = block("system", system)
    suffix = [im_end, *line_break, im_start, *encode("assistant"), *line_break]
    prefix = [*line_break, im_start, *encode("user"), *line_break]
    query_ids = encode(query)
    left -= len(system_ids) + len(prefix) + len(suffix)
    if len(query_ids) > left:
        warnings.warn(f"the query has {len(query_ids)} tokens and is cut to {left}", UserWarning, stacklevel=2)
        query_ids = query_ids[: max(left, 0)]
        query = tokenizer.decode(query_ids)
    left -= len(query_ids)
    past_text, past_ids = "", list[int]()
    for user, assistant in reversed(history or []):
        user_text, user_ids = block("user", user)
        answer_text, answer_ids = block("assistant", assistant)
        turn_ids = [*line_break, *user_ids, *line_break, *answer_ids]
        if len(turn_ids) > left:
            break
        past_text = f"\n{user_text}\n{answer_text}{past_text}"
        past_ids = [*turn_ids, *past_ids]
        left -= len(turn_ids)
    text = f"{system_text}{past_text}\n<|im_start|>user\n{query}<|im_end|>\n<|im_start|>assistant\n"
    return text, [*system_ids, *past_ids, *prefix, *query_ids, *suffix]
