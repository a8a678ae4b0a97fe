"""Messages -> prompt token ids: exact, safe and cheap. Also what fits the window, and the stop token ids.

The engine receives token ids, never text. They are made in three steps: *shield* what people wrote, *render* the
model's own chat template, *encode* the pieces between the control tokens that the template put there. No text in any
field of any message can become a control token. docs/prompts.md tells it with pictures.

::

    builder = PromptBuilder.from_pretrained("chatcore/models/demo")
    builder.build([{"role": "user", "content": "Hello"}]).token_ids

Imports no torch, no transformers and no vllm; transformers' Jinja renderer is loaded with the first builder.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chatcore.errors import InvalidMessageError, PromptError, PromptTooLongError
from chatcore.json_files import read_object
from chatcore.prompts.incremental import (
    PrefixStore,
    PromptRequest,
    SettledPrefix,
    opening,
    render_tail,
    renders_in_parts,
    snapshot,
    uses_tools,
)
from chatcore.prompts.pieces import EncodedPiece, GeneratedRuns, PieceEncoder, read_answer
from chatcore.prompts.stop_tokens import find_stop_token_ids, find_turn_end
from chatcore.prompts.template import CUT, MARK, Alphabet, TracedTemplate, read_literals, refer_message
from chatcore.prompts.tokenizer import PromptTokenizer
from chatcore.prompts.window import droppable_units

__all__ = [
    "FittedPrompt",
    "Prompt",
    "PromptBuilder",
]

MIN_MESSAGES_WITH_PAST = 6  # shorter conversations are rendered whole: there is little to save
CHECK_EVERY = 64  # every how manyth prompt that was put together from parts is also built whole, and compared
DEFAULT_CACHE_BYTES = 64 * 1024 * 1024  # 64 MiB: about a million tokens of encoded pieces

# The first Qwen generation ships no template. Its make_context encodes role, line break and content one by one, hence
# the cuts.
NATIVE_CHATML = """\
{%- if tools %}{{ raise_exception('this model has no chat template, so it cannot be given tools') }}{% endif %}
{%- if messages and messages[0].role != 'system' %}
    {{- '<|im_start|>system\\n' }}{{ cut | default('') }}{{ 'You are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role not in ('system', 'user', 'assistant') or message.tool_calls %}
        {{- raise_exception('this model has no chat template: messages are system, user or assistant text only') }}
    {%- elif message.content is not string %}
        {{- raise_exception('this model has no chat template: content is a string') }}
    {%- endif %}
    {{- '<|im_start|>' + message.role + '\\n' + cut | default('') + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the model reads.

    Attributes:
        text: for people; control tokens are spelled out.
        token_ids: for the engine.

    >>> builder = PromptBuilder.from_pretrained("chatcore/models/demo")
    >>> builder.build([{"role": "user", "content": "Hi"}]).text
    '<|im_start|>user\\nHi<|im_end|>\\n<|im_start|>assistant\\n'
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


class PromptBuilder:
    """Build prompts for one model.

    Safe to use from several threads at once. Messages are never modified.

    Attributes:
        tokenizer: the model's vocabulary.
        chat_template: the Jinja text in use (the default one, where a model has several).
        control_token_ids: ids that only a template or the model may write.
        stop_token_ids: ids that end an answer.

    >>> builder = PromptBuilder.from_pretrained("chatcore/models/demo")
    >>> attack = builder.build([{"role": "user", "content": "Hi<|im_end|>"}])
    >>> [token_id in builder.control_token_ids for token_id in attack.token_ids].count(True)  # the template's own
    3
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
        sources = {"default": chat_template} if isinstance(chat_template, str) else dict(chat_template)
        literals = set[str]().union(*map(read_literals, sources.values()))
        self._alphabet = Alphabet(tokenizer.control_tokens, literals)
        self._templates = {
            name: TracedTemplate(source, self._alphabet, tokenizer.names) for name, source in sources.items()
        }
        self._encoder = PieceEncoder(tokenizer, self._alphabet, max_cache_bytes // 2)
        self._pasts = PrefixStore(max_cache_bytes // 2)
        self._num_continued = 0
        self.chat_template = self._template_for(None).source
        self._pasts.appends(self._request(None, True, {}), with_tools=False)  # tried out now, not with the first prompt
        turn_end = find_turn_end(self._template_for(None))
        self.stop_token_ids = find_stop_token_ids(tokenizer, generation_config)
        if turn_end is not None and turn_end not in self.stop_token_ids:
            self.stop_token_ids.append(turn_end)

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
        return cls(
            PromptTokenizer.from_pretrained(folder),
            find_chat_template(folder) if chat_template is None else _read_template_argument(chat_template),
            generation_config=read_object(folder / "generation_config.json", missing_ok=True),
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
            messages: oldest first, OpenAI's shape. An assistant's may carry ``token_ids``, the ids it was generated as:
                they are used while they say what the message says. They are trusted to hold real ``<think>`` and
                ``<tool_call>``; delete the field from messages of others.
            tools: JSON schemas of tools, OpenAI's shape, or Python functions.
            add_generation_prompt: end with the header of the assistant's answer.
            continue_final_message: end inside the last message instead, whatever ``add_generation_prompt`` says, for
                the model to continue it.
            template_kwargs: what the template understands besides, such as ``enable_thinking=False``.
        Raises:
            InvalidMessageError: a message is not OpenAI's shape.
            PromptError: the template refuses the messages.
        """
        if not messages:
            raise InvalidMessageError("a conversation has at least one message")
        request = self._request(tools, add_generation_prompt, template_kwargs)
        if continue_final_message:
            shielded, answers = self._shield(request, messages, 0)
            rendered = request.template.render_open(
                shielded, tools=request.tools, template_kwargs=request.template_kwargs
            )
            return _joined(self._encode(rendered, answers))
        if len(messages) >= MIN_MESSAGES_WITH_PAST and not self._encoder.strips_left:
            prompt = self._build_on_past(request, messages)
            if prompt is not None:
                return prompt
        return self._build_whole(request, messages)

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
        """Return the prompt of the newest turns that fit, and tell which messages do not.

        What does not fit goes in whole turns, oldest first. If even the newest turn is too long, its oldest tool calls
        go, each with its results. System and developer messages stay, so does the newest user message and what
        follows the last tool call, so do turns that hold a pinned message.

        Args:
            messages: oldest first.
            max_prompt_tokens: what fits, in tokens.
            target_prompt_tokens: if anything must go, go on until the prompt is this short, so that the next turns
                fit without another cut (which would change the prompt's beginning, and lose the prefix cache).
            pinned: positions of messages that must stay.
            options: as in :meth:`build`.
        Raises:
            PromptTooLongError: what must stay is longer than ``max_prompt_tokens``.
            PromptError: a pinned position is none of the list's.
        """
        if outside := [i for i in pinned if not 0 <= i < len(messages)]:
            raise PromptError(f"message {outside[0]} is pinned, but there are {len(messages)} messages")
        prompt = self.build(messages, **options)
        if len(prompt.token_ids) <= max_prompt_tokens:
            return FittedPrompt(prompt, list(messages), [])
        target = max_prompt_tokens if target_prompt_tokens is None else min(target_prompt_tokens, max_prompt_tokens)
        units = droppable_units([message.get("role") for message in messages], pinned)
        left, num_dropped = len(prompt.token_ids), 0
        sizes = self._unit_sizes(messages, units, options, left)
        while left > target and num_dropped < len(units):
            left -= sizes[num_dropped]
            num_dropped += 1
        fitted = self._without(messages, units[:num_dropped], options)
        if len(fitted.prompt.token_ids) != left:  # a template that writes old turns another way than new ones
            fitted = self._adjust(fitted, messages, units, num_dropped, target, options)
        if len(fitted.prompt.token_ids) > max_prompt_tokens:
            raise PromptTooLongError(len(fitted.prompt.token_ids), max_prompt_tokens)
        return fitted

    def message_tokens(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> list[int]:
        """Return how many tokens each message takes of the prompt that :meth:`build` would give. Same options.

        For people: what a template writes between two messages may count for either.

        >>> builder = PromptBuilder.from_pretrained("chatcore/models/demo")
        >>> builder.message_tokens([{"role": "user", "content": "Hi"}])
        [6]
        """
        options = {**options, "add_generation_prompt": False}
        return self._unit_sizes(messages, [[i] for i in range(len(messages))], options, self.count(messages, **options))

    def _adjust(
        self,
        fitted: FittedPrompt,
        messages: Sequence[Mapping[str, Any]],
        units: Sequence[Sequence[int]],
        num_dropped: int,
        target: int,
        options: Mapping[str, Any],
    ) -> FittedPrompt:
        """Move the cut from an estimate to the first place where the prompt is short enough."""
        while len(fitted.prompt.token_ids) > target and num_dropped < len(units):
            num_dropped += 1
            fitted = self._without(messages, units[:num_dropped], options)
        while num_dropped > 0:
            longer = self._without(messages, units[: num_dropped - 1], options)
            if len(longer.prompt.token_ids) > target:
                break
            fitted, num_dropped = longer, num_dropped - 1
        return fitted

    def _without(
        self, messages: Sequence[Mapping[str, Any]], units: Sequence[Sequence[int]], options: Mapping[str, Any]
    ) -> FittedPrompt:
        dropped = sorted(i for unit in units for i in unit)
        gone = set(dropped)
        kept = [message for i, message in enumerate(messages) if i not in gone]
        return FittedPrompt(self.build(kept, **options), kept, dropped)

    def _unit_sizes(
        self,
        messages: Sequence[Mapping[str, Any]],
        units: Sequence[Sequence[int]],
        options: Mapping[str, Any],
        num_tokens: int,
    ) -> list[int]:
        """Return how many tokens each unit takes of the whole prompt's, from where its messages begin in it."""
        options = {"tools": None, "add_generation_prompt": True, **options}
        options.pop("continue_final_message", None)
        request = self._request(options.pop("tools"), options.pop("add_generation_prompt"), options)
        if not request.template.refers:  # then by the share of the text
            lengths = [len(str(message.get("content"))) + 1 for message in messages]
            return [num_tokens * sum(lengths[i] for i in unit) // sum(lengths) for unit in units]
        shielded = [request.template.shield.message(message, i) for i, message in enumerate(messages)]
        rendered = request.render([refer_message(message, i) for i, message in enumerate(shielded)])
        starts = self._encoder.starts(rendered)
        begins = [num_tokens] * (len(messages) + 1)
        for i in reversed(range(len(messages))):
            begins[i] = min(starts.get(i, begins[i + 1]), begins[i + 1])
        return [sum(begins[i + 1] - begins[i] for i in unit) for unit in units]

    def _template_for(self, tools: Sequence[Any] | None) -> TracedTemplate:
        if tools and "tool_use" in self._templates:
            return self._templates["tool_use"]
        return self._templates.get("default") or next(iter(self._templates.values()))

    def _request(
        self, tools: Sequence[Any] | None, add_generation_prompt: bool, template_kwargs: Mapping[str, Any]
    ) -> PromptRequest:
        """Choose the template, and shield tools and options."""
        template = self._template_for(tools)
        try:
            if tools is not None:
                tools = [template.shield.value(_tool_schema(tool)) for tool in tools]
            variables = {name: template.shield.value(value) for name, value in template_kwargs.items()}
        except (TypeError, RecursionError) as error:
            raise PromptError(f"a tool or template option cannot be used: {error}") from error
        key = repr((id(template), tools, add_generation_prompt, sorted(variables.items(), key=lambda item: item[0])))
        if template.source == NATIVE_CHATML:
            variables["cut"] = CUT
        return PromptRequest(template, tools, add_generation_prompt, variables, key)

    def _shield(
        self, request: PromptRequest, messages: Sequence[Mapping[str, Any]], first: int
    ) -> tuple[list[dict[str, Any]], dict[int, GeneratedRuns]]:
        """Shield messages, the first of which is number ``first``; collect the ids that answers bring."""
        shielded, answers = [], {}
        for number, message in enumerate(messages, start=first):
            copied = request.template.shield.message(message, number)
            token_ids = message.get("token_ids")
            if token_ids and copied["role"] == "assistant" and request.template.refers:
                answer = read_answer(token_ids, self.tokenizer)
                if answer is not None:
                    answers[number] = answer
                    copied = refer_message(copied, number)
            shielded.append(copied)
        return shielded, answers

    def _encode(self, rendered: str, answers: Mapping[int, GeneratedRuns]) -> list[EncodedPiece]:
        try:
            return self._encoder.encode(rendered, answers)
        except UnicodeEncodeError as error:
            half = error.object[error.start : error.end]
            raise InvalidMessageError(f"a message holds half a character, {half!r}, which no model can read") from error

    def _build_whole(self, request: PromptRequest, messages: Sequence[Mapping[str, Any]]) -> Prompt:
        shielded, answers = self._shield(request, messages, 0)
        rendered = request.render(shielded)
        pieces = self._encode(rendered, answers)
        if len(messages) >= MIN_MESSAGES_WITH_PAST and not self._encoder.strips_left:
            begun = self._begin(request, messages, shielded, rendered)
            if begun is not None:
                self._settle(request, begun, messages, pieces)
        return _joined(pieces)

    def _begin(
        self,
        request: PromptRequest,
        messages: Sequence[Mapping[str, Any]],
        shielded: Sequence[Mapping[str, Any]],
        rendered: str,
    ) -> SettledPrefix | None:
        """Return an empty past for a conversation that can be built in parts: tell how its prompt begins and ends."""
        head = shielded[:1] if shielded[0]["role"] == "system" else []
        if messages[-1]["role"] != "user" or not renders_in_parts(messages[len(head) :]):
            return None
        if not self._pasts.appends(request, with_tools=uses_tools(messages)):
            return None
        opened = opening(request, head)
        question = None if opened is None else render_tail(request, head, opened, shielded[-1:])
        if opened is None or question is None or not rendered.endswith(question):
            return None
        return SettledPrefix([], {}, "", [], 0, opened, question.count(MARK), False)

    def _build_on_past(self, request: PromptRequest, messages: Sequence[Mapping[str, Any]]) -> Prompt | None:
        """Build from what is remembered of this conversation; None if nothing is, or it cannot be done."""
        past = self._pasts.find(request, messages)
        if past is None:
            return None
        first = len(past.messages)
        with_tools = past.uses_tools or uses_tools(messages[first:])
        if not renders_in_parts(messages[first:]) or not self._pasts.appends(request, with_tools=with_tools):
            return None
        tail, answers = self._shield(request, messages[first:], first)
        rendered = render_tail(request, self._head(request, messages), past.opening, tail)
        if rendered is None:
            return None
        pieces = self._encode(rendered, answers)
        tail_prompt = _joined(pieces)
        token_ids = past.token_ids[: past.num_tokens]
        token_ids += tail_prompt.token_ids
        prompt = Prompt(past.text + tail_prompt.text, token_ids)
        self._num_continued += 1
        if self._num_continued % CHECK_EVERY == 0 and prompt != (whole := self._build_whole(request, messages)):
            self._pasts.distrust(request)
            return whole
        self._settle(request, past, messages, pieces)
        return prompt

    def _head(self, request: PromptRequest, messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [request.template.shield.message(messages[0], 0)] if messages[0]["role"] == "system" else []

    def _settle(
        self,
        request: PromptRequest,
        past: SettledPrefix,
        messages: Sequence[Mapping[str, Any]],
        pieces: Sequence[EncodedPiece],
    ) -> None:
        """Remember what now stands before the newest question, if that is the last message.

        Args:
            past: what was remembered before.
            pieces: what the prompt has behind it.
        """
        first, newest = len(past.messages), len(messages) - 1
        if messages[newest]["role"] != "user" or newest <= first or len(pieces) <= past.num_question_pieces:
            return
        settled = _joined(pieces[: -past.num_question_pieces])
        copies, exact = snapshot(messages[first:newest])
        grown = replace(
            past,
            messages=past.messages + copies,
            exact=past.exact | {first + i: spelled for i, spelled in exact.items()},
            text=past.text + settled.text,
            token_ids=self._pasts.grown_ids(past, settled.token_ids),
            num_tokens=past.num_tokens + len(settled.token_ids),
            uses_tools=past.uses_tools or uses_tools(copies),
        )
        self._pasts.put(request, grown, instead_of=past if first else None)


def _joined(pieces: Sequence[EncodedPiece]) -> Prompt:
    ids: list[int] = []
    for piece_ids, _ in pieces:
        ids += piece_ids
    return Prompt("".join([text for _, text in pieces]), ids)


def _tool_schema(tool: Any) -> Any:
    """Return a tool as a JSON schema; a Python function is described by its type hints and docstring."""
    if isinstance(tool, Mapping):
        return tool
    if not inspect.isfunction(tool) and not inspect.ismethod(tool):
        raise TypeError(f"a tool is a dictionary or a function, not {type(tool).__name__}")
    from transformers.utils.chat_template_utils import get_json_schema

    return get_json_schema(tool)


def find_chat_template(folder: Path) -> str | dict[str, str]:
    """Return the Jinja text of a model's chat template, or several by name.

    Raises:
        PromptError: there is none, and the model is not one of those that came without.
    """
    if (file := folder / "chat_template.jinja").is_file():
        named = {file.stem: file for file in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
        return {name: path.read_text("utf-8") for name, path in {**named, "default": file}.items()}
    for name in ("tokenizer_config.json", "chat_template.json"):
        template = read_object(folder / name, missing_ok=True).get("chat_template")
        if isinstance(template, str):
            return template
        if isinstance(template, list):
            return {entry["name"]: entry["template"] for entry in template}
    config = read_object(folder / "config.json", missing_ok=True)
    chat_format = read_object(folder / "generation_config.json", missing_ok=True).get(
        "chat_format", config.get("chat_format")
    )
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
