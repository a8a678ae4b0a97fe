"""Nobody gets in: every route of the live application, every place for a key, other people's ids, paths, addresses.

The routes are those that the application has (``app.routes``, mounted ones too) and those that ``/openapi.json`` names.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import http.server
import io
import json
import re
import secrets
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import pytest

from chat.backends.engine_host import log_dir
from chat.config import Settings
from chat.conversations.conversation import Message, make_id
from chat.server.guard import keys as server_keys
from chat.server.guard.keys import KeyRing
from chat.store.local import ConversationStore
from chat.terminal.repl import run as run_terminal
from tests.chat.server.asgi import ask as ask_guard
from tests.chat.server.asgi import guard_with
from tests.chat.server.clients import ask, http_of, openai_of
from tests.chat.terminal.scripted import ScriptedBackend
from tests.reliability import scale
from tests.reliability.recorder import recorded_routes

OPEN = {"/health", "/ping"}
IN_PATHS = re.compile(r"\{[^}]+\}")
WRONG_KEY = "wrong-key-wrong-key-wrong-key"


@pytest.fixture(scope="module")
def figures() -> Iterator[dict[str, Any]]:
    """The figures of the whole file, kept at its end."""
    found: dict[str, Any] = {}
    yield found
    scale.keep("let_nobody_in", found)


@pytest.fixture(scope="module")
def server(recorded):
    return recorded.server


def send(server: Any, path: str, body: Any = None, *, method: str = "", headers: Any = (), owner: str = "") -> Any:
    """Send a request as it stands, the path unchanged; return (status, headers, body)."""
    host, port = server.url.removeprefix("http://").split(":")
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    with contextlib.closing(connection):
        connection.putrequest(method or ("GET" if data is None else "POST"), path, skip_accept_encoding=True)
        known = server.headers(owner) if owner else {}
        for name, value in [*known.items(), *dict(headers).items()]:
            connection.putheader(name, value)
        if data is not None:
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", str(len(data)))
        connection.endheaders(data)
        reply = connection.getresponse()
        return reply.status, dict(reply.headers), reply.read()


@pytest.fixture(scope="module")
def routes(recorded, server) -> list[tuple[str, str]]:
    """Every (method, path) of the live application and of its description."""
    described = json.loads(send(server, "/openapi.json", owner="local")[2])["paths"]
    found = {(method.upper(), path) for path, methods in described.items() for method in methods}
    for route in recorded_routes(recorded.file):
        path = route["path"] or "/"
        if route["kind"] == "Mount":
            found |= {("GET", path), ("GET", f"{path}/"), ("GET", f"{path}/some-file"), ("POST", path)}
        found |= {(method, path) for method in route["methods"]}
        if "WebSocket" in route["kind"]:
            found.add(("WEBSOCKET", path))
    return sorted(found)


def strangers(key: str) -> dict[str, dict[str, str]]:
    """Return the headers of those who have no key, a wrong one, or a right one in a wrong place."""
    basic = base64.b64encode(f"{key}:".encode()).decode()
    return {
        "nothing": {},
        "a wrong key": {"Authorization": f"Bearer {WRONG_KEY}"},
        "an empty key": {"Authorization": "Bearer "},
        "no scheme": {"Authorization": key},
        "another scheme": {"Authorization": f"Token {key}"},
        "the key as a user's name": {"Authorization": f"Basic {basic}"},
        "a key and more": {"Authorization": f"Bearer {key}x"},
        "half a key": {"Authorization": f"Bearer {key[:-1]}"},
        "two keys": {"Authorization": f"Bearer {key}, Bearer {key}"},
        "a list of keys": {"Authorization": f"Bearer {key} {WRONG_KEY}"},
        "an Azure header": {"Api-Key": key},
        "x-api-key with a scheme": {"X-Api-Key": f"Bearer {key}"},
        "a proxy's header": {"Proxy-Authorization": f"Bearer {key}"},
        "a forwarded header": {"X-Forwarded-Authorization": f"Bearer {key}", "X-Forwarded-For": "127.0.0.1"},
        "a cookie": {"Cookie": f"Authorization=Bearer {key}; api_key={key}; token={key}"},
        "a websocket's protocol": {"Sec-WebSocket-Protocol": f"openai-insecure-api-key.{key}"},
        "an owner's name": {"X-Owner": "alice", "OpenAI-Organization": "alice", "Remote-User": "alice"},
    }


# -- keys ------------------------------------------------------------------------------------------------------------


def test_every_route_of_the_live_application_refuses_strangers(server, routes, figures):
    key = server.keys["alice"]
    body = {"api_key": key, "key": key, "authorization": f"Bearer {key}", "model": "demo", "messages": []}
    asked = [route for route in routes if route[1] not in OPEN and route[0] != "WEBSOCKET"]
    assert len(asked) > 50
    assert {path for _, path in asked} >= {"/v1/store", "/tokenize", "/invocations", "/metrics", "/openapi.json", "/"}
    named = strangers(key)
    some = list(named) if scale.FULL else [*list(named)[:2], *list(named)[2::5]]

    def status(case: tuple[tuple[str, str], str]) -> int:
        (method, path), who = case
        path = f"{IN_PATHS.sub('some-id', path)}?api_key={key}&key={key}&access_token={key}"
        data = body if method in ("POST", "PUT", "PATCH") else None
        return send(server, path, data, method=method, headers=named[who])[0]

    cases = list(product(asked, some))
    with ThreadPoolExecutor(8) as pool:
        let_in = {case for case, code in zip(cases, pool.map(status, cases), strict=True) if code != 401}
    assert let_in == set()
    figures["routes"], figures["requests_without_a_right_key"] = len(asked), len(cases)


def test_health_alone_answers_everybody_and_says_nothing(server, routes):
    for path in sorted(OPEN):
        status, _, body = send(server, path)
        assert (status, body) == (200, b"")
    for path in ("/health/", "//health", "/health/x", "/HEALTH", "/ping;x", "/health%2f..%2fmetrics", "/%68ealthx"):
        assert send(server, path)[0] == 401, path
    assert send(server, "/health?x=/metrics")[2] == b""


def test_no_websocket_opens_for_a_stranger(server, routes):
    """Also on paths that are none: nobody learns which there are."""
    key = server.keys["alice"]
    paths = {path for method, path in routes if method == "WEBSOCKET"}
    paths |= {"/v1/realtime", "/v1/responses", "/ws", f"/v1/realtime?api_key={key}", "/health"}
    handshake = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    handshake["Sec-WebSocket-Key"] = "dGhlIHNhbXBsZSBub25jZQ=="
    for path, (who, headers) in product(sorted(paths), strangers(key).items()):
        assert send(server, path, headers=handshake | headers)[0] == 403, (path, who)


def test_methods_that_a_route_does_not_have_open_nothing(server, routes):
    paths = sorted({path for _, path in routes} - OPEN)
    for path, method in product(paths[:: scale.scaled(1, 6)], ("OPTIONS", "HEAD", "TRACE", "PROPFIND", "get")):
        assert send(server, IN_PATHS.sub("some-id", path), method=method)[0] in (400, 401), (method, path)
    preflight = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    status, _, body = send(server, "/v1/conversations", method="OPTIONS", headers=preflight)
    assert status in (200, 400)
    assert b"conv_" not in body


def test_keys_are_compared_in_constant_time(tmp_path, monkeypatch, figures):
    """Every key is compared, whether one before has matched or not, and digests of one length are what is compared."""
    file = tmp_path / "keys"
    known = [secrets.token_urlsafe(24) for _ in range(20)]
    file.write_text("".join(f"owner{number}: {key}\n" for number, key in enumerate(known)))
    ring, compared = KeyRing(file), []
    compare = server_keys.hmac.compare_digest
    with monkeypatch.context() as watching:
        watching.setattr(
            server_keys.hmac, "compare_digest", lambda one, other: compared.append((one, other)) or compare(one, other)
        )
        for presented in (known[0], known[-1], known[0][:-1], WRONG_KEY, "", known[0] + "x" * 1000):
            compared.clear()
            caller = ring.find(presented.encode())
            assert (caller is not None) == (presented in known)
            assert len(compared) == len(known)
            assert {len(one) for pair in compared for one in pair} == {32}
    figures["key_comparison_us"] = {
        "right": median_us(ring, known[0]),
        "all_but_the_last_letter": median_us(ring, f"{known[0][:-1]}!"),
        "nothing_right": median_us(ring, "!" * len(known[0])),
    }


def median_us(ring: KeyRing, key: str) -> float:
    times_s = []
    for _ in range(scale.scaled(20_000, 500)):
        begun_s = time.perf_counter()
        ring.find(key.encode())
        times_s.append(time.perf_counter() - begun_s)
    return round(statistics.median(times_s) * 1e6, 2)


# -- other people's ids ----------------------------------------------------------------------------------------------


def test_what_belongs_to_others_is_not_there_byte_for_byte(server, routes, figures):
    """On every route that takes an id: the same reply as for an id that nobody has."""
    with openai_of(server, "alice") as alice:
        made = alice.conversations.create(items=[{"role": "user", "content": "My name is Zorvan."}])
        item = alice.conversations.items.list(made.id).data[0].id
        response = ask(alice, "What is my name?", conversation=made.id, max_output_tokens=4)
        before = list(alice.conversations.items.list(made.id, order="asc"))
    theirs = {"conversation_id": made.id, "item_id": item, "response_id": response.id}
    nobodys = {name: re.sub(r"[0-9a-f]{24}", lambda _: secrets.token_hex(12), one) for name, one in theirs.items()}
    asked = [(method, path) for method, path in routes if any(f"{{{name}}}" in path for name in theirs)]
    assert len(asked) >= 12
    for method, path in asked:
        stored = path.startswith("/v1/store")
        said = [say(server, method, path, ids, stored=stored) for ids in (theirs, nobodys)]
        assert [status for status, _, _ in said] == [404, 404], (method, path, said)
        assert said[0] == said[1], (method, path)
    for field, name in (("conversation", "conversation_id"), ("previous_response_id", "response_id")):
        body = {"model": "demo", "input": "What is my name?", "max_output_tokens": 4}
        said = [
            without(send(server, "/v1/responses", {**body, field: ids[name]}, owner="bob"), ids)
            for ids in (theirs, nobodys)
        ]
        assert said[0] == said[1]
        assert said[0][0] == 404
    with openai_of(server, "alice") as alice:
        assert list(alice.conversations.items.list(made.id, order="asc")) == before
        assert alice.responses.retrieve(response.id).id == response.id
    figures["routes_with_ids"] = len(asked) + 2


def say(server: Any, method: str, path: str, ids: dict[str, str], *, stored: bool) -> Any:
    ids = {name: one.removeprefix("conv_") if stored else one for name, one in ids.items()}
    bodies: dict[str, Any] = {"items": {"items": [{"role": "user", "content": "forged"}]}, "settle": {"writer": WRITER}}
    body = bodies.get(path.rsplit("/", 1)[1], {"metadata": {"forged": "1"}}) if method == "POST" else None
    return without(send(server, path.format_map(ids), body, method=method, owner="bob"), ids)


WRITER = "elsewhere 1/1 4194304 1 00000000"


def without(reply: Any, ids: dict[str, str]) -> Any:
    """Return a reply without what may differ: the ids that were asked for, times, and the request's own id."""
    status, headers, body = reply
    for one in ids.values():
        body = body.replace(one.split("_", 1)[-1].encode(), b"ID")
    kept = {name.lower(): value for name, value in headers.items()}
    return status, {name: kept[name] for name in kept.keys() - {"x-request-id", "date"}}, body


