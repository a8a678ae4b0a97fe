"""What fits a machine: for a model, the largest window and how many conversations at once, and the options to use.

Light: GPUs are told by nvidia-smi, models by their files (:mod:`chatcore.models.memory`). Try it:
``python vllm_deploy.py doctor Qwen/Qwen3-8B``.
"""

from __future__ import annotations

import functools
import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from chatcore.errors import ModelLoadError
from chatcore.models.memory import MemoryNeeds, read_memory_needs

__all__ = [
    "BLOCK_TOKENS",
    "Machine",
    "ModelFit",
    "cpu_dtype",
    "explain",
    "find_machine",
    "fit_model",
    "free_memory_bytes",
    "gib",
    "largest_window",
    "plan",
]

DEFAULT_PART = 0.9  # of the memory, as VLLMWrapper's gpu_memory_utilization
# vLLM hands out the cache in blocks of so many tokens, and holds whole ones for the next turn: what is behind the last
# is computed again, which is most of a turn whose past is cached. vLLM's own are of 128 on CPU; kernels want 32.
BLOCK_TOKENS = {"gpu": 16, "cpu": 32}
# What vLLM takes besides weights and cache: the CUDA context and its graphs (1.5 GiB), or Python with PyTorch and vLLM
# imported (1 GiB, measured with the demo model).
PROGRAM_BYTES = {"gpu": 3 << 29, "cpu": 1 << 30}
FLOATS_OF_16_BITS = ("bfloat16", "float16")
FLOAT32_PART = 0.5  # of the free memory that the weights may take in float32; cache and program want the rest
BFLOAT16_FLAGS = frozenset(("avx512_bf16", "amx_bf16", "bf16"))  # as Linux names them: of x86, x86 and Arm

