"""Models that are made in a moment: Qwen3's shape, random weights, the demo model's tokenizer.

Their answers mean nothing, but vLLM loads and runs them as it does the real ones.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from chatcore.models.hub import DEMO_MODEL_DIR

__all__ = ["HIDDEN_SIZE", "make_tiny_model"]

HIDDEN_SIZE, NUM_LAYERS, NUM_HEADS, HEAD_DIM, INNER_SIZE = 64, 2, 2, 32, 128
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def make_tiny_model(folder: Path, *, seed: int) -> Path:
    """Write a model folder; about 1.5 MB."""
    folder.mkdir(parents=True)
    for file in TOKENIZER_FILES:
        shutil.copy(DEMO_MODEL_DIR / file, folder)
    demo = json.loads((DEMO_MODEL_DIR / "config.json").read_text("utf-8"))
    config = demo | {
        "hidden_size": HIDDEN_SIZE,
        "intermediate_size": INNER_SIZE,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": NUM_HEADS,
        "num_key_value_heads": NUM_HEADS,
        "head_dim": HEAD_DIM,
        "max_position_embeddings": 1024,
        "dtype": "float32",
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    save_file(_weights(np.random.default_rng(seed), config["vocab_size"]), folder / "model.safetensors")
    return folder


def _weights(random: np.random.Generator, vocab_size: int) -> dict[str, np.ndarray]:
    def matrix(*shape: int) -> np.ndarray:
        return (random.standard_normal(shape) / shape[-1] ** 0.5).astype(np.float32)

    heads = NUM_HEADS * HEAD_DIM
    weights = {"model.embed_tokens.weight": matrix(vocab_size, HIDDEN_SIZE), "model.norm.weight": ones(HIDDEN_SIZE)}
    for layer in range(NUM_LAYERS):
        prefix = f"model.layers.{layer}"
        weights |= {f"{prefix}.self_attn.{name}_proj.weight": matrix(heads, HIDDEN_SIZE) for name in "qkv"}
        weights |= {f"{prefix}.self_attn.{name}_norm.weight": ones(HEAD_DIM) for name in "qk"}
        weights |= {f"{prefix}.mlp.{name}_proj.weight": matrix(INNER_SIZE, HIDDEN_SIZE) for name in ("gate", "up")}
        weights |= {
            f"{prefix}.self_attn.o_proj.weight": matrix(HIDDEN_SIZE, heads),
            f"{prefix}.mlp.down_proj.weight": matrix(HIDDEN_SIZE, INNER_SIZE),
            f"{prefix}.input_layernorm.weight": ones(HIDDEN_SIZE),
            f"{prefix}.post_attention_layernorm.weight": ones(HIDDEN_SIZE),
        }
    return weights


def ones(size: int) -> np.ndarray:
    return np.ones(size, dtype=np.float32)
