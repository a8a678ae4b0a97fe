"""A backend that plays a script: what the terminal's tests talk to instead of an engine.

A token is a character, and every message has 4 more, so that a window's limit can be counted on fingers.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chat.backends.base import BackendStatus, Fit, ModelInfo
from chatcore.errors import ChatError, PromptTooLongError
from vllm_wrapper import Delta, Reply, ToolCall, Usage

MESSAGE_TOKENS = 4
TOOL_TOKENS = 10  # of each tool that the model is shown
REPLY_TOKENS = 16  # kept free for the answer


@dataclass(frozen=True)
class Think:
    """A piece of thinking."""

    text: str


@dataclass
class Gate:
    """A place where a script stands still until it is opened, or the answer is aborted."""

    opened: threading.Event = field(default_factory=threading.Event)
    reached: threading.Event = field(default_factory=threading.Event)


Step = str | Think | Gate | ToolCall | ChatError | float


class ScriptedBackend:
    """Plays one script for each answer; says "echo: ..." when there is none left.

    Attributes:
        requests: (messages, options) of every answer that was asked for.
        stage: what :meth:`status` says.
    """

    def __init__(
        self,
        *scripts: Sequence[Step],
        window: int = 4096,
        stage: str = "ready",
        name: str = "scripted",
        thinks: bool = True,
    ) -> None:
        self.name = name
        self.log_file: Path | None = None
        self.scripts = deque(scripts)
        self.requests: list[tuple[list[dict[str, Any]], dict[str, Any]]] = []
        self.window = window
        self.stage: Any = stage
        self.error: ChatError | None = None
        self.detail = ""
        self.finish_reason: Any = "stop"
        self.is_closed = False
        self.aborted = threading.Event()
        self._thinks = thinks
        self._began_s = time.monotonic()

    def status(self) -> BackendStatus:
        return BackendStatus(self.stage, self.detail, time.monotonic() - self._began_s, self.error)

    def wait_until_ready(self, timeout_s: float | None = None) -> BackendStatus:
        deadline_s = time.monotonic() + (timeout_s or 60)
        while self.stage not in ("ready", "failed") and time.monotonic() < deadline_s:
            time.sleep(0.01)
        return self.status()

    def info(self) -> ModelInfo:
        self.wait_until_ready()
        if self.error:
            raise self.error
        return ModelInfo(self.name, self.window, False, self._thinks, {"temperature": 0.7})

    def fail(self, error: ChatError) -> None:
        self.error, self.stage = error, "failed"

    def stream(
        self, messages: Sequence[Mapping[str, Any]], *, session_id: str | None = None, **options: Any
    ) -> ScriptedStream:
        self.info()
        self.requests.append(([dict(message) for message in messages], options))
        script = self.scripts.popleft() if self.scripts else [f"echo: {messages[-1]['content']}"]
        return ScriptedStream(self, script, self.count(messages, options.get("tools")))

    def fit(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> Fit:
        self.info()
        tools = options.get("tools")
        room = self.window - min(options.get("max_tokens") or REPLY_TOKENS, self.window // 2)
        starts = [i for i, m in enumerate(messages) if m["role"] == "user"]
        gone: list[int] = []
        for start, end in zip(starts, [*starts[1:], None][: len(starts)], strict=True):
            kept = [m for i, m in enumerate(messages) if i not in gone]
            if self.count(kept, tools) <= room:
                break
            if end is None:
                raise PromptTooLongError(self.count(kept, tools), room)
            gone += range(start, end)
        kept = [m for i, m in enumerate(messages) if i not in gone]
        return Fit(self.count(kept, tools), room, tuple(gone), tuple(self.count([m]) for m in messages))

    def models(self) -> list[str]:
        return [self.name, "other"]

    def reload(self) -> None:
        self.stage, self.error = "ready", None

    def close(self) -> None:
        self.is_closed = True

    @staticmethod
    def count(messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None) -> int:
        num_tool_tokens = TOOL_TOKENS * len(tools or ())
        return num_tool_tokens + sum(len(message["content"] or "") + MESSAGE_TOKENS for message in messages)


class ScriptedStream:
    """One answer of a :class:`ScriptedBackend`."""

    def __init__(self, backend: ScriptedBackend, script: Sequence[Step], num_prompt_tokens: int) -> None:
        self._backend = backend
        self._script = script
        self._num_prompt_tokens = num_prompt_tokens
        self._aborted = threading.Event()
        self._reply: Reply | None = None

    def __enter__(self) -> ScriptedStream:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reply is None:
            self.abort()

    def abort(self) -> None:
        self._aborted.set()
        self._backend.aborted.set()

    def __iter__(self) -> Iterator[Delta]:
        text = reasoning = ""
        calls: list[ToolCall] = []
        for step in self._script:
            if self._aborted.is_set():
                break
            if isinstance(step, ChatError):
                raise step
            if isinstance(step, float):
                self._aborted.wait(step)
            elif isinstance(step, Gate):
                step.reached.set()
                while not step.opened.wait(0.005) and not self._aborted.is_set():
                    pass
            elif isinstance(step, ToolCall):
                calls.append(step)
                yield Delta("tool_call", step.arguments, step.name)
            elif isinstance(step, Think):
                reasoning += step.text
                yield Delta("reasoning", step.text)
            else:
                text += step
                yield Delta("text", step)
        reason = "abort" if self._aborted.is_set() else "tool_calls" if calls else self._backend.finish_reason
        num_output = len(text) + len(reasoning)
        usage = Usage(self._num_prompt_tokens, 0, num_output, 10.0, 10.0 + 20 * num_output)
        self._reply = Reply(text, reasoning, tuple(calls), tuple(range(num_output)), reason, usage)

    @property
    def reply(self) -> Reply:
        if self._reply is None:
            for _ in self:
                pass
        assert self._reply is not None
        return self._reply
