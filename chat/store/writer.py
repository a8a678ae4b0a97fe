"""Who writes into a store, and whether that one is still there.

A turn that is under way names its writer. After a crash the next start must tell at once that the writer is gone, and
must not take a terminal that is at work beside it for a dead one. On one machine the operating system knows; a writer
on another machine (several servers on one Postgres) counts as gone when it has not written for a while.
"""

from __future__ import annotations

import os
import platform
import secrets
from pathlib import Path

__all__ = ["LEASE_S", "Writer", "is_gone"]

LEASE_S = 30.0  # a writer on another machine that has not written for so long is gone; answers are written every second
_here: set[str] = set()  # writers of this process that have not left


class Writer:
    """A store that was opened in this process.

    Attributes:
        name: ``machine boot process start serial``: tells apart what a process id alone does not, since ids are used
            again, and since in containers every program may be process 1.
    """

    def __init__(self) -> None:
        self.name = f"{_machine()} {os.getpid()} {_started_at(os.getpid())} {secrets.token_hex(4)}"
        _here.add(self.name)

    def leave(self) -> None:
        """Say that this writer writes no more."""
        _here.discard(self.name)


def is_gone(writer: str, *, silent_s: float) -> bool:
    """Tell whether a writer has left or died.

    Args:
        writer: a :class:`Writer`'s name.
        silent_s: seconds since it last wrote.
    """
    parts = writer.split(" ")
    if len(parts) != 5 or not parts[2].isdecimal():
        return True  # a damaged store: no writer has such a name
    host, boot, pid, started_at, _ = parts
    if f"{host} {boot}" != _machine():
        return silent_s > LEASE_S
    if int(pid) == os.getpid() and started_at == _started_at(os.getpid()):
        return writer not in _here
    return _started_at(int(pid)) != started_at


def _machine() -> str:
    """Return the host's name, and what tells its present run and the container from others of that name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii")[:8]
        boot += "/" + os.readlink("/proc/self/ns/pid").strip("pid:[]")
    except OSError:
        boot = "-"
    return f"{platform.node().replace(' ', '-') or '-'} {boot}"


def _started_at(pid: int) -> str:
    """Return when a process began, as the system counts; ``-`` where that is not told, nothing if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", errors="replace")
        fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
        return "" if fields[0] == "Z" else fields[19]  # a zombie is gone, though its parent has not noticed
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else _alive_without_proc(pid)


def _alive_without_proc(pid: int) -> str:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "-"
