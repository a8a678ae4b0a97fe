"""What the engine gives for one request -> deltas, and at the end a reply.

Thinking and tool calls are told from the text by vLLM's own parsers; :func:`find_parsers` picks them by the model's
chat template.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from chatcore.engine.thread import Arrival
from chatcore.errors import InvalidMessageError, first_line
from chatcore.prompts.builder import PromptBuilder
from chatcore.prompts.stop_tokens import remove_stop_words
from chatcore.reply import Delta, Reply, TokenLogprob, TokenLogprobs, ToolCall, Usage

__all__ = ["OutputCollector", "OutputParser", "ParserTokenizer", "find_parsers", "make_parser_class", "num_whole"]

FIRST_COMBINING = "\u0300"  # no character below it is changed by another one below it


class OutputCollector:
    """Collects what the engine gives for one request.

    Args:
        parser: tells thinking and tool calls from the text; None if the model does neither.
        prompt_token_ids: what the engine reads.
        stop_token_ids: ids that end the answer and are no part of it.
        dropped_turns: for :class:`Usage`.
        started_s: when the caller asked, on ``time.perf_counter()``.
        parse: turns the text into the object that a ``response_format`` asked for.
        num_top: how many alternatives of each token the caller wants; negative: all that the engine gives.
        streamed: whether somebody reads the deltas; if not, the whole answer is parsed at once, at its end.
    """

    def __init__(
        self,
        *,
        parser: OutputParser | None,
        prompt_token_ids: list[int],
        stop_token_ids: Sequence[int],
        dropped_turns: int,
        started_s: float,
        parse: Callable[[str], Any] | None = None,
        num_top: int = -1,
        streamed: bool = True,
    ) -> None:
        self.prompt_token_ids = prompt_token_ids
        self._parser = parser
        self._stop_token_ids = stop_token_ids
        self._dropped_turns = dropped_turns
        self._started_s = started_s
        self._parse = parse
        self._num_top = num_top
        self._streamed = streamed
        self._unread_text = ""  # what the parsers have not seen
        self._unread_token_ids: list[int] = []
        self._first_token_s: float | None = None
        self._last_s = started_s
        self._num_cached_tokens = 0
        self._token_ids: list[int] = []
        self._sections: dict[str, list[str]] = {"reasoning": [], "text": []}
        self._growing: Delta | None = None  # the character at the end that may still change
        self._tool_calls: dict[int, ToolCall] = {}
        self._logprobs: list[TokenLogprobs] | None = None
        self._prompt_logprobs: list[TokenLogprobs | None] | None = None

    def take(self, arrival: Arrival) -> list[Delta]:
        """Add an output of the engine; return what it adds to the answer."""
        output = arrival.output
        assert output is not None
        completion = output.outputs[0]
        token_ids = list(completion.token_ids)
        self._last_s = arrival.at_s
        self._num_cached_tokens = output.num_cached_tokens or self._num_cached_tokens
        if self._first_token_s is None and token_ids:
            self._first_token_s = arrival.at_s
        self._token_ids += token_ids
        self._take_logprobs(output, completion, token_ids)
        self._unread_text += completion.text
        self._unread_token_ids += token_ids
        if not (self._streamed or output.finished):
            return []
        return self._keep(self._divide(output.finished), last=output.finished)

    def finish(self) -> list[Delta]:
        """Close an answer that was aborted: what was held back comes out."""
        return self._keep(self._divide(finished=True) if self._token_ids else [], last=True)

    def reply(self, finish_reason: str | None) -> Reply:
        reason: Any = "tool_calls" if self._tool_calls and finish_reason == "stop" else finish_reason
        token_ids = (
            remove_stop_words(self._token_ids, self._stop_token_ids) if finish_reason == "stop" else self._token_ids
        )
        first_s = self._first_token_s if self._first_token_s is not None else self._last_s
        text = "".join(self._sections["text"])
        return Reply(
            text=text,
            reasoning="".join(self._sections["reasoning"]).rstrip("\n"),
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
            logprobs=None if self._logprobs is None else tuple(self._logprobs[: len(token_ids)]),
            prompt_logprobs=None if self._prompt_logprobs is None else tuple(self._prompt_logprobs),
        )

    def _divide(self, finished: bool) -> list[Delta]:
        """Tell thinking, text and tool calls of what is unread apart."""
        text, token_ids = self._unread_text, self._unread_token_ids
        self._unread_text, self._unread_token_ids = "", []
        if self._parser is None:
            return [Delta("text", text)] if text else []
        return self._deltas(self._parser.feed(text, token_ids, self.prompt_token_ids, finished))

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

    def _keep(self, deltas: Iterable[Delta], *, last: bool) -> list[Delta]:
        """Add deltas to the answer; return those whose characters are whole.

        The blank lines around thinking are left out: they belong to the markup.
        """
        kept: list[Delta] = []
        for delta in deltas:
            if delta.kind != "tool_call" and self._parser is not None and self._is_empty(delta.kind):
                delta = replace(delta, text=delta.text.lstrip("\n"))
            if delta.kind != "tool_call" and not delta.text:
                continue
            delta = self._with_growing(delta, kept)
            if delta.kind != "tool_call":
                end = num_whole(delta.text)
                if end < len(delta.text):
                    self._growing, delta = replace(delta, text=delta.text[end:]), replace(delta, text=delta.text[:end])
            if delta.text or delta.kind == "tool_call":
                kept.append(delta)
        if last and self._growing is not None:
            kept.append(self._growing)
            self._growing = None
        for delta in kept:
            if delta.kind != "tool_call":
                self._sections[delta.kind].append(delta.text)
        return kept

    def _is_empty(self, kind: str) -> bool:
        return not self._sections[kind] and (self._growing is None or self._growing.kind != kind)

    def _with_growing(self, delta: Delta, kept: list[Delta]) -> Delta:
        """Put what was held back in front of a delta, or on its own if that is of another kind."""
        growing, self._growing = self._growing, None
        if growing is None:
            return delta
        if growing.kind == delta.kind:
            return replace(delta, text=growing.text + delta.text)
        kept.append(growing)
        return delta

    def _take_logprobs(self, output: Any, completion: Any, token_ids: Sequence[int]) -> None:
        if output.prompt_logprobs:
            places = zip(self.prompt_token_ids, output.prompt_logprobs, strict=False)
            self._prompt_logprobs = [place and self._token_logprobs(token_id, place) for token_id, place in places]
        if completion.logprobs is not None:
            places = zip(token_ids, completion.logprobs, strict=True)
            self._logprobs = self._logprobs or []
            self._logprobs += [self._token_logprobs(token_id, place) for token_id, place in places]

    def _token_logprobs(self, token_id: int, place: Mapping[int, Any]) -> TokenLogprobs:
        """Turn vLLM's dictionary of one place into ours."""
        found = [TokenLogprob(i, said.decoded_token or "", said.logprob, said.rank or 0) for i, said in place.items()]
        chosen = next(candidate for candidate in found if candidate.token_id == token_id)
        found.sort(key=lambda candidate: -candidate.logprob)
        return TokenLogprobs(chosen, tuple(found if self._num_top < 0 else found[: self._num_top]))


