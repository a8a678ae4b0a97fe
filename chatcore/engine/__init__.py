"""A vLLM engine in this process: messages in, replies out.

The names are those of ``vllm_wrapper``. Import them from here if you check your code with mypy: type checkers read the
types of packages (PEP 561), not those of a single installed module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chatcore.engine.options import ReplyOptions, SamplingOptions
    from chatcore.engine.requests import ContextWindowWarning
    from chatcore.engine.streams import AsyncStream, Stream
    from chatcore.engine.wrapper import ToolRun, VLLMWrapper, get_completion, vLLMWrapper
    from chatcore.errors import (
        ChatError,
        EngineError,
        HubUnreachableError,
        InvalidMessageError,
        ModelError,
        ModelLoadError,
        ModelNotFoundError,
        PromptError,
        PromptTooLongError,
        SamplingError,
        ToolError,
    )
    from chatcore.reply import Delta, Reply, TokenLogprob, TokenLogprobs, ToolCall, Usage
    from chatcore.tools.mcp import MCPTools

__all__ = [
    "AsyncStream",
    "ChatError",
    "ContextWindowWarning",
    "Delta",
    "EngineError",
    "HubUnreachableError",
    "InvalidMessageError",
    "MCPTools",
    "ModelError",
    "ModelLoadError",
    "ModelNotFoundError",
    "PromptError",
    "PromptTooLongError",
    "Reply",
    "ReplyOptions",
    "SamplingError",
    "SamplingOptions",
    "Stream",
    "TokenLogprob",
    "TokenLogprobs",
    "ToolCall",
    "ToolError",
    "ToolRun",
    "Usage",
    "VLLMWrapper",
    "get_completion",
    "vLLMWrapper",
]

_HOMES = (
    "chatcore.errors",
    "chatcore.reply",
    "chatcore.engine.options",
    "chatcore.engine.requests",
    "chatcore.engine.streams",
    "chatcore.engine.wrapper",
    "chatcore.tools.mcp",
)


def __getattr__(name: str) -> Any:
    """Import a name when it is used: most users of this package want one part of it."""
    if name in __all__:
        for home in map(importlib.import_module, _HOMES):
            if name in home.__all__:
                return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
