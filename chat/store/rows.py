"""Conversations and messages as rows of the store's tables, and back.

A SQLite file keeps any value in any column, and files are damaged: what is read is checked, and an error names it.
"""

from __future__ import annotations

import array
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chat.conversations.conversation import Conversation, Message, find_stray
from chat.conversations.validation import is_object, is_objects, is_text, is_text_or_none, is_texts, is_time
from chatcore.errors import StoreError

__all__ = [
    "UNSTORABLE",
    "damaged",
    "from_json",
    "to_conversation",
    "to_conversation_row",
    "to_growth",
    "to_json",
    "to_message",
    "to_message_row",
    "to_time",
]

TOKEN_BYTES = 4

# NUL and halves of surrogate pairs: databases do not take them.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _storable(text: str) -> str:
    return UNSTORABLE.sub("\ufffd", text)


def to_json(value: Any) -> str:
    """Return JSON in which Chinese stays readable."""
    return _storable(json.dumps(value, ensure_ascii=False))


def from_json(text: str | bytes) -> Any:
    """Return what :func:`to_json` wrote.

    Raises:
        StoreError: it is something else.
    """
    try:
        return json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise damaged(f"a value is not JSON: {str(text)[:40]!r}") from error


def to_time(value: Any) -> float:
    """Return a time of a row, in seconds since 1970; 0.0 if it is none."""
    return float(value) if is_time(value) else 0.0


def damaged(what: str) -> StoreError:
    """Return the error that tells what is wrong with what a store holds."""
    return StoreError(f"the store is damaged: {what}", hint="Restore a copy of it. The rest can still be read.")


def to_conversation_row(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return columns for fields of a conversation; its messages have rows of their own."""
    return {name: _storable(value) if isinstance(value, str) else value for name, value in fields.items()}


def to_conversation(row: Any, found: Sequence[Message]) -> Conversation:
    """Return the conversation of a row, with these messages.

    Raises:
        StoreError: the row is damaged, or the messages are no tree.
    """
    fields = row._asdict()
    _check(fields, CONVERSATION_KINDS, "conversation")
    messages = {message.id: message for message in found}
    if stray := find_stray({message.id: message.parent_id for message in found}):
        raise damaged(f"message {stray!r:.40} follows one that is not there, or itself")
    # Where each query sees its own moment, what is named may have been deleted since.
    fields["redo_ids"] = [message_id for message_id in row.redo_ids if message_id is None or message_id in messages]
    fields["pinned_ids"] = {*row.pinned_ids} & messages.keys()
    fields["window_start_id"] = row.window_start_id if row.window_start_id in messages else None
    return Conversation(messages=messages, **fields)


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


def to_growth(answer: Message) -> dict[str, Any]:
    """Return the columns that change while an answer grows."""
    row = to_message_row(answer, "")
    return {name: row[name] for name in ("content", "reasoning", "tool_calls", "token_ids")}


def to_message(row: Any) -> Message:
    """Return the message of a row.

    Raises:
        StoreError: it is damaged.
    """
    fields = row._asdict()  # asking a row for each value by name takes three times as long
    _check(fields, MESSAGE_KINDS, "message")
    token_ids = array.array("I")
    token_ids.frombytes(fields["token_ids"])
    if sys.byteorder == "big":
        token_ids.byteswap()
    del fields["position"], fields["conversation_id"]
    return Message(**fields | {"tool_calls": tuple(fields["tool_calls"]), "token_ids": tuple(token_ids)})


def _check(fields: Mapping[str, Any], kinds: Mapping[str, Callable[[Any], bool]], what: str) -> None:
    for name, is_right in kinds.items():
        if not is_right(fields[name]):
            raise damaged(f"{name} of {what} {str(fields['id'])[:40]!r} is of a wrong kind")


def _is_texts_or_nones(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str | None) for item in value)


def _is_token_bytes(value: Any) -> bool:
    return isinstance(value, bytes) and len(value) % TOKEN_BYTES == 0


CONVERSATION_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "id": is_text,
    "owner": is_text,
    "title": is_text,
    "system": is_text,
    "settings": is_object,
    "tip_id": is_text_or_none,
    "redo_ids": _is_texts_or_nones,
    "pinned_ids": is_texts,
    "window_start_id": is_text_or_none,
    "created_at_utc": is_time,
    "updated_at_utc": is_time,
}
MESSAGE_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "id": is_text,
    "parent_id": is_text_or_none,
    "role": is_text,
    "content": is_text,
    "reasoning": is_text,
    "tool_calls": is_objects,
    "tool_call_id": is_text_or_none,
    "token_ids": _is_token_bytes,
    "finish_reason": is_text_or_none,
    "usage": is_object,
    "status": is_text,
    "created_at_utc": is_time,
}
