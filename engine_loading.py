"""How vLLM is imported and an engine is built: environment, arguments, and what is said when it fails."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from errors import ModelLoadError
from model_memory import read_memory_needs, weights_bytes

__all__ = ["cpu_arguments", "cpu_kv_cache_bytes", "first_line", "import_vllm", "load_error"]

MAX_CPU_KV_CACHE_BYTES = 4 << 30  # 4 GiB: more would surprise people who chat on a laptop
CPU_SEQUENCES = 16  # so many full windows fit the default key/value cache on CPU, memory allowing
SMALL_MODEL_BYTES = 64 << 20  # 64 MiB of weights


def import_vllm(model_dir: str | os.PathLike[str]) -> None:
    """Import vLLM, after setting what it and PyTorch read from the environment when they are imported.

    Whatever the user has set holds. A small model gets one thread: splitting its tiny matrices over several costs more
    than it brings, and costs it many times over as soon as another program wants one of the cores.
    """
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")  # vLLM logs to standard output, dozens of lines a start
    if weights_bytes(model_dir) < SMALL_MODEL_BYTES:
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        raise ModelLoadError(f"vLLM cannot be imported: {error}", hint="Install it: make install.") from error


def cpu_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return engine arguments for a machine without GPU.

    The engine runs in this process and without compilation, since it then starts ten times sooner; the key/value cache
    takes what a few dozen conversations need and not 90 % of the memory; the window shrinks to what fits.
    """
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    chosen = {"enforce_eager": True, **arguments}
    if "kv_cache_memory_bytes" not in chosen and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        chosen["kv_cache_memory_bytes"] = cpu_kv_cache_bytes(
            chosen["model"], max_model_len=chosen["max_model_len"], part=chosen["gpu_memory_utilization"]
        )
    if chosen["max_model_len"] is None:
        chosen["max_model_len"] = -1  # vLLM: as much of the model's window as the cache holds
    return chosen


def cpu_kv_cache_bytes(
    model_dir: str | os.PathLike[str], *, max_model_len: int | None = None, part: float = 0.9
) -> int:
    """Return how much memory the key/value cache gets on a machine without GPU, in bytes.

    Enough for :data:`CPU_SEQUENCES` full windows, but neither more than :data:`MAX_CPU_KV_CACHE_BYTES` nor more than
    ``part`` of the memory that is free.
    """
    import psutil

    free_bytes = int(psutil.virtual_memory().available * part)
    needs = read_memory_needs(model_dir)
    wanted = needs.cache_bytes(max_model_len or needs.max_window) * CPU_SEQUENCES or MAX_CPU_KV_CACHE_BYTES
    return max(1 << 26, min(wanted, MAX_CPU_KV_CACHE_BYTES, free_bytes))


def load_error(error: Exception, arguments: Mapping[str, Any]) -> ModelLoadError:
    """Return the one sentence, and the remedy, for an exception that vLLM raised while loading a model."""
    text = f"{error} {error.__cause__ or ''}"
    for sign, message, hint in _LOAD_ERRORS:
        if sign.lower() in text.lower():
            return ModelLoadError(message.format(error=first_line(error), **arguments), hint=hint)
    return ModelLoadError(f"vLLM cannot load {arguments['model']}: {first_line(error)}")


# What vLLM says -> what we say, and what to do about it; the first that matches holds.
_LOAD_ERRORS = (
    (
        "QWenLMHeadModel",
        "this vLLM no longer runs the first Qwen generation ({model})",
        "Use a successor, such as Qwen/Qwen2.5-7B-Instruct or Qwen/Qwen3-8B.",
    ),
    (
        "are not supported for now",
        "vLLM does not know this model's architecture: {error}",
        "See vLLM's list of supported models, or update vLLM.",
    ),
    (
        "bitsandbytes",
        "bitsandbytes weights need a plugin that vLLM no longer ships",
        "Use AWQ, GPTQ or FP8 weights, or install vLLM's bitsandbytes plugin.",
    ),
    ("trust_remote_code", "{model} wants to run code of its own", "Read that code first; then pass trust_remote_code."),
    ("No available memory for the cache", "no memory is left for the key/value cache", "Lower max_model_len."),
    ("KV cache", "too little memory: {error}", "Lower max_model_len, or free memory."),
    ("out of memory", "the GPU's memory is full", "Lower gpu_memory_utilization or max_model_len, or quantize."),
    (
        "Free memory on device",
        "too little GPU memory is free: {error}",
        "End other programs on the GPU, or lower gpu_memory_utilization.",
    ),
    (
        "quantization",
        "the quantization does not fit the weights: {error}",
        "Leave quantization out: the model's configuration names it.",
    ),
    ("dtype", "the dtype does not fit: {error}", "Use dtype='auto'."),
    ("max_model_len", "the window is too large: {error}", "Lower max_model_len."),
)


def first_line(error: BaseException) -> str:
    """Return what an exception says, in one line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