def test_lists_searches_and_sessions_show_nothing_of_others(server):
    with http_of(server, "alice") as alice, http_of(server, "bob") as bob:
        secret = "quokka" + secrets.token_hex(4)
        fields = {"request_output_len": 1, "interactive_mode": True}
        number = alice.post("/v1/chat/interactive", json={"prompt": secret, **fields}).json()["session_id"]
        kept = alice.get("/v1/store/conversations").json()["data"][0]
        searches = f"/v1/conversations?q={secret}", f"/v1/store/search?text={secret}", f"/v1/store/find?words={secret}"
        for path in ("/v1/conversations?limit=100", *searches):
            assert kept["id"] not in bob.get(path).text
            assert kept["id"] in alice.get(path).text
        assert kept["id"] not in bob.get("/v1/store/conversations?limit=1000").text
        theirs = bob.post("/v1/chat/interactive", json={"prompt": "Hi", "session_id": number, **fields}).json()
        assert theirs["history_tokens"] == 0
        bob.post("/v1/chat/interactive", json={"prompt": "", "session_id": number, "request_output_len": 0})
        again = alice.post("/v1/chat/interactive", json={"prompt": "Hi", "session_id": number, **fields}).json()
        assert again["history_tokens"] > 0
        changes = {"conversation_id": kept["id"], "fields": {"title": "forged"}}
        said = bob.post("/v1/store/changes", json={"writer": WRITER, "changes": [changes]})
        missing = {**changes, "conversation_id": make_id()}
        other = bob.post("/v1/store/changes", json={"writer": WRITER, "changes": [missing]})
        assert said.status_code == other.status_code
        assert said.status_code in (404, 409)
        assert said.text.replace(kept["id"], "ID") == other.text.replace(missing["conversation_id"], "ID")
        took = bob.post("/v1/store/changes", json={"writer": WRITER, "changes": [{**changes, "is_new": True}]})
        assert took.status_code >= 400
        assert alice.get(f"/v1/store/conversations/{kept['id']}").json()["conversation"]["title"] != "forged"


