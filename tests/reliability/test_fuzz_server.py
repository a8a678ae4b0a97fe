"""What arrives over HTTP: any bytes at the guard and at a real socket, spoiled requests to every route of ours."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
import socket
import time
from collections.abc import Iterator, Sequence
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote, urlencode

import httpx2 as httpx
import hypothesis
import pytest
import schemathesis
from fastapi import FastAPI
from vllm.entrypoints.serve import create_error_response
from vllm.entrypoints.serve.exception_handling.register import init_exception_handler

from chat.conversations.conversation import Conversation, Message, make_id
from chat.server.api.prompts import PromptMaker
from chat.server.api.routes import routers
from chat.server.api.turns import RunningTurns
from chat.server.guard.middleware import Guard
from chat.server.settings.guard import GuardSettings
from chat.server.settings.retention import ServedSettings
from chat.store.changes import find_changes
from chat.store.local import ConversationStore
from chat.store.remote import _to_dict
from chat.store.server_state import KeptResponse
from prompt_utils import PromptBuilder
from tests.chat.server.asgi import Routes, ask, guard_with
from tests.program import ROOT
from tests.reliability import scale
from tests.reliability.cases import keep_figures, run_cases
from tests.reliability.mutation import mutate_bytes, mutate_value, odd_text, to_json

KEY = "alice-secret"
CHAT = {
    "model": "demo",
    "messages": [
        {"role": "system", "content": "Be terse."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "data:"}}],
        },
    ],
    "max_tokens": 5,
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    "stop": ["."],
    "n": 1,
}
PIECES = [
    b'"messages": ',
    b'"n": 99999',
    b'"cache_salt": 1',
    b'{"type": "prompt_embeds"}',
    b"http://127.0.0.1/",
    b"[" * 70,
]


# -- bytes at the guard -----------------------------------------------------------------------------------------------


def test_no_bytes_break_the_guard(tmp_path):
    """What the guard refuses, it refuses with a reason; what it lets through is JSON that can be read in one way."""
    routes = Routes()
    guard = guard_with(tmp_path, routes, max_body_bytes=20_000, max_body_s=0.02, max_messages=50)
    good = json.dumps(CHAT, ensure_ascii=False).encode()

    def case(rng: random.Random) -> str:
        routes.bodies.clear()
        body = mutate_bytes(rng, good, PIECES) if rng.random() < 0.5 else _spoiled_json(rng, CHAT)
        path = rng.choice(["/v1/chat/completions", "/v1/responses", "/tokenize", "/v1/store/changes", odd_text(rng)])
        reply = ask(
            guard,
            path,
            method=rng.choice(["POST"] * 8 + ["PUT", "DELETE", "GET", "", "\x00"]),
            key=KEY if rng.random() < 0.9 else rng.choice(["", "wrong", "Ω"]),
            headers=[(b"content-length", str(len(body)).encode()), *_odd_headers(rng)],
            pieces=_torn(rng, body),
        )
        assert 0 < reply.status < 500
        if reply.status >= 400:
            assert reply.error["message"]
            return "refused"
        for passed in filter(None, routes.bodies):
            json.loads(passed.decode("utf-8"), parse_constant=pytest.fail)
        return "passed"

    assert set(run_cases("bytes at the guard", case, short=800)) == {"passed", "refused"}


def _spoiled_json(rng: random.Random, value: Any) -> bytes:
    """Return a body of which places are something else, with what JSON forbids left in."""
    return to_json(rng, mutate_value(rng, value)).encode("utf-8", rng.choice(["surrogatepass", "replace"]))


def _odd_headers(rng: random.Random) -> list[tuple[bytes, bytes]]:
    names = [
        b"content-length",
        b"content-type",
        b"transfer-encoding",
        b"x-request-id",
        b"x-api-key",
        b"cookie",
        b"expect",
    ]
    values = [
        b"0",
        b"-1",
        b"9" * 30,
        b"chunked",
        b"multipart/form-data; boundary=x",
        b"\xff",
        b"",
        b"a\r\nb: c",
        b"x" * 9000,
    ]
    return [(rng.choice(names), rng.choice(values)) for _ in range(rng.choice([0, 0, 1, 2]))]


def _torn(rng: random.Random, body: bytes) -> list[bytes | None]:
    """Return a body in pieces; ``None`` is a client that sends nothing more."""
    cuts = sorted(rng.randrange(len(body) + 1) for _ in range(rng.choice([0, 0, 1, 3])))
    pieces: list[bytes | None] = [body[start:end] for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True)]
    if rng.random() < 0.0003:  # refused bodies are drained for 5 s
        pieces.append(None)
    elif rng.random() < 0.05:
        pieces = [*pieces[:-1], b"x" * 30_000, b""]
    return pieces


# -- requests to our routes -------------------------------------------------------------------------------------------


class Busy:
    """An engine that takes no request: what is asked is read, looked up and turned into a prompt, and no further."""

    async def create_chat_completion(self, *_: Any, **__: Any) -> Any:
        return create_error_response("the engine is busy", status_code=HTTPStatus.TOO_MANY_REQUESTS)

    create_responses = create_chat_completion


class Server:
    """Our routes as vLLM's application has them, behind the guard, in this process."""

    def __init__(self, folder: Path) -> None:
        self.store = ConversationStore.in_memory()
        self.app = FastAPI()
        self.app.state.args = SimpleNamespace(log_error_stack=False)
        for router in routers():
            self.app.include_router(router)
        init_exception_handler(self.app)
        builder = PromptBuilder.from_pretrained(ROOT / "chatcore" / "models" / "demo")
        state = self.app.state
        state.conversation_store = self.store
        state.conversation_prompts = PromptMaker(builder, 512)
        state.conversation_turns = RunningTurns(
            self.store, ServedSettings(max_conversations=50), builder.stop_token_ids
        )
        state.openai_serving_chat = state.openai_serving_responses = Busy()
        (folder / "keys").write_text(f"alice: {KEY}\n")
        self.guard = Guard(self.app, GuardSettings(key_file=str(folder / "keys"), max_messages=100))
        self.loop = asyncio.Runner()

    def ask(self, method: str, path: str, query: str, body: bytes, kind: bytes) -> tuple[int, bytes]:
        """Send one request as a server would hand it on; return status and body."""
        headers = [(b"authorization", f"Bearer {KEY}".encode()), (b"content-type", kind), (b"host", b"testserver")]
        if body or method not in ("GET", "DELETE"):
            headers.append((b"content-length", str(len(body)).encode()))
        scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": method, "scheme": "http"}
        scope |= {"path": path, "raw_path": quote(path).encode(), "query_string": query.encode(), "root_path": ""}
        scope |= {"headers": headers, "client": ("127.0.0.1", 1), "server": ("testserver", 80), "app": self.app}
        return self.loop.run(self._ask(scope, body))

    async def _ask(self, scope: dict[str, Any], body: bytes) -> tuple[int, bytes]:
        waiting = [{"type": "http.request", "body": body, "more_body": False}]
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            if waiting:
                return waiting.pop()
            await asyncio.Event().wait()  # the client stays
            raise AssertionError

        async def send(message: Any) -> None:
            sent.append(message)

        await self.guard(scope, receive, send)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    def close(self) -> None:
        self.loop.close()
        self.store.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@dataclasses.dataclass
