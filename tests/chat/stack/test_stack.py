"""A whole stack for real: two replicas of the demo model, an embedding model, a reranker, router and nginx."""

from __future__ import annotations

import importlib.util
import itertools
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil
import pytest

from chat.net.api_keys import find_api_key
from chat.stack.checks import find_nginx
from chat.stack.lifecycle import Row, read_plan, rows_of
from chatcore.errors import StackError
from tests import patience
from tests.chat.stack.tiny_models import HIDDEN_SIZE, make_tiny_model
from tests.patience import patient
from tests.program import ROOT, run

START_WITHIN_S, STOP_WITHIN_S, BACK_WITHIN_S = 800, 200, 100
NUM_PORTS = 8  # the front, four servers, the router and its metrics, the web page
HAS_WEB = importlib.util.find_spec("gradio") is not None
EXAMPLES = ROOT / "examples" / "stack"

STACK = """
port: {port}
api_key_file: keys
store: conversations.sqlite
start_timeout_s: 700
llm:
  model: demo
  replicas: 2
  max_model_len: 2048
  arguments: {{kv-cache-memory-bytes: 67108864}}
embedding:
  preset: qwen3-embedding
  model: embedding
  name: tiny-embedding
  arguments: {{kv-cache-memory-bytes: 67108864, enforce-eager: true}}
rerank:
  preset: qwen3-reranker
  model: reranker
  name: tiny-reranker
  arguments:
    kv-cache-memory-bytes: 67108864
    enforce-eager: true
    hf-overrides:
      architectures: [Qwen3ForSequenceClassification]
      classifier_from_token: [n, y]  # the demo model's tokenizer has no token for "yes"
      is_original_qwen3_reranker: true
"""


@dataclass(frozen=True)
class RunningStack:
    """A stack that is up.

    Attributes:
        file: its description.
        url: the address in front, without ``/v1``.
        headers: those that let a client in.
    """

    file: Path
    url: str
    headers: dict[str, str]

    def post(self, path: str, body: dict, **more) -> httpx2.Response:
        headers = self.headers | more.pop("headers", {})
        return httpx2.post(f"{self.url}{path}", json=body, headers=headers, timeout=120, **more)

    def chat(self, text: str, **more) -> httpx2.Response:
        body = {"model": "demo", "messages": [{"role": "user", "content": text}], "max_tokens": 24, "temperature": 0}
        return self.post("/v1/chat/completions", body | {"chat_template_kwargs": {"enable_thinking": False}}, **more)

    def rows(self) -> dict[str, Row]:
        return {row.process.name: row for row in rows_of(read_plan(self.file))}