# -- paths -----------------------------------------------------------------------------------------------------------

PATHS = [
    "../../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "....//....//etc/passwd",
    "..\\..\\etc\\passwd",
    "/etc/passwd",
    "file:///etc/passwd",
    "..%00/etc/passwd",
    "%252e%252e%252fetc%252fpasswd",
    "~/.ssh/id_rsa",
]


def test_no_path_leads_out_of_a_route(server, routes, figures):
    prefixes = {path.partition("{")[0] for _, path in routes if "{" in path} | {
        "/static/docs/",
        "/docs/",
        "/metrics/",
        "/",
    }
    for prefix, path in product(sorted(prefixes), PATHS):
        for method in ("GET", "DELETE"):
            status, _, body = send(server, prefix + path.lstrip("/"), method=method, owner="local")
            assert status in (400, 404, 405), (method, prefix + path)
            assert b"root:" not in body
    figures["paths"] = len(prefixes) * len(PATHS)


def test_the_name_of_a_model_or_adapter_is_no_path(server):
    message = [{"role": "user", "content": "Hi"}]
    for name in [*(path.replace("%2f", "/") for path in PATHS), "demo/../demo", "./demo", "http://127.0.0.1:1/model"]:
        for path, body in (
            ("/v1/chat/completions", {"model": name, "messages": message}),
            ("/v1/completions", {"model": name, "prompt": "Hi"}),
            ("/v1/responses", {"model": name, "input": "Hi"}),
            ("/v1/messages", {"model": name, "messages": message, "max_tokens": 1}),
            ("/tokenize", {"model": name, "messages": message}),
            ("/v1/chat/interactive", {"prompt": "Hi", "adapter_name": name}),
        ):
            status, _, reply = send(server, path, body, owner="local")
            assert 400 <= status < 500, (path, name, reply)
            assert b"No such file" not in reply


