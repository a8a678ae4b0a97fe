"""kill -9 of a real server in the middle of answers: of its engine core, of its API server, of all of it.

It takes a minute to come back, so this runs in full only; what else ends a server is in tests/chat/server.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import openai
import psutil
import pytest

from chat.conversations.conversation import Message
from chat.store.local import ConversationStore
from tests.chat.server.clients import openai_of
from tests.patience import wait_until
from tests.reliability.faults.checks import check_integrity
from tests.reliability.faults.fault import Fault, Faults
from tests.serving import RunningServer, running_server

NUM_CLIENTS = 3
MAX_BEFORE_S = 8.0  # of talking, before the kill
END_WITHIN_S = 120.0


@dataclass(slots=True)
class Exchange:
    """A question, and what has arrived of its answer at the client.

    Attributes:
        arrived: (when, number of characters so far) of each piece.
    """

    question: str
    text: str = ""
    arrived: list[tuple[float, int]] = field(default_factory=list)
    is_complete: bool = False


class ChatClient(threading.Thread):
    """A client that asks questions in one of the server's conversations until the server dies."""

    def __init__(self, server: RunningServer, seed: str) -> None:
        super().__init__(daemon=True)
        self._server, self._chance = server, random.Random(seed)
        self.conversation_id = ""
        self.exchanges: list[Exchange] = []

    def run(self) -> None:
        try:
            with openai_of(self._server) as api:
                self.conversation_id = api.conversations.create().id
                while True:
                    self._ask(api)
        except (openai.APIError, OSError):
            return

    def _ask(self, api: openai.OpenAI) -> None:
        exchange = Exchange(f"Count from {len(self.exchanges)} to 100.")
        self.exchanges.append(exchange)
        stream = api.responses.create(
            model="demo",
            input=exchange.question,
            conversation=self.conversation_id,
            max_output_tokens=self._chance.choice((10, 400)),
            stream=True,
            extra_body={"ignore_eos": True, "chat_template_kwargs": {"enable_thinking": False}},
        )
        for event in stream:
            if event.type == "response.output_text.delta":
                exchange.text += event.delta
                exchange.arrived.append((time.monotonic(), len(exchange.text)))
            exchange.is_complete |= event.type in ("response.completed", "response.incomplete")


def engine_core(server: RunningServer) -> list[psutil.Process]:
    return [process for process in descendants(server) if process.cmdline()[0].startswith("VLLM::EngineCore")]


def api_server(server: RunningServer) -> list[psutil.Process]:
    return [process for process in descendants(server) if "chat.server.process.vllm_process" in process.cmdline()]


def whole_server(server: RunningServer) -> list[psutil.Process]:
    return [psutil.Process(server.process.pid), *descendants(server)]


def descendants(server: RunningServer) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


@pytest.mark.parametrize(
    ("kind", "which", "full"),
    [("engine core killed", engine_core, 8), ("API server killed", api_server, 8), ("server killed", whole_server, 4)],
)
def test_a_killed_server_has_kept_what_it_answered(
    faults: Faults, kind: str, which: Callable[[RunningServer], list[psutil.Process]], full: int
) -> None:
    for fault in faults.of(kind, full=full, short=0, kills_a_server=True):
        with fault:
            with running_server(fault.folder) as server:
                clients, killed_s = chat_and_kill(fault, server, which)
            check_kept(fault, fault.folder / "conversations.sqlite", clients, killed_s)
            with running_server(fault.folder) as server:
                for client in clients:
                    check_next_turn(server, client)
            check_integrity(fault.folder / "conversations.sqlite")


def chat_and_kill(
    fault: Fault, server: RunningServer, which: Callable[[RunningServer], list[psutil.Process]]
) -> tuple[list[ChatClient], float]:
    clients = [ChatClient(server, f"{fault.name} {number}") for number in range(NUM_CLIENTS)]
    for client in clients:
        client.start()
    wait_until(lambda: all(client.exchanges and client.exchanges[0].text for client in clients), "answers")
    time.sleep(fault.chance.uniform(0, MAX_BEFORE_S))
    victims = which(server)
    assert victims
    killed_s = time.monotonic()
    for process in victims:
        os.kill(process.pid, signal.SIGKILL)
    server.process.wait(END_WITHIN_S)
    for client in clients:
        client.join(END_WITHIN_S)
        assert not client.is_alive(), "a client hangs"
    return clients, killed_s


def check_kept(fault: Fault, where: Path, clients: list[ChatClient], killed_s: float) -> None:
    check_integrity(where)
    store = ConversationStore(where)
    for client in clients:
        path = store.load(client.conversation_id.removeprefix("conv_")).path()
        for number, exchange in enumerate(client.exchanges):
            check_exchange(fault, exchange, path[2 * number : 2 * number + 2], killed_s)
        assert len(path) <= 2 * len(client.exchanges)
    store.close()


def check_exchange(fault: Fault, exchange: Exchange, kept: list[Message], killed_s: float) -> None:
    """Check that what the client has read is kept: all of a finished answer, of another all but a second."""
    if exchange.text:
        assert [(message.role, message.content) for message in kept[:1]] == [("user", exchange.question)]
    answer = kept[1] if len(kept) == 2 else None
    if exchange.is_complete:
        assert answer is not None
        assert (answer.content, answer.status) == (exchange.text, "complete")
        return
    num_kept = len(answer.content) if answer is not None else 0
    missing = [at_s for at_s, num_characters in exchange.arrived if num_characters > num_kept and at_s <= killed_s]
    fault.check_lost(killed_s - missing[0] if missing else 0.0)


def check_next_turn(server: RunningServer, client: ChatClient) -> None:
    def ids(api: openai.OpenAI) -> list[str | None]:
        return [item.id for item in api.conversations.items.list(client.conversation_id, order="asc", limit=100)]

    with openai_of(server) as api:
        before = ids(api)
        response = api.responses.create(
            model="demo",
            input="Hello!",
            conversation=client.conversation_id,
            max_output_tokens=16,
            extra_body={"chat_template_kwargs": {"enable_thinking": False}},
        )
        assert response.status in ("completed", "incomplete")
        after = ids(api)
    assert after[: len(before)] == before
    assert len(after) == len(before) + 2
