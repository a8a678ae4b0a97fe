"""How much memory a model asks for: its weights, and the key/value cache of a conversation.

Reads config.json and the headers of the weights; loads nothing and runs no code of the model. What a configuration does
not tell, or tells in a way that is not known here, is ``None``, with the reason beside it: never a guess.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from chatcore.errors import ModelLoadError
from chatcore.json_files import read_object

__all__ = ["DOWNLOAD_AGAIN", "LayerGroup", "MemoryNeeds", "read_memory_needs", "read_tensor_header", "weights_bytes"]

DOWNLOAD_AGAIN = "The download may have been cut off: fetch the model again."
IN_FLIGHT_TOKENS = 8192  # that a layer with a sliding window keeps beyond it: the most one step reads
NUM_STATES = 2  # that vLLM keeps of a linear-attention layer for each conversation while prefixes are cached
DEFAULT_WINDOW = 2048  # tokens; what transformers assumes where a configuration names no window
MAX_LOGIT_ROWS = 256  # answers whose logits are computed in one step while vLLM measures what it needs

FLOAT_BYTES = {"float16": 2, "bfloat16": 2, "half": 2, "float": 4, "float32": 4, "float64": 8}
CONVERTED = {"F64", "F32", "F16", "BF16"}  # types that the engine converts to its own; quantized values stay
# Models of the DeepSeek family, of which vLLM caches one latent vector a token instead of keys and values.
LATENT_MODELS = {"deepseek_v2", "deepseek_v3", "kimi_k2", "glm4_moe_lite", "longcat_flash", "pangu_ultra_moe", "axk1"}
# Every n-th layer sees everything, the others a sliding window, where the configuration does not say so; 1: none does.
WINDOW_PATTERNS = {"mistral": 1, "mixtral": 1, "phi3": 1, "starcoder2": 1, "gemma2": 2, "gemma3_text": 6}
# Settings after which the cache is laid out in ways that are not reckoned here.
UNKNOWN_LAYOUTS = ("num_kv_shared_layers", "compress_ratios", "block_configs", "index_topk", "attn_type_list")

LayerKind = Literal["full", "sliding", "latent", "state"]


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """Layers that keep the same kind of cache.

    ``bytes_per_head`` is for one token, or, of the kind ``state`` (linear attention), for one conversation of any
    length. ``window``: after so many tokens a ``sliding`` layer forgets.
    """

    kind: LayerKind
    num_layers: int
    num_heads: int
    bytes_per_head: int
    window: int | None = None

    def cache_bytes(self, num_tokens: int, num_gpus: int = 1) -> int:
        """Return what one conversation of so many tokens takes in these layers, in bytes on each GPU."""
        heads = math.ceil(self.num_heads / num_gpus)  # a head is never split, so every GPU has at least one
        kept = num_tokens
        if self.kind == "state":
            kept = NUM_STATES
        elif self.window is not None:
            kept = min(num_tokens, self.window - 1 + IN_FLIGHT_TOKENS)
        return self.num_layers * heads * self.bytes_per_head * kept


@dataclass(frozen=True, slots=True)
class MemoryNeeds:
    """What a model asks of memory.

    ``weights_bytes``: once loaded, all of it, ``None`` where no weights are at hand. ``layers``: empty where the
    configuration does not tell, and ``unknown`` says why. ``activation_bytes``: what one step needs for a while.
    """

    weights_bytes: int | None
    weights_format: str
    layers: tuple[LayerGroup, ...]
    max_window: int
    activation_bytes: int
    num_attention_heads: int
    unknown: str = ""

    @property
    def kv_cache_bytes_per_token(self) -> int | None:
        """Bytes that one more token of a conversation takes, before any window slides; ``None`` if unknown."""
        if not self.layers:
            return None
        return sum(
            group.num_layers * group.num_heads * group.bytes_per_head for group in self.layers if group.kind != "state"
        )

    def cache_bytes(self, num_tokens: int, num_gpus: int = 1) -> int:
        """Return what one conversation of so many tokens takes, in bytes on each of the GPUs."""
        return sum(group.cache_bytes(num_tokens, num_gpus) for group in self.layers)


def read_memory_needs(
    model_dir: str | os.PathLike[str],
    *,
    dtype: str = "auto",
    kv_cache_dtype: str = "auto",
    weights_file_bytes: int | None = None,
) -> MemoryNeeds:
    """Return what a model asks of memory, from its config.json and the headers of its weights.

    Args:
        model_dir: a folder with config.json; the weights may be missing.
        dtype: in which weights and cache are held: ``auto``, ``bfloat16``, ``float16`` or ``float32``.
        kv_cache_dtype: of the cache alone: ``auto`` or a name such as ``fp8``.
        weights_file_bytes: size of the weights files where they are not in the folder, for example on a hub.
    Raises:
        ModelLoadError: there is no config.json, or it is no JSON object.
    Source: vLLM 0.32, v1/kv_cache_interface.py (page sizes) and v1/core/kv_cache_utils.py (how many fit).
    """
    config = read_object(Path(model_dir) / "config.json")
    text = _text_config(config)
    value_bytes = _value_bytes(dtype, config, text)
    layers, unknown = _cache_layers(text, _cache_value_bytes(kv_cache_dtype, value_bytes))
    in_memory = _weights_in_memory(Path(model_dir), value_bytes)
    return MemoryNeeds(
        weights_bytes=weights_file_bytes if in_memory is None else in_memory,
        weights_format=_weights_format(config, text),
        layers=layers,
        max_window=_number(text, "max_position_embeddings", "n_positions", "seq_length") or DEFAULT_WINDOW,
        activation_bytes=_activation_bytes(text, value_bytes),
        num_attention_heads=_number(text, "num_attention_heads", "n_head") or 1,
        unknown=unknown,
    )


def weights_bytes(model_dir: str | os.PathLike[str]) -> int:
    """Return the size of a model's weights files, in bytes; 0 if there are none."""
    folder = Path(model_dir)
    for pattern in ("*.safetensors", "*.bin", "*.pt"):
        if files := list(folder.glob(pattern)):
            return sum(file.stat().st_size for file in files)
    return 0


