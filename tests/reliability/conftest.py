"""One guarded server for the whole folder, which records its routes and the prompts that reach the engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.program import ROOT, python_path
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
    environment = {recorder.FILE_VARIABLE: str(file), **python_path(ROOT)}
    with running_server(folder, "--middleware", RECORDER, environment=environment) as server:
        yield RecordedServer(server, file)
