"""What a caller gets: deltas while an answer is written, and a reply when it is finished.

Plain values, without any engine: they can be made, compared, stored and sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = [
    "Delta",
    "FinishReason",
    "MessageDict",
    "ROLES",
    "Reply",
    "TokenLogprob",
    "TokenLogprobs",
    "ToolCall",
    "Usage",
]

FinishReason = Literal["stop", "length", "tool_calls", "abort"]
MessageDict = Mapping[str, Any]  # a message in OpenAI's shape
ROLES = ("system", "developer", "user", "assistant", "tool", "function")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model wants called.

    ``arguments`` is the JSON text that the model wrote; it may be invalid JSON.

    >>> ToolCall("call-1", "get_weather", '{"city": "Paris"}').as_message_part()["function"]["name"]
    'get_weather'
    """

    id: str
    name: str
    arguments: str

    def as_message_part(self) -> dict[str, Any]:
        """Return the call in the shape that OpenAI's assistant messages carry."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of an answer.

    ``text`` belongs to the answer, to the thinking before it, or to the arguments of the call named ``tool_call``. A
    character that is still growing (an emoji that a skin tone may follow, half a flag) comes when it is whole.

    >>> "".join(delta.text for delta in [Delta("text", "Hel"), Delta("text", "lo")])
    'Hello'
    """

    kind: Literal["text", "reasoning", "tool_call"]
    text: str
    tool_call: str = ""


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """How likely a token was at its place.

    Attributes:
        token_id: the token.
        text: what it reads as; empty or ``\\ufffd`` where a token is only a part of a character.
        logprob: natural logarithm of its probability.
        rank: 1 for the most likely token of all.

    >>> TokenLogprob(42, "Hello", -0.25, 1).rank
    1
    """

    token_id: int
    text: str
    logprob: float
    rank: int


@dataclass(frozen=True, slots=True)
class TokenLogprobs:
    """The token that stands at a place, and those that might have stood there.

    ``top`` are as many as ``logprobs=`` asked for, most likely first; the chosen one is among them if it is so likely.

    >>> hello, hi = TokenLogprob(42, "Hello", -0.25, 1), TokenLogprob(43, "Hi", -1.5, 2)
    >>> [candidate.text for candidate in TokenLogprobs(hello, (hello, hi)).top]
    ['Hello', 'Hi']
    """

    chosen: TokenLogprob
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer cost. Times run from the call, the building of the prompt included.

    Attributes:
        num_prompt_tokens: length of the prompt.
        num_cached_tokens: how many of them the prefix cache held already.
        num_output_tokens: generated tokens, the stop token included.
        ttft_ms: until the first token.
        e2el_ms: until the end.
        dropped_turns: old turns that no longer fitted the window.

    >>> Usage(num_prompt_tokens=300, num_cached_tokens=256).num_cached_tokens
    256
    """

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    ttft_ms: float = 0.0
    e2el_ms: float = 0.0
    dropped_turns: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """A finished answer, or what there was of it when it was aborted.

    Attributes:
        text: the answer, without thinking, tool calls and stop strings.
        reasoning: what the model thought before it.
        tool_calls: the functions that it wants called.
        token_ids: what the model generated, without the stop token.
        finish_reason: ``stop``, ``length`` (``max_tokens`` or the window), ``tool_calls`` or ``abort``.
        usage: tokens and times.
        parsed: the object that a ``response_format`` asked for; None if the text is not (yet) one.
        logprobs: with ``logprobs=``: one for each of ``token_ids``.
        prompt_logprobs: with ``prompt_logprobs=``: one for each token of the prompt, None for the first.

    >>> Reply("Hello!", token_ids=(5, 6)).message
    {'role': 'assistant', 'content': 'Hello!', 'token_ids': [5, 6]}
    """

    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason = "stop"
    usage: Usage = field(default_factory=Usage)
    parsed: Any = None
    logprobs: tuple[TokenLogprobs, ...] | None = None
    prompt_logprobs: tuple[TokenLogprobs | None, ...] | None = None

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message to append to the conversation, with the ids it was generated as."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [call.as_message_part() for call in self.tool_calls]
        message["token_ids"] = list(self.token_ids)
        return message

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Reply:
        """Return the reply that ``dataclasses.asdict`` took apart, for example to send it to another process.

        >>> from dataclasses import asdict
        >>> reply = Reply("Hi", tool_calls=(ToolCall("1", "f", "{}"),), logprobs=())
        >>> Reply.from_dict(asdict(reply)) == reply
        True
        """
        fields = dict(data)
        fields["tool_calls"] = tuple(ToolCall(**call) for call in fields["tool_calls"])
        fields["token_ids"] = tuple(fields["token_ids"])
        fields["usage"] = Usage(**fields["usage"])
        for name in ("logprobs", "prompt_logprobs"):
            if fields.get(name) is not None:
                fields[name] = tuple(_token_logprobs(entry) for entry in fields[name])
        return cls(**fields)


def _token_logprobs(data: Mapping[str, Any] | None) -> TokenLogprobs | None:
    if data is None:
        return None
    return TokenLogprobs(TokenLogprob(**data["chosen"]), tuple(TokenLogprob(**entry) for entry in data["top"]))
