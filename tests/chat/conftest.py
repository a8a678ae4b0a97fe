"""Stores for the tests of everything that talks, and one server."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from chat.store.local import ConversationStore
from tests.postgres import find_binaries, postgres_server
from tests.serving import RunningServer, running_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a running Postgres, with a place for the database."""
    pytest.importorskip("psycopg", reason="the extra for Postgres is not installed")
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no Postgres on this machine (Debian: postgresql)")
    with postgres_server(binaries) as url:
        yield url


@pytest.fixture
def postgres_url(postgres: str) -> str:
    """The URL of a fresh database."""
    import psycopg

    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.format(database=name)


@pytest.fixture(params=["sqlite", "postgres"])
def where(request, tmp_path) -> str:
    """Where a store is kept: what holds for one database holds for the other."""
    if request.param == "postgres":
        return request.getfixturevalue("postgres_url")
    return str(tmp_path / "conversations.sqlite")


@pytest.fixture
def store(where: str) -> Iterator[ConversationStore]:
    store = ConversationStore(where)
    yield store
    store.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A guarded server with the demo model; tests that end it, or want other options, start their own."""
    with running_server(tmp_path_factory.mktemp("server")) as running:
        yield running