def free_ports(number: int) -> int:
    """Return the first of several ports in a row that nobody listens on."""
    for first in itertools.count(20000 + os.getpid() % 10000, number):
        try:
            for port in range(first, first + number):
                with socket.socket() as listener:
                    listener.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Bring the stack up as people do, and down afterwards."""
    for package in ("supervisor", "vllm_router"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f'{package} is not installed (make install EXTRAS="stack")')
    try:
        find_nginx()
    except StackError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("stack")
    make_tiny_model(folder / "embedding", seed=1)
    make_tiny_model(folder / "reranker", seed=2)
    (folder / "keys").touch(0o600)
    (folder / "keys").write_text("local: a-key-for-all-of-it\nalice: another-key-that-is-hers\n")
    file = folder / "stack.yaml"
    port = free_ports(NUM_PORTS)
    file.write_text(STACK.format(port=port) + ("web:\n" if HAS_WEB else ""))
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    up = run("stack", "up", "-f", str(file), timeout=START_WITHIN_S, env=environment)
    assert up.returncode == 0, up.stderr + up.stdout
    url = f"http://127.0.0.1:{port}"
    key = find_api_key(url, str(folder / "keys"))
    try:
        yield RunningStack(file, url, {"Authorization": f"Bearer {key}"})
    finally:
        down = run("stack", "down", "-f", str(file), timeout=STOP_WITHIN_S)
    assert down.returncode == 0, down.stderr


def test_everything_is_up_and_the_table_says_so(stack):
    status = run("stack", "status", "-f", str(stack.file))
    assert status.returncode == 0
    lines = [line.split() for line in status.stdout.splitlines()[1:]]
    names = ["llm-1", "llm-2", "embedding", "rerank", "router", *(["web"] if HAS_WEB else []), "nginx"]
    assert [(line[0], line[1]) for line in lines] == [(name, "ready") for name in names]


def test_one_address_answers_for_all_models(stack):
    models = httpx2.get(f"{stack.url}/v1/models", headers=stack.headers).json()["data"]
    assert [model["id"] for model in models] == ["demo", "tiny-embedding", "tiny-reranker"]
    assert stack.chat("Hello!").json()["choices"][0]["message"]["content"].strip().startswith("Hello!")


@pytest.mark.skipif(not HAS_WEB, reason='the web page is not installed (make install EXTRAS="web")')
def test_the_web_page_is_at_the_same_address_and_lets_in_who_has_a_key(stack):
    key = stack.headers["Authorization"].removeprefix("Bearer ")
    with httpx2.Client(base_url=stack.url, headers={"Host": "chat.example"}, timeout=60) as browser:
        assert browser.get("/").headers["location"].endswith("login")
        assert browser.post("/login", data={"key": "a-key-of-nobody"}).status_code == 401
        assert browser.post("/login", data={"key": key}).status_code == 303
        page = browser.get("/")
    assert page.status_code == 200
    assert "gradio" in page.text
    assert "127.0.0.1" not in page.text, "links must lead to the address that was asked for"


BODIES = {
    "/v1/chat/completions": {"model": "demo", "messages": [{"role": "user", "content": "Hello!"}]},
    "/v1/embeddings": {"model": "tiny-embedding", "input": "Hello!"},
    "/v2/rerank": {"model": "tiny-reranker", "query": "Hello?", "documents": ["Hello!"]},
    "/tokenize": {"model": "demo", "prompt": "Hello!"},
    "/v1/models": None,
}


@pytest.mark.parametrize("path", BODIES)
def test_nothing_answers_without_the_key(stack, path):
    for headers in ({}, {"Authorization": "Bearer a-wrong-key-of-nobody"}):
        method = "POST" if BODIES[path] else "GET"
        assert httpx2.request(method, f"{stack.url}{path}", json=BODIES[path], headers=headers).status_code == 401


def test_the_second_key_of_the_file_opens_every_service_as_well(stack):
    hers = {"Authorization": "Bearer another-key-that-is-hers"}
    assert stack.chat("Hello!", headers=hers).status_code == 200
    body = {"model": "tiny-embedding", "input": "Hello!"}
    assert stack.post("/v1/embeddings", body, headers=hers).status_code == 200


def test_embeddings_come_from_the_embedding_model(stack):
    body = {"model": "tiny-embedding", "input": ["Hello!", "你好", "Hello!"]}
    rows = stack.post("/v1/embeddings", body).json()["data"]
    first, other, again = (row["embedding"] for row in rows)
    assert len(first) == HIDDEN_SIZE
    assert math.isclose(math.hypot(*first), 1, abs_tol=1e-3)
    assert math.isclose(math.dist(first, again), 0, abs_tol=1e-3)
    assert math.dist(first, other) > 0.1


def test_shorter_vectors_are_the_beginnings_of_the_long_ones(stack):
    """The preset says that the model was trained for it: OpenAI's "dimensions"."""
    body = {"model": "tiny-embedding", "input": "Hello!"}
    whole = stack.post("/v1/embeddings", body).json()["data"][0]["embedding"][:16]
    short = stack.post("/v1/embeddings", body | {"dimensions": 16}).json()["data"][0]["embedding"]
    length = math.hypot(*whole)
    assert short == pytest.approx([value / length for value in whole], abs=1e-3)


