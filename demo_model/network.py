"""The demo model as PyTorch code for training: the Qwen3 architecture in 80 lines, and its names in model files."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

MAX_TRAINED_LENGTH = 2048  # tokens; the longest row of a batch


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes of the network, named as in a Qwen3 config.json."""

    vocab_size: int
    hidden_size: int = 192
    intermediate_size: int = 576
    num_hidden_layers: int = 4
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    head_dim: int = 64
    rope_theta: float = 10000.0
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 8192

    def config(self, *, end_ids: list[int]) -> dict[str, Any]:
        """The config.json of the model; `end_ids` are <|im_end|> and <|endoftext|>."""
        sizes = asdict(self)
        theta = sizes.pop("rope_theta")
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            **sizes,
            "rope_parameters": {"rope_type": "default", "rope_theta": theta},
            "rope_theta": theta,
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "tie_word_embeddings": True,
            "use_cache": True,
            "initializer_range": 0.02,
            "bos_token_id": end_ids[1],
            "eos_token_id": end_ids[0],
            "pad_token_id": end_ids[1],
            "dtype": "bfloat16",
        }


class Attention(nn.Module):
    """Grouped-query attention with normalized queries and keys and rotary positions."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.num_attention_heads * shape.head_dim
        narrow = shape.num_key_value_heads * shape.head_dim
        self.q_proj = _matrix(width, shape.hidden_size)
        self.k_proj = _matrix(narrow, shape.hidden_size)
        self.v_proj = _matrix(narrow, shape.hidden_size)
        self.o_proj = _matrix(shape.hidden_size, width, shrink=math.sqrt(2 * shape.num_hidden_layers))
        self.q_norm = nn.Parameter(torch.ones(shape.head_dim))
        self.k_norm = nn.Parameter(torch.ones(shape.head_dim))

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shape = self.shape
        rows, length, _ = x.shape
        split = (rows, length, -1, shape.head_dim)
        q = functional.rms_norm(functional.linear(x, self.q_proj).view(split), self.q_norm.shape, self.q_norm, 1e-6)
        k = functional.rms_norm(functional.linear(x, self.k_proj).view(split), self.k_norm.shape, self.k_norm, 1e-6)
        v = functional.linear(x, self.v_proj).view(split).transpose(1, 2)
        q, k = q.transpose(1, 2), k.transpose(1, 2)
        q, k = q * cos + _turned(q) * sin, k * cos + _turned(k) * sin
        repeats = shape.num_attention_heads // shape.num_key_value_heads
        k, v = k.repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return functional.linear(mixed.transpose(1, 2).reshape(rows, length, -1), self.o_proj)


class Layer(nn.Module):
    """Attention and a gated feed-forward part, each behind a norm and beside a residual path."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.input_layernorm = nn.Parameter(torch.ones(shape.hidden_size))
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.Parameter(torch.ones(shape.hidden_size))
        self.gate_proj = _matrix(shape.intermediate_size, shape.hidden_size)
        self.up_proj = _matrix(shape.intermediate_size, shape.hidden_size)
        self.down_proj = _matrix(
            shape.hidden_size, shape.intermediate_size, shrink=math.sqrt(2 * shape.num_hidden_layers)
        )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        width, eps = self.input_layernorm.shape, self.shape.rms_norm_eps
        x = x + self.self_attn(functional.rms_norm(x, width, self.input_layernorm, eps), cos, sin)
        h = functional.rms_norm(x, width, self.post_attention_layernorm, eps)
        gate = functional.silu(functional.linear(h, self.gate_proj))
        return x + functional.linear(gate * functional.linear(h, self.up_proj), self.down_proj)


class Network(nn.Module):
    """The whole model. The embedding matrix is also the output head."""

    cos: Tensor
    sin: Tensor

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Parameter(torch.randn(shape.vocab_size, shape.hidden_size) * 0.02)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(shape.hidden_size))
        exponents = torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
        angles = torch.outer(torch.arange(MAX_TRAINED_LENGTH).float(), shape.rope_theta**-exponents)
        angles = torch.cat([angles, angles], -1)  # (length, head_dim)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, token_ids: Tensor) -> Tensor:
        """Hidden states of shape (rows, length, hidden_size) for token ids of shape (rows, length)."""
        length = token_ids.shape[1]
        x = functional.embedding(token_ids, self.embed_tokens)
        for layer in self.layers:
            x = layer(x, self.cos[:length], self.sin[:length])
        return functional.rms_norm(x, self.norm.shape, self.norm, self.shape.rms_norm_eps)

    def logits(self, hidden: Tensor) -> Tensor:
        """Scores over the vocabulary for hidden states of shape (..., hidden_size)."""
        return functional.linear(hidden, self.embed_tokens)

    def file_tensors(self) -> dict[str, Tensor]:
        """The weights in bf16 under the names of Qwen3's model files."""
        tensors = {}
        for name, weight in self.named_parameters():
            parts = name.split(".")
            if parts[-1] in ("gate_proj", "up_proj", "down_proj"):
                parts.insert(-1, "mlp")
            tensors["model." + ".".join(parts) + ".weight"] = weight.detach().to(torch.bfloat16).contiguous()
        return tensors


def _matrix(rows: int, columns: int, *, shrink: float = 1.0) -> nn.Parameter:
    """A random matrix that keeps the size of its input; `shrink` keeps the residual path from growing with depth."""
    return nn.Parameter(torch.randn(rows, columns) / math.sqrt(columns) / shrink)


def _turned(x: Tensor) -> Tensor:
    """The vectors with their halves swapped and the first negated, as rotary positions need."""
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)
