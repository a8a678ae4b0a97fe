"""nginx with the generated configuration, in front of small servers that tell what reaches them."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator

import httpx2
import pytest

from chat.stack.checks import find_nginx
from chat.stack.front import Upstreams, nginx_config
from chatcore.errors import StackError
from tests.serving import free_port


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was asked; ``/v1/stream`` gives two pieces, the second once it is told to go on."""

    protocol_version = "HTTP/1.1"
    go_on = threading.Event()

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.path == "/v1/stream":
            self._stream()
            return
        told = {
            "server": self.server.name,
            "method": self.command,
            "path": self.path,
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "body": self.rfile.read(length).decode(),
        }
        status = 200 if self.headers.get("Authorization") != "Bearer wrong" else 401
        self._send(status, json.dumps(told).encode())

    do_GET = do_POST = do_DELETE = answer

    def _send(self, status, text):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _stream(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"3\r\none\r\n")
        self.go_on.wait(20)
        self.wfile.write(b"3\r\ntwo\r\n0\r\n\r\n")

    def log_message(self, *_):
        pass


class Servers:
    """Small servers by their names."""

    def __init__(self, *names: str) -> None:
        self._running: dict[str, http.server.ThreadingHTTPServer] = {}
        self.addresses: dict[str, str] = {}
        for name in names:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
            server.daemon_threads = True
            server.name = name
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self._running[name] = server
            self.addresses[name] = f"127.0.0.1:{server.server_port}"

    def kill(self, name):
        server = self._running.pop(name)
        server.shutdown()
        server.server_close()

    def close(self):
        for name in list(self._running):
            self.kill(name)


@pytest.fixture
def servers() -> Iterator[Servers]:
    servers = Servers("llm-1", "llm-2", "router", "embedding", "rerank")
    yield servers
    servers.close()


@pytest.fixture
def front(servers, tmp_path):
    """Return a client of nginx in front of them; ``**more`` are further upstreams' settings."""
    try:
        nginx = find_nginx()
    except StackError as error:
        pytest.skip(str(error))
    started, clients = [], []

    def front(**more):
        port, addresses = free_port(), servers.addresses
        models = tmp_path / "models.json"
        models.write_text('{"object": "list", "data": []}')
        upstreams = {
            "llm": (addresses["llm-1"], addresses["llm-2"]),
            "router": addresses["router"],
            "embedding": addresses["embedding"],
            "rerank": addresses["rerank"],
        }
        config = tmp_path / "nginx.conf"
        made = Upstreams(**(upstreams | more))
        config.write_text(
            nginx_config(made, listen=f"127.0.0.1:{port}", folder=tmp_path, models=models, as_root=os.geteuid() == 0)
        )
        started.append(subprocess.Popen([nginx, "-c", config, "-e", "stderr"]))
        client = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, headers={"Authorization": "Bearer k"})
        clients.append(client)
        deadline_s = time.monotonic() + 30
        while True:
            try:
                client.get("/health")
                return client
            except httpx2.ConnectError:
                assert time.monotonic() < deadline_s
                time.sleep(0.05)

    yield front
    for client in clients:
        client.close()
    for process in started:
        process.terminate()
        process.wait(30)


def told(answer):
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize(
    ("path", "server"),
    [
        ("/v1/chat/completions", "router"),
        ("/v1/completions", "router"),
        ("/v1/embeddings", "embedding"),
        ("/v1/rerank", "rerank"),
        ("/v2/rerank", "rerank"),
        ("/v1/score", "rerank"),
        ("/v1/responses", "llm"),
        ("/v1/conversations", "llm"),
        ("/v1/chat/interactive", "llm"),
        ("/v1/messages", "llm"),
        ("/tokenize", "llm"),
    ],
)
def test_each_path_reaches_its_service_with_key_query_and_body(front, path, server):
    got = told(front().post(f"{path}?limit=2", json={"a": 1}))
    assert got["server"].split("-")[0] == server
    assert got["path"] == f"{path}?limit=2"
    assert got["headers"]["authorization"] == "Bearer k"
    assert json.loads(got["body"]) == {"a": 1}


