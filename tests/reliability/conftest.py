"""One guarded server for the whole folder, which records its routes and the prompts that reach the engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.program import ROOT
from tests.reliability import recorder
from tests.serving import RunningServer, running_server

RECORDER = f"{recorder.Recorder.__module__}.{recorder.Recorder.__name__}"


@dataclass(frozen=True)
class RecordedServer:
    """A server, and the file that its routes and prompts are recorded in."""

    server: RunningServer
    file: Path


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RecordedServer]:
    folder = tmp_path_factory.mktemp("recorded")
    file = folder / "recording"
    file.touch()
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {recorder.FILE_VARIABLE: str(file), "PYTHONPATH": path}
    with running_server(folder, "--middleware", RECORDER, environment=environment) as server:
        yield RecordedServer(server, file)
