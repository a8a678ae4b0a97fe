"""The settled part of conversations: what was rendered and encoded once and cannot change any more.

Most templates write a turn without looking back further than the last question. Then everything before the newest user
message stays as it is for good, and the next prompt is that, plus the rendering of a few new messages. Whether a
template is of this kind is tried out before it is relied on: probe conversations are rendered whole and in parts, and
must come out the same. A conversation that shows a template something the probes did not (content in parts, a
system message in the middle) is rendered whole.

prompt_utils.py is the public room.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatcore.errors import PromptError
from chatcore.prompts.template import LONG_PROBES, MARK, TOOL_PROBES, TracedTemplate, probe_conversations

__all__ = ["SettledPrefix", "PrefixStore", "PromptRequest", "question_positions"]

PROBED_ROLES = frozenset({"user", "assistant", "tool"})
PROBED_FIELDS = frozenset({"role", "content", "reasoning_content", "tool_calls", "tool_call_id", "token_ids"})
MAX_NEW_QUESTIONS = 3  # how many user messages a prompt may bring since the past that it goes on from


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """What one prompt is made of: a template, its options, all shielded.

    ``key`` tells requests apart that a template could render differently.
    """

    template: TracedTemplate
    tools: Sequence[Any] | None
    add_generation_prompt: bool
    template_kwargs: Mapping[str, Any]
    key: str

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Render shielded messages."""
        return self.template.render(
            messages,
            tools=self.tools,
            add_generation_prompt=self.add_generation_prompt,
            template_kwargs=self.template_kwargs,
        )