def test_routes_that_load_from_paths_are_closed(server):
    for path in ("/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/update_weights", "/init_weight_transfer_engine"):
        body = {"lora_name": "x", "lora_path": "/etc"}
        assert send(server, path, body, owner="local")[0] == 404


@pytest.mark.parametrize(
    "title", ["../../../evil", "/etc/cron.d/evil", "..", ".", "~/evil", "a\\..\\evil", "con\x00evil", "." * 300]
)
def test_the_title_of_a_conversation_names_a_file_here_and_nowhere_else(tmp_path, monkeypatch, title):
    here = tmp_path / "a" / "b" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    store = ConversationStore(tmp_path / "store.sqlite")
    conversation = store.create(title=title.replace("\x00", ""))
    store.add(conversation, Message("user", "Hi"))
    before = set(tmp_path.rglob("*"))
    for form in ("md", "json", "openai"):
        lines = io.StringIO(f"/export {form}\n")
        run_terminal(ScriptedBackend(), store, Settings(), resume=conversation.id, input=lines, output=io.StringIO())
    made = set(tmp_path.rglob("*")) - before
    assert len(made) == 3
    assert {file.parent for file in made} == {here}
    store.close()


# -- addresses -------------------------------------------------------------------------------------------------------


@pytest.fixture
def canary() -> Iterator[tuple[int, list[str]]]:
    """A server of this machine that nothing has a reason to ask: its port, and what it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_POST = do_HEAD = do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    yield listener.server_address[1], asked
    listener.shutdown()
    listener.server_close()


def addresses(port: int) -> list[str]:
    hosts = ("127.0.0.1", "localhost", "2130706433", "0x7f000001", "127.1", "[::ffff:127.0.0.1]", "x@127.0.0.1")
    plain = [f"http://{host}:{port}/secret" for host in hosts]
    return [
        *plain,
        f"HTTP://127.0.0.1:{port}/secret",
        f" http://127.0.0.1:{port}/",
        f"ftp://127.0.0.1:{port}/",
        "file:///etc/passwd",
    ]


def media(address: str) -> list[dict[str, Any]]:
    """Return parts of a message that name an address, as the clients of three makers and of vLLM write them."""
    return [
        {"type": "image_url", "image_url": {"url": address}},
        {"type": "image_url", "image_url": address},
        {"image_url": address},
        {"image_url": {"url": address}, "uuid": "x"},
        {"type": "input_image", "image_url": address},
        {"type": "video_url", "video_url": {"url": address}},
        {"video_url": address},
        {"type": "audio_url", "audio_url": {"url": address}},
        {"audio_url": address},
        {"type": "input_file", "file_url": address},
        {"type": "image", "source": {"type": "url", "url": address}},
        {"type": "document", "source": {"type": "url", "url": address}},
        {
            "type": "tool_result",
            "tool_use_id": "x",
            "content": [{"type": "image", "source": {"type": "url", "url": address}}],
        },
    ]


def test_no_address_of_media_passes_the_guard_unless_allowed(tmp_path, figures):
    guard, open_guard = guard_with(tmp_path), guard_with(tmp_path, media_urls=True)
    number = 0
    for address, path in product(
        addresses(9), ("/v1/chat/completions", "/v1/messages", "/v1/responses", "/tokenize", "/pooling")
    ):
        for part in media(address):
            field = "input" if path == "/v1/responses" else "messages"
            body = {field: [{"role": "user", "content": [part]}]}
            reply = ask_guard(guard, path, body=body)
            assert (reply.status, reply.error["code"]) == (400, "media_url_off"), (path, part)
            number += 1
    assert ask_guard(open_guard, body={"messages": [{"role": "user", "content": media(addresses(9)[0])}]}).status == 200
    figures["addresses_of_media_refused"] = number


def test_the_server_fetches_nothing_that_a_request_names(server, canary):
    port, asked = canary
    for address in addresses(port)[:: scale.scaled(1, 4)]:
        schema = {"$schema": address, "$id": address, "type": "object", "properties": {"a": {"$ref": f"{address}#/a"}}}
        tool = {"type": "function", "function": {"name": "look", "parameters": schema}}
        form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        said = [{"role": "user", "content": address}]
        bodies = [
            *({"messages": [{"role": "user", "content": [part]}]} for part in media(address)),
            {"messages": said, "tools": [tool]},
            {"messages": said, "tools": [tool], "tool_choice": "required"},
            {"messages": said, "response_format": form},
            {"messages": said, "structured_outputs": {"json": schema}},
            {"messages": said, "model": address},
            {"messages": said, "chat_template": address},
            {"messages": said, "chat_template_kwargs": {"chat_template": address, "documents": [{"url": address}]}},
            {
                "messages": said,
                "user": address,
                "metadata": {"url": address},
                "callback_url": address,
                "webhook": address,
            },
            {"messages": said, "mm_processor_kwargs": {"url": address}, "media_io_kwargs": {"image": {"url": address}}},
        ]
        mcp = {"type": "mcp", "server_label": "x", "server_url": address, "require_approval": "never"}
        more = [("/v1/responses", {"input": "Hi", "tools": [mcp], "max_output_tokens": 1})]
        more += [
            ("/v1/responses", {"input": [{"role": "user", "content": [part]}], "max_output_tokens": 1})
            for part in media(address)
        ]
        more += [("/v1/responses", {"input": "Hi", "prompt": {"id": address}, "max_output_tokens": 1})]
        more += [("/v1/chat/interactive", {"prompt": "Hi", "image_url": address, "request_output_len": 1})]
        more += [("/v1/embeddings", {"input": address}), ("/score", {"text_1": address, "text_2": address})]
        for path, body in [*(("/v1/chat/completions", {"max_tokens": 1, **body}) for body in bodies), *more]:
            status, _, reply = send(server, path, {"model": "demo", **body}, owner="local")
            assert status < 500, (path, body, reply)
    assert asked == []


# -- what is written down --------------------------------------------------------------------------------------------


def processes_of(server: Any) -> list[psutil.Process]:
    process = psutil.Process(server.process.pid)
    return [process, *process.children(recursive=True)]


def test_logs_and_processes_hold_no_key_and_nothing_that_was_said(server, figures):
    """After everything that the tests of this folder have asked, and after these requests, good and bad ones."""
    mark = f"mark{secrets.token_hex(8)}"
    said = [{"role": "user", "content": mark}]
    for path, body in (
        ("/v1/chat/completions", {"messages": said, "max_tokens": 1}),
        ("/v1/chat/completions", {"messages": said, "max_tokens": 1, "stream": True}),
        ("/v1/chat/completions", {"messages": [{"role": mark, "content": mark}]}),
        ("/v1/chat/completions", {"messages": said, "max_tokens": mark}),
        ("/v1/chat/completions", {"messages": said, "tools": [{"type": mark}]}),
        ("/v1/chat/completions", {"messages": said, "response_format": {"type": mark}}),
        ("/v1/chat/completions", {"messages": said, "chat_template_kwargs": {"enable_thinking": mark}}),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": mark * 2000}]}),
        ("/v1/completions", {"prompt": mark, "max_tokens": 1}),
        ("/v1/responses", {"input": mark, "max_output_tokens": 1, "metadata": {"a": mark}}),
        ("/v1/responses", {"input": [{"type": mark}]}),
        ("/v1/messages", {"messages": said, "max_tokens": 1, "system": mark}),
        ("/v1/chat/interactive", {"prompt": mark, "interactive_mode": True, "request_output_len": 1}),
        ("/v1/chat/interactive", {"prompt": [{"role": mark}]}),
        ("/v1/conversations", {"items": said, "metadata": {"a": mark}}),
        ("/v1/conversations", {"items": [{"type": mark, "content": mark}]}),
        (f"/v1/store/search?text={mark}", None),
        (f"/v1/store/find?words={mark}", None),
        (f"/v1/conversations?q={mark}", None),
        (f"/v1/models?api_key={server.keys['alice']}&q={mark}", None),
        ("/tokenize", {"messages": said}),
        ("/v1/encode", {"input": mark}),
    ):  # fmt: skip
        if body is not None:
            body = {"model": "demo", **body} if path.startswith(("/v1/c", "/v1/r", "/v1/m", "/t")) else body
            body = (
                body
                if path not in ("/v1/conversations", "/v1/chat/interactive")
                else {k: v for k, v in body.items() if k != "model"}
            )
        assert send(server, path, body, owner="local")[0] < 500, (path, body)
    send(server, "/v1/chat/completions", f'{{"{mark}": 1, "{mark}": 2}}'.encode(), owner="local")
    send(server, "/v1/models", headers={"Authorization": f"Bearer {server.keys['bob']}x"})
    time.sleep(1.0)
    written = "".join(file.read_text("utf-8", "replace") for file in log_dir().glob("*.log*"))
    written += server.output.read_text("utf-8")
    shown = "".join(
        (Path("/proc") / str(process.pid) / name).read_text("utf-8", "replace")
        for process in processes_of(server)
        for name in ("cmdline", "environ")
    )
    assert "POST /v1/chat/completions 200 owner=local" in written
    assert len(shown) > 1000
    for secret in (*server.keys.values(), mark):
        assert secret not in written
        assert secret not in shown
    figures["processes"], figures["characters_of_logs"] = len(processes_of(server)), len(written)


def test_files_that_hold_keys_or_conversations_are_for_their_owner_alone(server):
    files = [server.key_file, *server.store.parent.glob("conversations.sqlite*"), *log_dir().glob("*.log*")]
    assert len(files) >= 3
    for file in files:
        assert file.stat().st_mode & 0o077 == 0, file


def test_nothing_but_loopback_is_listened_on(server):
    for process in processes_of(server):
        for connection in process.net_connections(kind="inet"):
            if connection.status == psutil.CONN_LISTEN:
                assert connection.laddr.ip in ("127.0.0.1", "::1"), (process.cmdline()[:3], connection)
