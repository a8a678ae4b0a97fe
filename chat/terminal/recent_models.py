"""The models that were used last, for ``/model``: a list in a file of the user's own."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

__all__ = ["note_model", "recent_models"]

MAX_MODELS = 10


def _file() -> Path:
    import platformdirs

    return platformdirs.user_state_path("vllm-deploy") / "recent_models.json"


def recent_models() -> list[str]:
    """Return the names, the newest first; none if they cannot be read."""
    try:
        names = json.loads(_file().read_text("utf-8"))
    except (OSError, ValueError):
        return []
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def note_model(name: str) -> None:
    """Put a name in front. What cannot be written is forgotten: the list is a convenience."""
    names = [name, *(other for other in recent_models() if other != name)][:MAX_MODELS]
    file = _file()
    draft = file.with_name(f"{file.name}.{os.getpid()}")
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft.touch(0o600)
        draft.write_text(json.dumps(names, ensure_ascii=False), "utf-8")
        draft.replace(file)
