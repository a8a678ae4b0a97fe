"""Why a model cannot be loaded, in one sentence with the remedy.

What the files of a model tell is looked at first (:func:`check_loadable`): that takes milliseconds, where importing
vLLM and building an engine take many seconds before they fail. What only vLLM knows is told from what it raises
(:func:`load_error`).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from chatcore.errors import ModelLoadError, first_line
from chatcore.json_files import read_object
from chatcore.models.fit import Machine, explain, fit_model, free_memory_bytes, gib, largest_window
from chatcore.models.memory import read_memory_needs

__all__ = ["check_cpu_memory", "check_loadable", "load_error"]

DTYPES = ("auto", "bfloat16", "float16", "half", "float32", "float")
SUCCESSORS = "Use a successor, such as Qwen/Qwen2.5-7B-Instruct or Qwen/Qwen3-8B."
# Ways of quantizing that vLLM has handed to plugins: the package, and the module that it installs.
PLUGINS = {
    "bitsandbytes": ("vllm-bnb-plugin", "vllm_bnb_plugin"),
    "gguf": ("vllm-gguf-plugin", "vllm_gguf_plugin"),
}
# Formats that weights are stored in, each under all of vLLM's names for it; the engine cannot make one from another.
STORED_FORMATS = {
    "awq": "awq",
    "auto_awq": "awq",
    "awq_marlin": "awq",
    "gptq": "gptq",
    "auto_gptq": "gptq",
    "gptq_marlin": "gptq",
    "compressed-tensors": "compressed-tensors",
    "bitsandbytes": "bitsandbytes",
    "gguf": "gguf",
    "fp8": "fp8",
    "modelopt": "modelopt",
    "quark": "quark",
    "torchao": "torchao",
}
MADE_WHILE_LOADING = {"fp8", "torchao", "bitsandbytes"}  # also from weights that are not quantized


def check_loadable(arguments: Mapping[str, Any]) -> None:
    """Find out cheaply what would keep vLLM from loading a model.

    Args:
        arguments: those of ``vllm.LLM``; ``model`` is a folder.
    Raises:
        ModelLoadError: it cannot be loaded; the message says why, the hint what to do.
    """
    config = _read_config(Path(arguments["model"]))
    if "QWenLMHeadModel" in (config.get("architectures") or ()):
        raise ModelLoadError(f"vLLM no longer runs the first Qwen generation ({arguments['model']})", hint=SUCCESSORS)
    dtype = arguments.get("dtype", "auto")
    if isinstance(dtype, str) and dtype.lower() not in DTYPES:
        raise ModelLoadError(f"there is no dtype {dtype!r}", hint=f"Use one of: {', '.join(DTYPES)}.")
    stored = (config.get("quantization_config") or {}).get("quant_method")
    _check_quantization(str(stored).lower() if stored else None, arguments.get("quantization"))


def _check_quantization(stored: str | None, asked: str | None) -> None:
    """Compare how the weights are stored, as config.json tells, with what was asked for."""
    for method in (stored, asked):
        package, module = PLUGINS.get(method or "", ("", ""))
        if package and importlib.util.find_spec(module) is None:
            raise ModelLoadError(
                f"{method} weights need a plugin that is not installed: {package}",
                hint=f"Run pip install {package}, or use AWQ, GPTQ or FP8 weights.",
            )
    wanted, there = STORED_FORMATS.get(asked or ""), STORED_FORMATS.get(stored or "")
    if wanted is None or wanted == there:
        return
    if stored is None and asked not in MADE_WHILE_LOADING:
        raise ModelLoadError(
            f"quantization is {asked}, but the weights are not quantized",
            hint="Leave quantization out, or load a model whose weights are stored so.",
        )
    if there is not None:
        raise ModelLoadError(
            f"quantization is {asked}, but the weights are stored as {stored}",
            hint="Leave quantization out: the model's configuration names it.",
        )


def check_cpu_memory(arguments: Mapping[str, Any]) -> None:
    """Compare what a model and the asked window need with the main memory that is free.

    Raises:
        ModelLoadError: it is too little; with the longest window that would fit.
    """
    needs = read_memory_needs(arguments["model"], dtype=str(arguments["dtype"]))
    if needs.weights_bytes is None:
        return
    machine = Machine("cpu", 1, free_memory_bytes())
    asked = arguments["max_model_len"]
    fit = fit_model(needs, machine, part=arguments["gpu_memory_utilization"], max_model_len=asked)
    if needs.weights_bytes > machine.memory_bytes:
        sentence, hint = explain(fit)
        raise ModelLoadError(f"too little memory: {sentence}", hint=hint)
    cache_bytes = arguments.get("kv_cache_memory_bytes")
    if asked and asked > 0 and cache_bytes and needs.cache_bytes(asked) > cache_bytes:
        raise ModelLoadError(
            f"too little memory: a window of {asked} tokens needs {gib(needs.cache_bytes(asked))} of key/value cache, "
            f"and {gib(cache_bytes)} are there for it",
            hint=f"Pass max_model_len={largest_window(needs, cache_bytes, asked, 'cpu')} or less.",
        )


def load_error(error: Exception, arguments: Mapping[str, Any]) -> ModelLoadError:
    """Return the one sentence, and the remedy, for an exception that vLLM raised while loading a model."""
    said = first_line(error)
    whole = f"{error} {error.__cause__ or ''}"
    for sign, message, hint in _LOAD_ERRORS:
        if found := re.search(sign, whole, re.IGNORECASE | re.DOTALL):
            facts = {**arguments, **found.groupdict(), "said": said}
            return ModelLoadError(message.format(**facts), hint=hint.format(**facts))
    return ModelLoadError(f"vLLM cannot load {arguments['model']}: {said}")


# What vLLM says -> what we say, and what to do about it; the first that matches holds.
_LOAD_ERRORS = (
    (
        r"architecture (?P<name>\w+) was supported in vLLM until v(?P<version>[\d.]+)",
        "vLLM no longer runs {name} models; {version} was the last version that did",
        "Use a newer model, or that version of vLLM.",
    ),
    (
        r"architecture (?P<name>\w+) is not supported in-tree anymore.*plugin at (?P<url>\S+)",
        "{name} models need a plugin of vLLM's",
        "Install it: {url}.",
    ),
    (
        r"architectures \['(?P<name>\w+)'[^]]*\] (are not supported|failed)",
        "vLLM does not know this model's architecture, {name}",
        "See vLLM's list of supported models, or update vLLM.",
    ),
    (
        r"has model type `(?P<name>[^`]+)` but Transformers does not recognize",
        "this version of transformers does not know models of the type {name}",
        "Update transformers and vLLM, or use another model.",
    ),
    (
        r"trust_remote_code",
        "{model} wants to run code of its own",
        "Read that code first: it can do anything. Then pass trust_remote_code=True.",
    ),
    (
        r"model's max seq len \((?P<asked>\d+)\), \((?P<needed>\S+) GiB KV cache is needed.*"
        r"KV cache memory \((?P<free>\S+) GiB\).*maximum model length is (?P<longest>\d+)",
        "too little memory: a window of {asked} tokens needs {needed} GiB of key/value cache, and {free} GiB are left",
        "Pass max_model_len={longest} or less, or raise gpu_memory_utilization.",
    ),
    (
        r"No available memory for the cache|KV cache is needed",
        "too little memory: nothing is left for the key/value cache once the weights are loaded",
        "Use a smaller or quantized model, or raise gpu_memory_utilization.",
    ),
    (
        r"out of memory|can't allocate memory",
        "too little memory: the weights and what a step needs do not fit",
        "Use a smaller or quantized model, lower max_model_len, or end other programs.",
    ),
    (
        r"(Free|Available) memory on (device|node).*?\((?P<free>[^)]*?)( GiB)?\)",
        "too little memory is free: {free} GiB (free/all)",
        "End other programs that use it, or lower gpu_memory_utilization.",
    ),
    (
        r"max_model_len \((?P<asked>\d+)\) is greater than the derived max_model_len \(\w+=(?P<longest>\d+)",
        "the model's window is {longest} tokens; max_model_len is {asked}",
        "Pass max_model_len={longest} or less.",
    ),
    (
        r"_C::\w+\(\)|quantization method.*not supported|quantization is currently not supported|minimum capability",
        "this machine cannot run {quantization} weights: {said}",
        "Leave quantization out, or use weights in another format.",
    ),
    (r"quantization|quant_method", "the quantization does not fit the weights: {said}", "Leave quantization out."),
    (r"float16|dtype", "this model or machine cannot use dtype {dtype}: {said}", "Use dtype='auto'."),
    (
        r"not initialized from checkpoint|size of tensor|shape mismatch|size mismatch",
        "the weights in {model} do not fit its config.json: {said}",
        "Fetch the model again; config.json and the weights must be of the same one.",
    ),
    (r"Sleep mode is not supported", "this machine's engine cannot sleep", "Leave enable_sleep_mode out."),
    (
        r"must be divisible by tensor parallel size",
        "the model cannot be split over {tensor_parallel_size} GPUs: {said}",
        "Use 1, 2, 4 or 8 as tensor_parallel_size.",
    ),
)


def _read_config(model_dir: Path) -> dict[str, Any]:
    """Return config.json; empty where it is not readable, which was looked at before or is vLLM's to judge."""
    try:
        return read_object(model_dir / "config.json")
    except ModelLoadError:
        return {}