def read_tensor_header(file: Path) -> tuple[dict[str, Any], int]:
    """Return what a safetensors file's header tells of each tensor, and the length that the file must have, in bytes.

    The file begins with the header's length in 8 bytes; the tensors follow the header.

    Raises:
        ModelLoadError: the header is damaged or is none.
    """
    try:
        with file.open("rb") as stream:
            (header_size,) = struct.unpack("<Q", stream.read(8))
            if header_size > file.stat().st_size:
                raise ValueError("the header is cut off")
            header = json.loads(stream.read(header_size))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelLoadError(f"{file} is no safetensors file: {error}", hint=DOWNLOAD_AGAIN) from error
    return header, 8 + header_size + int(end)


# -- the configuration ----------------------------------------------------------------------------------------------


def _text_config(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration of the language model, also where it is a part of a larger one."""
    for name in ("text_config", "llm_config", "language_config"):
        if isinstance(config.get(name), dict):
            return dict(config[name])
    thinker = config.get("thinker_config")
    return _text_config(thinker) if isinstance(thinker, dict) else config


def _number(config: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of these settings that is a positive whole number."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _value_bytes(dtype: str, config: Mapping[str, Any], text: Mapping[str, Any]) -> int:
    """Return how many bytes one value takes; like vLLM, ``auto`` holds float32 weights in 16 bits."""
    if dtype != "auto":
        return FLOAT_BYTES.get(dtype, 2)
    said = text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype")
    return min(2, FLOAT_BYTES.get(str(said), 2))


def _cache_value_bytes(kv_cache_dtype: str, value_bytes: int) -> int:
    if kv_cache_dtype == "auto":
        return value_bytes
    return 1 if kv_cache_dtype.startswith(("fp8", "int8")) else FLOAT_BYTES.get(kv_cache_dtype, value_bytes)


def _weights_format(config: Mapping[str, Any], text: Mapping[str, Any]) -> str:
    """Return how the weights are stored: ``bfloat16``, or the quantization such as ``awq 4 bit``."""
    quantization = config.get("quantization_config") or text.get("quantization_config")
    if isinstance(quantization, dict):
        bits = _number(quantization, "bits", "w_bit", "weight_bits")
        name = str(quantization.get("quant_method") or quantization.get("quant_algo") or "quantized").lower()
        return f"{name} {bits} bit" if bits else name
    said = text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype")
    return str(said or "unknown")


def _activation_bytes(text: Mapping[str, Any], value_bytes: int) -> int:
    """Return about what one step of the largest size needs for a while: hidden values, and logits in float32."""
    hidden = _number(text, "hidden_size", "n_embd", "d_model") or 0
    inner = _number(text, "moe_intermediate_size", "intermediate_size", "n_inner") or 4 * hidden
    logits = 2 * MAX_LOGIT_ROWS * (_number(text, "vocab_size") or 0) * 4  # 4: float32; 2: a copy is sorted
    return IN_FLIGHT_TOKENS * (4 * hidden + 2 * inner) * value_bytes + logits


def _cache_layers(text: Mapping[str, Any], value_bytes: int) -> tuple[tuple[LayerGroup, ...], str]:
    """Return the groups of layers, or none and the reason why they are unknown."""
    if strange := next((name for name in UNKNOWN_LAYOUTS if text.get(name)), ""):
        return (), f"config.json has {strange}, whose cache is laid out in a way that is not reckoned here"
    kinds, unknown = _layer_kinds(text)
    if unknown:
        return (), unknown
    try:
        return tuple(
            _layer_group(text, kind, num_layers, value_bytes) for kind, num_layers in sorted(Counter(kinds).items())
        ), ""
    except KeyError as error:
        return (), f"config.json does not tell {error.args[0]}"


def _layer_kinds(text: Mapping[str, Any]) -> tuple[list[LayerKind], str]:
    """Return the kind of each layer, in order, or the reason why it is unknown."""
    num_layers = _number(text, "num_hidden_layers", "n_layer", "num_layers")
    if num_layers is None:
        return [], "config.json does not tell num_hidden_layers"
    if text.get("kv_lora_rank"):
        if text.get("model_type") not in LATENT_MODELS:
            return [], f"the cache of {text.get('model_type')} is laid out in a way that is not reckoned here"
        return ["latent"] * num_layers, ""
    named = text.get("layer_types")
    if isinstance(named, list) and len(named) == num_layers:
        known: dict[str, LayerKind] = {
            "full_attention": "full",
            "attention": "full",
            "sliding_attention": "sliding",
            "linear_attention": "state",
        }
        strange = sorted({str(name) for name in named} - set(known))
        return [known.get(name, "full") for name in named], (
            f"config.json has layers of a kind that is not known here: {', '.join(strange)}" if strange else ""
        )
    return _layer_kinds_by_rule(text, num_layers)


def _layer_kinds_by_rule(text: Mapping[str, Any], num_layers: int) -> tuple[list[LayerKind], str]:
    """Return the kind of each layer where the configuration gives a rule and no list."""
    if every := _number(text, "full_attention_interval"):
        return ["state" if (layer + 1) % every else "full" for layer in range(num_layers)], ""
    model_type = str(text.get("model_type"))
    uses_windows = text.get("use_sliding_window", not model_type.startswith("qwen"))
    if not _number(text, "sliding_window") or not uses_windows:
        return ["full"] * num_layers, ""
    if every := _number(text, "sliding_window_pattern") or WINDOW_PATTERNS.get(model_type):
        return ["full" if every > 1 and (layer + 1) % every == 0 else "sliding" for layer in range(num_layers)], ""
    return [], "config.json has a sliding_window and does not tell in which layers"


def _layer_group(text: Mapping[str, Any], kind: LayerKind, num_layers: int, value_bytes: int) -> LayerGroup:
    """Return a group of layers; KeyError names what the configuration does not tell."""
    if kind == "latent":
        values = _needed(text, "kv_lora_rank") + _needed(text, "qk_rope_head_dim")
        return LayerGroup(kind, num_layers, 1, values * value_bytes)
    if kind == "state":
        return _state_group(text, num_layers, value_bytes)
    heads = _number(text, "num_attention_heads", "n_head")
    kv_heads = _number(text, "num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num") or heads
    head_dim = _number(text, "head_dim", "kv_channels")
    if kind == "full":  # some models have larger and fewer heads in the layers that see everything
        kv_heads = _number(text, "num_global_key_value_heads") or kv_heads
        head_dim = _number(text, "global_head_dim") or head_dim
    if head_dim is None and heads:
        head_dim = _needed(text, "hidden_size", "n_embd") // heads
    if not kv_heads or not head_dim:
        raise KeyError("num_attention_heads")
    window = _needed(text, "sliding_window") if kind == "sliding" else None
    return LayerGroup(kind, num_layers, kv_heads, 2 * head_dim * value_bytes, window)  # 2: keys and values


def _state_group(text: Mapping[str, Any], num_layers: int, value_bytes: int) -> LayerGroup:
    """Return layers of gated linear attention: a matrix for each head, in float32, and the tail of a convolution."""
    key_heads, value_heads = _needed(text, "linear_num_key_heads"), _needed(text, "linear_num_value_heads")
    key_dim, value_dim = _needed(text, "linear_key_head_dim"), _needed(text, "linear_value_head_dim")
    matrix = value_heads * key_dim * value_dim * 4
    tail = (2 * key_heads * key_dim + value_heads * value_dim) * (_needed(text, "linear_conv_kernel_dim") - 1)
    return LayerGroup("state", num_layers, value_heads, math.ceil((matrix + tail * value_bytes) / value_heads))


def _needed(text: Mapping[str, Any], *names: str) -> int:
    value = _number(text, *names)
    if value is None:
        raise KeyError(names[0])
    return value


# -- the weights ----------------------------------------------------------------------------------------------------


def _weights_in_memory(folder: Path, value_bytes: int) -> int | None:
    """Return the weights' size once loaded: floats in the engine's dtype, quantized values as they are."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        return weights_bytes(folder) or _size_in_index(folder)
    if _is_incomplete(folder, files):
        return _size_in_index(folder)
    total = 0
    for file in files:
        for tensor in read_tensor_header(file)[0].values():
            begin, end = tensor["data_offsets"]
            total += math.prod(tensor["shape"]) * value_bytes if tensor["dtype"] in CONVERTED else end - begin
    return total


def _is_incomplete(folder: Path, files: list[Path]) -> bool:
    index = folder / "model.safetensors.index.json"
    try:
        shards = set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False
    return not shards <= {file.name for file in files}


def _size_in_index(folder: Path) -> int | None:
    """Return what the index of the weights tells, where the weights themselves are not there."""
    index = folder / "model.safetensors.index.json"
    try:
        size = json.loads(index.read_text("utf-8"))["metadata"]["total_size"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return int(size) if isinstance(size, (int, float)) else None
