"""Options that several commands take."""

from __future__ import annotations

import argparse
import re

from chat.net.api_keys import API_KEY_VARIABLE

__all__ = ["add_engine_options", "add_reply_options", "add_server_options", "parse_duration"]

DURATIONS = {"": 1, "s": 1, "m": 60, "h": 3600}  # seconds


def add_engine_options(command: argparse.ArgumentParser) -> None:
    """Which model, and how the engine runs it."""
    group = command.add_argument_group("engine")
    group.add_argument("--model", help="demo (the default), a folder, or an id on ModelScope or Hugging Face")
    add_server_options(group, "an OpenAI-compatible server, such as http://127.0.0.1:8000/v1, instead")
    group.add_argument("--max-model-len", type=int, metavar="TOKENS", help="the window, in tokens")
    group.add_argument("--dtype", help="auto, bfloat16, float16 or float32")
    group.add_argument("--quantization", help="awq, gptq, fp8, ...; found in the model's configuration if left out")
    group.add_argument("--tensor-parallel-size", type=int, metavar="N", help="number of GPUs that share the model")
    group.add_argument("--gpu-memory-utilization", type=float, metavar="PART", help="part of the memory to use, 0 to 1")
    group.add_argument("--chat-template", metavar="FILE", help="use this chat template instead of the model's own")
    group.add_argument(
        "--trust-remote-code", action="store_true", default=None, help="run Python code that comes with the model"
    )
    group.add_argument(
        "--read-ahead",
        action=argparse.BooleanOptionalAction,
        help="let the idle engine read what the next question will come after (the default), or not",
    )
    group.add_argument(
        "--keep-alive",
        type=parse_duration,
        metavar="TIME",
        help="how long the engine stays loaded after the last client: 5m (the default), 0, 2h, forever",
    )


def add_server_options(group: argparse._ActionsContainer, text: str) -> None:
    """Which server, and the key to it."""
    group.add_argument("--url", help=text)
    group.add_argument(
        "--api-key-file",
        metavar="FILE",
        help=f"the server's key; or the variable {API_KEY_VARIABLE}; or, on this machine, the file that serve made",
    )


def add_reply_options(command: argparse.ArgumentParser) -> None:
    """How the model answers."""
    group = command.add_argument_group("answers")
    group.add_argument("--system", help="the system message; empty for none")
    group.add_argument("--temperature", type=float)
    group.add_argument("--max-tokens", type=int)
    group.add_argument("--seed", type=int)
    group.add_argument("--think", action=argparse.BooleanOptionalAction, help="let the model think first, or not")
    group.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other sampling parameter")


def parse_duration(text: str) -> float:
    """Return seconds for 90, 90s, 5m or 2h; -1 for ``forever``.

    >>> parse_duration("5m")
    300.0
    """
    if text == "forever":
        return -1.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text} is no time: write 90s, 5m, 2h or forever")
    return float(match[1]) * DURATIONS[match[2]]
