"""The guarded server as it runs: vLLM, the demo model, real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import socket
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from itertools import product
from pathlib import Path

import openai
import psutil
import pytest

from chat.backends.engine_host import log_dir
from chat.server.vllm_plugin.http_process import NUM_DOORS
from tests.patience import wait_until

OPEN = {"/health", "/ping"}
CHAT = {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 5, "temperature": 0.0}
LISTENING = "0A"  # in /proc/net/tcp
COUNT = [{"role": "user", "content": "Count from 1 to 100."}]


def ask(server, path, body=None, *, method=None, headers=None, owner="local", timeout=120):
    """Return (status, headers, body) of one request."""
    data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = server.headers(owner) if headers is None else dict(headers)
    sent.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(server.url + path, data, sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=timeout) as reply:
            return reply.status, dict(reply.headers), reply.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read()


def raw(server, data, *, timeout=30):
    """Send bytes as they are; return what comes back until the server closes or falls silent."""
    host, port = server.url.removeprefix("http://").split(":")
    received = b""
    with socket.create_connection((host, int(port)), timeout=timeout) as connection:
        try:
            connection.sendall(data)
            while piece := connection.recv(65536):
                received += piece
                if b"\r\n\r\n" in received and b"keep-alive" not in received.lower():
                    connection.settimeout(2)
        except (TimeoutError, ConnectionError):
            pass
    return received


def log_of(server):
    return (log_dir() / f"server-{server.url.rsplit(':', 1)[1]}.log").read_text()


def metric(server, name):
    """Return the sum over a metric's lines whose name and labels begin so."""
    text = ask(server, "/metrics")[2].decode()
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))


def processes_of(server):
    return psutil.Process(server.process.pid).children(recursive=True)


@pytest.fixture(scope="module")
def routes(server):
    """Every (method, path) that the live app has, by its own description and by what vLLM says when it starts."""
    described = json.loads(ask(server, "/openapi.json")[2])["paths"]
    found = {(method.upper(), path) for path, methods in described.items() for method in methods}
    for path, methods in re.findall(r"Route: (\S+), Methods: ([A-Z, ]+)", log_of(server)):
        found |= {(method, path) for method in methods.split(", ")}
    found |= {("GET", path) for path in re.findall(r"Route: (\S+), Endpoint:", log_of(server))}
    return sorted(found)


# -- nobody gets in ------------------------------------------------------------------------------------------------


def test_every_route_refuses_whoever_has_no_key(server, routes):
    key = server.keys["alice"]
    strangers = [
        {},
        {"Authorization": "Bearer wrong-key-wrong-key"},
        {"Authorization": key},
        {"Authorization": f"Token {key}"},
        {"X-Api-Key": f"Bearer {key}"},
        {"Cookie": f"api_key={key}"},
    ]
    assert len(routes) > 25
    assert {path for _, path in routes} >= {
        "/v1/chat/completions",
        "/v1/store",
        "/tokenize",
        "/invocations",
        "/metrics",
    }
    asked = [(method, path) for method, path in routes if path not in OPEN]

    def status(case):
        (method, path), headers = case
        path = re.sub(r"\{[^}]+\}", "some-id", path)
        body = b"{}" if method in ("POST", "PUT", "PATCH") else None
        return ask(server, f"{path}?api_key={key}", body, method=method, headers=headers)[0]

    with ThreadPoolExecutor(8) as pool:
        cases = list(product(asked, strangers))
        wrong = {case[0] for case, code in zip(cases, pool.map(status, cases), strict=True) if code != 401}
    assert wrong == set()


def test_health_answers_everybody(server):
    for path in OPEN:
        assert ask(server, path, headers={})[0] == 200


def test_routes_that_administer_the_engine_are_closed_also_with_a_key(server, routes):
    for path in (
        "/scale_elastic_ep",
        "/inference/v1/generate",
        "/start_profile",
        "/generative_scoring",
        "/v1/systemone",
    ):
        status, _, body = ask(server, path, {})
        assert (status, json.loads(body)["error"]["code"]) == (404, "path_off"), path


