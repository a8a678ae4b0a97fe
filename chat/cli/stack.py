"""The command ``stack``: its options, and what it does with them."""

from __future__ import annotations

import argparse
import time
from collections import deque
from pathlib import Path
from typing import IO, TYPE_CHECKING

from chatcore.errors import StackError

if TYPE_CHECKING:
    from chat.stack.files import StackFiles
    from chat.stack.plan import Plan

__all__ = ["add_options", "run"]

FOLLOW_S = 0.3


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``stack`` takes."""
    actions = command.add_subparsers(title="actions", metavar="ACTION", dest="action", required=True)
    up = actions.add_parser("up", help="start the services in order, and wait until they can work")
    down = actions.add_parser("down", help="stop them; answers that are being given may be finished")
    status = actions.add_parser("status", help="what is up, on which port, with how much memory")
    logs = actions.add_parser("logs", help="the last lines of the services' logs")
    for action in (up, down, status, logs):
        action.add_argument("-f", "--file", type=Path, default=Path("stack.yaml"), help="default: stack.yaml")
    logs.add_argument("services", nargs="*", metavar="SERVICE", help="names from status; all if left out")
    logs.add_argument("-n", "--lines", type=int, default=20, help="how many of each; default: 20")
    logs.add_argument("--follow", action="store_true", help="go on until Ctrl-C")


def run(options: argparse.Namespace) -> int:
    """Do one action."""
    from chat.stack import lifecycle
    from chat.stack.files import files_of

    match options.action:
        case "up":
            plan = lifecycle.bring_up(options.file)
            print_status(plan)
            print(f"\n{plan.url}/v1\nkeys: {plan.keys_file}")
        case "down":
            lifecycle.bring_down(files_of(options.file))
        case "status":
            return 0 if print_status(lifecycle.read_plan(options.file)) else 1
        case "logs":
            print_logs(files_of(options.file), options.services, options.lines, follow=options.follow)
    return 0


def print_status(plan: Plan) -> bool:
    """Print a table of the processes; return whether all of them can work."""
    from chat.stack.lifecycle import rows_of

    rows = rows_of(plan)
    print(f"{'SERVICE':<12} {'STATE':<9} {'PID':>8} {'PORT':>6} {'AGE':>8} {'MEMORY':>10}  MODEL")
    for row in rows:
        minutes, seconds = divmod(int(row.state.age_s), 60)
        print(
            f"{row.process.name:<12} {row.word:<9} {row.state.pid or '-':>8} {row.process.port:>6} "
            f"{f'{minutes}m{seconds:02d}s':>8} {row.memory_bytes / 2**20:>7.0f} MB  {row.process.model}".rstrip()
        )
    return all(row.word == "ready" for row in rows)


def print_logs(files: StackFiles, services: list[str], num_lines: int, *, follow: bool) -> None:
    """Print the ends of logs, and what is added to them.

    Raises:
        StackError: there is no such log.
    """
    logs = {file.stem: file for file in sorted(files.log_dir.glob("*.log"))}
    if unknown := [name for name in services if name not in logs]:
        raise StackError(
            f"there is no log of {', '.join(unknown)}", hint=f"There are: {', '.join(logs) or 'none yet'}."
        )
    streams: dict[str, IO[str]] = {
        name: logs[name].open("r", encoding="utf-8", errors="replace") for name in services or logs
    }
    try:
        for name, stream in streams.items():
            _print_lines(name, list(deque(stream, maxlen=num_lines)))
        while follow:
            for name, stream in streams.items():
                streams[name] = _reopen_if_rotated(logs[name], stream)
                _print_lines(name, streams[name].readlines())
            time.sleep(FOLLOW_S)
    finally:
        for stream in streams.values():
            stream.close()


def _print_lines(name: str, lines: list[str]) -> None:
    for line in lines:
        print(f"{name:<12} {line.rstrip()}", flush=True)


def _reopen_if_rotated(file: Path, stream: IO[str]) -> IO[str]:
    """Return the stream, or one of the new file if the log was begun anew under the old name."""
    try:
        if file.stat().st_size >= stream.tell():
            return stream
    except FileNotFoundError:
        return stream
    stream.close()
    return file.open("r", encoding="utf-8", errors="replace")
