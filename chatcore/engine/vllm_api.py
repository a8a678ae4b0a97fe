"""The one door to what vLLM does not document as public: every private name of it that the library uses.

::

    from chatcore.engine.vllm_api import LoRARequest    # imports vLLM

Public names (``vllm.LLM``, ``vllm.SamplingParams``) are imported from vLLM itself. The server's door is
``chat/server/vllm_plugin/compatibility.py``.
"""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["replace_detokenizer"]

# Where each name is in vLLM 0.32.
HOMES = {
    "ChatCompletionRequest": "vllm.entrypoints.openai.chat_completion.protocol",
    "FastIncrementalDetokenizer": "vllm.v1.engine.detokenizer",
    "LoRARequest": "vllm.lora.request",
    "ParserManager": "vllm.parser.parser_manager",
    "RENDERER_REGISTRY": "vllm.renderers.registry",
    "RequestOutputKind": "vllm.sampling_params",
    "StructuredOutputsParams": "vllm.sampling_params",
    "TokenizerRegistry": "vllm.tokenizers.registry",
    "VLLMClientError": "vllm.exceptions",
    "current_platform": "vllm.platforms",
    "has_xgrammar_unsupported_json_features": "vllm.v1.structured_output.backend_xgrammar",
    "tokens_input": "vllm.inputs",
}


def __getattr__(name: str) -> Any:
    """Import a name from vLLM when it is used: that takes seconds."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)


def replace_detokenizer(detokenizer: type) -> None:
    """Let vLLM make detokenizers of this class from now on, in this process."""
    importlib.import_module(HOMES["FastIncrementalDetokenizer"]).FastIncrementalDetokenizer = detokenizer  # type: ignore[attr-defined]
