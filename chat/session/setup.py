"""Settings -> the backend and the store of a program."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chatcore.errors import ChatError, describe

if TYPE_CHECKING:
    from chat.backends.base import Backend
    from chat.config import Settings
    from chat.store.base import Store

__all__ = ["find_remote_store", "make_backend", "open_store", "parse_pairs", "read_settings", "reply_options"]

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


def read_settings(options: Namespace) -> Settings:
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