def test_a_websocket_without_a_key_is_refused(server):
    handshake = "GET /v1/realtime HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    handshake += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    for path in ("/v1/realtime", "/v1/chat/completions"):
        reply = raw(server, (handshake.replace("/v1/realtime", path) + "\r\n").encode())
        assert reply.startswith(b"HTTP/1.1 403"), reply[:100]


def test_a_browser_reads_the_pages_with_the_key_as_password(server):
    assert ask(server, "/docs", headers={})[1]["www-authenticate"].startswith("Basic")
    basic = base64.b64encode(f"me:{server.keys['bob']}".encode()).decode()
    status, _, page = ask(server, "/docs", headers={"Authorization": f"Basic {basic}"})
    assert (status, b"swagger" in page.lower()) == (200, True)
    assert ask(server, "/v1/models", headers={"Authorization": f"Basic {basic}"})[0] == 401


def test_preflight_is_answered_without_a_key_and_goes_no_further(server):
    headers = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    status, _, body = ask(server, "/v1/chat/completions", method="OPTIONS", headers=headers)
    assert (status, body) == (400, b"Disallowed CORS origin")


# -- with a key, all works ---------------------------------------------------------------------------------------------


def client(server, owner="local"):
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.keys[owner], max_retries=0, timeout=120)


def test_the_line_that_is_printed_works(server):
    line = server.output.read_text().rstrip().splitlines()[-1]
    assert server.keys["local"] not in server.output.read_text()
    reply = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(reply.stdout)["choices"][0]["message"]["content"].strip().startswith("Hello")


def test_an_answer_streams_piece_by_piece(server):
    times_s = []
    started_s = time.perf_counter()
    stream = client(server).chat.completions.create(
        model="demo", messages=COUNT, stream=True, max_tokens=200, temperature=0, extra_body={"min_tokens": 200}
    )
    for _ in stream:
        times_s.append(time.perf_counter() - started_s)
    assert len(times_s) > 50
    assert times_s[0] < times_s[-1] / 2


def test_errors_are_those_of_openai(server):
    with pytest.raises(openai.AuthenticationError) as refused:
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="wrong-key", max_retries=0).models.list()
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.BadRequestError) as refused:
        client(server).chat.completions.create(**CHAT, n=1000)
    assert refused.value.param == "n"


def test_owners_do_not_share_the_prefix_cache(server):
    words = " ".join(f"word{number}" for number in range(300))
    body = {**CHAT, "messages": [{"role": "user", "content": words}]}

    def num_cached(owner):
        usage = json.loads(ask(server, "/v1/chat/completions", body, owner=owner)[2])["usage"]
        return (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0

    assert num_cached("alice") == 0
    assert num_cached("alice") > 100
    assert num_cached("bob") == 0


def test_anthropics_route_takes_anthropics_header(server):
    body = {"model": "demo", "max_tokens": 5, "messages": [{"role": "user", "content": "Hello!"}]}
    headers = {"x-api-key": server.keys["alice"], "anthropic-version": "2023-06-01"}
    status, _, reply = ask(server, "/v1/messages", body, headers=headers)
    assert (status, json.loads(reply)["type"]) == (200, "message")


# -- many, large, broken -----------------------------------------------------------------------------------------------


def test_a_hundred_clients_at_once_of_whom_some_leave(server):
    finished, generated = metric(server, "vllm:request_success_total"), metric(server, "vllm:generation_tokens_total")

    async def talk(asynchronous, number):
        leaves = number % 5 == 0
        num_tokens = 1200 if leaves else 8
        body = {"min_tokens": num_tokens, "chat_template_kwargs": {"enable_thinking": False}}
        stream = await asynchronous.chat.completions.create(
            model="demo", messages=COUNT, stream=True, temperature=0, max_tokens=num_tokens, extra_body=body
        )
        num_pieces = 0
        async for chunk in stream:
            num_pieces += bool(chunk.choices and chunk.choices[0].delta.content)
            if leaves and num_pieces == 2:
                await stream.close()
                return 0
        return num_pieces

    async def talk_all():
        # One client for all: making a hundred takes so long that the first answers end before anybody reads them.
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=server.keys["bob"], timeout=300) as client:
            return await asyncio.gather(*(talk(client, number) for number in range(100)))

    results = asyncio.run(talk_all())
    assert sum(result > 0 for result in results) == 80
    wait_until(lambda: metric(server, "vllm:num_requests_running") == 0, "the end of all requests", every_s=0.2)
    # vLLM counts those who left nowhere; on a busy machine one may leave after the last token.
    assert 80 <= metric(server, "vllm:request_success_total") - finished <= 85
    assert metric(server, "vllm:generation_tokens_total") - generated < 20 * 600


