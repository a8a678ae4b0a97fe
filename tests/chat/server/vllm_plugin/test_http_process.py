"""Bytes as they come over a socket: uvicorn with our limits, the guard, and a small app instead of vLLM's."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import socket
import sys
import threading
import time

import psutil
import pytest
import uvicorn
import uvloop
from fastapi import FastAPI

from chat.server.guard.middleware import Guard
from chat.server.settings.guard import GuardSettings
from chat.server.vllm_plugin import http_process
from chat.server.vllm_plugin.http_process import (
    NUM_DOORS,
    SWITCH_INTERVAL_S,
    ApiProcess,
    LimitedProtocol,
    take_many_at_once,
    without_queries,
)
from tests.patience import patient

POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice-secret\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice-secret\r\n"


@pytest.fixture(autouse=True)
def this_process_stays_as_it_is(monkeypatch):
    monkeypatch.setattr(uvicorn.Server, "startup", uvicorn.Server.startup)
    interval_s = sys.getswitchinterval()
    yield
    sys.setswitchinterval(interval_s)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """The port of a server that answers every allowed request with the number of bytes in its body."""
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text("alice: alice-secret\n")

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            return
        num_bytes, more = 0, True
        while more:
            message = await receive()
            num_bytes += len(message.get("body", b""))
            more = message.get("more_body", False)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"8")]})
        await send({"type": "http.response.body", "body": b"%8d" % num_bytes})

    settings = GuardSettings(key_file=str(file), max_body_bytes=4 << 20, max_body_s=2.0)
    guard = Guard(app, settings, own_paths=())
    config = uvicorn.Config(guard, port=0, http=LimitedProtocol, lifespan="off", log_level="critical")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def exchange(port, *pieces, timeout=20.0):
    """Send pieces, return what comes back until the server closes."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                connection.sendall(piece)
        with contextlib.suppress(ConnectionError):
            while data := connection.recv(65536):
                received += data
    return received


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 1000,
        b"\xff\xfe\xfd" * 1000 + b"\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET http://169.254.169.254/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /%2e%2e/v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /v1/models%00 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice-secret\r\nConnection: close\r\n\r\n",
        GET + b"X: " + b"a" * (1 << 20) + b"\r\n\r\n",
        GET + b"X: y\r\n" * 100_000 + b"\r\n",
        b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{}{}{}",
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: chunked, x\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: x\r\nConnection: close\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\n\r\nnonsense\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n",
        POST + b"Content-Length: 3\r\nConnection: close\r\n\r\n\xff\xfe{",
        POST + b"Connection: close\r\nContent-Length: 2\r\n\r\n{}GET /v1/models HTTP/1.1\r\n\r\n",
    ],
)
def test_broken_bytes_get_one_refusal_or_none(port, data):
    reply = exchange(port, data)
    assert reply.count(b"HTTP/1.1 ") <= 1
    allowed = rb"HTTP/1.1 200 " if b"{}GET" in data else rb"HTTP/1.1 4\d\d "
    assert reply == b"" or re.match(allowed, reply), reply[:200]
    assert b"HTTP/1.1 200" in exchange(port, GET + b"Connection: close\r\n\r\n")


def test_a_head_that_never_ends_is_given_up(port, monkeypatch):
    monkeypatch.setattr(http_process, "MAX_HEAD_S", 0.3)
    for begun in (b"", b"GET /v1/mod", GET + b"X-"):
        began_s = time.monotonic()
        assert exchange(port, begun).startswith(b"HTTP/1.1 400")
        assert 0.2 < time.monotonic() - began_s < patient(10)


def test_a_head_that_grows_without_end_is_given_up(port):
    reply = exchange(port, GET, *(b"X: %d\r\n" % number + b"a" * 1000 for number in range(2000)))
    assert reply == b"" or b"too long" in reply


