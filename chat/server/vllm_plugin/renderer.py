"""vLLM's renderer for ``--tokenizer-mode chatml``: messages -> token ids that no text can forge.

``LLM.chat``, ``/v1/chat/completions``, ``/v1/responses``, ``/v1/messages`` and ``/tokenize`` all go through it.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from pathlib import Path
from typing import Any

from chat.net.http_client import GENERATED_IDS
from chat.server.settings.environment import prompt_cache_bytes
from chat.server.vllm_plugin.compatibility import (
    ChatParams,
    HfRenderer,
    VLLMValidationError,
    check_vllm,
    make_async,
    parse_chat_messages,
    parse_chat_messages_async,
    parse_dec_only_prompt,
)
from chatcore.engine.detokenizer import use_short_detokenizer
from chatcore.errors import ChatError, PromptError
from chatcore.models.hub import resolve_model
from chatcore.prompts.builder import PromptBuilder

__all__ = ["ChatMLRenderer", "builder_for", "is_short"]

logger = logging.getLogger(__name__)

SHORT_CHARACTERS = 8_000  # built in a millisecond or two: to hand them to a thread and wait for it costs as much
MESSAGE_CHARACTERS = 50  # so many more take as long as a message by itself
# What vLLM puts among the template's variables that is an order to its own renderer and nothing a template reads.
NOT_FOR_TEMPLATES = ("tokenize", "return_dict", "add_special_tokens", "chat_template", GENERATED_IDS)


@lru_cache(maxsize=4)
def builder_for(folder: Path, chat_template: str | None) -> PromptBuilder:
    """Return the builder of a model and a template (its own if there is none): one for everything that is served, so
    that a conversation that was sent whole and then kept is not encoded again."""
    return PromptBuilder.from_pretrained(folder, chat_template=chat_template, max_cache_bytes=prompt_cache_bytes())


class ChatMLRenderer(HfRenderer):  # type: ignore[misc]  # vLLM's classes are not followed
    """Build text prompts with :class:`PromptBuilder`; leave conversations with images, sound or video to vLLM."""

    def __init__(self, config: Any, tokenizer: Any) -> None:
        check_vllm()
        super().__init__(config, tokenizer)
        use_short_detokenizer()
        self._folder = resolve_model(self.model_config.tokenizer)
        self._build_async = make_async(self._build, executor=self._executor)
        try:
            builder_for(self._folder, None)
        except PromptError as error:  # vLLM hands a template of --chat-template on with each request only
            logger.warning("%s; prompts can be built by a template of --chat-template alone", error)

    def render_messages(self, messages: list[Any], params: ChatParams) -> tuple[list[Any], Any]:
        conversation, media, _ = parse_chat_messages(messages, self.model_config, **_parsing(params))
        if media:
            stock: tuple[list[Any], Any] = super().render_messages(messages, params)
            return stock
        return conversation, self._build(_with_ids(conversation, messages, params), params)

    async def render_messages_async(self, messages: list[Any], params: ChatParams) -> tuple[list[Any], Any]:
        conversation, media, _ = await parse_chat_messages_async(messages, self.model_config, **_parsing(params))
        if media:
            stock: tuple[list[Any], Any] = await super().render_messages_async(messages, params)
            return stock
        conversation_with_ids = _with_ids(conversation, messages, params)
        if is_short(conversation_with_ids, params):
            return conversation, self._build(conversation_with_ids, params)
        return conversation, await self._build_async(conversation_with_ids, params)

    def _build(self, conversation: list[Any], params: ChatParams) -> Any:
        keywords = {name: value for name, value in params.chat_template_kwargs.items() if name not in NOT_FOR_TEMPLATES}
        tools = keywords.pop("tools", None)
        try:
            prompt = builder_for(self._folder, params.chat_template).build(
                conversation,
                tools=tools,
                add_generation_prompt=keywords.pop("add_generation_prompt", True),
                continue_final_message=keywords.pop("continue_final_message", False),
                **keywords,
            )
        except ChatError as error:
            raise VLLMValidationError(str(error)) from error
        return parse_dec_only_prompt(prompt.token_ids)


def _with_ids(conversation: list[Any], messages: list[Any], params: ChatParams) -> list[Any]:
    """Return the messages with the ids that answers were generated as, where a client has sent them.

    They can do no more than the answer's text: the builder uses them only on an assistant's message, only where they
    decode to what it says, and never if a token that structures turns is among them.
    """
    ids = params.chat_template_kwargs.get(GENERATED_IDS)
    if not isinstance(ids, dict) or len(conversation) != len(messages):
        return conversation
    return [
        {**message, "token_ids": ids[str(index)]} if message["role"] == "assistant" and str(index) in ids else message
        for index, message in enumerate(conversation)
    ]


def is_short(conversation: list[Any], params: ChatParams) -> bool:
    """Tell whether a prompt is made so soon that nobody else of the loop needs to be served meanwhile.

    Plain texts alone are, a few thousand characters in few messages: tools, their calls and documents may be of any
    size and depth.
    """
    is_plain = all(message.keys() <= {"role", "content"} for message in conversation)
    has_flags_alone = all(isinstance(value, bool | None) for value in params.chat_template_kwargs.values())
    if not (is_plain and has_flags_alone):
        return False
    return sum(MESSAGE_CHARACTERS + len(message.get("content") or "") for message in conversation) <= SHORT_CHARACTERS


def _parsing(params: ChatParams) -> dict[str, Any]:
    return {
        "content_format": "string",
        "media_io_kwargs": params.media_io_kwargs,
        "mm_processor_kwargs": params.mm_processor_kwargs,
    }
