"""The command ``serve``: its options, and what it does with them."""

from __future__ import annotations

import argparse

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``serve`` takes."""
    command.add_argument("--model", default="demo", help="demo, a folder, or an id on ModelScope or Hugging Face")
    command.add_argument("--host", default="127.0.0.1")
    command.add_argument("--port", type=int, default=8000)
    command.add_argument("vllm_arguments", nargs=argparse.REMAINDER, help="after --: options for vLLM's server")


def run(options: argparse.Namespace) -> int:
    """Become vLLM's own server."""
    from chat.server.launch import serve

    serve(options.model, host=options.host, port=options.port, vllm_arguments=options.vllm_arguments)
