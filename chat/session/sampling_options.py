"""What ``/set`` sets: the fields of vLLM's SamplingParams that make sense in a chat, with their ranges.

Values are read as JSON or as plain words; nothing is ever evaluated.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chatcore.errors import CommandError, SamplingError

__all__ = ["SAMPLING", "Parameter", "parse_assignments"]

ASSIGNMENT = re.compile(r'\s*(\w+)\s*=\s*("(?:[^"\\]|\\.)*"|\[[^\]]*\]|\S+)')
SPACED = re.compile(r"^\s*(\w+)\s+([^\s=]+)\s*$")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A sampling parameter.

    Args:
        name: as vLLM has it.
        kind: ``int``, ``float``, ``bool`` or ``list`` (of strings).
        low, high: the range, both ends included; None for no limit.
        above: the value must be greater than ``low``, not equal to it.
        also: a value outside the range that has a meaning of its own, such as -1 for "off".
    """

    name: str
    kind: str
    low: float | None = None
    high: float | None = None
    above: bool = False
    also: float | None = None

    @property
    def range(self) -> str:
        """Words for the range, the same in every language: ``0 … 2``."""
        if self.kind == "bool":
            return "true, false"
        if self.kind == "list":
            return '"…" / ["…", "…"]'
        low = "" if self.low is None else f"{'>' if self.above else ''}{self.low:g}"
        high = "" if self.high is None else f"{self.high:g}"
        text = f"{low} … {high}".strip()
        return f"{self.also:g}, {text}" if self.also is not None else text

    def read(self, text: str) -> Any:
        """Return the value that a text means.

        Raises:
            SamplingError: it is of the wrong kind or out of range.
        """
        if self.kind == "list":
            return _read_list(text)
        value = _read_json(text)
        if self.kind == "bool":
            words = {"on": True, "yes": True, "off": False, "no": False}
            value = words.get(text.lower(), value)
            if isinstance(value, bool):
                return value
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and self._is_in_range(value):
            return float(value) if self.kind == "float" else int(value)
        raise SamplingError(f"{self.name} cannot be {text}", hint=f"{self.name}: {self.range}")

    def _is_in_range(self, value: float) -> bool:
        if (isinstance(value, float) and not math.isfinite(value)) or (self.kind == "int" and value != int(value)):
            return False
        if self.also is not None and value == self.also:
            return True
        low_enough = self.high is None or value <= self.high
        return low_enough and (self.low is None or (value > self.low if self.above else value >= self.low))


SAMPLING: Mapping[str, Parameter] = {
    parameter.name: parameter
    for parameter in (
        Parameter("temperature", "float", 0, 2),
        Parameter("top_p", "float", 0, 1, above=True),
        Parameter("top_k", "int", 1, None, also=-1),
        Parameter("min_p", "float", 0, 1),
        Parameter("max_tokens", "int", 1),
        Parameter("min_tokens", "int", 0),
        Parameter("presence_penalty", "float", -2, 2),
        Parameter("frequency_penalty", "float", -2, 2),
        Parameter("repetition_penalty", "float", 0, 2, above=True),
        Parameter("seed", "int"),
        Parameter("stop", "list"),
        Parameter("ignore_eos", "bool"),
    )
}


def parse_assignments(argument: str) -> dict[str, Any]:
    """Return the values of ``name=value ...``; ``name value`` is the same as ``name=value``.

    >>> parse_assignments("temperature=0.2 top_k=20"), parse_assignments("temperature 1")
    ({'temperature': 0.2, 'top_k': 20}, {'temperature': 1.0})

    Raises:
        SamplingError: an unknown name, or a value out of range.
        CommandError: it is not written as name=value.
    """
    pairs = ASSIGNMENT.findall(argument)
    if ASSIGNMENT.sub("", argument).strip():
        pairs = SPACED.findall(argument)
    if not pairs:
        raise CommandError(f"{argument!r} is not name=value", hint="For example: temperature=0.7")
    return {name: _find(name).read(text) for name, text in pairs}


def _find(name: str) -> Parameter:
    if parameter := SAMPLING.get(name):
        return parameter
    near = difflib.get_close_matches(name, SAMPLING, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}?" if near else f"Known: {', '.join(SAMPLING)}."
    raise SamplingError(f"unknown sampling parameter {name!r}", hint=hint)


def _read_json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _read_list(text: str) -> list[str]:
    value = _read_json(text)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    if isinstance(value, str):
        return [value]
    return [_unescaped(text)]


def _unescaped(text: str) -> str:
    r"""Return text with ``\n`` and ``\t`` as what they stand for.

    >>> _unescaped("a\\nb")
    'a\nb'
    """
    return text.replace("\\n", "\n").replace("\\t", "\t")
