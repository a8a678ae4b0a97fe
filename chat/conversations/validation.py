"""Of which kind a value is that comes from outside: out of a file, a database, a server's reply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chat.conversations.conversation import MAX_TIME_S

__all__ = ["is_object", "is_objects", "is_text", "is_text_or_none", "is_texts", "is_time"]


def is_text(value: Any) -> bool:
    """Tell whether it is a text."""
    return isinstance(value, str)


def is_text_or_none(value: Any) -> bool:
    """Tell whether it is a text or nothing."""
    return isinstance(value, str | None)


def is_texts(value: Any) -> bool:
    """Tell whether it is a list of texts."""
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def is_object(value: Any) -> bool:
    """Tell whether it is what JSON calls an object."""
    return isinstance(value, Mapping)


def is_objects(value: Any) -> bool:
    """Tell whether it is a list of objects."""
    return isinstance(value, list) and all(isinstance(item, Mapping) for item in value)


def is_time(value: Any) -> bool:
    """Tell whether it is a number of seconds since 1970 that a calendar can show."""
    return type(value) in (int, float) and 0 <= value < MAX_TIME_S
