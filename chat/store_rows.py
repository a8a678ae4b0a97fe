"""Conversations and messages as rows of the store's tables, and back."""

from __future__ import annotations

import array
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from chat.conversation import Conversation, Message
from chat.store_schema import conversations

__all__ = ["UNSTORABLE", "to_conversation", "to_conversation_row", "to_json", "to_message", "to_message_row"]

# NUL and halves of surrogate pairs: databases do not take them.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _storable(text: str) -> str:
    return UNSTORABLE.sub("\ufffd", text)


def to_json(value: Any) -> str:
    """Return JSON in which Chinese stays readable."""
    return _storable(json.dumps(value, ensure_ascii=False))


def to_conversation_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns for fields of a conversation; its messages have rows of their own."""
    return {name: _storable(value) if isinstance(value, str) else value for name, value in fields.items()}


def to_conversation(row: Any, found: Sequence[Message]) -> Conversation:
    """Return the conversation of a row, with these messages."""
    fields = {column.name: getattr(row, column.name) for column in conversations.columns}
    fields["pinned_ids"] = set(row.pinned_ids)
    return Conversation(messages={message.id: message for message in found}, **fields)


def to_message_row(message: Message, conversation_id: str) -> dict[str, Any]:
    """Return a message's row. Token ids take four bytes each, little-endian on every machine."""
    token_ids = array.array("I", message.token_ids)
    if sys.byteorder == "big":
        token_ids.byteswap()
    return {
        "id": message.id,
        "conversation_id": conversation_id,
        "parent_id": message.parent_id,
        "role": message.role,
        "content": _storable(message.content),
        "reasoning": _storable(message.reasoning),
        "tool_calls": list(message.tool_calls),
        "tool_call_id": None if message.tool_call_id is None else _storable(message.tool_call_id),
        "token_ids": token_ids.tobytes(),
        "finish_reason": message.finish_reason,
        "usage": dict(message.usage),
        "status": message.status,
        "created_at_utc": message.created_at_utc,
    }


def to_message(row: Any) -> Message:
    """Return the message of a row."""
    token_ids = array.array("I")
    token_ids.frombytes(row.token_ids)
    if sys.byteorder == "big":
        token_ids.byteswap()
    return Message(
        role=row.role,
        content=row.content,
        id=row.id,
        parent_id=row.parent_id,
        reasoning=row.reasoning,
        tool_calls=tuple(row.tool_calls),
        tool_call_id=row.tool_call_id,
        token_ids=tuple(token_ids),
        finish_reason=row.finish_reason,
        usage=row.usage,
        status=row.status,
        created_at_utc=row.created_at_utc,
    )
