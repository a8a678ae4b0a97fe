"""Read the JSON files of a model's folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from chatcore.errors import ModelLoadError

__all__ = ["read_object"]


def read_object(file: Path, *, missing_ok: bool = False, hint: str | None = None) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Args:
        missing_ok: a file that does not exist is an empty object.
        hint: of the error.
    Raises:
        ModelLoadError: the file cannot be read, is not JSON, or holds something else than an object.
    """
    if missing_ok and not file.is_file():
        return {}
    try:
        content = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{file} cannot be read: {error}", hint=hint) from error
    if not isinstance(content, dict):
        raise ModelLoadError(f"{file} cannot be read: it holds no JSON object", hint=hint)
    return content
