"""Build prompt token ids from messages. Imports neither torch nor vllm.

The names are those of ``prompt_utils``, with types that mypy reads.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatcore.prompts.builder import FittedPrompt, Prompt, PromptBuilder
    from chatcore.prompts.stop_tokens import find_stop_token_ids, remove_stop_words
    from chatcore.prompts.tokenizer import PromptTokenizer

__all__ = [
    "FittedPrompt",
    "Prompt",
    "PromptBuilder",
    "PromptTokenizer",
    "find_stop_token_ids",
    "remove_stop_words",
]

_HOMES = ("chatcore.prompts.builder", "chatcore.prompts.stop_tokens", "chatcore.prompts.tokenizer")


def __getattr__(name: str) -> Any:
    """Import a name when it is used: most users of this package want one part of it."""
    if name in __all__:
        for home in map(importlib.import_module, _HOMES):
            if name in home.__all__:
                return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
