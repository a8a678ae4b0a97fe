"""Figures of an answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from chat.conversations.conversation import Message
from chatcore.reply import Usage

__all__ = ["num_context_tokens", "output_rate", "usage_of"]


def usage_of(message: Message | None) -> Usage | None:
    """Return an answer's figures, if it has any."""
    if message is None or not message.usage:
        return None
    known: Mapping[str, Any] = message.usage
    return Usage(**{field.name: known[field.name] for field in dataclasses.fields(Usage) if field.name in known})


def output_rate(usage: Usage) -> float | None:
    """Return the tokens per second after the first one; None if there was no second one."""
    seconds = (usage.e2el_ms - usage.ttft_ms) / 1000
    return (usage.num_output_tokens - 1) / seconds if usage.num_output_tokens > 1 and seconds > 0 else None


def num_context_tokens(usage: Usage) -> int:
    """Return how much of the window the conversation takes after an answer, in tokens."""
    return usage.num_prompt_tokens + usage.num_output_tokens
