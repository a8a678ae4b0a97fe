"""Numbers that are typed behind a command."""

from __future__ import annotations

__all__ = ["whole_number"]

MAX_DIGITS = 9


def whole_number(text: str) -> int | None:
    """Return the number that a text is; None if it is none, or one beyond all that can be meant."""
    text = text.strip()
    return int(text) if text.isdecimal() and len(text) <= MAX_DIGITS else None
