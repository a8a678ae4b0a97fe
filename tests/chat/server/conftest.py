"""One guarded server with the demo model for the whole folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.serving import RunningServer, running_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """The server; tests that end it, or want other options, start their own by ``running_server``."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running
