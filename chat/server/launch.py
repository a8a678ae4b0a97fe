"""A model and options -> vLLM's OpenAI-compatible server, as this process."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from model_hub import is_demo, resolve_model

__all__ = ["serve"]


def serve(model: str, *, host: str, port: int, vllm_arguments: Sequence[str] = ()) -> NoReturn:
    """Replace this process by vLLM's server.

    Args:
        model: what :func:`model_hub.resolve_model` takes; it is served under this name.
        host, port: the address to listen on.
        vllm_arguments: further options of vLLM's server, passed on as they are.
    """
    folder = resolve_model(model)
    arguments = ["--model", str(folder), "--served-model-name", model, "--host", host, "--port", str(port)]
    if is_demo(folder):
        arguments.append("--enforce-eager")  # compiling takes longer than the demo model's answers ever will
    arguments += [argument for argument in vllm_arguments if argument != "--"]
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    print(f"http://{host}:{port}/v1 (model {model}; Ctrl-C ends it)", file=sys.stderr, flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *arguments])  # noqa: S606