@pytest.mark.parametrize("path", ["/v1/rerank", "/v2/rerank", "/rerank"])
def test_every_way_to_rerank_reaches_the_reranker(stack, path):
    documents = ["The capital of France is Paris.", "A week has seven days.", "Water boils."]
    body = {"model": "tiny-reranker", "query": "What is the capital of France?", "documents": documents, "top_n": 2}
    answer = stack.post(path, body)
    assert answer.status_code == 200, answer.text
    scores = [row["relevance_score"] for row in answer.json()["results"]]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)


def test_scores_and_ranks_are_the_same_numbers(stack):
    texts = ["Paris.", "A week has seven days."]
    scored = stack.post("/v1/score", {"model": "tiny-reranker", "text_1": "France?", "text_2": texts}).json()["data"]
    ranked = stack.post("/v1/rerank", {"model": "tiny-reranker", "query": "France?", "documents": texts}).json()
    by_index = {row["index"]: row["relevance_score"] for row in ranked["results"]}
    assert [row["score"] for row in scored] == pytest.approx([by_index[0], by_index[1]], abs=1e-4)


ADMIN_PATHS = [
    "/add_worker?url=http://127.0.0.1:9",
    "/remove_worker?url=http://127.0.0.1:9",
    "/list_workers",
    "/workers",
    "/flush_cache",
    "/get_loads",
    "/v1/../list_workers",
    "/v1/%2e%2e/list_workers",
    "//list_workers",
    "/workers/..%2fv1%2fmodels",
]


@pytest.mark.parametrize("path", ADMIN_PATHS)
def test_the_routers_own_paths_are_closed_from_outside(stack, path):
    host, port = stack.url.removeprefix("http://").split(":")
    for method in ("GET", "POST", "DELETE"):
        request = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n"
        request += f"Authorization: {stack.headers['Authorization']}\r\n\r\n"
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(request.encode())
            status = connection.makefile("rb").readline().split()[1]
        assert status in (b"400", b"404"), (method, status)


def test_on_the_inner_address_replicas_are_listed_removed_and_added(stack):
    rows = stack.rows()
    router, replica = rows["router"].process.url, rows["llm-2"].process.url
    assert sorted(httpx2.get(f"{router}/list_workers").json()["urls"]) == [rows["llm-1"].process.url, replica]
    httpx2.post(f"{router}/remove_worker", params={"url": replica}).raise_for_status()
    assert httpx2.get(f"{router}/list_workers").json()["urls"] == [rows["llm-1"].process.url]
    httpx2.post(f"{router}/add_worker", params={"url": replica}, timeout=60).raise_for_status()
    assert len(httpx2.get(f"{router}/list_workers").json()["urls"]) == 2