class Known:
    """What a session of requests can name."""

    conversation: Conversation
    response_id: str

    @property
    def requests(self) -> list[tuple[str, str, dict[str, Any], Any]]:
        """Good requests, one or more to every route: method, path, query, body."""
        here, messages = f"conv_{self.conversation.id}", list(self.conversation.messages.values())
        item, response = f"msg_{messages[0].id}", f"resp_{self.response_id}"
        changes = {"writer": f"host boot 1 2 {'0' * 8}", "changes": [_changes(self.conversation)], "is_over": True}
        names = {"limit": 5, "after": here, "q": "灯塔"}
        return [
            ("GET", "/v1/conversations", names, None),
            ("POST", "/v1/conversations", {}, {"items": ITEMS, "metadata": {"a": "b"}}),
            ("GET", f"/v1/conversations/{here}", {}, None),
            ("POST", f"/v1/conversations/{here}", {}, {"metadata": {"a": "b"}}),
            ("DELETE", f"/v1/conversations/{here}", {}, None),
            ("POST", f"/v1/conversations/{here}/items", {}, {"items": ITEMS}),
            ("POST", f"/v1/conversations/{here}/items", {}, {"items": ITEMS[::-1]}),
            ("GET", f"/v1/conversations/{here}/items", {"limit": 5, "after": item, "order": "asc"}, None),
            ("GET", f"/v1/conversations/{here}/items/{item}", {}, None),
            ("DELETE", f"/v1/conversations/{here}/items/{item}", {}, None),
            ("POST", "/v1/responses", {}, {**RESPONSE, "conversation": {"id": here}}),
            ("POST", "/v1/responses", {}, {**RESPONSE, "previous_response_id": response}),
            ("POST", "/v1/responses", {}, {**RESPONSE, "previous_response_id": response, "store": False}),
            ("POST", "/v1/responses", {}, {**RESPONSE, "input": ITEMS, "conversation": here, "truncation": "auto"}),
            ("GET", f"/v1/responses/{response}", {"stream": "false"}, None),
            ("DELETE", f"/v1/responses/{response}", {}, None),
            ("POST", f"/v1/responses/{response}/cancel", {}, None),
            ("GET", f"/v1/responses/{response}/input_items", {"limit": 5, "order": "desc"}, None),
            ("POST", "/v1/chat/interactive", {}, INTERACTIVE),
            ("POST", "/v1/chat/interactive", {}, {**INTERACTIVE, "prompt": "Hi", "session_id": 7}),
            ("POST", "/v1/chat/interactive", {}, {"prompt": "", "session_id": 7, "cancel": True}),
            ("POST", "/v1/encode", {}, {"input": ["Hi", "<|im_end|>"], "do_preprocess": True, "add_bos": False}),
            ("GET", "/v1/store/conversations", {"limit": 5, "unfinished": "true"}, None),
            ("GET", f"/v1/store/conversations/{self.conversation.id}", {}, None),
            ("POST", "/v1/store/changes", {}, changes),
            ("POST", "/v1/store/changes", {}, changes),
            ("POST", f"/v1/store/conversations/{self.conversation.id}/settle", {}, {"writer": changes["writer"]}),
            ("DELETE", f"/v1/store/conversations/{self.conversation.id}", {}, None),
            ("GET", "/v1/store/search", {"text": "灯塔", "limit": 3}, None),
            ("GET", "/v1/store/find", {"words": "灯塔", "limit": 3}, None),
            ("POST", "/v1/store/leave", {}, {"writer": changes["writer"]}),
        ]


