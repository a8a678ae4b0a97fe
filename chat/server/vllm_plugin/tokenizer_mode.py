"""What vLLM loads of this package, through the entry point group ``vllm.general_plugins``.

Installed next to vLLM, this adds the tokenizer mode ``chatml``: ``vllm serve MODEL --tokenizer-mode chatml`` builds its
prompts by :class:`prompt_utils.PromptBuilder`. Nothing changes for those who do not ask for that mode, also where their
vLLM is one that this package does not know.
"""

from __future__ import annotations

import functools
import gc
import logging
import os

from chat.server.vllm_plugin.compatibility import check_vllm
from chatcore.errors import ServerError

__all__ = ["PLUGINS", "TOKENIZER_MODE", "collect_after_freeze", "register"]

TOKENIZER_MODE = "chatml"
# The entry points of this package, as VLLM_PLUGINS has to name them: the renderer, the routes, and what every process
# that serves HTTP gets.
PLUGINS = (TOKENIZER_MODE, "conversations", "api_process")


logger = logging.getLogger(__name__)


def register() -> None:
    """Make the tokenizer mode known; called by vLLM in each of its processes.

    Where ``VLLM_PLUGINS`` asks for this plugin, as below ``serve``, memory is kept flat as well.

    Raises:
        ServerError: this vLLM is not known here, and ``VLLM_PLUGINS`` asks for this plugin. Where it does not, vLLM
            goes on without the tokenizer mode.
    """
    is_asked_for = TOKENIZER_MODE in os.environ.get("VLLM_PLUGINS", "").split(",")
    try:
        check_vllm()
    except ServerError as error:
        if is_asked_for:
            raise
        logger.warning("%s; there is no tokenizer mode %s", error, TOKENIZER_MODE)
        return
    if is_asked_for:
        collect_after_freeze()
    from chat.server.vllm_plugin.compatibility import RENDERER_REGISTRY, TokenizerRegistry

    if TOKENIZER_MODE in RENDERER_REGISTRY.renderers:
        return
    RENDERER_REGISTRY.register(TOKENIZER_MODE, "chat.server.vllm_plugin.renderer", "ChatMLRenderer")
    TokenizerRegistry.register(TOKENIZER_MODE, "vllm.tokenizers.hf", "CachedHfTokenizer")


def collect_after_freeze() -> None:
    """Let Python's collector forget the size of what vLLM freezes; once for a process.

    A full collection is put off until what is new since the last one is a quarter of what that one found. vLLM collects
    and then freezes some 800,000 objects, which the collector goes on counting: garbage of 200,000 more, tens of
    megabytes, is kept until the first full collection. One right after the freeze finds next to nothing, and costs as
    much.
    """
    freeze = gc.freeze
    if hasattr(freeze, "__wrapped__"):
        return

    @functools.wraps(freeze)
    def freeze_and_collect() -> None:
        freeze()
        gc.collect()

    gc.freeze = freeze_and_collect
