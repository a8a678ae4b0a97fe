"""The network between a terminal and the server that keeps its conversations is cut, or either of the two is killed.

The server has the real routes on a real socket, without a model; the network is a process between them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import httpx2
import pytest

from chat.store import remote
from chat.store.local import ConversationStore
from chat.store.remote import find_store
from tests.chat.store.store_server import StoreServer
from tests.reliability.faults.checks import check_store
from tests.reliability.faults.fault import Fault, Faults
from tests.reliability.faults.proxy import FaultyProxy
from tests.reliability.faults.writer import WriterProcess

KEY = "key-of-local"


@pytest.fixture(autouse=True)
def soon_out_of_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same waits as people have, made shorter, so that there is time for more faults."""
    monkeypatch.setattr(remote, "TIMEOUT", httpx2.Timeout(2.0, connect=1.0))
    monkeypatch.setattr(remote, "LOAD_TIMEOUT", httpx2.Timeout(4.0, connect=1.0))
    monkeypatch.setattr(remote, "PAUSE_S", 0.5)


@contextlib.contextmanager
def served(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[StoreServer, FaultyProxy]]:
    monkeypatch.setenv("XDG_DATA_HOME", str(fault.folder / "data"))
    server = StoreServer(ConversationStore(fault.folder / "server.sqlite"))
    proxy = FaultyProxy(server.port)
    try:
        yield server, proxy
    finally:
        proxy.close()
        server.stop()
        server.store.close()


def test_what_is_said_while_the_network_is_cut_gets_there(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    for fault in faults.of("network cut", full=20, short=2):
        with fault, served(fault, monkeypatch) as (_, proxy):
            url = f"http://127.0.0.1:{proxy.port}/v1"
            with WriterProcess(fault, lambda url=url: find_store(url, api_key=KEY)) as writer:
                writer.wait_for_progress(1)
                num_before = writer.num_events()
                proxy.cut(fault.chance)
                writer.wait_for("trouble", after=num_before)
                if fault.chance.random() < 0.5:  # the terminal is still there when the network is
                    proxy.restore()
                    writer.wait_for("answered", after=writer.num_events())
                history = writer.kill()
            proxy.restore()
            again = find_store(url, api_key=KEY)  # what the start of a terminal does
            assert again is not None
            again.close()
            check_store(fault.folder / "server.sqlite", history)


def test_a_terminal_that_is_killed_leaves_the_server_in_order(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    for fault in faults.of("client of a server killed", full=16, short=2):
        with fault, served(fault, monkeypatch) as (server, _):
            url = server.url
            with WriterProcess(fault, lambda url=url: find_store(url, api_key=KEY)) as writer:
                writer.wait_for_progress()
                history = writer.kill()
            check_store(fault.folder / "server.sqlite", history)
