"""The command ``serve``: its options, and what it does with them."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["PASSES_ON", "add_options", "run"]

PASSES_ON = True  # options that are not known here are vLLM's


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``serve`` takes. No option has a default here: what is not said may stand in the environment or the file."""
    command.description = (
        "Start vLLM's OpenAI-compatible server with prompts that cannot be forged, a key on every path, and "
        "conversations that are kept. Options that are not listed here are handed to vLLM's server. What is not said "
        "as an option is looked for in the environment, then in the file of --config: see docs/server.md."
    )
    command.allow_abbrev = False  # --max would be ours, where the user means one of vLLM's
    add = command.add_argument
    add("--config", type=Path, metavar="FILE", help="a YAML file with these settings")
    add("--model", help="demo, a folder, or an id on ModelScope or Hugging Face")
    add("--served-model-name", nargs="+", metavar="NAME", help="the names that requests use; as --model if left out")
    add("--host", help="127.0.0.1 if left out: this machine alone")
    add("--port", type=int, help="8000 if left out")
    add("--tensor-parallel-size", type=int, metavar="N", help="GPUs that share the model; those that are visible")
    add("--shutdown-timeout", type=int, metavar="SECONDS", help="how long running answers may take at the end; 30")
    add("--verbose", action="store_true", default=None, help="vLLM's log goes to standard error, not to a file")
    add("--prompt-cache-mb", type=int, metavar="N", help="memory for encoded prompts, in each process with HTTP; 64")
    _add_guard_options(command.add_argument_group("who may ask for what"))


def _add_guard_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--api-key-file", metavar="FILE", help="keys, one 'owner: key' a line; made at the first start if left out")
    add("--allow-unauthenticated", action="store_true", default=None, help="ask for no key")
    add("--open-to-anyone", action="store_true", default=None, help="the second word for that on an open address")
    add("--open-metrics", action="store_true", default=None, help="/metrics answers without a key")
    add("--completions", action=argparse.BooleanOptionalAction, help="answer /v1/completions, whose prompts are raw")
    add("--allow-media-urls", action="store_true", default=None, help="fetch images and sounds that requests name")
    add("--allow-path", action="append", metavar="PATH", help="open one more path; all that begin so with a * behind")
    add("--allow-field", action="append", metavar="NAME", help="let one more field of requests through: priority, ...")
    add("--max-body-bytes", type=int, metavar="N", help="the longest body of a request")
    add("--max-n", type=int, metavar="N", help="the most answers to one request")
    add("--max-tokens", type=int, metavar="N", help="the most tokens of one answer")
    add("--max-messages", type=int, metavar="N", help="the most messages in one request")
    add("--max-requests", type=int, metavar="N", help="the most requests that are answered or wait at once")
    add("--max-requests-per-owner", type=int, metavar="N", help="the most of them that are of one owner")


def run(options: argparse.Namespace) -> int:
    """Serve until the server ends; return the exit code."""
    from chat.server.process.launch import serve
    from chat.server.settings.serve import load_settings

    return serve(load_settings(vars(options)), vllm_arguments=options.passed_on)