DeviceKind = Literal["gpu", "cpu"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What a model may run on. ``memory_bytes``: of one GPU, or the main memory that is free without one."""

    kind: DeviceKind
    num_devices: int
    memory_bytes: int
    name: str = ""


@dataclass(frozen=True, slots=True)
class ModelFit:
    """What fits: the largest window, and how many conversations of that length at once.

    ``cache_bytes``: what is left for the key/value cache on each device, 0 where the weights alone are too much.
    ``max_model_len`` is ``None`` where the configuration does not tell what a token takes, 0 where nothing fits.
    """

    needs: MemoryNeeds
    machine: Machine
    num_gpus: int
    usable_bytes: int
    weights_bytes: int
    cache_bytes: int
    max_model_len: int | None
    num_conversations: int | None

    @property
    def fits(self) -> bool:
        """Whether the model runs at all, with a window of at least one block."""
        return self.cache_bytes > 0 and self.max_model_len != 0

    def conversations(self, num_tokens: int) -> int | None:
        """Return how many conversations of so many tokens fit at once; ``None`` if unknown."""
        if not self.needs.layers:
            return None
        return self.cache_bytes // max(1, self.needs.cache_bytes(num_tokens, self.num_gpus))

    def flags(self) -> list[str]:
        """Return the options with which this model fits this machine; empty where the defaults do."""
        chosen: list[str] = []
        if self.num_gpus > 1:
            chosen += ["--tensor-parallel-size", str(self.num_gpus)]
        if self.max_model_len and self.max_model_len < self.needs.max_window:
            chosen += ["--max-model-len", str(self.max_model_len)]
        return chosen


def fit_model(
    needs: MemoryNeeds,
    machine: Machine,
    *,
    num_gpus: int = 1,
    part: float = DEFAULT_PART,
    max_model_len: int | None = None,
) -> ModelFit:
    """Return what fits a machine, the model split over so many of its GPUs.

    Args:
        part: of the memory that the engine may use, as ``gpu_memory_utilization``.
        max_model_len: the window that is wanted, in tokens; the model's own if left out.
    Raises:
        ModelLoadError: nobody knows how large the weights are.
    """
    if needs.weights_bytes is None:
        raise ModelLoadError("the size of the weights is unknown: there are no weights in the folder")
    usable = int(machine.memory_bytes * part)
    weights = math.ceil(needs.weights_bytes / num_gpus)
    reserve = PROGRAM_BYTES[machine.kind] + math.ceil(needs.activation_bytes / num_gpus)
    cache = max(0, usable - weights - reserve)
    window: int | None = None
    conversations: int | None = None
    if needs.layers:
        wanted = min(max_model_len or needs.max_window, needs.max_window)
        window = largest_window(needs, cache, wanted, machine.kind, num_gpus)
        conversations = cache // max(1, needs.cache_bytes(window, num_gpus)) if window else 0
    return ModelFit(needs, machine, num_gpus, usable, weights, cache, window, conversations)


def plan(
    needs: MemoryNeeds, machine: Machine, *, part: float = DEFAULT_PART, max_model_len: int | None = None
) -> ModelFit:
    """Return how a model fits a machine best: on as few of its GPUs as hold the wanted window, else on all.

    >>> demo = read_memory_needs("chatcore/models/demo")
    >>> plan(demo, Machine("cpu", 1, 8 << 30)).max_model_len
    8192
    """
    best = fit_model(needs, machine, part=part, max_model_len=max_model_len)
    wanted = min(max_model_len or needs.max_window, needs.max_window)
    for num_gpus in range(2, machine.num_devices + 1):
        if best.fits and (best.max_model_len is None or best.max_model_len >= wanted):
            break
        if needs.num_attention_heads % num_gpus == 0:  # vLLM gives every GPU the same number of heads
            best = fit_model(needs, machine, num_gpus=num_gpus, part=part, max_model_len=max_model_len)
    return best


def explain(fit: ModelFit) -> tuple[str, str]:
    """Return one sentence on what a model takes and what there is, and the remedy; both fit an error and its hint."""
    memory = "GPU memory" if fit.machine.kind == "gpu" else "main memory"
    sentence = f"the weights take {gib(fit.weights_bytes)} of {gib(fit.usable_bytes)} usable {memory}"
    window = fit.needs.max_window
    if fit.needs.layers:
        needed = gib(fit.needs.cache_bytes(window, fit.num_gpus))
        sentence += f", a full window of {window:,} tokens {needed}, and {gib(fit.cache_bytes)} are left for it"
    if not fit.fits:
        return sentence, _SMALLER[fit.machine.kind]
    if flags := fit.flags():
        return sentence, f"It fits with {' '.join(flags)}."
    return sentence, "It fits as it is; if memory still runs out, end other programs that use it."


_SMALLER = {
    "gpu": "Take a smaller or quantized model (AWQ, GPTQ, FP8), more GPUs, or end other programs on the GPU.",
    "cpu": "Take a smaller or quantized model, or end other programs.",
}


def find_machine(*, timeout_s: float = 5.0) -> Machine:
    """Return what this machine offers: its NVIDIA GPUs, told by nvidia-smi, else its free main memory."""
    gpus = _nvidia_gpus(timeout_s)
    if gpus:
        smallest = min(memory for _, memory in gpus)  # vLLM splits evenly: the smallest sets the limit
        return Machine("gpu", len(gpus), smallest, gpus[0][0])
    return Machine("cpu", 1, free_memory_bytes())


def gib(num_bytes: float) -> str:
    """Return a size as people read it.

    >>> gib(16 << 30), gib(7_000_000)
    ('16.0 GiB', '6.7 MiB')
    """
    for unit, size in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes:.0f} bytes"


def largest_window(needs: MemoryNeeds, cache_bytes: int, wanted: int, kind: DeviceKind, num_gpus: int = 1) -> int:
    """Return the largest window of whole blocks, up to the wanted one, of which a cache of this size holds one.

    Found by bisection: what a window takes grows with every token.
    """
    block = BLOCK_TOKENS[kind]
    if needs.cache_bytes(wanted, num_gpus) <= cache_bytes:
        return wanted
    fits, too_many = 0, math.ceil(wanted / block)
    while too_many - fits > 1:
        middle = (fits + too_many) // 2
        if needs.cache_bytes(middle * block, num_gpus) <= cache_bytes:
            fits = middle
        else:
            too_many = middle
    return fits * block


# -- the machine ----------------------------------------------------------------------------------------------------


def _nvidia_gpus(timeout_s: float) -> list[tuple[str, int]]:
    """Return name and memory, in bytes, of each GPU that nvidia-smi lists and CUDA_VISIBLE_DEVICES lets through."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=timeout_s, check=True)  # noqa: S603  # nvidia-smi, arguments of ours
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = []
    for line in answer.stdout.splitlines():
        name, _, mebibytes = line.rpartition(",")
        if mebibytes.strip().isdigit():
            gpus.append((name.strip(), int(mebibytes) << 20))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return gpus
    numbers = [number for number in visible.split(",") if number.strip()]
    if all(number.strip().isdigit() for number in numbers):
        return [gpus[int(number)] for number in numbers if int(number) < len(gpus)]
    return gpus[: len(numbers)]  # named by their UUIDs


def cpu_dtype(model_dir: str | os.PathLike[str], quantization: str | None = None) -> str:
    """Return the dtype in which a machine without GPU answers soonest: ``float32``, or ``auto`` for the model's own.

    Most processors have no instructions for 16-bit floats; they read a prompt, and answer many at once, about five
    times as fast in float32. That takes twice the memory, so a model that would fill it keeps its own. Quantized
    weights, or those that ``quantization`` makes while loading, do in any case.
    """
    if quantization or _has_bfloat16():
        return "auto"
    needs = read_memory_needs(model_dir, dtype="float32")
    if needs.weights_format not in FLOATS_OF_16_BITS or needs.weights_bytes is None:
        return "auto"
    return "float32" if needs.weights_bytes <= free_memory_bytes() * FLOAT32_PART else "auto"


@functools.cache
def _has_bfloat16() -> bool:
    """Tell whether the processor computes with bfloat16; where Linux does not tell, it is taken to."""
    try:
        lines = Path(_PROCESSOR_FILE).read_text("utf-8").splitlines()
    except OSError:
        return True
    told = (line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features")))
    return not BFLOAT16_FLAGS.isdisjoint(next(told, BFLOAT16_FLAGS))


_PROCESSOR_FILE = "/proc/cpuinfo"


def free_memory_bytes() -> int:
    """Return the main memory that is free, in bytes: the machine's, or a container's if that is less."""
    import psutil

    free = int(psutil.virtual_memory().available)
    for limit_file, used_file in _CGROUP_FILES:
        try:
            limit, used = Path(limit_file).read_text().strip(), Path(used_file).read_text().strip()
            free = min(free, int(limit) - int(used))
        except (OSError, ValueError):  # not in a container, or one without a limit ("max")
            continue
    return max(0, free)


_CGROUP_FILES = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
