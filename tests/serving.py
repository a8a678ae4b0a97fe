"""A real server with the demo model, started as people start it: guarded, with a key for each of three owners."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.program import start

__all__ = ["OWNERS", "RunningServer", "free_port", "running_server"]

START_WITHIN_S = 300.0
STOP_WITHIN_S = 60.0
OWNERS = ("local", "alice", "bob")


@dataclass(frozen=True)
class RunningServer:
    """A server that answers.

    Attributes:
        url: ``http://127.0.0.1:PORT``, without ``/v1``.
        keys: the key of each of ``OWNERS``.
        key_file: the file that holds them.
        store: the file of the conversations.
        output: what the command has printed.
        process: the command ``serve``; the engine is below it.
        printed_before: characters of ``output`` that are of earlier servers in the same folder.
    """

    url: str
    keys: Mapping[str, str]
    key_file: Path
    store: Path
    output: Path
    process: subprocess.Popen[bytes] = field(repr=False)
    printed_before: int = 0

    def headers(self, owner: str = "local") -> dict[str, str]:
        """Return the headers that let an owner in."""
        return {"Authorization": f"Bearer {self.keys[owner]}"}


def free_port() -> int:
    """Return a port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextlib.contextmanager
def running_server(
    folder: Path, *options: str, environment: Mapping[str, str] | None = None, port: int | None = None
) -> Iterator[RunningServer]:
    """Start ``serve`` on the demo model; end it afterwards.

    Args:
        folder: where keys, store and output are; a server started there again has the same keys and conversations.
        options: of the command ``serve``, or of vLLM's server.
        environment: variables beside those of the tests.
        port: a free one if left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys, key_file = _keys(folder)
    port = port or free_port()
    store, output = folder / "conversations.sqlite", folder / "output"
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "API_KEY_FILE": str(key_file), "VLLMDEPLOY_STORE": str(store)}
    printed_before = len(output.read_text()) if output.exists() else 0
    with output.open("ab") as sink:
        process = start(
            *("serve", "--port", str(port), "--max-model-len", "2048", *options),
            stdout=sink,
            stderr=subprocess.STDOUT,
            env=variables | dict(environment or {}),
        )
    server = RunningServer(f"http://127.0.0.1:{port}", keys, key_file, store, output, process, printed_before)
    try:
        _wait(server)
        yield server
    finally:
        _stop(process)


def _keys(folder: Path) -> tuple[dict[str, str], Path]:
    file = folder / "keys"
    if not file.exists():
        file.touch(0o600)
        file.write_text("".join(f"{owner}: {secrets.token_urlsafe(24)}\n" for owner in OWNERS))
    return dict(line.split(": ") for line in file.read_text().splitlines()), file


def _wait(server: RunningServer) -> None:
    deadline_s = time.monotonic() + START_WITHIN_S
    while True:
        if "\nready: " in server.output.read_text()[server.printed_before :]:
            return
        if server.process.poll() is not None or time.monotonic() > deadline_s:
            raise AssertionError(f"the server did not start:\n{server.output.read_text()[-3000:]}")
        time.sleep(0.2)


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
