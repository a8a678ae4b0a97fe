"""The command ``config``: show the settings and where each comes from."""

from __future__ import annotations

import argparse

from chat.session.setup import read_settings

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``config`` takes."""
    command.add_argument("action", nargs="?", choices=["show"], default="show")


def run(options: argparse.Namespace) -> int:
    """Show the settings and where each comes from."""
    from chat.config import default_file

    print(f"# {default_file()}")
    for name, value, origin in read_settings(options).rows():
        print(f"{name:<16} {value:<40} {origin}")
    return 0
