"""How much of a long test is run, and where its figures go."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any

from benchmarks import report

__all__ = ["FULL", "bound", "keep", "scaled"]

FULL = os.environ.get("RELIABILITY") == "full"


def scaled(full: int, short: int) -> int:
    """Return how many cases (or seconds) this run has: all with ``make test-faults``, few in ``make test``."""
    return full if FULL else short


def bound(most: float) -> float:
    """Return the most that a time or a size may be; ``make test`` measures none, others use its machine as well."""
    return most if FULL else math.inf


def keep(name: str, figures: Mapping[str, Any]) -> None:
    """Print figures; a full run keeps them in ``benchmarks/results/reliability_NAME.json`` as well."""
    print(f"\n{name}: {dict(figures)}")
    if FULL:
        report.keep(report.record(f"reliability_{name}", figures) | {"command": "make test-faults"})