ITEMS = [
    {"type": "message", "role": "system", "content": "Be terse."},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Where is the 灯塔?"}]},
    {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
    {"type": "function_call", "call_id": "c1", "name": "f", "arguments": '{"a": 1}'},
    {"type": "function_call_output", "call_id": "c1", "output": "42"},
    {"role": "assistant", "content": "There."},
]
RESPONSE = {
    "model": "demo",
    "input": "Hi",
    "instructions": "Be terse.",
    "max_output_tokens": 5,
    "metadata": {"a": "b"},
    "tools": [{"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}}],
    "reasoning": {"effort": "low"},
    "stream": False,
}
INTERACTIVE = {
    "prompt": [
        {"role": "user", "content": "Hi", "tool_calls": None},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "42", "tool_call_id": "c"},
    ],
    "session_id": -1,
    "interactive_mode": True,
    "stream": False,
    "stop": ["."],
    "request_output_len": 5,
    "top_p": 0.8,
    "top_k": 40,
    "temperature": 0.8,
    "repetition_penalty": 1.0,
    "ignore_eos": False,
    "seed": 3,
    "enable_thinking": False,
}


def _changes(conversation: Conversation) -> dict[str, Any]:
    changes = find_changes(dataclasses.replace(conversation, id=make_id(), kept=None), object())
    assert changes is not None
    fresh = {message.id: make_id() for message in changes.messages}
    text = json.dumps(_to_dict(changes))
    for old, new in fresh.items():
        text = text.replace(old, new)
    return json.loads(text)  # type: ignore[no-any-return]


def _begin(store: ConversationStore) -> Known:
    conversation = store.create(owner="alice", title="Letters", system="Be terse.")
    store.add(conversation, Message("user", "Where is the 灯塔?"))
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    answer = store.add(conversation, Message("assistant", "There.", reasoning="Hm.", tool_calls=(call,)))
    kept = KeptResponse(make_id(), conversation.id, answer.id, {"id": "r", "status": "completed", "output": []})
    store.served.add_response(kept, owner="alice")
    return Known(conversation, kept.id)


REQUESTS = 10  # in one session


def test_no_request_breaks_a_route(server):
    """Sessions of requests of which something is spoiled: none is answered with a 5xx, each refusal says why."""

    def case(rng: random.Random) -> str:
        for line in server.store.recent(owner="alice", limit=100, with_empty=True):
            server.store.delete(line.id, owner="alice")
        known = _begin(server.store)
        good = 0
        for _ in range(REQUESTS):
            method, path, query, body = rng.choice(known.requests)
            request = _spoil_request(rng, method, path, query, body)
            status, reply = server.ask(*request)
            assert status < 500, (request, status, reply[:2000])
            if status >= 400:
                assert _says_why(json.loads(reply)), (request, reply)
            good += status < 300
        assert server.store.load(known.conversation.id, owner="alice") if _is_there(server.store, known) else True
        return "some taken" if good else "all refused"

    assert run_cases("requests to our routes", case, short=600, batch=REQUESTS)["some taken"]


def _spoil_request(
    rng: random.Random, method: str, path: str, query: Any, body: Any
) -> tuple[str, str, str, bytes, bytes]:
    kind = b"application/json"
    data = b"" if body is None else json.dumps(body).encode()
    match rng.randrange(10):
        case 0:
            path = path.replace(rng.choice(path.split("/")[1:]) or "x", odd_text(rng)[:200], 1)
        case 1 | 2 if query:
            query = {**query, rng.choice(list(query)): rng.choice([odd_text(rng)[:2000], "1", 10**30, -1, 1.5])}
        case 3 if body is not None:
            data = mutate_bytes(rng, data)
        case 4:
            kind = rng.choice([b"text/plain", b"application/json; charset=latin-1", b"", b"\xff"])
        case 5:
            method = rng.choice(["PUT", "PATCH", "GET", "DELETE", "POST"])
        case _ if body is not None:
            data = _spoiled_json(rng, body)
    texts = {name: str(value).encode("utf-8", "replace") for name, value in query.items()}
    return method, path.encode("utf-8", "replace").decode(), urlencode(texts), data, kind


def _says_why(reply: Any) -> bool:
    said = reply.get("error", reply)
    return bool(said.get("message") or reply.get("detail"))


def _is_there(store: ConversationStore, known: Known) -> bool:
    return any(line.id == known.conversation.id for line in store.recent(owner="alice", limit=100, with_empty=True))


# -- by the routes' own description -----------------------------------------------------------------------------------


def test_no_request_that_the_description_allows_breaks_a_route(server):
    """schemathesis makes requests of ``openapi.json``: good ones, and such that break one rule of it."""
    schema = schemathesis.openapi.from_dict(server.app.openapi())
    counts = {"cases": 0, "refused": 0, "taken": 0}
    begun_s = time.perf_counter()
    for result in schema.get_all_operations():
        operation = result.ok()

        @hypothesis.settings(
            max_examples=scale.scaled(1000, 4),
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @hypothesis.given(case=operation.as_strategy())
        def send(case: Any) -> None:
            path = case.formatted_path
            body = b"" if isinstance(case.body, schemathesis.core.NotSet) else json.dumps(case.body).encode()
            query = urlencode(
                {name: str(value).encode("utf-8", "replace") for name, value in (case.query or {}).items()}
            )
            status, reply = server.ask(case.method.upper(), path, query, body, b"application/json")
            assert status < 500, (case.method, path, query, body, reply[:2000])
            counts["cases"] += 1
            counts["refused" if status >= 400 else "taken"] += 1

        send()
    keep_figures("requests by the description", {**counts, "seconds": round(time.perf_counter() - begun_s, 1)})
    assert counts["taken"]


# -- a real socket ----------------------------------------------------------------------------------------------------


def test_no_bytes_break_a_real_server(recorded):
    """Requests that are spoiled below HTTP too: the server answers or hangs up in time, and goes on serving."""
    running = recorded.server
    address = running.url.removeprefix("http://").split(":")
    headers = {"Host": "x", "Content-Type": "application/json", **running.headers()}

    def case(rng: random.Random) -> str:
        method, path, _, body = rng.choice(SOCKET_REQUESTS)
        data = _spoiled_json(rng, body) if rng.random() < 0.5 else json.dumps(body).encode()
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
        request = "\r\n".join([*lines, f"Content-Length: {len(data)}", "Connection: close", "", ""]).encode() + data
        if rng.random() < 0.7:
            request = mutate_bytes(rng, request, SOCKET_PIECES)
        reply = _exchange((address[0], int(address[1])), request, slowly=rng.random() < 0.02)
        if not reply:
            return "hung up"
        status = int(reply.split(b" ", 2)[1])
        assert status < 500, (request, reply[:2000])
        return "answered" if status < 400 else "refused"

    outcomes = run_cases("bytes at a real socket", case, short=40, full=5_000)
    assert outcomes["refused"]
    assert httpx.get(f"{running.url}/health", trust_env=False).status_code == 200
    assert "Traceback" not in running.output.read_text()


SOCKET_REQUESTS: list[tuple[str, str, dict[str, Any], Any]] = [
    ("POST", "/v1/chat/completions", {}, {**CHAT, "messages": CHAT["messages"][:1], "max_tokens": 1}),
    ("POST", "/v1/responses", {}, {**RESPONSE, "max_output_tokens": 1}),
    ("POST", "/v1/chat/interactive", {}, {**INTERACTIVE, "request_output_len": 1}),
    ("POST", "/v1/encode", {}, {"input": "Hi"}),
    ("POST", "/v1/conversations", {}, {"items": ITEMS}),
    ("POST", "/tokenize", {}, {"model": "demo", "messages": [{"role": "user", "content": "Hi"}]}),
    ("GET", "/v1/conversations", {}, {}),
]
SOCKET_PIECES = [
    b"\r\n",
    b"\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"5\r\nhello\r\n0\r\n\r\n",
    b"ffffffff\r\n",
    b"HTTP/1.0",
]
SOCKET_PIECES += [
    b"Content-Length: 5\r\n",
    b"Content-Length: -1\r\n",
    b"Expect: 100-continue\r\n",
    b"Upgrade: websocket\r\n",
]
SOCKET_PIECES += [
    b"GET / HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"x" * 70_000,
    b"\x16\x03\x01\x02\x00",
]


def _exchange(address: tuple[str, int], request: bytes, *, slowly: bool) -> bytes:
    """Send bytes, and say that no more will come; return what is answered, nothing if the server hangs up."""
    with socket.create_connection(address, timeout=15) as peer:
        try:
            for piece in _slices(request, 7 if slowly else 1):
                peer.sendall(piece)
                time.sleep(0.02 if slowly else 0)
            peer.shutdown(socket.SHUT_WR)
            reply = b""
            while piece := peer.recv(65536):
                reply += piece
            return reply
        except TimeoutError:  # it hangs
            raise
        except OSError:  # also "not connected", to who says so to somebody that has just hung up
            return b""


def _slices(data: bytes, number: int) -> Sequence[bytes]:
    size = max(1, -(-len(data) // number))
    return [data[start : start + size] for start in range(0, len(data), size)]