@dataclass(frozen=True, slots=True)
class SettledPrefix:
    """The messages before a question, rendered and encoded.

    Attributes:
        messages: copies, so that a caller who changes its own is noticed.
        exact: what equality does not tell apart (1 and True), spelled out, by position of the message.
        text: as people read it.
        token_ids: never handed out, only copied. The first ``num_tokens`` count: a longer past of the same conversation
            grows in the same list, because to copy all ids at every turn would cost more than anything else.
        opening: what the template writes before the first turn, marked: system message, tools.
        num_question_pieces: how many control tokens a question at the end of a prompt comes with; escaping sees to it
            that this does not depend on what it says.
        uses_tools: there are tool calls or results among the messages.
    """

    messages: list[dict[str, Any]]
    exact: dict[int, str]
    text: str
    token_ids: list[int]
    num_tokens: int
    opening: str
    num_question_pieces: int
    uses_tools: bool

    def begins(self, messages: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether a conversation begins with exactly these messages."""
        return list(messages[: len(self.messages)]) == self.messages and all(
            _spell_out(messages[i]) == spelled for i, spelled in self.exact.items()
        )

    @property
    def num_bytes(self) -> int:
        return 40 * self.num_tokens + 6 * len(self.text) + 300 * len(self.messages)


def snapshot(messages: Sequence[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """Copy messages; also spell out those that hold more than text."""
    exact = {i: spelled for i, message in enumerate(messages) if (spelled := _spell_out(message))}
    return [copy.deepcopy(dict(message)) if i in exact else _copy(message) for i, message in enumerate(messages)], exact


def _copy(message: Mapping[str, Any]) -> dict[str, Any]:
    return {field: copy.copy(value) if field == "token_ids" else value for field, value in message.items()}


def _spell_out(message: Mapping[str, Any]) -> str:
    nested = [(k, v) for k, v in message.items() if k != "token_ids" and not isinstance(v, str | None)]
    return repr(nested) if nested else ""


def question_positions(messages: Sequence[Mapping[str, Any]], most: int) -> list[int]:
    """Return where the last user messages stand, newest first, the very first message left out."""
    found = []
    for i in range(len(messages) - 1, 0, -1):
        if isinstance(messages[i], Mapping) and messages[i].get("role") == "user":
            found.append(i)
            if len(found) == most:
                break
    return found


def uses_tools(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether there are tool calls or results among these messages."""
    return any(message.get("role") == "tool" or message.get("tool_calls") for message in messages)


def renders_in_parts(messages: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether these messages, which follow a system message or begin a conversation, are like the probes'."""
    return all(
        isinstance(message, dict)
        and message.get("role") in PROBED_ROLES
        and PROBED_FIELDS.issuperset(message)
        and (isinstance(message.get("content"), str) or (message.get("content") is None and message.get("tool_calls")))
        for message in messages
    )


def opening(request: PromptRequest, head: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what the template writes before the first turn; None if it cannot be told.

    Found by rendering one question, and the same question twice: the difference is the question.
    """
    question = {"role": "user", "content": "Hello"}
    options = {"tools": request.tools, "add_generation_prompt": False, "template_kwargs": request.template_kwargs}
    try:
        once = request.template.render([*head, question], **options)  # type: ignore[arg-type]
        twice = request.template.render([*head, question, question], **options)  # type: ignore[arg-type]
    except PromptError:
        return None
    turn = twice[len(once) :]
    if not turn.startswith(MARK) or not once.endswith(turn) or not twice.startswith(once):
        return None
    return once[: len(once) - len(turn)]


def render_tail(
    request: PromptRequest, head: Sequence[Mapping[str, Any]], opened: str, tail: Sequence[Any]
) -> str | None:
    """Render a conversation's last messages as they would stand in the whole; None if it cannot be told."""
    rendered = request.render([*head, *tail])
    if not rendered.startswith(opened) or not rendered.startswith(MARK, len(opened)):
        return None
    return rendered[len(opened) :]


def appends(request: PromptRequest, *, with_tools: bool) -> bool:
    """Return whether the template, with these options, writes turns without looking back.

    Every probe conversation is rendered whole, and put together from its past (as it was rendered when the question
    was new) and its tail. Both must be the same, wherever it is cut.
    """
    if request.template.shield.spelled:
        return False
    patterns = TOOL_PROBES if with_tools else LONG_PROBES
    return all(_renders_in_parts(request, messages) for messages in probe_conversations(patterns))


def _renders_in_parts(request: PromptRequest, messages: Sequence[dict[str, Any]]) -> bool:
    shielded = [request.template.shield.message(message, i) for i, message in enumerate(messages)]
    head = shielded[:1] if shielded[0]["role"] == "system" else []
    opened = opening(request, head)
    if opened is None:
        return False
    num_pieces: set[int] = set()
    try:
        whole = request.render(shielded)
        for question in question_positions(shielded, len(shielded)):
            if question < len(head) + 1:
                continue
            fresh = request.render(shielded[: question + 1])
            newest = render_tail(request, head, opened, shielded[question : question + 1])
            num_pieces.add(0 if newest is None else newest.count(MARK))
            tail = render_tail(request, head, opened, shielded[question:])
            if newest is None or tail is None or not fresh.endswith(newest) or len(num_pieces) > 1:
                return False
            if fresh[: len(fresh) - len(newest)] + tail != whole:
                return False
    except PromptError:
        return False
    return True


class PrefixStore:
    """The pasts of the conversations that were built lately, in bounded memory.

    Args:
        max_bytes: upper bound of what they occupy, in bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._pasts: OrderedDict[Any, SettledPrefix] = OrderedDict()
        self._num_bytes = 0
        self._lock = threading.Lock()
        self._appends: dict[tuple[str, bool], bool] = {}

    def find(self, request: PromptRequest, messages: Sequence[Mapping[str, Any]]) -> SettledPrefix | None:
        """Return the longest past of this conversation that is remembered."""
        for question in question_positions(messages, MAX_NEW_QUESTIONS):
            key = _key(request, messages, question)
            past = self._pasts.get(key)
            if past is not None and past.begins(messages):
                return past
        return None

    def put(self, request: PromptRequest, past: SettledPrefix, *, instead_of: SettledPrefix | None = None) -> None:
        """Remember a past; ``instead_of`` is the shorter one of the same conversation."""
        with self._lock:
            if instead_of is not None and len(instead_of.messages) < len(past.messages):
                self._drop(_key(request, instead_of.messages, len(instead_of.messages)))
            key = _key(request, past.messages, len(past.messages))
            self._drop(key)
            if past.num_bytes > self._max_bytes:
                return
            self._pasts[key] = past
            self._num_bytes += past.num_bytes
            while self._num_bytes > self._max_bytes:
                self._drop(next(iter(self._pasts)))

    def grown_ids(self, past: SettledPrefix, token_ids: Sequence[int]) -> list[int]:
        """Return a list that begins with a past's ids and these."""
        with self._lock:
            if len(past.token_ids) == past.num_tokens:
                past.token_ids.extend(token_ids)
                return past.token_ids
        return [*past.token_ids[: past.num_tokens], *token_ids]

    def _drop(self, key: Any) -> None:
        past = self._pasts.pop(key, None)
        if past is not None:
            self._num_bytes -= past.num_bytes

    def appends(self, request: PromptRequest, *, with_tools: bool) -> bool:
        """Return :func:`appends`, tried out once for each set of options."""
        key = (request.key, with_tools)
        known = self._appends.get(key)
        if known is None:
            known = appends(request, with_tools=with_tools)
            if len(self._appends) > 256:
                self._appends.clear()
            self._appends[key] = known
        return known

    def distrust(self, request: PromptRequest) -> None:
        """Render whole from now on: a prompt put together from parts was not the whole one."""
        self._appends[request.key, False] = self._appends[request.key, True] = False


def _key(request: PromptRequest, messages: Sequence[Mapping[str, Any]], question: int) -> Any:
    """Return what most likely tells this past from others; :meth:`SettledPrefix.begins` makes sure."""
    return request.key, question, _hash(messages[0]), _hash(messages[question - 1])


def _hash(message: Any) -> int:
    content = message.get("content") if isinstance(message, Mapping) else None
    return hash(content) if isinstance(content, str) else 0
