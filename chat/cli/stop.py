"""The command ``stop``: stop engine hosts."""

from __future__ import annotations

import argparse
import sys

from chatcore.errors import ChatError

__all__ = ["add_options", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``stop`` takes."""
    command.add_argument("pid", nargs="*", type=int, help="process ids from ps; all if left out")


def run(options: argparse.Namespace) -> int:
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