def test_a_stack_that_is_up_stays_as_it_is(stack):
    before = {name: row.state.pid for name, row in stack.rows().items()}
    again = run("stack", "up", "-f", str(stack.file), env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert again.returncode == 0, again.stderr
    assert {name: row.state.pid for name, row in stack.rows().items()} == before


def test_other_settings_want_it_down_first(stack):
    text = stack.file.read_text()
    try:
        stack.file.write_text(text.replace("max_model_len: 2048", "max_model_len: 1024"))
        refused = run("stack", "up", "-f", str(stack.file))
    finally:
        stack.file.write_text(text)
    assert refused.returncode == 1
    assert "up with other settings" in refused.stderr


def test_the_depth_of_the_queue_is_told_to_whoever_scales(stack):
    script = ROOT / "deploy" / "serverless" / "queue_depth.sh"
    environment = os.environ | {"OPENAI_API_KEY": stack.headers["Authorization"].removeprefix("Bearer ")}
    result = subprocess.run(
        [script, stack.rows()["llm-2"].process.url], env=environment, capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout).keys() == {"waiting", "running"}


def test_logs_are_kept_one_for_each_process(stack):
    logs = run("stack", "logs", "-f", str(stack.file), "embedding", "-n", "500")
    assert "Application startup complete" in logs.stdout
    unknown = run("stack", "logs", "-f", str(stack.file), "nobody")
    assert unknown.returncode == 1
    assert "llm-1" in unknown.stderr


def test_no_secret_is_in_process_arguments_or_readable_files(stack):
    key = stack.headers["Authorization"].removeprefix("Bearer ")
    processes = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert key not in processes
    files = read_plan(stack.file).files
    for file in files.folder.rglob("*"):
        if file.is_file() and file.suffix != ".pid":  # a number, in a folder that nobody else may enter
            assert file.stat().st_mode & 0o077 == 0, file
            assert key not in file.read_text("utf-8", errors="replace"), file


EXAMPLE_PROMISES = {
    "demo.py": ["models: demo, tiny-embedding, tiny-reranker", "The capital of France is Paris.", "answer: "],
    "openai_client.py": ["two turns: Your name is Ada.", "tool: get_weather", "21 degrees", "64 numbers"],
    "langchain_client.py": ["two turns: Your name is Ada.", "tool: get_weather", "2 vectors of 64 numbers"],
    "curl.sh": ['"relevance_score"', '"object": "list"', "data: [DONE]", '"score"', '"embedding"', '"tokens"'],
}


def test_every_example_is_tested():
    assert sorted(EXAMPLE_PROMISES) == sorted(path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh"))


@pytest.mark.parametrize("name", sorted(EXAMPLE_PROMISES))
def test_the_example_prints_what_it_promises(stack, name):
    if name == "langchain_client.py":
        pytest.importorskip("langchain_openai")
    environment = os.environ | {
        "OPENAI_BASE_URL": f"{stack.url}/v1",
        "OPENAI_API_KEY": stack.headers["Authorization"].removeprefix("Bearer "),
        "LLM_MODEL": "demo",
        "EMBEDDING_MODEL": "tiny-embedding",
        "RERANK_MODEL": "tiny-reranker",
    }
    program = "bash" if name.endswith(".sh") else sys.executable
    result = subprocess.run(
        [program, EXAMPLES / name], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr + result.stdout
    printed = result.stdout.replace('"object":"list"', '"object": "list"')
    assert all(promise in printed for promise in EXAMPLE_PROMISES[name]), printed


MOVED_WITHIN_S = 5.0
NUM_CONVERSATIONS = 4


class Talk(threading.Thread):
    """Somebody who asks again and again; ``answered_s`` holds the moments at which answers came."""

    def __init__(self, ask) -> None:
        super().__init__(daemon=True)
        self._ask = ask
        self._is_over = threading.Event()
        self.answered_s: list[float] = []
        self.refused: list[str] = []

    def run(self):
        while not self._is_over.is_set():
            try:
                answer = self._ask()
            except httpx2.HTTPError as error:
                self.refused.append(repr(error))
            else:
                if answer.status_code == 200:
                    self.answered_s.append(time.monotonic())
                else:
                    self.refused.append(f"{answer.status_code} {answer.text[:200]}")
            time.sleep(0.2)

    def end(self):
        self._is_over.set()
        self.join()


def test_conversations_of_a_dead_replica_are_served_by_the_other(stack):
    """Stored conversations and plain chats go on all the time while one of two replicas is killed."""

    def conversation():
        made = stack.post("/v1/conversations", {})
        assert made.status_code == 200, made.text
        return made.json()["id"]

    def ask_in(name):
        body = {"model": "demo", "conversation": name, "input": "Hello!", "max_output_tokens": 16, "temperature": 0}
        body |= {"chat_template_kwargs": {"enable_thinking": False}}
        return lambda: stack.post("/v1/responses", body, headers={"X-Session-ID": name})

    def chat_as(name):
        return lambda: stack.chat("Hello!", headers={"X-Session-ID": name})

    stored = {name: Talk(ask_in(name)) for name in (conversation() for _ in range(NUM_CONVERSATIONS))}
    plain = [Talk(chat_as(f"plain-{number}")) for number in range(NUM_CONVERSATIONS)]
    talks = [*stored.values(), *plain]
    for talk in talks:
        talk.start()
    try:
        wait_until(lambda: all(talk.answered_s for talk in talks), stack)
        victim = psutil.Process(stack.rows()["llm-1"].state.pid)
        for process in (victim, *victim.children(recursive=True)):
            process.kill()
        killed_s = time.monotonic()
        wait_until(lambda: all(talk.answered_s[-1] > killed_s + 0.1 for talk in talks), stack)
        moved_s = time.monotonic() - killed_s
    finally:
        for talk in talks:
            talk.end()
    assert moved_s < patient(MOVED_WITHIN_S), [talk.refused for talk in talks]
    assert stack.rows()["llm-1"].word != "ready", "that was the killed replica, started again"
    for name, talk in stored.items():
        items = all_items(stack, name)
        answers = [item for item in items if item["role"] == "assistant" and item["status"] == "completed"]
        asked = [item for item in items if item["role"] == "user"]
        assert len(answers) >= len(talk.answered_s), "an answer that somebody has read is gone"
        assert len(asked) >= len(talk.answered_s)
    assert httpx2.get(f"{stack.url}/health").status_code == 200


def all_items(stack, conversation):
    """Return the messages of a stored conversation, page by page, through the address in front."""
    items: list[dict] = []
    more = True
    while more:
        options = {"limit": 100, "order": "asc"} | ({"after": items[-1]["id"]} if items else {})
        page = httpx2.get(
            f"{stack.url}/v1/conversations/{conversation}/items", params=options, headers=stack.headers, timeout=60
        ).json()
        items += page["data"]
        more = page["has_more"]
    return [item for item in items if item["type"] == "message"]


def wait_until(condition, stack):
    def say_why():
        return run("stack", "logs", "-f", str(stack.file)).stdout[-8000:]

    patience.wait_until(condition, say_why, within_s=BACK_WITHIN_S, every_s=0.2)


def test_the_killed_replica_comes_back_by_itself(stack):
    wait_until(lambda: stack.rows()["llm-1"].word == "ready", stack)
    router = stack.rows()["router"].process.url
    wait_until(lambda: all(worker["is_healthy"] for worker in httpx2.get(f"{router}/workers").json()["workers"]), stack)


def test_a_stack_that_is_not_up_says_so(tmp_path):
    file = tmp_path / "other.yaml"
    file.write_text("llm: {model: demo}\n")
    for action in ("status", "down"):
        result = run("stack", action, "-f", str(file))
        assert result.returncode == 1
        assert "the stack is not up" in result.stderr


def test_a_service_that_cannot_start_shows_its_log_and_stops_the_rest(tmp_path):
    if importlib.util.find_spec("supervisor") is None:
        pytest.skip("supervisor is not installed")
    try:
        find_nginx()
    except StackError as error:
        pytest.skip(str(error))
    file = tmp_path / "broken.yaml"
    file.write_text(f"port: {free_ports(3)}\nllm: {{model: demo, arguments: {{no-such-option: true}}}}\n")
    result = run("stack", "up", "-f", str(file), timeout=START_WITHIN_S)
    assert result.returncode == 1
    assert "llm cannot start" in result.stderr
    assert "--no-such-option" in result.stderr
    assert "Traceback" not in result.stderr
    assert "the stack is not up" in run("stack", "status", "-f", str(file)).stderr


def test_replies_of_the_front_are_json_lists_as_clients_expect(stack):
    answer = httpx2.get(f"{stack.url}/v1/models", headers=stack.headers)
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.content)["object"] == "list"
