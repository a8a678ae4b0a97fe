#!/usr/bin/env python3
"""The command line: reads options, puts the parts together, holds no logic of its own.

``python vllm_deploy.py`` opens a chat; ``python vllm_deploy.py --help`` lists the rest. Nothing heavy is imported
before it is needed: ``--help`` must answer at once.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from errors import ChatError, describe

if TYPE_CHECKING:
    from chat.backend import Backend
    from chat.config import Settings
    from chat.store import ConversationStore

__version__ = "0.1.0"

API_KEY_VARIABLE = "OPENAI_API_KEY"
# Commands whose options and work live in a room of their own: a module with add_options(parser) and run(options). It is
# imported only when its command is the one that was typed.
ROOMS = {
    "serve": ("chat.server.command", "start vLLM's OpenAI-compatible server"),
}
DURATIONS = {"": 1, "s": 1, "m": 60, "h": 3600}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = build_parser()
    typed = next((argument for argument in argv if argument in commands), "")
    if typed in ROOMS:
        fill_room_options(commands[typed], ROOMS[typed][0])
    elif not typed and not {"-h", "--help", "--version"} & set(argv):
        argv = ["chat", *argv]
    options = parser.parse_args(argv)
    try:
        return int(options.run(options))
    except ChatError as error:
        print(describe(error), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read our output has gone: end like other filters, without a word.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


# -- the commands ---------------------------------------------------------------------------------------------------


def run_chat(options: argparse.Namespace) -> int:
    """Open the terminal."""
    from chat.terminal.repl import run

    def open_later() -> ConversationStore:  # after the first prompt: its import takes as long as the rest together
        from chat.store import ConversationStore

        return ConversationStore(settings.store or None)

    settings = read_settings(options)
    backend = make_backend(settings)
    try:
        return run(backend, open_later, settings, resume="last" if options.continue_last else options.resume)
    finally:
        backend.close()


def run_ask(options: argparse.Namespace) -> int:
    """Answer one question."""
    from chat import ask

    settings = read_settings(options)
    question = ask.read_question(options.question, options.file, sys.stdin)
    backend = make_backend(settings)
    try:
        if options.continue_last or options.conversation:
            store = open_store(settings)
            conversation = ask.find_conversation(store, options.conversation, settings.system)
            return ask.ask_in_conversation(
                backend, store, conversation, question, as_json=options.json, options=reply_options(settings)
            )
        messages = [{"role": "system", "content": settings.system}] if settings.system else []
        messages.append({"role": "user", "content": question})
        return ask.ask(backend, messages, as_json=options.json, options=reply_options(settings))[0]
    finally:
        backend.close()


def run_batch(options: argparse.Namespace) -> int:
    """Answer a file of conversations."""
    from chat import batch

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
    from chat import manage

    store = open_store(read_settings(options))
    match options.action:
        case "list":
            manage.list_conversations(store, limit=options.limit)
        case "show":
            manage.show(store, options.id)
        case "search":
            manage.search(store, " ".join(options.words))
        case "export":
            manage.export(store, options.id, options.file, overwrite=options.overwrite)
        case "import":
            manage.import_file(store, options.file)
        case "delete":
            manage.delete(store, options.id, confirmed=options.yes)
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
    from chat.backend import list_hosts

    print(f"{'PID':>8}  {'MODEL':<32} {'STATE':<8} {'AGE':>8} {'MEMORY':>9} {'CLIENTS':>7} {'IDLE':>8}")
    for host in list_hosts():
        print(
            f"{host.pid:>8}  {host.model:<32} {host.stage:<8} {duration(host.age_s):>8} "
            f"{host.memory_bytes / 2**20:>6.0f} MB {host.num_clients:>7} {duration(host.idle_s):>8}"
        )
    return 0


def run_stop(options: argparse.Namespace) -> int:
    """Stop engine hosts."""
    from chat.backend import stop_hosts

    stopped = stop_hosts(options.pid)
    for host in stopped:
        print(f"stopped {host.pid} ({host.model})")
    unknown = set(options.pid) - {host.pid for host in stopped}
    if unknown:
        raise ChatError(f"no engine host has pid {', '.join(map(str, sorted(unknown)))}", hint="See: ps")
    if not stopped:
        print("no engine host is running", file=sys.stderr)
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
    for name, (_, text) in ROOMS.items():
        commands.add_parser(name, help=text, description=text)
    return parser, dict(commands.choices)


def fill_room_options(command: argparse.ArgumentParser, module_name: str) -> None:
    """Let the command's own module say what it takes and do its work."""
    room = importlib.import_module(module_name)
    room.add_options(command)
    command.set_defaults(run=room.run)


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
    export.add_argument("file", type=Path)
    export.add_argument("--overwrite", action="store_true", help="replace an existing file")
    bring.add_argument("file", type=Path)
    delete.add_argument("--yes", action="store_true", help="do not ask")


def add_engine_options(command: argparse.ArgumentParser) -> None:
    """Which model, and how the engine runs it."""
    group = command.add_argument_group("engine")
    group.add_argument("--model", help="demo (the default), a folder, or an id on ModelScope or Hugging Face")
    group.add_argument("--url", help="an OpenAI-compatible server, such as http://127.0.0.1:8000/v1, instead")
    group.add_argument("--api-key-file", metavar="FILE", help=f"the server's key; or the variable {API_KEY_VARIABLE}")
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
        "--keep-alive",
        type=parse_duration,
        metavar="TIME",
        help="how long the engine stays loaded after the last client: 5m (the default), 0, 2h, forever",
    )


ENGINE_OPTIONS = (
    "max_model_len",
    "dtype",
    "quantization",
    "tensor_parallel_size",
    "gpu_memory_utilization",
    "chat_template",
    "trust_remote_code",
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


# -- putting the parts together -------------------------------------------------------------------------------------


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
        from chat.server_backend import ServerBackend, read_api_key

        key = read_api_key(settings.api_key_file) if settings.api_key_file else os.environ.get(API_KEY_VARIABLE, "")
        return ServerBackend(settings.url, api_key=key, model=None if settings.model == "demo" else settings.model)
    from chat.backend import EngineHostBackend
    from chat.engine_host import HostSettings

    model = Path(settings.model).expanduser()
    name = str(model.resolve()) if model.is_dir() else settings.model  # the host runs in another folder
    keep_alive_s = settings.keep_alive_s if settings.keep_alive_s >= 0 else None
    return EngineHostBackend(HostSettings(name, dict(settings.engine), keep_alive_s))


def open_store(settings: Settings) -> ConversationStore:
    """Open the store that the settings name; in memory, with a warning, where no disk can be written."""
    from chat.store import ConversationStore
    from errors import StoreError

    try:
        return ConversationStore(settings.store or None)
    except StoreError as error:
        print(describe(error), file=sys.stderr)
        print("warning: nothing of this session will be kept", file=sys.stderr)
        return ConversationStore.in_memory()


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