def test_a_body_of_a_gigabyte_is_refused_without_taking_memory(server):
    host, port = server.url.removeprefix("http://").split(":")
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.keys['bob']}\r\n"

    def most_memory():
        return max(process.memory_info().rss for process in processes_of(server))

    def send(head, pieces):
        received = b""
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            try:
                connection.sendall(head.encode())
                for piece in pieces:
                    connection.sendall(piece)
            except ConnectionError:
                pass
            while b"\r\n\r\n" not in received and (data := connection.recv(65536)):
                received += data
        return received[:12]

    before = most_memory()
    mebibyte = b"x" * (1 << 20)
    announced = f"{head}Content-Length: {1 << 30}\r\n\r\n"
    assert send(announced, []) == b"HTTP/1.1 413"
    chunk = b"100000\r\n" + mebibyte + b"\r\n"
    assert send(f"{head}Transfer-Encoding: chunked\r\n\r\n", (chunk for _ in range(40))) == b"HTTP/1.1 413"
    stranger = announced.replace(server.keys["bob"], "wrong-key-wrong-key")
    assert send(stranger, (mebibyte for _ in range(40))) == b"HTTP/1.1 401"
    assert most_memory() - before < 150 << 20


def test_a_head_that_grows_without_end_is_given_up(server):
    head = b"GET /v1/models HTTP/1.1\r\nHost: x\r\nX: "
    assert raw(server, head + b"a" * 100_000).startswith(b"HTTP/1.1 400")


# -- what is written down ----------------------------------------------------------------------------------------------


def test_the_server_listens_at_its_socket_many_times(server):
    """vLLM hands its socket over to uvicorn in a way that could change."""
    address = f":{int(server.url.rpartition(':')[2]):04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text("ascii").splitlines()[1:]]
    (listener,) = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(address) and row[3] == LISTENING}
    held = [[link(file) for file in Path(f"/proc/{one.pid}/fd").iterdir()] for one in processes_of(server)]
    assert max(links.count(listener) for links in held) >= NUM_DOORS


def link(file: Path) -> str:
    try:
        return os.readlink(file)
    except OSError:  # closed meanwhile
        return ""


def test_metrics_of_the_guard_stand_beside_those_of_vllm(server):
    before = metric(server, 'vllm_deploy_guard_rejections_total{reason="key"}')
    ask(server, "/v1/models", headers={})
    assert metric(server, 'vllm_deploy_guard_rejections_total{reason="key"}') == before + 1
    assert metric(server, "vllm_deploy_guard_seconds_count") > 0
    assert metric(server, "vllm:prompt_tokens_total") > 0


def test_no_key_and_no_prompt_is_in_logs_or_lists_of_processes(server):
    marks = [f"mark{number}mark" for number in range(4)]
    said = {**CHAT, "messages": [{"role": "user", "content": marks[0]}]}
    _, headers, _ = ask(server, "/v1/chat/completions", said)
    ask(server, "/v1/chat/completions", {**said, "messages": [{"role": marks[1], "content": {"wrong": marks[1]}}]})
    ask(server, "/v1/completions", {"model": "demo", "prompt": marks[2], "max_tokens": 3})
    ask(server, f"/v1/models?api_key={server.keys['alice']}&q={marks[3]}")
    ask(server, "/v1/chat/completions", f'{{"{marks[3]}": 1, "{marks[3]}": 2}}'.encode())
    wait_until(lambda: headers["x-request-id"] in log_of(server), "the line of the log")
    written = log_of(server) + server.output.read_text()
    assert f"{headers['x-request-id']} POST /v1/chat/completions 200 owner=local" in written
    shown = " ".join(
        " ".join(process.cmdline()) for process in [*processes_of(server), psutil.Process(server.process.pid)]
    )
    for secret in (*server.keys.values(), *marks):
        assert secret not in written + shown
