"""Files that nobody else may read, from the moment on that they are there."""

from __future__ import annotations

import os

__all__ = ["open_private"]


def open_private(path: str, flags: int) -> int:
    """Open a file; one that this makes is for its owner alone. Made to be the ``opener`` of ``open``."""
    return os.open(path, flags, 0o600)