def test_a_conversation_stays_with_one_replica_and_conversations_spread(front):
    client = front()
    where = {
        name: {told(client.post("/v1/responses", headers={"X-Session-ID": name}))["server"] for _ in range(3)}
        for name in map(str, range(20))
    }
    assert all(len(servers) == 1 for servers in where.values())
    assert len(set.union(*where.values())) == 2


def test_session_id_is_the_header_or_the_conversation_or_random(front):
    client = front()
    assert told(client.get("/v1/conversations/conv_7/items"))["headers"]["x-session-id"] == "conv_7"
    own = client.get("/v1/conversations/conv_7", headers={"X-Session-ID": "mine"})
    assert told(own)["headers"]["x-session-id"] == "mine"
    ids = {told(client.post("/v1/chat/completions"))["headers"]["x-session-id"] for _ in range(5)}
    assert len(ids) == 5


def test_requests_without_conversation_spread(front):
    client = front()
    reached = Counter(told(client.post("/v1/messages"))["server"] for _ in range(40))
    assert set(reached) == {"llm-1", "llm-2"}


def test_a_dead_replica_is_passed_over_without_anybody_noticing(front, servers):
    client = front()
    names = [str(number) for number in range(12)]
    servers.kill("llm-1")
    reached = [told(client.post("/v1/responses", json={}, headers={"X-Session-ID": name}))["server"] for name in names]
    assert set(reached) == {"llm-2"}


def test_a_conversation_stays_with_one_engine_of_a_server(front, servers):
    client = front(llm=(servers.addresses["llm-1"],), router="", data_parallel_size=3)

    def rank(name):
        headers = {"X-Session-ID": name, "X-Data-Parallel-Rank": "99"}
        return told(client.post("/v1/chat/completions", headers=headers))["headers"]["x-data-parallel-rank"]

    ranks = {name: {rank(name) for _ in range(2)} for name in map(str, range(30))}
    assert all(len(found) == 1 for found in ranks.values())
    assert set.union(*ranks.values()) == {"0", "1", "2"}


def test_without_engines_to_choose_from_nobody_chooses_a_rank(front):
    answer = front().post("/v1/chat/completions", headers={"X-Data-Parallel-Rank": "3"})
    assert "x-data-parallel-rank" not in told(answer)["headers"]


def test_the_list_of_models_wants_the_key_that_the_servers_know(front):
    client = front()
    assert client.get("/v1/models").json() == {"object": "list", "data": []}
    assert client.get("/v1/models", headers={"Authorization": "Bearer wrong"}).status_code == 401


def test_health_is_the_routers_readiness(front):
    got = told(front().get("/health"))
    assert (got["server"], got["path"]) == ("router", "/readiness")


def test_answers_stream(front):
    Echo.go_on.clear()
    with front().stream("GET", "/v1/stream") as answer:
        pieces = answer.iter_bytes()
        assert next(pieces) == b"one"  # while the second piece is still held back
        Echo.go_on.set()
        assert b"".join(pieces) == b"two"


@pytest.mark.parametrize(
    "path", ["/", "/list_workers", "/add_worker", "/workers", "/metrics", "/internal/key", "/docs"]
)
def test_whatever_is_not_named_does_not_get_in(front, path):
    assert front().get(path).status_code == 404


@pytest.mark.parametrize(
    "path", ["/v1/%2e%2e/list_workers", "/workers/x%2f..%2f..%2fv1%2fmodels", "//v1/models", "/v1/%5c"]
)
def test_a_path_that_reads_differently_once_decoded_is_refused(front, path):
    client = front()
    request = client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=path.encode())
    assert client.send(request).status_code == 400
