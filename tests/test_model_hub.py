"""Names of models -> folders: folders, the demo model, and hubs that answer, refuse or are away."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from errors import ModelError, ModelLoadError, ModelNotFoundError
from model_hub import DEMO_MODEL_DIR, check_model_dir, is_demo, resolve_model

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def model_copy(tmp_path):
    """A copy of the demo model, to be damaged."""
    folder = tmp_path / "model"
    shutil.copytree(DEMO_MODEL_DIR, folder)
    return folder


def test_demo_is_the_embedded_model():
    assert resolve_model() == resolve_model("demo") == DEMO_MODEL_DIR
    assert is_demo(DEMO_MODEL_DIR)


def test_a_folder_is_taken_as_it_is(model_copy):
    assert resolve_model(model_copy) == model_copy
    assert resolve_model(str(model_copy)) == model_copy
    assert not is_demo(model_copy)


def test_a_folder_that_is_no_model_is_named(tmp_path):
    with pytest.raises(ModelLoadError, match=r"is not a model folder: it has no config\.json"):
        resolve_model(tmp_path)


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "two words", "a/b/c", ""])
def test_a_folder_that_is_not_there_is_an_error_before_any_hub_is_asked(name):
    with pytest.raises(ModelNotFoundError) as caught:
        resolve_model(name) if name else resolve_model("/no/such/folder")
    assert "demo" in caught.value.hint


def test_a_file_is_no_model(model_copy):
    with pytest.raises(ModelNotFoundError, match="is a file"):
        resolve_model(model_copy / "config.json")


def test_weights_that_were_cut_off_are_found_without_loading_them(model_copy):
    weights = model_copy / "model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size - 1000)
    with pytest.raises(ModelLoadError, match=f"is cut off: {size - 1000} of {size} bytes"):
        check_model_dir(model_copy)


def test_weights_that_are_no_weights_are_found(model_copy):
    (model_copy / "model.safetensors").write_text("<html>404</html>")
    with pytest.raises(ModelLoadError, match="is no safetensors file"):
        check_model_dir(model_copy)


def test_a_missing_shard_is_named(model_copy):
    index = {"weight_map": {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (model_copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelLoadError, match=r"lacks 1 of 2 weights files, first model-00002-of-00002\.safetensors"):
        check_model_dir(model_copy)


@pytest.mark.parametrize(
    ("file", "message"), [("model.safetensors", "has no weights"), ("tokenizer.json", "has no tokenizer")]
)
def test_what_is_missing_is_named(model_copy, file, message):
    (model_copy / file).unlink()
    with pytest.raises(ModelLoadError, match=message):
        check_model_dir(model_copy)


def test_a_broken_configuration_is_named(model_copy):
    (model_copy / "config.json").write_text("{")
    with pytest.raises(ModelLoadError, match=r"config\.json cannot be read"):
        check_model_dir(model_copy)


def test_an_unknown_hub_is_refused():
    with pytest.raises(ModelError, match="unknown hub 'github'"):
        resolve_model("Qwen/Qwen3-0.6B", hub="github")


# -- hubs: their client libraries read their addresses when they are imported, so each case is a process of its own ----


class HuggingFace(http.server.BaseHTTPRequestHandler):
    """The part of Hugging Face's protocol that downloading one public model needs."""

    model_id = "Qwen/Qwen3-tiny"

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, *, with_body: bool) -> None:
        path = self.path.split("?")[0]
        files = {file.name: file for file in DEMO_MODEL_DIR.iterdir() if file.is_file()}
        if path.startswith(f"/api/models/{self.model_id}/tree/"):
            tree = [
                {"type": "file", "path": name, "size": file.stat().st_size, "oid": "2" * 40}
                for name, file in files.items()
            ]
            self.reply(200, json.dumps(tree).encode(), "application/json", with_body=with_body)
        elif path.startswith(f"/api/models/{self.model_id}"):
            listing = {"id": self.model_id, "sha": "1" * 40, "siblings": [{"rfilename": name} for name in files]}
            self.reply(200, json.dumps(listing).encode(), "application/json", with_body=with_body)
        elif path.startswith(f"/{self.model_id}/resolve/") and (file := files.get(path.rsplit("/", 1)[-1])):
            self.reply(200, file.read_bytes(), "application/octet-stream", with_body=with_body)
        else:
            self.reply(404, b'{"error": "Repository not found"}', "application/json", with_body=with_body)

    def reply(self, status: int, body: bytes, content_type: str, *, with_body: bool) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", f'"{len(body)}"')
        self.send_header("X-Repo-Commit", "1" * 40)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hugging_face():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), HuggingFace)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def dead_address():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def resolve_in_new_process(name: str, hub: str, tmp_path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys\nfrom errors import ChatError, describe\nfrom model_hub import resolve_model\n"
        "try:\n    print(resolve_model(sys.argv[1], hub=sys.argv[2]))\n"
        "except ChatError as error:\n    print(type(error).__name__, describe(error))\n"
    )
    caches = {"HF_HOME": str(tmp_path / "hf"), "MODELSCOPE_CACHE": str(tmp_path / "ms"), "HF_HUB_DISABLE_XET": "1"}
    return subprocess.run(
        [sys.executable, "-c", code, name, hub],
        cwd=ROOT,
        env={**os.environ, **caches, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_model_comes_from_hugging_face_and_then_from_its_cache(hugging_face, dead_address, tmp_path):
    first = resolve_in_new_process("Qwen3-tiny", "huggingface", tmp_path, HF_ENDPOINT=hugging_face)
    assert first.stdout.strip(), first.stderr
    folder = Path(first.stdout.strip())
    assert (folder / "model.safetensors").read_bytes() == (DEMO_MODEL_DIR / "model.safetensors").read_bytes()
    offline = resolve_in_new_process("Qwen/Qwen3-tiny", "huggingface", tmp_path, HF_ENDPOINT=dead_address)
    assert offline.stdout.strip() == str(folder)


def test_a_wrong_name_is_one_clear_line(hugging_face, tmp_path):
    result = resolve_in_new_process("Qwen/Qwen9", "huggingface", tmp_path, HF_ENDPOINT=hugging_face)
    assert result.stdout.startswith("ModelNotFoundError error: there is no model Qwen/Qwen9 on huggingface")
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize(("hub", "title"), [("huggingface", "Hugging Face"), ("modelscope", "ModelScope")])
def test_a_hub_that_is_away_is_one_clear_line(hub, title, dead_address, tmp_path):
    result = resolve_in_new_process(
        "Qwen/Qwen3-0.6B", hub, tmp_path, HF_ENDPOINT=dead_address, MODELSCOPE_ENDPOINT=dead_address
    )
    assert f"HubUnreachableError error: Qwen/Qwen3-0.6B is not on this machine, and {title} does not answer" in (
        result.stdout
    )
    assert "hint:" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
