"""How vLLM is imported and an engine is built: environment and arguments."""

from __future__ import annotations

import gc
import os
from collections.abc import MutableMapping
from typing import Any

from chatcore.engine.detokenizer import use_short_detokenizer
from chatcore.errors import ModelLoadError
from chatcore.models.fit import BLOCK_TOKENS, cpu_dtype, free_memory_bytes
from chatcore.models.load_errors import check_cpu_memory, load_error
from chatcore.models.memory import read_memory_needs, weights_bytes

__all__ = ["bound_onednn", "cpu_arguments", "cpu_kv_cache_bytes", "import_vllm", "load_engine", "release_engine"]

MIN_CPU_KV_CACHE_BYTES = 64 << 20  # 64 MiB
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
    bound_onednn(os.environ)
    try:
        import vllm  # noqa: F401
    except ImportError as error:
        raise ModelLoadError(f"vLLM cannot be imported: {error}", hint="Install it: make install.") from error


def bound_onednn(environment: MutableMapping[str, str]) -> None:
    """Keep oneDNN, which multiplies on CPU, from keeping a program for every length that a prompt has ever had.

    It would keep 1,024 of a quarter of a megabyte each; vLLM keeps those of 32 lengths for each matrix by itself, which
    is as fast. Whatever the user has set holds.
    """
    environment.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def load_engine(arguments: dict[str, Any]) -> Any:
    """Build ``vllm.LLM`` in the calling thread, which must be the one that steps it.

    Raises:
        ModelLoadError: it cannot be built; the message says why, the hint what to do.
    """
    import_vllm(arguments["model"])
    use_short_detokenizer()
    from vllm import LLM

    from chatcore.engine.vllm_api import current_platform

    if current_platform.is_cpu():
        if _open_engines:
            raise ModelLoadError(
                "another engine is open in this process", hint="Close it first: one process holds one engine on CPU."
            )
        arguments = cpu_arguments(arguments)
        check_cpu_memory(arguments)
    try:
        engine = LLM(**arguments)
    except Exception as error:
        raise load_error(error, arguments) from error
    _open_engines.add(id(engine))
    if gc.get_freeze_count():  # vLLM froze the heap, but the collector waits for garbage in proportion to what it was
        gc.collect()
    return engine


def release_engine(engine: Any) -> None:
    """Note that an engine of :func:`load_engine` is no longer used, so that another one may be built."""
    _open_engines.discard(id(engine))


_open_engines: set[int] = set()  # ids of the engines that live in this process


def cpu_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Return engine arguments for a machine without GPU.

    The engine runs in this process and without compilation, since it then starts ten times sooner; the dtype is the
    one that this processor is fast with; the key/value cache takes what a few dozen conversations need and not 90 % of
    the memory; the window shrinks to what fits.
    """
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    chosen = {"enforce_eager": True, "block_size": BLOCK_TOKENS["cpu"], **arguments}
    if chosen["dtype"] == "auto":
        chosen["dtype"] = cpu_dtype(chosen["model"], chosen["quantization"])
    if "kv_cache_memory_bytes" not in chosen and not os.environ.get("VLLM_CPU_KVCACHE_SPACE"):
        chosen["kv_cache_memory_bytes"] = cpu_kv_cache_bytes(
            chosen["model"],
            dtype=chosen["dtype"],
            max_model_len=chosen["max_model_len"],
            part=chosen["gpu_memory_utilization"],
        )
    if chosen.get("enable_lora"):
        # vLLM 0.32 computes answers without adapter, in a batch with others, as if theirs were in the last place: so
        # one place stays empty, and VLLMWrapper.add_lora fills no more than the others.
        chosen["max_loras"] = max(chosen.get("max_loras") or 1, chosen.get("max_cpu_loras") or 1) + 1
        chosen["max_cpu_loras"] = chosen["max_loras"]
    if chosen["max_model_len"] is None:
        chosen["max_model_len"] = -1  # vLLM: as much of the model's window as the cache holds
    return chosen


def cpu_kv_cache_bytes(
    model_dir: str | os.PathLike[str], *, dtype: str = "auto", max_model_len: int | None = None, part: float = 0.9
) -> int:
    """Return how much memory the key/value cache gets on a machine without GPU, in bytes.

    Enough for :data:`CPU_SEQUENCES` full windows, but neither more than is free (``part`` of the memory, less the
    weights) nor more than :data:`MAX_CPU_KV_CACHE_BYTES`, unless one window that was asked for takes more.
    """
    needs = read_memory_needs(model_dir, dtype=dtype)
    free_bytes = int(free_memory_bytes() * part) - (needs.weights_bytes or 0)
    wanted = needs.cache_bytes(max_model_len or needs.max_window) * CPU_SEQUENCES or MAX_CPU_KV_CACHE_BYTES
    most = max(MAX_CPU_KV_CACHE_BYTES, needs.cache_bytes(max_model_len or 0))
    return max(MIN_CPU_KV_CACHE_BYTES, min(wanted, most, free_bytes))
