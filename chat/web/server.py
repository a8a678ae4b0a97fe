"""From the options of ``web`` to a page that is being served."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import ipaddress
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from chat.net.api_keys import read_key_file
from chat.session.setup import make_backend, open_store, read_settings
from chat.web.open_pages import Pages
from chat.web.session import Person
from chat.web.users import People, by_key_file, by_server
from chatcore.errors import ConfigError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from chat.config import Settings

__all__ = ["serve"]

SHUTDOWN_TIMEOUT_S = 2  # pages keep a connection open; nobody waits for them


def serve(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C; return the exit code."""
    settings = read_settings(options)
    if options.local:
        settings = _without_server(settings)
    is_own = _is_loopback(options.host)
    _check_logins(settings, options, is_own=is_own)
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listen(options.host, options.port))
        people = stack.enter_context(_people(settings, options))
        stack.enter_context(_uploads())
        from chat.web.gate import make_app  # only now: Gradio reads the environment when it is imported

        port = listener.getsockname()[1]
        app = make_app(Pages(people, settings), hosts=_names(options.host) if is_own else None, port=port)
        shown = f"[{options.host}]" if ":" in options.host else options.host
        print(f"http://{shown}:{port}", flush=True)
        _run(app, listener)
    return 0


def _without_server(settings: Settings) -> Settings:
    return dataclasses.replace(settings, url="", api_key_file="")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return False


def _names(host: str) -> frozenset[str]:
    return frozenset({host, "localhost", "127.0.0.1", "::1"})


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens, so that a port which is taken is said before a model is loaded."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"{host}:{port} cannot be listened on: {reason}", hint="Choose another: --port N.") from error


def _check_logins(settings: Settings, options: argparse.Namespace, *, is_own: bool) -> None:
    """Make sure that whoever may come in from other machines has to log in."""
    if settings.url and options.keys:
        raise ConfigError("--keys is for an engine of this machine", hint="A server's own keys log in with --url.")
    if not is_own and not options.keys and not _has_logins_of_server(settings):
        raise ConfigError(
            f"{options.host} can be reached from other machines, and nobody would have to log in",
            hint="Name a file of keys: --keys FILE, with a line 'owner: key' for each person.",
        )


def _has_logins_of_server(settings: Settings) -> bool:
    """Tell whether everybody logs in with a key of the server; a key that is given is everybody's."""
    return bool(settings.url) and not settings.api_key_file


@contextlib.contextmanager
def _people(settings: Settings, options: argparse.Namespace) -> Iterator[People]:
    """Yield who may use the page."""
    if _has_logins_of_server(settings):
        yield People(admit=by_server(settings.url, None if settings.model == "demo" else settings.model))
        return
    from chat.store.local import ConversationStore

    owners = read_key_file(options.keys) if options.keys else {}
    backend = make_backend(settings)
    with contextlib.closing(backend):
        store = open_store(settings)
        with contextlib.closing(store):
            if owners:
                assert isinstance(store, ConversationStore)  # there is no server
                yield People(admit=by_key_file(owners, store, backend))
            else:
                yield People(everyone=Person("everyone", "local", store, backend))


@contextlib.contextmanager
def _uploads() -> Iterator[None]:
    """Have uploaded files in a folder of their own that only this user can read, and that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="vllm-deploy-web-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
        yield


def _run(app: FastAPI, listener: socket.socket) -> None:
    import uvicorn

    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=SHUTDOWN_TIMEOUT_S, access_log=False)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])
    print(file=sys.stderr)
