"""What is asked of a backend for a conversation: which messages, with which options, and what of them fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chat.backends.base import Backend, Fit, ModelInfo
from chat.session.stored import StoredConversation
from chat.session.window import Cut, choose_cut

__all__ = ["ChatSession", "SessionRequest"]


@dataclass(frozen=True, slots=True)
class SessionRequest:
    """What the backend is asked for."""

    messages: list[dict[str, Any]]
    options: dict[str, Any]


class ChatSession:
    """A conversation, a backend to answer it, and how it is to answer. Prints nothing.

    Attributes:
        talk: the conversation.
        sampling: sampling parameters that differ from the model's own.
        enable_thinking: whether the model thinks first; None leaves it to the model.
        thinking_budget: the most tokens it may think; None for no limit.
    """

    talk: StoredConversation

    def __init__(self, backend: Backend, *, sampling: Mapping[str, Any], enable_thinking: bool | None) -> None:
        self.backend = backend
        self.sampling: dict[str, Any] = dict(sampling)
        self.enable_thinking = enable_thinking
        self.thinking_budget: int | None = None

    # -- the model ----------------------------------------------------------------------------------------------

    @property
    def model_name(self) -> str:
        """The model's name, as far as it is known."""
        info = self.info()
        return info.name if info else self.backend.name

    @property
    def is_demo(self) -> bool:
        """Whether this is the embedded model; False while nobody knows."""
        info = self.info()
        return info.is_demo if info else self.backend.name == "demo"

    @property
    def can_think(self) -> bool:
        """Whether the model can think first; False while nobody knows."""
        info = self.info()
        return bool(info and info.thinks)

    @property
    def max_model_len(self) -> int:
        """Length of the window in tokens; 0 while it is not known."""
        info = self.info()
        return info.max_model_len if info else 0

    @property
    def sampling_defaults(self) -> Mapping[str, Any]:
        """The model's own sampling parameters; none while nobody knows."""
        info = self.info()
        return info.sampling_defaults if info else {}

    def info(self) -> ModelInfo | None:
        """Return what is known of the model; None while it loads or when it could not be loaded. Never blocks."""
        return self.backend.info() if self.backend.status().stage == "ready" else None

    def is_loading(self) -> bool:
        """Whether the model is on its way."""
        return self.backend.status().stage not in ("ready", "failed")

    def tool_schemas(self) -> list[Mapping[str, Any]]:
        """Return the tools that the model may call, as OpenAI has them."""
        return []

    # -- asking -------------------------------------------------------------------------------------------------

    def request(self, *, continuing: bool, sampling: Mapping[str, Any]) -> SessionRequest:
        """Return what to ask the backend for: the messages that are not dropped, and the options."""
        options: dict[str, Any] = {"session_id": self.talk.conversation.id, **self.sampling, **sampling}
        if self.enable_thinking is not None:
            options["enable_thinking"] = self.enable_thinking
        if self.thinking_budget is not None:
            options["thinking_token_budget"] = self.thinking_budget
        if tools := self.tool_schemas():
            options["tools"] = tools
        if continuing:
            options["continue_final_message"] = True
        return SessionRequest(self.talk.prompt_messages(), options)

    def choose_cut(self, *, continuing: bool = False) -> Cut:
        """Return which messages fit the window.

        Raises:
            PromptError: what must stay does not fit.
        """
        return choose_cut(
            lambda messages: self._fit(messages, continuing=continuing),
            self.talk.messages(),
            pinned=self.talk.pinned_indices(),
            already_dropped=self.talk.dropped_indices(),
        )

    def _fit(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        continuing: bool = False,
        per_message: bool = False,
        with_tools: bool = True,
    ) -> Fit:
        options: dict[str, Any] = {}
        if with_tools and (tools := self.tool_schemas()):
            options["tools"] = tools
        if continuing:
            options["continue_final_message"] = True
        if per_message:
            options["per_message"] = True
        if self.enable_thinking is not None:
            options["enable_thinking"] = self.enable_thinking
        if "max_tokens" in self.sampling:
            options["max_tokens"] = self.sampling["max_tokens"]
        return self.backend.fit(messages, **options)

    def count_tokens(self, text: str) -> int:
        """Return how many tokens a text adds to a message."""
        with_it, without = (
            self._fit([{"role": "user", "content": content}], with_tools=False) for content in ("." + text, ".")
        )
        return with_it.num_prompt_tokens - without.num_prompt_tokens
