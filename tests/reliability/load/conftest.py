"""One server for the tests of load and of long life."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.reliability.load.client import LIMITS
from tests.reliability.load.monitor import probe_environment
from tests.serving import RunningServer, running_server


@pytest.fixture(scope="session")
def busy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that answers two hundred at once, and has hardly more places than that."""
    options = [str(word) for pair in LIMITS.items() for word in pair]
    folder = tmp_path_factory.mktemp("busy")
    with running_server(folder, *options, environment=probe_environment(folder / "held")) as running:
        yield running
