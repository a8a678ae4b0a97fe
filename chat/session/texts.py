"""Which language a surface speaks, and tables of its texts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

__all__ = ["LANGUAGES", "SHARED", "Language", "TextTable", "find_language"]

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
        table: English and Chinese by key, with places for facts; what all surfaces say comes from ``SHARED``.

    >>> TextTable({"hello": ("Hello {name}", "你好，{name}")}, "en")("hello", name="you")
    'Hello you'
    """

    def __init__(self, table: Mapping[str, tuple[str, str]], language: Language) -> None:
        self.language: Language = language
        self._table = SHARED | dict(table)

    def __call__(self, key: str, **facts: object) -> str:
        return self._table[key][LANGUAGES.index(self.language)].format(**facts)

    def count(self, unit: str, number: int) -> str:
        """Return a number with its unit: ``1 turn``, ``3 turns``; Chinese has no plural."""
        form = f"{unit}.one" if number == 1 else f"{unit}.many"
        return self(form, n=f"{number:,}")


# What several surfaces say in the same words.
SHARED: dict[str, tuple[str, str]] = {
    # -- counted things --
    "byte.one": ("{n} byte", "{n} 字节"),
    "byte.many": ("{n} bytes", "{n} 字节"),
    "character.one": ("{n} character", "{n} 个字符"),
    "character.many": ("{n} characters", "{n} 个字符"),
    "line.one": ("{n} line", "{n} 行"),
    "line.many": ("{n} lines", "{n} 行"),
    "token.one": ("{n} token", "{n} 词元"),
    "token.many": ("{n} tokens", "{n} 词元"),
    "turn.one": ("{n} turn", "{n} 轮"),
    "turn.many": ("{n} turns", "{n} 轮"),
    # -- how far loading is --
    "stage.starting": ("starting the engine", "正在启动引擎"),
    "stage.import": ("importing vLLM", "正在导入 vLLM"),
    "stage.load": ("loading the weights", "正在载入权重"),
    "stage.ready": ("ready", "就绪"),
    "stage.failed": ("not loaded", "未载入"),
    # -- figures of an answer --
    "figures.ttft": ("TTFT {s:.2f} s", "首词 {s:.2f} 秒"),
    "figures.rate": ("{rate:.1f} tok/s", "{rate:.1f} 词元/秒"),
    "figures.prompt": ("prompt {n}", "提示 {n}"),
}
