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

__all__ = ["PostgresServer", "find_binaries", "postgres_server"]

START_S = 60


def find_binaries() -> Path | None:
    """Return the folder that holds initdb and postgres."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if on_path := shutil.which("initdb"):
        folders.insert(0, Path(on_path).resolve().parent)
    return next((folder for folder in folders if (folder / "initdb").exists() and (folder / "postgres").exists()), None)


class PostgresServer:
    """A server that listens on a Unix socket only. It may be killed, and started again on the same data.

    Postgres refuses to run as root, so under root it runs as the user ``nobody``. The locale is C: the one in which
    Postgres' own text parser knows no Chinese.

    Attributes:
        url: the URL of a ``{database}`` of it.
    """

    def __init__(self, binaries: Path) -> None:
        self._binaries = binaries
        self._user = {"user": "nobody"} if os.geteuid() == 0 else {}
        self._folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: a socket's path has 107 bytes
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"postgresql://tester@/{{database}}?host={self._folder}"

    @property
    def pid(self) -> int:
        """The process that all others of it are below."""
        assert self._process is not None
        return self._process.pid

    def make(self) -> None:
        """Make an empty database server."""
        if self._user:
            shutil.chown(self._folder, "nobody")
        options = ["-U", "tester", "-E", "UTF8", "--locale=C", "--auth=trust", "--no-sync"]
        make = [self._binaries / "initdb", "-D", self._folder / "data", *options]
        subprocess.run(make, check=True, capture_output=True, cwd=self._folder, **self._user)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = ["-k", self._folder, "-c", "listen_addresses=", "-c", "fsync=off"]
        run = [self._binaries / "postgres", "-D", self._folder / "data", *options]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(run, stdout=log, stderr=log, cwd=self._folder, **self._user)
        deadline = time.monotonic() + START_S
        while subprocess.run([self._binaries / "pg_isready", "-q", "-h", self._folder], check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._folder / "log").read_text(errors="replace"))
            time.sleep(0.1)

    def wait(self) -> None:
        """Wait for the end of a server that was killed."""
        assert self._process is not None
        self._process.wait(10)

    def remove(self) -> None:
        """End it, and remove its data."""
        try:
            if self._process is not None and self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)  # leave at once; SIGTERM would wait for every client
                try:
                    self._process.wait(10)
                except subprocess.TimeoutExpired:
                    self._process.kill()
                    self._process.wait()
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


@contextlib.contextmanager
def postgres_server(binaries: Path) -> Iterator[str]:
    """Start a server; give the URL of a ``{database}`` of it; remove it afterwards."""
    server = PostgresServer(binaries)
    try:
        server.make()
        server.start()
        yield server.url
    finally:
        server.remove()
