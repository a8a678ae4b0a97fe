"""One guarded server for the whole folder, that writes down its routes and what reaches the engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.program import ROOT
from tests.reliability import recorder
from tests.serving import RunningServer, running_server

WITNESS = f"{recorder.Witness.__module__}.{recorder.Witness.__name__}"


@dataclass(frozen=True)
class WatchedServer:
    """A server, and the file in which it writes what is asked of it."""

    server: RunningServer
    file: Path


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedServer]:
    folder = tmp_path_factory.mktemp("watched")
    file = folder / "witness"
    file.touch()
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {recorder.FILE_VARIABLE: str(file), "PYTHONPATH": path}
    with running_server(folder, "--middleware", WITNESS, environment=environment) as server:
        yield WatchedServer(server, file)
