"""Read the command line and run one command.

Each command is a module of this package, named as the command, with ``add_options(parser)`` and ``run(options)``. It is
imported only when its command was typed: ``--help`` must answer at once.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from chat import __version__
from chat.environment import rename_old_variables
from chatcore.errors import ChatError, StoreUnreachableError, describe

__all__ = ["COMMANDS", "build_parser", "main", "whole_parser"]

EXIT_UNREACHABLE = 4
COMMANDS = {
    "chat": "talk with the model in the terminal",
    "ask": "answer one question; the answer alone goes to standard output",
    "batch": "answer a file of conversations",
    "conversations": "list, search and keep conversations",
    "config": "show the settings and where each comes from",
    "ps": "list the engines that are loaded",
    "stop": "unload engines",
    "completion": "print a script that lets a shell complete commands and options",
    "serve": "start vLLM's OpenAI-compatible server",
    "stack": "start several services on this machine from one file",
    "store": "back up the store of conversations, and keep it in order",
    "web": "open a chat page for the browser",
    "doctor": "what this machine has, what fits it, what is wrong",
    "download": "fetch a model from ModelScope or Hugging Face",
    "models": "list the models on this machine",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    try:
        for warning in rename_old_variables(os.environ):
            print(f"warning: {warning}", file=sys.stderr)
        options = read_options(list(sys.argv[1:] if arguments is None else arguments))
        return int(options.run(options))
    except ChatError as error:
        print(describe(error), file=sys.stderr)
        return EXIT_UNREACHABLE if isinstance(error, StoreUnreachableError) else 1
    except ModuleNotFoundError as error:
        if not error.name or importlib.util.find_spec(error.name.partition(".")[0]):
            raise  # a mistake of ours
        print(describe(_not_installed(error.name)), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone: end like other filters, without a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def read_options(argv: list[str]) -> argparse.Namespace:
    """Return what was typed; ``run`` is the function of the command."""
    parser, commands = build_parser()
    typed = next((argument for argument in argv if argument in commands), "")
    if not typed and not {"-h", "--help", "--version"} & set(argv):
        typed, argv = "chat", ["chat", *argv]
    if typed:
        _add_options(typed, commands[typed])
        if commands[typed].get_default("passed_on") is not None:
            argv = [word for word in argv if word != "--"]  # behind it others would be options of another program
    options, others = parser.parse_known_args(argv)
    if "passed_on" in options:
        options.passed_on = others
    elif others:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    return options


def _not_installed(package: str) -> ChatError:
    """Return what is wrong where this program was started without its environment."""
    return ChatError(
        f"the package {package} is missing in {sys.executable}",
        hint="Run make install once; then source .venv/bin/activate, or write .venv/bin/python for python.",
    )


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser, and those of the commands by name, which have no options yet."""
    parser = argparse.ArgumentParser(
        prog=_program(),
        description="Chat with a self-hosted model on vLLM. Without a command: chat.",
        epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 too long, 4 engine or hub unreachable, 130 Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"vllm-deploy {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text, description=text)
    return parser, dict(commands.choices)


def whole_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser with the options of every command."""
    parser, commands = build_parser()
    for name, command in commands.items():
        _add_options(name, command)
    return parser, commands


def _program() -> str:
    """Return the name that the program was started by: the script of a clone, or the installed command."""
    name = Path(sys.argv[0]).name
    return name if name.startswith("vllm") else "vllm-deploy"


def _add_options(name: str, command: argparse.ArgumentParser) -> None:
    """Add the options of a command. With ``PASSES_ON``, its ``run`` also gets the options that it does not know."""
    module = importlib.import_module(f"chat.cli.{name}")
    module.add_options(command)
    command.set_defaults(run=module.run)
    if getattr(module, "PASSES_ON", False):
        command.set_defaults(passed_on=[])
