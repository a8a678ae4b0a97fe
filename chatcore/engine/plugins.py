"""The plugin that vLLM loads into every process it runs in, a user's own script included.

It is not in ``chat``: a user's script may be called chat.py, and importing that name would run the script again.
"""

from __future__ import annotations

import importlib
import logging
import os

__all__ = ["register"]

TOKENIZER_MODE = "chatml"
logger = logging.getLogger(__name__)


def register() -> None:
    """Add the tokenizer mode ``chatml``; called by vLLM through the entry point group ``vllm.general_plugins``.

    Below ``serve``, where ``VLLM_PLUGINS`` names this plugin, the server's part is loaded with it. Elsewhere only the
    names are registered: nothing of ``chat`` is imported before the mode is used.

    Raises:
        ServerError: ``VLLM_PLUGINS`` names this plugin, and this vLLM is not supported.
    """
    if TOKENIZER_MODE in os.environ.get("VLLM_PLUGINS", "").split(","):
        importlib.import_module("chat.server.vllm_plugin.tokenizer_mode").register()
        return
    try:
        from chatcore.engine.vllm_api import RENDERER_REGISTRY, TokenizerRegistry

        if TOKENIZER_MODE not in RENDERER_REGISTRY.renderers:
            RENDERER_REGISTRY.register(TOKENIZER_MODE, "chat.server.vllm_plugin.renderer", "ChatMLRenderer")
            TokenizerRegistry.register(TOKENIZER_MODE, "vllm.tokenizers.hf", "CachedHfTokenizer")
    except (ImportError, AttributeError, TypeError) as error:  # another vLLM: it works on without the mode
        logger.warning("the tokenizer mode %s is unavailable: %s", TOKENIZER_MODE, error)
