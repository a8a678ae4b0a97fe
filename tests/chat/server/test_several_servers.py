"""Two servers on one Postgres, one of which is killed and started again in the middle of conversations."""

from __future__ import annotations

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import openai
import psutil
import pytest

from chat.store.local import ConversationStore
from tests.chat.server.clients import GREEDY, ask, client_of, http_of, lines_of, openai_of
from tests.patience import patient
from tests.serving import running_server

LONG = {"ignore_eos": True, "request_output_len": 1500}


@pytest.fixture(scope="module")
def database(postgres):
    import psycopg

    with psycopg.connect(postgres.format(database="postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE several_servers")
    return postgres.format(database="several_servers")


@pytest.fixture(scope="module")
def servers(database, tmp_path_factory):
    """Two servers with the same keys and the same store."""
    folders = [tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("second")]
    keys = "".join(f"{owner}: key-of-{owner}-0123456789\n" for owner in ("local", "alice", "bob"))
    for folder in folders:
        (folder / "keys").touch(0o600)
        (folder / "keys").write_text(keys)
    environment = {"VLLMDEPLOY_STORE": database}
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        managers = [running_server(folder, environment=environment) for folder in folders]
        starting = [pool.submit(manager.__enter__) for manager in managers]
        for manager in managers:
            stack.push(manager.__exit__)
        yield [start.result() for start in starting]


def end(server):
    """End a server and all that is below it, as a machine that fails would."""
    below = psutil.Process(server.process.pid).children(recursive=True) if server.process.poll() is None else []
    for process in [server.process, *below]:
        try:
            os.kill(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    server.process.wait(30)
    psutil.wait_procs(below, timeout=30)


def test_a_conversation_goes_on_at_the_other_server(servers):
    with openai_of(servers[0]) as here, openai_of(servers[1]) as there:
        conversation = here.conversations.create()
        ask(here, "My name is Zorvan.", conversation=conversation.id)
        assert ask(there, "What is my name?", conversation=conversation.id).output_text == "Your name is Zorvan."
        assert len(list(here.conversations.items.list(conversation.id))) == 4
        response = ask(here, "My name is Mei.")
        assert ask(there, "What is my name?", previous_response_id=response.id).output_text == "Your name is Mei."


def test_a_session_gives_one_answer_at_a_time_over_all_servers(servers):
    with http_of(servers[0]) as here, http_of(servers[1]) as there:
        session_id = client_of(here)("Hello")["session_id"]
        stream = lines_of(here, "Hello", session_id=session_id, **LONG)
        next(stream)
        body = {"prompt": "Hi", "interactive_mode": True, "session_id": session_id}
        busy = there.post("/v1/chat/interactive", json=body)
        assert (busy.status_code, busy.headers["retry-after"]) == (409, "1")
        begun_s = time.monotonic()
        there.post("/v1/chat/interactive", json={"prompt": "", "cancel": True, "session_id": session_id})
        last = list(stream)[-1]
        assert time.monotonic() - begun_s < patient(5)
        assert (last["finish_reason"], last["tokens"] < 1500) == ("stop", True)
        assert client_of(there)("Hello", session_id=session_id, request_output_len=2)["tokens"] == 2


def test_two_servers_never_mix_a_conversation(servers):
    with http_of(servers[0]) as http:
        session_id = client_of(http)("Hello")["session_id"]
    body = {"prompt": "Hi", "interactive_mode": True, "session_id": session_id, "request_output_len": 2, **GREEDY}
    replies = []

    def call(server):
        with http_of(server) as own:
            replies.append(own.post("/v1/chat/interactive", json=body))

    threads = [threading.Thread(target=call, args=(servers[number % 2],)) for number in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answered = [reply.json() for reply in replies if reply.status_code == 200]
    assert {reply.status_code for reply in replies} <= {200, 409}
    histories = sorted(reply["history_tokens"] for reply in answered)
    assert len(set(histories)) == len(histories) >= 1  # each stands behind the one before it


def test_a_server_that_is_killed_in_the_middle_of_an_answer_blocks_nobody(servers, database):
    with http_of(servers[0]) as here, openai_of(servers[0]) as client:
        session_id = client_of(here)("My name is Zorvan.")["session_id"]
        background = client.responses.create(
            model="demo", input="Hello", background=True, extra_body={"ignore_eos": True}, max_output_tokens=1500
        )
        stream = lines_of(here, "Hello", session_id=session_id, **LONG)
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < 1.5:  # so long that a part of the answer is on disk
            next(stream)
        end(servers[0])
        stream.close()
    with http_of(servers[1]) as there, openai_of(servers[1]) as client:
        reply = client_of(there)("What is my name?", session_id=session_id)
        assert reply["history_tokens"] > 60  # with what there was of the answer
        failed = client.responses.retrieve(background.id)
        assert (failed.status, failed.error.code) == ("failed", "server_error")
    store = ConversationStore(database)
    [summary] = [line for line in store.recent(limit=5) if line.num_turns == 3 and "Zorvan" in line.title]
    kept = store.load(summary.id).path()
    store.close()
    assert [(message.role, message.status) for message in kept[2:4]] == [("user", "complete"), ("assistant", "partial")]
    assert len(kept) == 6
    assert kept[3].content


def test_a_conversation_survives_the_restart_of_its_server(servers, database):
    with openai_of(servers[1], "alice") as client:
        conversation = client.conversations.create()
        ask(client, "My name is Zorvan.", conversation=conversation.id)
        response = ask(client, "My name is Mei.")
    folder = servers[1].key_file.parent
    end(servers[1])
    with running_server(folder, environment={"VLLMDEPLOY_STORE": database}) as again:
        with openai_of(again, "alice") as client:
            assert ask(client, "What is my name?", conversation=conversation.id).output_text == "Your name is Zorvan."
            assert client.responses.retrieve(response.id) == response
            assert ask(client, "What is my name?", previous_response_id=response.id).output_text == "Your name is Mei."
        with openai_of(again, "bob") as client, pytest.raises(openai.NotFoundError):
            client.conversations.retrieve(conversation.id)
