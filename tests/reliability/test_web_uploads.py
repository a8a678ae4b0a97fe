"""Files at the web page: what a browser sends as an upload leads to no other file, and to no other address."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from chat.store.local import ConversationStore
from tests.chat.store.store_server import StoreServer
from tests.program import start

SECRET = "quokka-7d1e"
REFUSED = "a file was named that was not uploaded"
START_TIMEOUT_S = 120


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The address of a page, and the folder below which its uploads are."""
    if importlib.util.find_spec("gradio") is None:
        pytest.skip("the extra for the web page is not installed")
    folder = tmp_path_factory.mktemp("uploads")
    key_file = folder / "key"
    key_file.write_text("local: key-of-local\n")
    key_file.chmod(0o600)
    environment = {**os.environ, "TMPDIR": str(folder)}
    server = StoreServer(ConversationStore(folder / "conversations.sqlite"))
    options = ("--url", server.url, "--api-key-file", str(key_file))
    with (folder / "errors").open("wb") as errors:
        process = start("web", "--port", "0", *options, stdout=subprocess.PIPE, stderr=errors, env=environment)
        try:
            assert process.stdout is not None
            address = process.stdout.readline().decode().strip()
            assert address, (folder / "errors").read_text()
            yield address, folder
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)
            process.stdout.close()
            server.stop()
            server.store.close()


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """An address that nothing has a reason to ask for, and what was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(SECRET.encode())

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    listener = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{listener.server_address[1]}/{SECRET}.txt", asked
    listener.shutdown()
    listener.server_close()


def attach(http: httpx.Client, file: dict[str, Any]) -> str:
    """Send what a browser sends when a file has been uploaded; return all that comes back."""
    config = http.get("/config").json()
    (event,) = [one for one in config["dependencies"] if [target[1] for target in one["targets"]] == ["upload"]]
    session = os.urandom(5).hex()
    body = {"data": [[file]], "fn_index": event["id"], "session_hash": session, "trigger_id": event["targets"][0][0]}
    joined = http.post("/gradio_api/queue/join", json=body)
    if joined.status_code != 200:
        return joined.text
    said = []
    with http.stream("GET", f"/gradio_api/queue/data?session_hash={session}") as stream:
        for line in stream.iter_lines():
            said.append(line)
            if "process_completed" in line or "close_stream" in line:
                break
    return "\n".join(said)


def upload(http: httpx.Client, name: str, text: str) -> str:
    reply = http.post("/gradio_api/upload", files=[("files", (name, text.encode(), "text/plain"))])
    assert reply.status_code == 200, reply.text
    return str(reply.json()[0])


NAMES = [
    "notes.txt",
    "../../../evil.txt",
    "/etc/cron.d/evil",
    "a\\..\\..\\evil.txt",
    "~/evil.txt",
    "%2e%2e%2fevil.txt",
]


@pytest.mark.parametrize("name", NAMES)
def test_an_uploaded_file_stays_in_the_folder_of_uploads(page, name):
    address, folder = page
    with httpx.Client(base_url=address, timeout=60) as http:
        place = Path(upload(http, name, "x")).resolve()
        assert place.is_file()
        assert place.is_relative_to(folder)
        assert place.parent.parent.name.startswith("vllm-deploy-web-")
        assert place.parent.parent.stat().st_mode & 0o077 == 0


def test_an_uploaded_file_goes_with_the_message(page):
    """Otherwise the next tests would prove nothing."""
    address, _ = page
    with httpx.Client(base_url=address, timeout=60) as http:
        place = upload(http, f"{SECRET}.txt", "hello")
        said = attach(http, described(place))
        assert f"{SECRET}.txt" in said
        assert json.loads(said.rsplit("data: ", 1)[1])["success"]


def described(place: str, **fields: Any) -> dict[str, Any]:
    return {"path": place, "orig_name": "notes.txt", "meta": {"_type": "gradio.FileData"}, **fields}


def test_a_path_that_was_not_uploaded_is_neither_read_nor_deleted(page, tmp_path):
    address, folder = page
    secret = tmp_path / "secret.txt"
    secret.write_text(f"{SECRET}-inside\n")
    beside = folder / "beside.txt"
    beside.write_text(f"{SECRET}-inside\n")
    with httpx.Client(base_url=address, timeout=60) as http:
        place = upload(http, "notes.txt", "x")
        up = os.path.relpath(secret, Path(place).parent)
        for path in (
            str(secret),
            str(beside),
            f"{Path(place).parent}/{up}",
            f"file://{secret}",
            "/etc/passwd",
            "errors",
        ):
            assert attach(http, described(path)) == REFUSED, path
            for place in ("queue/join", "run/predict"):
                body = {"data": ["x", {"a": [described(path)]}], "fn_index": 0, "session_hash": "x"}
                assert http.post(f"/gradio_api/{place}", json=body).text == REFUSED
        deep = '{"data": ' + "[" * 100_000 + "]" * 100_000 + "}"
        assert http.post("/gradio_api/queue/join", content=deep).status_code == 400
    assert secret.exists()
    assert beside.exists()
    assert Path("/etc/passwd").exists()


def test_an_address_is_not_fetched(page, canary):
    address, _ = page
    url, asked = canary
    with httpx.Client(base_url=address, timeout=60) as http:
        place = upload(http, "notes.txt", "x")
        for file in (described(url), described(url, url=url), described(place, url=url), described("", url=url)):
            assert SECRET not in attach(http, file).replace(url, "")
        assert attach(http, described(url)) == attach(http, described("", url=url)) == REFUSED
        for path in (f"/gradio_api/file={url}", f"/gradio_api/proxy={url}", f"/proxy={url}", f"/file={url}"):
            assert http.get(path).status_code == 404
    assert asked == []
