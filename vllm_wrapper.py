"""Chat with a model through a vLLM engine in this process.

::

    from vllm_wrapper import VLLMWrapper

    with VLLMWrapper("demo") as llm:
        reply, history = llm.chat("My name is Ada.")
        reply, history = llm.chat("What is my name?", history=history)
"""

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

for _name in __all__:
    if isinstance(_value := globals()[_name], type) and issubclass(_value, Exception):
        _value.__module__ = __name__  # a traceback names what you import, not where it is written