def test_the_limits_hold_for_every_request_of_a_connection(port, monkeypatch):
    monkeypatch.setattr(http_process, "MAX_HEAD_S", 0.5)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        for _ in range(20):
            connection.sendall(GET + b"X: " + b"a" * 5000 + b"\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(GET + b"X: " + b"a" * 80_000)
        assert connection.recv(65536).startswith(b"HTTP/1.1 400")


def test_a_large_body_is_refused_without_taking_memory(port, monkeypatch):
    monkeypatch.setattr("chat.server.guard.body.DRAIN_S", 0.5)
    mebibyte = b"x" * (1 << 20)
    before = psutil.Process().memory_info().rss
    assert exchange(port, POST + b"Content-Length: %d\r\n\r\n" % (1 << 30)).startswith(b"HTTP/1.1 413")
    pieces = (b"100000\r\n" + mebibyte + b"\r\n" for _ in range(200))
    assert exchange(port, POST + b"Transfer-Encoding: chunked\r\n\r\n", *pieces).startswith(b"HTTP/1.1 413")
    announced = POST.replace(b"alice-secret", b"wrong-secret") + b"Content-Length: %d\r\n\r\n" % (1 << 30)
    assert exchange(port, announced, *(mebibyte for _ in range(60))).startswith(b"HTTP/1.1 401")
    assert psutil.Process().memory_info().rss - before < 64 << 20


def test_whoever_waits_for_leave_to_send_is_told_no_at_once(port):
    began_s = time.monotonic()
    head = POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % (1 << 30)
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 413")
        assert time.monotonic() - began_s < patient(2)


def test_a_body_that_trickles_is_given_up(port):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(POST + b"Content-Length: 1000\r\n\r\n{")
        assert connection.recv(65536).startswith(b"HTTP/1.1 408")


def test_a_body_within_the_limit_arrives_whole(port):
    body = b'{"a": "' + b"x" * (3 << 20) + b'"}'
    reply = exchange(port, POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body), body)
    assert reply.startswith(b"HTTP/1.1 200")
    assert int(reply[-8:]) > 3 << 20


def test_a_process_of_vllm_gets_the_limits_and_a_log(capsys):
    import logging

    logger = logging.getLogger("chat")
    before = (list(logger.handlers), logger.level, logger.propagate, uvicorn.config.HTTP_PROTOCOLS["auto"])
    try:
        logger.handlers = []
        ApiProcess().attach_router(FastAPI())
        config = uvicorn.Config(FastAPI())
        config.load()
        assert config.http_protocol_class is LimitedProtocol
        assert sys.getswitchinterval() == pytest.approx(SWITCH_INTERVAL_S)
        logging.getLogger("chat.server.guard.middleware").info("somebody asked")
        assert "INFO somebody asked" in capsys.readouterr().err
    finally:
        logger.handlers, logger.level, logger.propagate, uvicorn.config.HTTP_PROTOCOLS["auto"] = before


def test_the_log_of_websockets_holds_no_query(caplog):
    """uvicorn writes the whole address of a refused websocket, key and all."""
    said = [('%s - "WebSocket %s" 403', ("127.0.0.1:1", "/v1/realtime?api_key=secret")), ("Is it %s?", ("a?b",))]
    records = [logging.makeLogRecord({"msg": message, "args": arguments}) for message, arguments in said]
    assert all(map(without_queries, records))
    assert [one.getMessage() for one in records] == ['127.0.0.1:1 - "WebSocket /v1/realtime" 403', "Is it a?b?"]
    ApiProcess().attach_router(FastAPI())
    assert without_queries in logging.getLogger("uvicorn.error").filters


NUM_CLIENTS = 64


async def rounds_until_all_are_taken(server: uvicorn.Server, listener: socket.socket) -> int:
    """Return how many rounds of the loop pass until everybody has been let in who came while it was busy."""
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    with contextlib.ExitStack() as leaving:
        for _ in range(NUM_CLIENTS):
            leaving.enter_context(socket.create_connection(listener.getsockname()))
        num_rounds = 0
        while len(server.server_state.connections) < NUM_CLIENTS:
            await asyncio.sleep(0)
            num_rounds += 1
    server.should_exit = True
    await serving
    return num_rounds


def test_many_connections_are_accepted_in_few_rounds_and_none_after_shutdown():
    """uvloop takes one connection in each round of its loop: 64 were let in after 64 rounds."""
    take_many_at_once()
    take_many_at_once()  # a second time changes nothing
    config = uvicorn.Config(FastAPI(), http=LimitedProtocol, lifespan="off", log_level="critical")
    with socket.create_server(("127.0.0.1", 0), backlog=NUM_CLIENTS) as listener:
        address = listener.getsockname()
        num_rounds = uvloop.run(rounds_until_all_are_taken(uvicorn.Server(config), listener))
    assert num_rounds < 2 * NUM_CLIENTS / NUM_DOORS
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)
