#!/usr/bin/env python3
"""The command line: reads options, puts the parts together, holds no logic of its own.

``python vllm_deploy.py`` opens a chat; ``python vllm_deploy.py --help`` lists the rest. Nothing heavy is imported
before it is needed: ``--help`` must answer at once.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chat.cli.options import (
    add_engine_options,
    add_reply_options,
    add_server_options,
    find_remote_store,
    make_backend,
    open_store,
    read_settings,
    reply_options,
)
from chatcore.errors import ChatError, StoreError, StoreUnreachableError, describe

if TYPE_CHECKING:
    from chat.backends.engine_host_client import Backend
    from chat.store.base import Store

__version__ = "0.1.0"

EXIT_UNREACHABLE = 4
# Commands whose options and work live in a room of their own: a module with add_options(parser) and run(options). It is
# imported only when its command is the one that was typed. With PASSES_ON, it gets the options that it does not know.
ROOMS = {
    "serve": ("chat.cli.serve", "start vLLM's OpenAI-compatible server"),
    "stack": ("chat.cli.stack", "start several services on this machine from one file"),
    "store": ("chat.cli.store", "back up the store of conversations, and keep it in order"),
    "web": ("chat.cli.web", "open a chat page for the browser"),
    "doctor": ("chat.cli.doctor", "what this machine has, what fits it, what is wrong"),
    "download": ("chat.cli.download", "fetch a model from ModelScope or Hugging Face"),
    "models": ("chat.cli.models", "list the models on this machine"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    try:
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
    if typed in ROOMS:
        fill_room_options(commands[typed], ROOMS[typed][0])
        if commands[typed].get_default("passed_on") is not None:
            argv = [word for word in argv if word != "--"]  # behind it others would be options of another program
    elif not typed and not {"-h", "--help", "--version"} & set(argv):
        argv = ["chat", *argv]
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


# -- the commands ---------------------------------------------------------------------------------------------------


def run_chat(options: argparse.Namespace) -> int:
    """Open the terminal."""
    from chat.terminal.repl import run

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
        return run(backend, open_later, settings, resume=resume, open_backend=open_backend)
    finally:
        backend.close()


def run_ask(options: argparse.Namespace) -> int:
    """Answer one question."""
    from chat.cli import ask

    settings = read_settings(options)
    question = ask.read_question(options.question, options.file, sys.stdin)
    backend = make_backend(settings)
    how: dict[str, Any] = {"as_json": options.json, "options": reply_options(settings)}
    try:
        with ask.open_tools(settings, is_wanted=options.tools, is_asking=not options.auto_tools) as tools:
            if options.continue_last or options.conversation:
                store = open_store(settings)
                conversation = ask.find_conversation(store, options.conversation, settings.system)
                return ask.ask_in_conversation(backend, store, conversation, question, tools=tools, **how)
            messages = [{"role": "system", "content": settings.system}] if settings.system else []
            messages.append({"role": "user", "content": question})
            return ask.ask(backend, messages, tools=tools, **how)
    finally:
        backend.close()


def run_batch(options: argparse.Namespace) -> int:
    """Answer a file of conversations."""
    from chat.cli import batch

    settings = read_settings(options)
    backend = make_backend(settings)
    try:
        result = batch.run_batch(
            backend, options.input, options.output, options=reply_options(settings), limit=options.limit
        )
    finally:
        backend.close()
    print(
        f"{result.num_done} answered, {result.num_failed} failed, {result.num_before} before: {options.output}",
        file=sys.stderr,
    )
    if result.interrupted:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130
    return 0


def run_conversations(options: argparse.Namespace) -> int:
    """List, show, search, export, import or delete conversations."""
    from chat.cli import conversations as conversations_command

    store = open_store(read_settings(options), must_be_remote=bool(options.url), must_be_kept=True)
    match options.action:
        case "list":
            conversations_command.list_conversations(store, limit=options.limit)
        case "show":
            conversations_command.show(store, options.id)
        case "search":
            conversations_command.search(store, " ".join(options.words))
        case "export":
            conversations_command.export(store, options.id, options.file, overwrite=options.overwrite)
        case "import":
            conversations_command.import_file(store, options.file)
        case "delete":
            conversations_command.delete(store, options.id, confirmed=options.yes)
    return 0


def run_config(options: argparse.Namespace) -> int:
    """Show the settings and where each comes from."""
    from chat.config import default_file

    print(f"# {default_file()}")
    for name, value, origin in read_settings(options).rows():
        print(f"{name:<16} {value:<40} {origin}")
    return 0


def run_ps(options: argparse.Namespace) -> int:
    """List the engine hosts."""
    from chat.backends.engine_host_client import list_hosts

    print(f"{'PID':>8}  {'MODEL':<32} {'STATE':<8} {'AGE':>8} {'MEMORY':>9} {'CLIENTS':>7} {'IDLE':>8}")
    for host in list_hosts():
        print(
            f"{host.pid:>8}  {host.model:<32} {host.stage:<8} {duration(host.age_s):>8} "
            f"{host.memory_bytes / 2**20:>6.0f} MB {host.num_clients:>7} {duration(host.idle_s):>8}"
        )
    return 0


def run_stop(options: argparse.Namespace) -> int:
    """Stop engine hosts."""
    from chat.backends.engine_host_client import stop_hosts

    stopped = stop_hosts(options.pid)
    for host in stopped:
        print(f"stopped {host.pid} ({host.model})")
    unknown = set(options.pid) - {host.pid for host in stopped}
    if unknown:
        raise ChatError(f"no engine host has pid {', '.join(map(str, sorted(unknown)))}", hint="See: ps")
    if not stopped:
        print("no engine host is running", file=sys.stderr)
    return 0


def run_completion(options: argparse.Namespace) -> int:
    """Print the script that lets a shell complete commands and options."""
    from chat.cli.completion import complete

    parser, commands = build_parser()
    for name, (module_name, _) in ROOMS.items():
        fill_room_options(commands[name], module_name)
    print(complete(parser, options.shell))
    return 0


# -- options --------------------------------------------------------------------------------------------------------


def build_parser() -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """Return the parser, and those of the commands by name; the commands in ``ROOMS`` have no options yet."""
    parser = argparse.ArgumentParser(
        prog="vllm_deploy.py",
        description="Chat with a self-hosted model on vLLM. Without a command: chat.",
        epilog="Exit codes: 0 ok, 1 error, 2 usage, 3 too long, 4 engine or hub unreachable, 130 Ctrl-C.",
    )
    parser.add_argument("--version", action="version", version=f"vllm-deploy {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        return command

    add_chat_options(add("chat", run_chat, "talk with the model in the terminal"))
    add_ask_options(add("ask", run_ask, "answer one question; the answer alone goes to standard output"))
    batch = add("batch", run_batch, "answer a file of conversations")
    batch.add_argument("input", type=Path, help='JSON lines: {"messages": [...]}, or OpenAI\'s batch format')
    batch.add_argument("output", type=Path, help="where replies go; run again, and it goes on where it stopped")
    batch.add_argument("--limit", type=int, help="answer at most so many lines in this run")
    add_engine_options(batch)
    add_reply_options(batch)
    add_conversations_options(add("conversations", run_conversations, "list, search and keep conversations"))
    config = add("config", run_config, "show the settings and where each comes from")
    config.add_argument("action", nargs="?", choices=["show"], default="show")
    add("ps", run_ps, "list the engines that are loaded")
    stop = add("stop", run_stop, "unload engines")
    stop.add_argument("pid", nargs="*", type=int, help="process ids from ps; all if left out")
    completion = add("completion", run_completion, "print a script that lets a shell complete commands and options")
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    for name, (_, text) in ROOMS.items():
        commands.add_parser(name, help=text, description=text)
    return parser, dict(commands.choices)


def fill_room_options(command: argparse.ArgumentParser, module_name: str) -> None:
    """Let the command's own module say what it takes and do its work."""
    room = importlib.import_module(module_name)
    room.add_options(command)
    command.set_defaults(run=room.run)
    if getattr(room, "PASSES_ON", False):
        command.set_defaults(passed_on=[])


