"""A stored conversation and what is new -> the prompt's token ids, made here so that stored ids are used again.

vLLM's own way from messages to a prompt drops the ids that answers were generated as. The ids that are made here reach
the engine inside this process, as vLLM's serving objects take them from a prefill stage; the guard lets no client
bring its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chat.conversations.conversation import Conversation, Message
from chat.server.vllm_plugin.renderer import NOT_FOR_TEMPLATES
from chatcore.errors import PromptError, PromptTooLongError
from chatcore.prompts.builder import FittedPrompt, PromptBuilder
from chatcore.prompts.window import TARGET_SHARE, max_prompt_tokens, turn_numbers

__all__ = ["PromptMaker", "TurnPrompt", "ready_ids"]


@dataclass(frozen=True, slots=True)
class TurnPrompt:
    """The prompt of a turn.

    Attributes:
        token_ids: for the engine.
        num_history_tokens: how many of them tell what was said before.
        dropped_turns: numbers of the turns that the window does not hold, counted from 1 on the conversation's path.
        window_start_id: the first message of the path that the model still sees; None if it sees all of it.
    """

    token_ids: list[int]
    num_history_tokens: int = 0
    dropped_turns: tuple[int, ...] = ()
    window_start_id: str | None = None


class PromptMaker:
    """Makes the prompts of stored conversations. Its methods may be called from several threads.

    Args:
        builder: of the served model.
        max_model_len: the window, in tokens.
        default_kwargs: what the server gives its chat template.
        bos_token_ids: what the model's tokenizer puts before a text.
    """

    def __init__(
        self,
        builder: PromptBuilder,
        max_model_len: int,
        default_kwargs: Mapping[str, Any] | None = None,
        bos_token_ids: Sequence[int] = (),
    ) -> None:
        self.builder = builder
        self.max_model_len = max_model_len
        self.bos_token_ids = tuple(bos_token_ids)
        self._default_kwargs = dict(default_kwargs or {})

    def template_kwargs(self, request: Any, tools: Sequence[Mapping[str, Any]] | None = None) -> Mapping[str, Any]:
        """Return what a request to vLLM gives the chat template, with these tools."""
        defaults = {**self._default_kwargs, "tools": tools}
        kwargs: Mapping[str, Any] = request.build_chat_params(None, "auto").with_defaults(defaults).chat_template_kwargs
        return kwargs

    def count(self, conversation: Conversation) -> int:
        """Return the length of what was said in a conversation, in tokens."""
        return self._count(conversation.as_dicts(), {})

    def make(
        self,
        conversation: Conversation,
        new: Sequence[Message],
        *,
        instructions: str | None = None,
        max_tokens: int | None = None,
        may_drop: bool = True,
        template_kwargs: Mapping[str, Any] | None = None,
    ) -> TurnPrompt:
        """Return the prompt for what is new in a conversation; neither is changed.

        Args:
            new: what stands behind the conversation's tip.
            instructions: a further system message for this answer alone.
            max_tokens: the most that the answer may have.
            may_drop: leave whole oldest turns out if the window is full, until three quarters of it are used.
            template_kwargs: as vLLM's requests give them, tools included.
        Raises:
            PromptTooLongError: it does not fit.
            PromptError: there is no message to answer, or the template refuses the messages.
        """
        path = [*conversation.path(), *new]
        if not path:
            raise PromptError("there is no message to answer", hint="Send one beside the system message.")
        head = [text for text in (conversation.system, instructions) if text]
        system = [{"role": "system", "content": "\n\n".join(head)}] if head else []
        pinned = conversation.pinned_positions(path)
        start = conversation.window_start() if may_drop else 0
        seen = [index for index in range(len(path)) if index >= start or index in pinned]
        messages = [*system, *(path[index].as_dict() for index in seen)]
        options = _template_options(template_kwargs or {})
        fitted = self._fit(
            messages, [len(system) + seen.index(i) for i in sorted(pinned)], max_tokens, may_drop, options
        )
        gone = {seen[index - len(system)] for index in fitted.dropped}
        kept = [index for index in seen if index not in gone]
        first = next((index for index in kept if index not in pinned), kept[0])
        num_before = len(path) - len(new)
        history = [*system, *(path[index].as_dict() for index in kept if index < num_before)]
        return TurnPrompt(
            token_ids=fitted.prompt.token_ids,
            num_history_tokens=self._count(history, options) if len(history) > len(system) else 0,
            dropped_turns=tuple(turn_numbers([m.role for m in path], set(range(len(path))) - set(kept))),
            window_start_id=path[first].id if gone else conversation.window_start_id,
        )

    def _fit(
        self,
        messages: Sequence[Mapping[str, Any]],
        pinned: Sequence[int],
        max_tokens: int | None,
        may_drop: bool,
        options: Mapping[str, Any],
    ) -> FittedPrompt:
        if not may_drop:
            prompt = self.builder.build(messages, **options)
            if len(prompt.token_ids) >= self.max_model_len:
                raise PromptTooLongError(len(prompt.token_ids), self.max_model_len - 1)
            return FittedPrompt(prompt, list(messages), [])
        limit = max_prompt_tokens(self.max_model_len, max_tokens)
        target = int(limit * TARGET_SHARE)
        return self.builder.fit(
            messages, max_prompt_tokens=limit, target_prompt_tokens=target, pinned=pinned, **options
        )

    def _count(self, history: Sequence[Mapping[str, Any]], options: Mapping[str, Any]) -> int:
        closed = {**options, "add_generation_prompt": False, "continue_final_message": False}
        return self.builder.count(history, **closed)


def ready_ids(token_ids: Sequence[int]) -> dict[str, Any]:
    """Return what carries a ready prompt in a request to vLLM's serving objects."""
    return {"prompt_token_ids": list(token_ids)}


def _template_options(template_kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in template_kwargs.items() if name not in NOT_FOR_TEMPLATES}
