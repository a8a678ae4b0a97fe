"""Chat with a model through a vLLM engine in this process.

::

    from vllm_wrapper import VLLMWrapper

    with VLLMWrapper("demo") as llm:
        reply, history = llm.chat("My name is Ada.")
        reply, history = llm.chat("What is my name?", history=history)
"""

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
    "SamplingError",
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