def add_chat_options(command: argparse.ArgumentParser) -> None:
    """What ``chat`` takes."""
    command.add_argument("-c", "--continue", dest="continue_last", action="store_true", help="the last conversation")
    command.add_argument("--resume", metavar="ID", help="go on with this conversation")
    command.add_argument("--plain", action="store_true", default=None, help="no colours, no Markdown, no redrawing")
    command.add_argument("--language", choices=["en", "zh"], help="of the program's own texts")
    add_engine_options(command)
    add_reply_options(command)


def add_ask_options(command: argparse.ArgumentParser) -> None:
    """What ``ask`` takes."""
    command.add_argument("question", nargs="*", help="standard input is added if it is not a terminal")
    command.add_argument("-f", "--file", type=Path, help="add this file's text to the question")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    command.add_argument("-c", "--continue", dest="continue_last", action="store_true", help="the last conversation")
    command.add_argument("--tools", action="store_true", help="the model may call the configured tools; asks each time")
    command.add_argument("--auto-tools", action="store_true", help="the same, without asking")
    command.add_argument("--conversation", metavar="ID", help="ask in this conversation, and keep the answer there")
    add_engine_options(command)
    add_reply_options(command)


def add_conversations_options(command: argparse.ArgumentParser) -> None:
    """What ``conversations`` takes."""
    actions = command.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    listing = actions.add_parser("list", help="the latest first")
    listing.add_argument("--limit", type=int, default=20)
    show = actions.add_parser("show", help="print a conversation")
    search = actions.add_parser("search", help="messages that hold these words")
    search.add_argument("words", nargs="+")
    export = actions.add_parser("export", help="write a conversation to .md, .json or .jsonl")
    bring = actions.add_parser("import", help="read conversations from .json or .jsonl")
    delete = actions.add_parser("delete", help="delete a conversation for ever")
    for action in (show, export, delete):
        action.add_argument("id", help="an id from the list, or its beginning")
    for action in (listing, show, search, export, bring, delete):
        add_server_options(action, "a server of ours that keeps conversations, instead of this machine")
    export.add_argument("file", type=Path)
    export.add_argument("--overwrite", action="store_true", help="replace an existing file")
    bring.add_argument("file", type=Path)
    delete.add_argument("--yes", action="store_true", help="do not ask")


def duration(seconds: float) -> str:
    """Return seconds as people read them.

    >>> duration(3725)
    '1h02m'
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


if __name__ == "__main__":
    sys.exit(main())
