"""The command ``web``: its options, and what it does with them."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

from chat.cli.options import add_engine_options, add_reply_options
from chatcore.errors import ConfigError

__all__ = ["add_options", "run"]

DEFAULT_PORT = 7860


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``web`` takes."""
    command.add_argument(
        "--local", action="store_true", help="an engine of this machine, also where the settings name a server"
    )
    command.add_argument("--host", default="127.0.0.1", help="address to listen on; others than this machine log in")
    command.add_argument("--port", type=int, default=DEFAULT_PORT)
    command.add_argument("--keys", type=Path, metavar="FILE", help="who may log in: a line 'owner: key' for each")
    command.add_argument("--language", choices=["en", "zh"], help="of the page; the browser's if left out")
    add_engine_options(command)
    add_reply_options(command)


def run(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    if options.local and options.url:
        raise ConfigError("--local and --url exclude each other")
    if importlib.util.find_spec("gradio") is None:
        hint = 'Install it: make install EXTRAS=web, or pip install "vllm-deploy[web]".'
        raise ConfigError("the web page needs Gradio, which is not installed", hint=hint)
    from chat.web.server import serve

    return serve(options)
