"""The backend for OpenAI-compatible servers, on one that misbehaves in every way.

On our own server: tests/chat/server/test_clients.py.
"""

from __future__ import annotations

import http.server
import json
import socket
import threading
import time

import pytest

from chat.backends.openai_server import ServerBackend
from chatcore.errors import ChatError, EngineError
from tests.patience import patient, wait_until
from tests.serving import free_port


def user(text):
    return {"role": "user", "content": text}


class Misbehaving(http.server.BaseHTTPRequestHandler):
    """Answers /v1/models well, and then as the path of the request's model says."""

    def do_GET(self) -> None:
        if self.path != "/v1/models":
            self.reply(404, {"detail": "Not Found"})
        elif self.server.behaviour == "locked":
            self.reply(401, {"error": {"message": "wrong key"}})
        else:
            self.reply(200, {"object": "list", "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "x"}]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers["X-Session-ID"], body))
        behaviour = self.server.behaviour
        if self.path.endswith("/tokenize"):
            self.reply(404, {"detail": "Not Found"})
        elif behaviour == "overloaded":
            self.reply(503, {"error": {"message": "too many requests"}})
        else:
            self.stream_then(behaviour)

    def stream_then(self, behaviour: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in ("one ", "two "):
            chunk = {"id": "c", "object": "chat.completion.chunk", "created": 0, "model": "m"}
            chunk["choices"] = [{"index": 0, "delta": {"content": word}, "finish_reason": None}]
            data = f"data: {json.dumps(chunk)}\n\n".encode()
            self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            self.wfile.flush()
        if behaviour == "hangs":
            self.server.released.wait(30)
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def reply(self, status: int, body: dict) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def misbehaving():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Misbehaving)
    server.behaviour = "breaks"
    server.requests = []
    server.released = threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_port}/v1"
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def test_a_server_that_goes_away_mid_answer_leaves_the_partial(misbehaving):
    backend = ServerBackend(misbehaving.url)
    text = ""
    with pytest.raises(EngineError, match="broke off"):  # noqa: PT012
        for delta in backend.stream([user("Hello!")]):
            text += delta.text
    assert text == "one two "
    backend.close()


def test_abort_does_not_wait_for_a_server_that_hangs(misbehaving):
    misbehaving.behaviour = "hangs"
    backend = ServerBackend(misbehaving.url)
    stream = backend.stream([user("Hello!")])
    assert [next(iter(stream)).text, next(iter(stream)).text] == ["one ", "two "]
    started_s = time.perf_counter()
    threading.Timer(0.05, stream.abort).start()
    reply = stream.reply
    assert time.perf_counter() - started_s < patient(2)
    assert (reply.text, reply.finish_reason) == ("one two ", "abort")
    backend.close()


def test_a_server_that_refuses_is_told_with_its_words(misbehaving):
    misbehaving.behaviour = "overloaded"
    backend = ServerBackend(misbehaving.url)
    with pytest.raises(EngineError, match="503: too many requests"):
        backend.stream([user("Hello!")]).reply  # noqa: B018
    backend.close()


def test_a_wrong_key_is_told(misbehaving):
    misbehaving.behaviour = "locked"
    backend = ServerBackend(misbehaving.url, api_key="secret")
    with pytest.raises(EngineError, match="refuses the key") as caught:
        backend.info()
    assert "secret" not in str(caught.value) + caught.value.hint
    backend.close()


def test_a_server_that_does_not_count_is_estimated(misbehaving):
    backend = ServerBackend(misbehaving.url)
    fit = backend.fit([user("Hello, how are you today?")])
    assert 5 <= fit.num_prompt_tokens <= 20
    backend.close()


def test_models_are_listed_and_a_refused_key_is_reported(misbehaving):
    backend = ServerBackend(misbehaving.url)
    assert backend.models() == ["m"]
    misbehaving.behaviour = "locked"
    with pytest.raises(EngineError, match="refuses the key"):
        backend.models()
    backend.close()


def test_nobody_at_the_address_is_told_and_reload_tries_again(misbehaving):
    backend = ServerBackend(f"http://127.0.0.1:{free_port()}/v1")
    status = backend.wait_until_ready(30)
    assert status.stage == "failed"
    with pytest.raises(EngineError, match="does not answer"):
        backend.stream([user("Hello!")])
    backend.url = misbehaving.url
    backend.reload()
    assert backend.wait_until_ready(30).stage == "ready"
    backend.close()


def test_every_request_of_a_conversation_names_it_for_routers(misbehaving):
    backend = ServerBackend(misbehaving.url)
    for session_id in ("c1", "c1", "c2", None, None):
        backend.stream([user("Hello!")], session_id=session_id).abort()
    wait_until(lambda: len(misbehaving.requests) >= 5, "five requests")
    names = sorted((name for _, name, _ in misbehaving.requests), key=lambda name: (len(name), name))
    assert names[:3] == ["c1", "c1", "c2"]
    assert names[3] == names[4]
    assert len(names[3]) == 24
    backend.close()


def test_a_server_that_is_not_ours_is_sent_no_token_ids(misbehaving):
    backend = ServerBackend(misbehaving.url)
    answer = {"role": "assistant", "content": "Hi.", "token_ids": [1, 2]}
    backend.fit([user("Hello!"), answer, user("Again")])
    with pytest.raises(EngineError):
        backend.stream([user("Hello!"), answer, user("Again")]).reply  # noqa: B018
    assert len(misbehaving.requests) == 2
    assert "token_ids" not in json.dumps([body for _, _, body in misbehaving.requests])
    backend.close()


def test_the_path_of_the_address_may_be_left_out(misbehaving):
    backend = ServerBackend(misbehaving.url.removesuffix("/v1"))
    assert backend.wait_until_ready(30).stage == "ready"
    backend.close()


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://host/v1", "http://", "http://user:secret@host/v1", ""])
def test_what_is_no_address_is_told_without_repeating_it(url):
    with pytest.raises(ChatError, match="URL is none") as caught:
        ServerBackend(url)
    assert "secret" not in f"{caught.value} {caught.value.hint}"


def test_proxies_are_not_asked_for_a_server_of_this_machine(misbehaving, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    backend = ServerBackend(misbehaving.url)
    assert backend.wait_until_ready(30).stage == "ready", backend.status()
    backend.close()
