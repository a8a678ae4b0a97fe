"""The command ``ps``: list the engine hosts."""

from __future__ import annotations

import argparse

__all__ = ["add_options", "duration", "run"]


def add_options(command: argparse.ArgumentParser) -> None:
    """``ps`` takes nothing."""


def run(options: argparse.Namespace) -> int:
    """List the engine hosts."""
    from chat.backends.engine_host_client import list_hosts

    print(f"{'PID':>8}  {'MODEL':<32} {'STATE':<8} {'AGE':>8} {'MEMORY':>9} {'CLIENTS':>7} {'IDLE':>8}")
    for host in list_hosts():
        print(
            f"{host.pid:>8}  {host.model:<32} {host.stage:<8} {duration(host.age_s):>8} "
            f"{host.memory_bytes / 2**20:>6.0f} MB {host.num_clients:>7} {duration(host.idle_s):>8}"
        )
    return 0


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
