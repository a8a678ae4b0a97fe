"""A Postgres server for tests: Debian's binaries, a socket in a temporary folder, gone afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["find_binaries", "postgres_server"]

START_S = 60


def find_binaries() -> Path | None:
    """Return the folder that holds initdb and postgres."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if on_path := shutil.which("initdb"):
        folders.insert(0, Path(on_path).resolve().parent)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


@contextlib.contextmanager
def postgres_server(binaries: Path) -> Iterator[str]:
    """Start a server that listens on a Unix socket only; give the URL of a ``{database}`` of it.

    Postgres refuses to run as root, so under root it runs as the user ``nobody``. The locale is C: the one in which
    Postgres' own text parser knows no Chinese.
    """
    as_nobody = {"user": "nobody"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: a socket's path has 107 bytes
    try:
        if as_nobody:
            shutil.chown(folder, "nobody")
        data = folder / "data"
        make = [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "tester",
            "-E",
            "UTF8",
            "--locale=C",
            "--auth=trust",
            "--no-sync",
        ]
        subprocess.run(make, check=True, capture_output=True, cwd=folder, **as_nobody)
        run = [binaries / "postgres", "-D", data, "-k", folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        with (folder / "log").open("wb") as log:
            server = subprocess.Popen(run, stdout=log, stderr=log, cwd=folder, **as_nobody)
        try:
            _wait(binaries, folder, server)
            yield f"postgresql://tester@/{{database}}?host={folder}"
        finally:
            server.send_signal(signal.SIGINT)  # leave at once; SIGTERM would wait for every client
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _wait(binaries: Path, folder: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while subprocess.run([binaries / "pg_isready", "-q", "-h", folder], check=False).returncode:
        if server.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError((folder / "log").read_text(errors="replace"))
        time.sleep(0.1)
