"""The command ``chat``: open the terminal."""

from __future__ import annotations

import argparse
import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

from chat.cli.options import add_engine_options, add_reply_options
from chat.session.setup import find_remote_store, make_backend, read_settings
from chatcore.errors import StoreError

if TYPE_CHECKING:
    from chat.backends.base import Backend
    from chat.store.base import Store

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``chat`` takes."""
    command.add_argument("-c", "--continue", dest="continue_last", action="store_true", help="the last conversation")
    command.add_argument("--resume", metavar="ID", help="go on with this conversation")
    command.add_argument("--plain", action="store_true", default=None, help="no colours, no Markdown, no redrawing")
    command.add_argument("--language", choices=["en", "zh"], help="of the program's own texts")
    add_engine_options(command)
    add_reply_options(command)


def run(options: argparse.Namespace) -> int:
    """Open the terminal."""
    from chat.terminal import repl

    def open_later() -> Store:  # after the first prompt: it asks the network, or imports as much as all the rest
        with contextlib.suppress(StoreError):  # the backend asks the same server, and tells what is wrong with it
            if (store := find_remote_store(settings)) is not None:
                return store
        from chat.store.local import ConversationStore

        return ConversationStore(settings.store or None)

    def open_backend(model: str) -> Backend:
        return make_backend(replace(settings, model=model))

    settings = read_settings(options)
    backend = make_backend(settings)
    resume = "last" if options.continue_last else options.resume
    try:
        return repl.run(backend, open_later, settings, resume=resume, open_backend=open_backend)
    finally:
        backend.close()