def num_whole(text: str) -> int:
    """Return how many code points of a text make whole characters, whatever may follow.

    A last character that is still open does not count: an emoji (a skin tone or a joiner may follow), the first half of
    a flag, a letter of a script that writes vowels as marks. One letter that a combining mark follows in a later token
    (decomposed Latin, a keycap's digit) is taken as whole: waiting for it would hold back every letter.

    >>> num_whole("Hello"), num_whole("你好"), num_whole("Hi 👩🏽"), num_whole("🇫")
    (5, 2, 3, 0)
    """
    if not text or text[-1] < FIRST_COMBINING:
        return len(text)
    character = _patterns()[0].findall(text)[-1]
    return len(text) - len(character) if _patterns()[1].search(character) else len(text)


@functools.cache
def _patterns() -> tuple[Any, Any]:
    """Return (one character as people count them, the sign of one that may still grow)."""
    import regex

    settled = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}"
    growing = rf"\p{{Extended_Pictographic}}|\p{{Regional_Indicator}}|\u200d\Z|(?V1)[[\p{{L}}\p{{M}}]--[{settled}]]"
    return regex.compile(r"\X"), regex.compile(growing)


class OutputParser:
    """vLLM's parsers of reasoning and tool calls, for one answer."""

    def __init__(
        self,
        parser_class: Any,
        tokenizer: Any,
        tools: Sequence[Mapping[str, Any]] | None,
        enable_thinking: bool | None,
    ) -> None:
        self._parser_class = parser_class
        self._tokenizer = tokenizer
        self._tools = tools
        self._enable_thinking = enable_thinking
        self._parser: Any = None  # made with the first output: the engine works meanwhile
        self._request: Any = None
        if tools:
            self._open()  # what is wrong with them is said before the engine works

    def feed(self, text: str, token_ids: list[int], prompt_token_ids: list[int], finished: bool) -> Any:
        """Return vLLM's ``DeltaMessage`` of what came, or None if it adds nothing yet."""
        if self._parser is None:
            self._open()
        return self._parser.parse_delta(text, token_ids, self._request, prompt_token_ids, finished=finished)

    def _open(self) -> None:
        keywords = {} if self._enable_thinking is None else {"enable_thinking": self._enable_thinking}
        self._request = _request_with(self._tools) if self._tools else _request_without_tools()
        self._parser = self._parser_class(self._tokenizer, self._request.tools, chat_template_kwargs=keywords)


class ParserTokenizer:
    """A tokenizer that remembers how each single token reads: vLLM's parsers ask for each token of each answer."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[int, str] = {}  # at most the vocabulary

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def decode(self, token_ids: Sequence[int], **options: Any) -> str:
        if len(token_ids) != 1 or options:
            return str(self._tokenizer.decode(token_ids, **options))
        [token_id] = token_ids
        text = self._texts.get(token_id)
        if text is None:
            text = self._texts[token_id] = str(self._tokenizer.decode(token_ids))
        return text


def _request_with(tools: Sequence[Mapping[str, Any]] | None) -> Any:
    """Return a request of vLLM's server: its parsers read the tools there, and nothing else."""
    from pydantic import ValidationError

    from chatcore.engine.vllm_api import ChatCompletionRequest

    try:
        return ChatCompletionRequest(
            model="",
            messages=[{"role": "user", "content": ""}],
            tools=list(tools) if tools else None,
            tool_choice="auto" if tools else "none",
        )
    except ValidationError as error:
        raise InvalidMessageError(f"a tool's schema is not OpenAI's: {first_line(error)}") from error


@functools.cache
def _request_without_tools() -> Any:
    return _request_with(None)


def find_parsers(prompt_builder: PromptBuilder) -> tuple[str | None, str | None]:
    """Return the names of vLLM's (tool parser, reasoning parser) that read what a model with this template writes.

    The template tells: it shows the format in which calls are to be written, and whether thinking comes first.

    >>> find_parsers(PromptBuilder.from_pretrained("chatcore/models/demo"))
    ('hermes', 'qwen3')
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
    from chatcore.engine.vllm_api import ParserManager

    return ParserManager.get_parser(
        tool_parser_name=tool_parser, reasoning_parser_name=reasoning_parser, enable_auto_tools=tool_parser is not None
    )
