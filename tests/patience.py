"""How long something may take: longer where other work shares the machine."""

from __future__ import annotations

import os

__all__ = ["patient"]

PATIENCE = float(os.environ.get("PATIENCE", "1"))


def patient(seconds: float) -> float:
    """Return a bound on a time, as many times as long as ``PATIENCE`` says."""
    return seconds * PATIENCE
