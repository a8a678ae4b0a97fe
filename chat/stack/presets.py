"""What the usual models need to be told to vLLM, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

__all__ = ["PRESETS", "Kind", "Preset"]

Kind = Literal["llm", "embedding", "rerank"]

RERANK_TEMPLATE = Path(__file__).with_name("qwen3_reranker.jinja")


@dataclass(frozen=True, slots=True)
class Preset:
    """A model's name and the options of vLLM's server that go with it.

    Attributes:
        kind: which service it is for.
        model: used if the file names no other.
        arguments: options of vLLM's server without their dashes; true is a bare switch, a table becomes JSON.
    """

    kind: Kind
    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


EMBED = {"runner": "pooling", "convert": "embed"}
CLASSIFY = {"runner": "pooling", "convert": "classify"}

# The weights of Qwen3-Reranker are those of a language model: the score is how much likelier "yes" is than "no" as its
# next token, and it was trained on one prompt only.
# Source: the model card of Qwen3-Reranker; Qwen3ForSequenceClassificationConfig in vLLM.
QWEN3_RERANKER = {
    "runner": "pooling",
    "hf-overrides": {
        "architectures": ["Qwen3ForSequenceClassification"],
        "classifier_from_token": ["no", "yes"],
        "is_original_qwen3_reranker": True,
    },
    "chat-template": str(RERANK_TEMPLATE),
}

PRESETS: Mapping[str, Preset] = {
    "qwen3": Preset("llm", "Qwen/Qwen3-8B"),
    # Qwen3-Embedding was trained so that the first numbers of a vector are a shorter vector: OpenAI's "dimensions".
    "qwen3-embedding": Preset(
        "embedding", "Qwen/Qwen3-Embedding-0.6B", EMBED | {"hf-overrides": {"is_matryoshka": True}}
    ),
    "qwen3-reranker": Preset("rerank", "Qwen/Qwen3-Reranker-0.6B", QWEN3_RERANKER),
    # gte's multilingual models come with code of their own under an architecture called New; vLLM has it built in.
    "gte-embedding": Preset(
        "embedding",
        "Alibaba-NLP/gte-multilingual-base",
        EMBED | {"hf-overrides": {"architectures": ["GteNewModel"]}},
    ),
    "gte-reranker": Preset(
        "rerank",
        "Alibaba-NLP/gte-multilingual-reranker-base",
        CLASSIFY | {"hf-overrides": {"architectures": ["GteNewForSequenceClassification"]}},
    ),
    "bge-embedding": Preset("embedding", "BAAI/bge-m3", EMBED),
    "bge-reranker": Preset("rerank", "BAAI/bge-reranker-v2-m3", CLASSIFY),
}
