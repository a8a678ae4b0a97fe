"""Options that several commands take, and what they make: the settings, a backend, a store."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatcore.errors import ChatError, describe

if TYPE_CHECKING:
    from chat.backends.engine_host_client import Backend
    from chat.config import Settings
    from chat.store.base import Store

__all__ = [
    "add_engine_options",
    "add_reply_options",
    "add_server_options",
    "find_remote_store",
    "make_backend",
    "open_store",
    "parse_duration",
    "read_settings",
    "reply_options",
]

API_KEY_VARIABLE = "OPENAI_API_KEY"
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


ENGINE_OPTIONS = (
    "max_model_len",
    "dtype",
    "quantization",
    "tensor_parallel_size",
    "gpu_memory_utilization",
    "chat_template",
    "trust_remote_code",
    "read_ahead",
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


# -- what the options make -------------------------------------------------------------------------------------------


def read_settings(options: argparse.Namespace) -> Settings:
    """Return what file, environment and command line say together."""
    from chat.config import load_settings

    said = vars(options)
    sampling = {name: said[name] for name in ("temperature", "max_tokens", "seed") if said.get(name) is not None}
    engine = {name: said[name] for name in ENGINE_OPTIONS if said.get(name) is not None}
    return load_settings(
        {
            "model": said.get("model"),
            "url": said.get("url"),
            "api_key_file": said.get("api_key_file"),
            "system": said.get("system"),
            "plain": said.get("plain"),
            "language": said.get("language"),
            "keep_alive_s": said.get("keep_alive"),
            "enable_thinking": said.get("think"),
            "sampling": sampling | parse_pairs(said.get("set", [])),
            "engine": engine,
        }
    )


def make_backend(settings: Settings) -> Backend:
    """Return the backend that the settings ask for: a server if they name one, else an engine of this machine."""
    if settings.url:
        from chat.backends.openai_server import ServerBackend
        from chat.net.api_keys import find_api_key

        key = find_api_key(settings.url, settings.api_key_file)
        return ServerBackend(settings.url, api_key=key, model=None if settings.model == "demo" else settings.model)
    from chat.backends.engine_host import HostSettings
    from chat.backends.engine_host_client import EngineHostBackend

    model = Path(os.path.expanduser(settings.model))
    name = str(model.resolve()) if model.is_dir() else settings.model  # the host runs in another folder
    keep_alive_s = settings.keep_alive_s if settings.keep_alive_s >= 0 else None
    return EngineHostBackend(HostSettings(name, dict(settings.engine), keep_alive_s))


def open_store(settings: Settings, *, must_be_remote: bool = False, must_be_kept: bool = False) -> Store:
    """Open the store: on the server that the settings name, if it is one of ours, else on this machine.

    Where it cannot be opened, it is one in memory, with a warning.

    Args:
        must_be_remote: none on this machine will do.
        must_be_kept: none in memory will do.
    Raises:
        StoreError: the server does not answer or refuses; or there is none, and nothing else will do.
    """
    from chat.store.local import ConversationStore
    from chatcore.errors import StoreError

    if (store := find_remote_store(settings)) is not None:
        return store
    if must_be_remote:
        raise StoreError(
            f"{settings.url} keeps no conversations", hint="It is none of ours. Those of this machine: without --url."
        )

    try:
        return ConversationStore(settings.store or None)
    except StoreError as error:
        if must_be_kept:
            raise
        print(describe(error), file=sys.stderr)
        print("warning: nothing of this session will be kept", file=sys.stderr)
        return ConversationStore.in_memory()


def find_remote_store(settings: Settings) -> Store | None:
    """Return the store of the server that the settings name; None if they name none, or one that keeps nothing."""
    if not settings.url:
        return None
    from chat.net.api_keys import find_api_key
    from chat.store.remote import find_store

    return find_store(settings.url, api_key=find_api_key(settings.url, settings.api_key_file))


def reply_options(settings: Settings) -> dict[str, Any]:
    """Return the sampling parameters, and the thinking switch, for one answer."""
    options = dict(settings.sampling)
    if settings.enable_thinking is not None:
        options["enable_thinking"] = settings.enable_thinking
    return options


def parse_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the values of ``--set NAME=VALUE``; numbers, switches and lists are read as JSON.

    >>> parse_pairs(["top_p=0.8", "stop=END"])
    {'top_p': 0.8, 'stop': 'END'}
    """
    import json

    values: dict[str, Any] = {}
    for pair in pairs:
        name, found, value = pair.partition("=")
        if not found:
            raise ChatError(f"--set {pair}: there is no =", hint="Write it so: --set top_p=0.8")
        try:
            values[name] = json.loads(value)
        except ValueError:
            values[name] = value
    return values


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
