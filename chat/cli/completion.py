"""What ``completion`` does: write a script with which a shell completes commands and options.

The script knows all of them: pressing Tab does not start this program.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from chatcore.errors import ChatError

__all__ = ["SHELLS", "add_options", "complete", "run"]

SHELLS = ("bash", "zsh", "tcsh")
PROGRAM = "vllm-deploy"
FILE_NAMES = ("FILE",)  # metavars of options that take a file, beside those whose type is a path


def complete(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the script for a shell; ``parser`` holds every command with its options.

    Raises:
        ChatError: shtab is not installed.
    """
    try:
        import shtab
    except ImportError as error:
        raise ChatError("writing the script needs shtab, which is not installed", hint="pip install shtab") from error
    for action in _actions(parser):
        if action.type is Path or action.metavar in FILE_NAMES:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    parser.prog = PROGRAM
    return str(shtab.complete(parser, shell=shell, preamble=""))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """Yield every argument of a parser, those of its commands included."""
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``completion`` takes."""
    command.add_argument("shell", choices=SHELLS)


def run(options: argparse.Namespace) -> int:
    """Print the script."""
    from chat.cli.main import whole_parser

    parser, _ = whole_parser()
    print(complete(parser, options.shell))
    return 0
