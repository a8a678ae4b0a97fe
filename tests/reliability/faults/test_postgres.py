"""kill -9 of Postgres during writes: of one of its processes, which makes it start over, or of all of it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator

import psutil
import pytest

from chat.store.local import ConversationStore
from chatcore.errors import StoreError
from tests.patience import wait_until
from tests.postgres import PostgresServer, find_binaries
from tests.reliability.faults.checks import check_store
from tests.reliability.faults.fault import Fault, Faults
from tests.reliability.faults.writer import WriterProcess

AWAY_S = 1.0  # the longest that it stays away


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    pytest.importorskip("psycopg", reason="the extra for Postgres is not installed")
    binaries = find_binaries()
    if binaries is None:
        pytest.skip("no Postgres on this machine (Debian: postgresql)")
    server = PostgresServer(binaries)
    try:
        server.make()
        server.start()
        yield server
    finally:
        server.remove()


def test_postgres_that_is_killed_loses_nothing_that_it_had_taken(faults: Faults, postgres: PostgresServer) -> None:
    for fault in faults.of("Postgres killed", full=16, short=1, kills_a_server=True):
        with fault:
            kill_postgres(fault, postgres, fault.chance.choice((end_everything, end_the_first)))


def test_a_killed_process_of_postgres_loses_nothing(faults: Faults, postgres: PostgresServer) -> None:
    """Postgres ends all connections then, and recovers: programs that were not at fault lose theirs too."""
    for fault in faults.of("process of Postgres killed", full=8, short=0, kills_a_server=True):
        with fault:
            kill_postgres(fault, postgres, end_one_connection)


def kill_postgres(fault: Fault, postgres: PostgresServer, kill) -> None:
    where = new_database(postgres, f"fault_{fault.name.replace(' ', '_').replace('/', '_').lower()}")
    with WriterProcess(fault, lambda: ConversationStore(where)) as writer:
        writer.wait_for_progress(5)
        num_before = writer.num_events()
        kill(fault, postgres)
        wait_until(lambda: is_there(where), "Postgres", every_s=0.1)
        writer.wait_for("kept", after=max(num_before, writer.num_events()))
        history = writer.kill()
    check_store(where, history)


def end_everything(fault: Fault, postgres: PostgresServer) -> None:
    processes = [psutil.Process(postgres.pid), *psutil.Process(postgres.pid).children()]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGKILL)
    start_again(fault, postgres, processes)


def end_the_first(fault: Fault, postgres: PostgresServer) -> None:
    """Kill the process above the others alone; those notice, and end."""
    processes = psutil.Process(postgres.pid).children()
    os.kill(postgres.pid, signal.SIGKILL)
    start_again(fault, postgres, processes)


def start_again(fault: Fault, postgres: PostgresServer, processes: list[psutil.Process]) -> None:
    postgres.wait()
    psutil.wait_procs(processes, timeout=30)
    time.sleep(fault.chance.uniform(0, AWAY_S))
    postgres.start()


def end_one_connection(fault: Fault, postgres: PostgresServer) -> None:
    connections = [p for p in psutil.Process(postgres.pid).children() if "tester" in " ".join(p.cmdline())]
    fault.chance.choice(connections).send_signal(signal.SIGKILL)


def new_database(postgres: PostgresServer, name: str) -> str:
    import psycopg

    with psycopg.connect(postgres.url.format(database="postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return postgres.url.format(database=name)


def is_there(where: str) -> bool:
    try:
        ConversationStore(where).close()
    except StoreError:
        return False
    return True
