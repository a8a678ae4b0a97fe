"""The protocol of a backend: messages in, a stream of deltas out.

The terminal, ``ask`` and ``batch`` know nothing else of engines. Nothing blocks while a model loads:
:meth:`Backend.status` says how far loading is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from chatcore.errors import ChatError
from chatcore.reply import Delta, MessageDict, Reply

__all__ = ["Backend", "BackendStatus", "BackendStream", "Fit", "ModelInfo", "Readiness"]

Stage = Literal["starting", "import", "load", "ready", "failed"]


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """How far the loading of the model is. ``elapsed_s`` counts from its beginning."""

    stage: Stage
    detail: str = ""
    elapsed_s: float = 0.0
    error: ChatError | None = None


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What the terminal shows and needs of a loaded model. ``thinks``: it can think before it answers."""

    name: str
    max_model_len: int
    is_demo: bool = False
    thinks: bool = False
    sampling_defaults: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Fit:
    """What of a conversation fits the window.

    ``dropped`` are indices of messages that are left out; ``message_tokens``, if asked for with ``per_message=True``,
    are the tokens that each message adds.
    """

    num_prompt_tokens: int
    max_prompt_tokens: int
    dropped: tuple[int, ...] = ()
    message_tokens: tuple[int, ...] = ()


class BackendStream(Protocol):
    """An answer under way. Leaving its ``with`` block early aborts it."""

    def __iter__(self) -> Iterator[Delta]: ...

    def __enter__(self) -> BackendStream: ...

    def __exit__(self, *_: object) -> None: ...

    def abort(self) -> None:
        """End the answer now, from any thread; the iteration then ends within milliseconds."""

    @property
    def reply(self) -> Reply:
        """The answer, once the iteration has ended."""


class Backend(Protocol):
    """Gives replies. See :class:`EngineHostBackend` for what each method does."""

    name: str

    @property
    def log_file(self) -> Path | None:
        """Where the engine's messages go; None if nobody keeps them here."""

    def status(self) -> BackendStatus:
        """Tell how far loading is. Never blocks."""

    def wait_until_ready(self, timeout_s: float | None = None) -> BackendStatus:
        """Wait until the model can answer or cannot be loaded, or the time is over."""

    def info(self) -> ModelInfo:
        """Return what is known of the model; waits for it."""

    def stream(
        self,
        messages: Sequence[MessageDict],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        enable_thinking: bool | None = None,
        continue_final_message: bool = False,
        session_id: str | None = None,
        **sampling: Any,
    ) -> BackendStream:
        """Begin an answer."""

    def fit(
        self,
        messages: Sequence[MessageDict],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        enable_thinking: bool | None = None,
        continue_final_message: bool = False,
        max_tokens: int | None = None,
        per_message: bool = False,
    ) -> Fit:
        """Return what of these messages fits the window: whole oldest turns go, never the system message."""

    def models(self) -> list[str]:
        """Return the names of models that can be used at once."""

    def reload(self) -> None:
        """Load the model again, or connect again."""

    def close(self) -> None:
        """Let go of the engine or the server."""


class Readiness:
    """How far the loading of a model is: set by the thread that loads, asked by all others."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._status = BackendStatus("starting")
        self._info: ModelInfo | None = None
        self._began_s = time.monotonic()

    def become(self, stage: Stage, *, error: ChatError | None = None, info: ModelInfo | None = None) -> None:
        """Set the stage, and what is known of the model or why it is not there."""
        with self._changed:
            self._info = info or self._info
            self._status = BackendStatus(stage, str(error or ""), time.monotonic() - self._began_s, error)
            self._changed.notify_all()

    def status(self) -> BackendStatus:
        """Tell the stage, and how long it has taken so far."""
        with self._changed:
            status = self._status
        if status.stage in ("ready", "failed"):
            return status
        return BackendStatus(status.stage, status.detail, time.monotonic() - self._began_s)

    def wait(self, timeout_s: float | None = None) -> BackendStatus:
        """Wait until the model is there, or cannot be had, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._status.stage in ("ready", "failed"), timeout_s)
        return self.status()

    def info(self) -> ModelInfo:
        """Wait for the model, and return what is known of it; raise what kept it from loading."""
        status = self.wait()
        if status.error is not None:
            raise status.error
        assert self._info is not None
        return self._info

    @property
    def error(self) -> ChatError | None:
        """Why the model is not there; None unless it failed."""
        return self._status.error
