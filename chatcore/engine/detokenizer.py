"""vLLM's detokenizer, told the end of the prompt instead of all of it.

With the first token of an answer, vLLM's detokenizer decodes the whole prompt: 1.5 ms for every 1,000 tokens, in the
loop that everybody's answers go through. How the next token reads depends on the last few at most: it may complete a
character that they have begun.
"""

from __future__ import annotations

import copy
from typing import Any

__all__ = ["NUM_LAST_TOKENS", "use_short_detokenizer"]

NUM_LAST_TOKENS = 16  # a character has at most 4 bytes, and so many tokens


def use_short_detokenizer() -> None:
    """Let vLLM make detokenizers of this kind from now on, in this process. Doing so twice is fine.

    Call it before the first engine is made. Source: vLLM 0.32, v1/engine/detokenizer.py.
    """
    from chatcore.engine.vllm_api import FastIncrementalDetokenizer as stock
    from chatcore.engine.vllm_api import replace_detokenizer

    if stock.__module__ == __name__:
        return

    class ShortDetokenizer(stock):  # type: ignore[misc]  # vLLM's classes are not followed
        def __init__(self, tokenizer: Any, request: Any) -> None:
            shortened = copy.copy(request)
            shortened.prompt_token_ids = (request.prompt_token_ids or [])[-NUM_LAST_TOKENS:]
            super().__init__(tokenizer, shortened)

    replace_detokenizer(ShortDetokenizer)
