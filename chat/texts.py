"""Which language a surface speaks, and tables of its texts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

__all__ = ["LANGUAGES", "Language", "TextTable", "find_language"]

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")


def find_language(environ: Mapping[str, str] = os.environ) -> Language:
    """Return the language that the locale asks for; English if it is neither.

    >>> find_language({"LANG": "zh_CN.UTF-8"}), find_language({"LC_ALL": "C", "LANG": "zh_CN.UTF-8"})
    ('zh', 'en')
    """
    locale = environ.get("LC_ALL") or environ.get("LC_MESSAGES") or environ.get("LANG") or ""
    return "zh" if locale.lower().startswith("zh") else "en"


class TextTable:
    """Looks texts up in the language that is set.

    Args:
        table: English and Chinese by key, with places for facts.

    >>> TextTable({"hello": ("Hello {name}", "你好，{name}")}, "en")("hello", name="you")
    'Hello you'
    """

    def __init__(self, table: Mapping[str, tuple[str, str]], language: Language) -> None:
        self.language: Language = language
        self._table = table

    def __call__(self, key: str, **facts: object) -> str:
        return self._table[key][LANGUAGES.index(self.language)].format(**facts)

    def count(self, unit: str, number: int) -> str:
        """Return a number with its unit: ``1 turn``, ``3 turns``; Chinese has no plural."""
        form = f"{unit}.one" if number == 1 else f"{unit}.many"
        return self(form, n=f"{number:,}")
