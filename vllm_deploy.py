#!/usr/bin/env python3
"""The command line: reads options, puts the parts together, holds no logic of its own.

``python vllm_deploy.py`` opens a chat; ``python vllm_deploy.py --help`` lists the rest. Nothing heavy is imported
before it is needed: ``--help`` must answer at once.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from errors import ChatError, describe

__version__ = "0.1.0"

DEFAULT_SYSTEM = "You are a helpful assistant."
DURATIONS = {"": 1, "s": 1, "m": 60, "h": 3600}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    argv = list(sys.argv[1:] if arguments is None else arguments)
    parser, commands = build_parser()
    if not any(argument in commands for argument in argv) and not {"-h", "--help", "--version"} & set(argv):
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

    backend = make_backend(options)
    try:
        return run(backend, options)
    finally:
        backend.close()


def run_ask(options: argparse.Namespace) -> int:
    """Answer one question."""
    from chat import ask

    question = ask.read_question(options.question, options.file, sys.stdin)
    messages = [{"role": "system", "content": options.system}] if options.system else []
    messages.append({"role": "user", "content": question})
    backend = make_backend(options)
    code, _ = ask.ask(backend, messages, as_json=options.json, options=reply_options(options))
    backend.close()
    return code


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


def run_serve(options: argparse.Namespace) -> int:
    """Become vLLM's own server."""
    from chat.server.launch import serve

    serve(options.model, host=options.host, port=options.port, vllm_arguments=options.vllm_arguments)


# -- options --------------------------------------------------------------------------------------------------------


def build_parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser and the names of the commands."""
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

    chat = add("chat", run_chat, "talk with the model in the terminal")
    add_engine_options(chat)
    add_reply_options(chat)
    ask = add("ask", run_ask, "answer one question; the answer alone goes to standard output")
    ask.add_argument("question", nargs="*", help="the question; standard input is added if it is not a terminal")
    ask.add_argument("-f", "--file", type=Path, help="add this file's text to the question")
    ask.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    add_engine_options(ask)
    add_reply_options(ask)
    add("ps", run_ps, "list the engines that are loaded")
    stop = add("stop", run_stop, "unload engines")
    stop.add_argument("pid", nargs="*", type=int, help="process ids from ps; all if left out")
    serve = add("serve", run_serve, "start vLLM's OpenAI-compatible server")
    serve.add_argument("--model", default="demo", help="demo, a folder, or an id on ModelScope or Hugging Face")
    serve.add_argument("--host", default="127.0.0.1")
    serve.add_argument("--port", type=int, default=8000)
    serve.add_argument("vllm_arguments", nargs=argparse.REMAINDER, help="after --: options for vLLM's server")
    return parser, list(commands.choices)


def add_engine_options(command: argparse.ArgumentParser) -> None:
    """Which model, and how the engine runs it."""
    group = command.add_argument_group("engine")
    group.add_argument("--model", default="demo", help="demo, a folder, or an id on ModelScope or Hugging Face")
    group.add_argument("--max-model-len", type=int, metavar="TOKENS", help="the window, in tokens")
    group.add_argument("--dtype", help="auto, bfloat16, float16 or float32")
    group.add_argument("--quantization", help="awq, gptq, fp8, ...; found in the model's configuration if left out")
    group.add_argument("--tensor-parallel-size", type=int, metavar="N", help="number of GPUs that share the model")
    group.add_argument("--gpu-memory-utilization", type=float, metavar="PART", help="part of the memory to use, 0 to 1")
    group.add_argument("--chat-template", metavar="FILE", help="use this chat template instead of the model's own")
    group.add_argument("--trust-remote-code", action="store_true", help="run Python code that comes with the model")
    group.add_argument(
        "--keep-alive",
        type=parse_duration,
        default=300.0,
        metavar="TIME",
        help="how long the engine stays loaded after the last client: 5m (the default), 0, 2h, forever",
    )


def add_reply_options(command: argparse.ArgumentParser) -> None:
    """How the model answers."""
    group = command.add_argument_group("answers")
    group.add_argument("--system", default=DEFAULT_SYSTEM, help="the system message; empty for none")
    group.add_argument("--temperature", type=float)
    group.add_argument("--max-tokens", type=int)
    group.add_argument("--seed", type=int)
    group.add_argument("--think", action=argparse.BooleanOptionalAction, help="let the model think first, or not")
    group.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other sampling parameter")


def make_backend(options: argparse.Namespace) -> Any:
    """Return the backend that the options ask for."""
    from chat.backend import EngineHostBackend
    from chat.engine_host import HostSettings

    names = (
        "max_model_len",
        "dtype",
        "quantization",
        "tensor_parallel_size",
        "gpu_memory_utilization",
        "chat_template",
    )
    engine = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.trust_remote_code:
        engine["trust_remote_code"] = True
    model = options.model
    if Path(model).expanduser().is_dir():  # the host runs in another folder
        model = str(Path(model).expanduser().resolve())
    return EngineHostBackend(HostSettings(model, engine, options.keep_alive))


def reply_options(options: argparse.Namespace) -> dict[str, Any]:
    """Return the sampling parameters, and the thinking switch, that the options ask for."""
    import json

    chosen = {name: getattr(options, name) for name in ("temperature", "max_tokens", "seed")}
    for pair in options.set:
        name, found, value = pair.partition("=")
        if not found:
            raise ChatError(f"--set {pair}: there is no =", hint="Write it so: --set top_p=0.8")
        try:
            chosen[name] = json.loads(value)
        except ValueError:
            chosen[name] = value
    chosen["enable_thinking"] = options.think
    return {name: value for name, value in chosen.items() if value is not None}


def parse_duration(text: str) -> float | None:
    """Return seconds for 90, 90s, 5m or 2h; None for ``forever``.

    >>> parse_duration("5m")
    300.0
    """
    if text == "forever":
        return None
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
