"""Messages -> prompt token ids: exact, safe and cheap.

::

    from prompt_utils import PromptBuilder

    builder = PromptBuilder.from_pretrained("path/to/a/model")
    builder.build([{"role": "user", "content": "Hello"}]).token_ids

Imports no torch, no transformers and no vllm; transformers' Jinja renderer is loaded with the first builder.
"""

from chatcore.prompts.builder import FittedPrompt, Prompt, PromptBuilder
from chatcore.prompts.legacy import build_prompt as _build_prompt
from chatcore.prompts.stop_tokens import find_stop_token_ids, remove_stop_words
from chatcore.prompts.tokenizer import PromptTokenizer

__all__ = [
    "FittedPrompt",
    "Prompt",
    "PromptBuilder",
    "PromptTokenizer",
    "_build_prompt",  # older scripts import it under this name
    "find_stop_token_ids",
    "remove_stop_words",
]
