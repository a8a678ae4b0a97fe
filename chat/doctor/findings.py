"""What a check finds, in the person's language."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

from chat.doctor.texts import TEXTS
from chat.session.texts import TextTable

__all__ = ["Check", "Finding", "Reporter", "State"]

State = Literal["ok", "note", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. ``key`` names it for programs; ``remedy`` is empty where nothing is to be done."""

    check: str
    key: str
    state: State
    fact: str
    remedy: str = ""


class Reporter:
    """Makes findings of keys in the table of texts: ``gpu.none`` is a fact, ``gpu.none.fix`` its remedy.

    >>> from chat.session.texts import TextTable
    >>> Reporter(TextTable(TEXTS, "en")).warning("disk.low", free="1.0 GiB", folder="/home").remedy
    'Free some, or move the caches: HF_HOME, MODELSCOPE_CACHE.'
    """

    def __init__(self, texts: TextTable) -> None:
        self.texts = texts

    def ok(self, key: str, **facts: object) -> Finding:
        """All is well."""
        return self._finding(key, "ok", facts)

    def note(self, key: str, **facts: object) -> Finding:
        """Good to know; nothing is wrong."""
        return self._finding(key, "note", facts)

    def warning(self, key: str, **facts: object) -> Finding:
        """Some of it will not work, or not well."""
        return self._finding(key, "warning", facts)

    def error(self, key: str, **facts: object) -> Finding:
        """The program cannot work so."""
        return self._finding(key, "error", facts)

    def _finding(self, key: str, state: State, facts: dict[str, object]) -> Finding:
        fix = f"{key}.fix"
        remedy = self.texts(fix, **facts) if fix in TEXTS else ""
        return Finding(key.partition(".")[0], key, state, self.texts(key, **facts), remedy)


Check = Callable[[Reporter], Iterable[Finding]]
