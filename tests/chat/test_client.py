"""The client in Python on a server that answers what the test says. On our own server: tests/chat/server."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from chat.client import APIClient
from chatcore.errors import ChatError, ConversationBusyError, ServerRequestError
from tests.serving import free_port

REPLY = {"text": "Hi!", "tokens": 2, "input_tokens": 9, "history_tokens": 0, "finish_reason": "stop"}


@dataclass
class Answers:
    """What the next requests are answered, and what was asked: (path, headers, body)."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    cut: bool = False
    asked: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)

    def give(self, *parts: Any, status: int = 200, cut: bool = False) -> None:
        """Answer JSON, or text as it stands."""
        texts = (part if isinstance(part, str) else json.dumps(part) for part in parts)
        self.status, self.body, self.cut = status, "\n".join(texts).encode(), cut


@pytest.fixture
def answers() -> Iterator[Answers]:
    given = Answers()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = json.loads(self.rfile.read(length)) if length else None
            given.asked.append((self.path, dict(self.headers), body))
            self.send_response(given.status)
            self.send_header("Content-Length", str(len(given.body) + given.cut))
            self.end_headers()
            self.wfile.write(given.body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    given.url = f"http://127.0.0.1:{server.server_port}"
    yield given
    server.shutdown()
    server.server_close()


@pytest.fixture
def client(answers) -> Iterator[APIClient]:
    with APIClient(answers.url, api_key="a-long-key") as client:
        yield client


def test_models_are_listed_with_the_key(answers, client):
    answers.give({"data": [{"id": "demo"}, {"id": "adapter"}]})
    assert client.available_models == ["demo", "adapter"]
    path, headers, _ = answers.asked[0]
    assert (path, headers["Authorization"]) == ("/v1/models", "Bearer a-long-key")


def test_only_what_is_said_is_sent(answers, client):
    answers.give({"choices": []})
    list(client.chat_completions_v1("demo", "Hello!", temperature=0.5))
    answers.give(REPLY)
    list(client.chat_interactive_v1("Hello!", session_id=7, interactive_mode=True))
    list(client.chat_interactive_v1("Hello!"))
    bodies = [body for _, _, body in answers.asked]
    message = {"role": "user", "content": "Hello!"}
    assert bodies[0] == {"model": "demo", "messages": [message], "stream": False, "temperature": 0.5}
    assert bodies[1] == {"prompt": "Hello!", "session_id": 7, "interactive_mode": True}
    assert bodies[2] == {"prompt": "Hello!", "session_id": -1, "interactive_mode": False}


def test_a_session_names_itself_for_routers(answers, client):
    answers.give(REPLY)
    for session_id in (7, 7, -1, -1):
        list(client.chat_interactive_v1("x", session_id=session_id))
    names = [headers["X-Session-ID"] for _, headers, _ in answers.asked]
    assert names[:2] == ["7", "7"]
    assert names[2] == names[3] != "7"


def test_chat_yields_text_tokens_and_reason(answers, client):
    pieces = [REPLY | {"text": text, "tokens": n, "finish_reason": None} for n, text in enumerate(("H", "i!"), 1)]
    answers.give(*pieces, REPLY | {"text": ""})
    assert list(client.chat("Hello!", 3, stream=True)) == [("H", 1, None), ("i!", 2, None), ("", 2, "stop")]
    answers.give(REPLY)
    assert list(client.chat("Hello!", session_id=3)) == [("Hi!", 2, "stop")]
    with pytest.raises(ValueError, match="session_id"):
        list(client.chat("Hello!", -1))


def test_a_session_is_ended_as_the_contract_has_it(answers, client):
    answers.give(REPLY)
    client.end_session(3)
    asked = {"prompt": "", "session_id": 3, "interactive_mode": False, "request_output_len": 0}
    assert answers.asked[0][2] == asked


def test_chunks_are_read_out_of_the_stream(answers, client):
    chunk = {"choices": [{"delta": {"content": "a", "reasoning": "hm"}}]}
    answers.give(": ping", "", f"data: {json.dumps(chunk)}", "", "data: [DONE]", "")
    (got,) = client.chat_completions_v1("demo", "x", stream=True)
    assert got["choices"][0]["delta"] == {"content": "a", "reasoning": "hm", "reasoning_content": "hm"}


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thinking_has_both_of_its_names(answers, client, name):
    answers.give({"choices": [{"message": {"content": "a", name: "hm"}}]})
    (got,) = client.chat_completions_v1("demo", "x")
    assert got["choices"][0]["message"] == {"content": "a", "reasoning": "hm", "reasoning_content": "hm"}


def test_text_is_encoded_by_the_server(answers, client):
    answers.give({"input_ids": [1, 2], "length": 2})
    assert client.encode("Hi") == ([1, 2], 2)
    assert answers.asked[0][2] == {"input": "Hi", "do_preprocess": False, "add_bos": True}


CALLS: list[Callable[[APIClient], object]] = [
    lambda client: client.available_models,
    lambda client: client.encode("x"),
    lambda client: client.end_session(1),
    lambda client: list(client.chat("x", 1)),
    lambda client: list(client.chat("x", 1, stream=True)),
    lambda client: list(client.chat_completions_v1("demo", "x")),
    lambda client: list(client.completions_v1("demo", "x", stream=True)),
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"message": "too hot", "code": 400}}),
        (404, {"object": "error", "message": "too hot", "code": 404}),
        (500, {"detail": "too hot"}),
    ],
)
def test_a_refusal_is_told_in_the_servers_words(answers, client, call, status, body):
    answers.give(body, status=status)
    with pytest.raises(ServerRequestError, match=f"answers {status}: too hot") as caught:
        call(client)
    assert caught.value.status == status
    assert "a-long-key" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize("call", CALLS)
def test_a_connection_that_breaks_is_told(answers, client, call):
    answers.give("{", cut=True)
    with pytest.raises(ServerRequestError, match="broke off"):
        call(client)


def test_an_error_in_the_middle_of_a_stream_is_told(answers, client):
    answers.give('data: {"choices": []}', "", 'data: {"error": {"message": "the engine failed"}}')
    chunks = client.chat_completions_v1("demo", "x", stream=True)
    assert next(chunks) == {"choices": []}
    with pytest.raises(ServerRequestError, match="the engine failed"):
        next(chunks)


def test_a_session_that_is_busy_is_told(answers, client):
    answers.give({"message": "busy"}, status=409)
    with pytest.raises(ConversationBusyError) as caught:
        list(client.chat("x", 7))
    assert caught.value.conversation_id == "7"


def test_what_is_no_json_is_told(answers, client):
    answers.give("<html>")
    with pytest.raises(ServerRequestError, match="JSON"):
        client.encode("x")


def test_nobody_at_the_address_is_told():
    with APIClient(f"http://127.0.0.1:{free_port()}", api_key="") as client, pytest.raises(ChatError) as caught:
        list(client.chat("x", 1, stream=True))
    assert "does not answer" in str(caught.value)


def test_the_key_of_this_machines_server_is_found(answers, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "vllm-deploy").mkdir()
    (tmp_path / "vllm-deploy" / "api-keys").write_text("local: the-key-that-serve-made\n")
    answers.give({"data": []})
    with APIClient(f"{answers.url}/v1") as client:
        assert client.available_models == []
    assert answers.asked[0][1]["Authorization"] == "Bearer the-key-that-serve-made"
