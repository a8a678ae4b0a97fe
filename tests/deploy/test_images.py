"""Images: Dockerfiles by hadolint, entry points run outside containers with the environment that a container gives."""

from __future__ import annotations

import http.server
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx2
import pytest

from chatcore.models.hub import DEMO_MODEL_DIR
from tests.patience import wait_until
from tests.program import ROOT
from tests.serving import free_port

DEPLOY = ROOT / "deploy"
ENTRY_POINT = DEPLOY / "docker" / "entrypoint.sh"
START = DEPLOY / "serverless" / "start.sh"
ROTATE = DEPLOY / "docker" / "rotate_log.py"
START_WITHIN_S = 600
KEY = "a-key-for-the-container"


@pytest.fixture
def environment(tmp_path):
    """What a container is given: only this, and a path on which the installed Python is found."""
    keys = tmp_path / "api-keys"
    keys.touch(0o600)
    keys.write_text(f"local: {KEY}\n")
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "OMP_NUM_THREADS": "1",
        "HOST": "127.0.0.1",
        "PORT": str(free_port()),
        "API_KEY_FILE": str(keys),
        "MODEL_ABSOLUTE_ROOT": str(tmp_path / "models"),
        "DATA_DIR": str(tmp_path / "data"),
        "LOG_DIR": str(tmp_path / "logs"),
        "VLLMDEPLOY_LOG_DIR": str(tmp_path / "own logs"),
    }


@pytest.fixture
def told(tmp_path, environment):
    """Return what the entry point would run: a python3 that says what it was told takes the place of the real one."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "python3"
    program.write_text(
        f'#!/bin/bash\ncase $1 in\n*rotate_log.py) exec "{sys.executable}" "$@" ;;\nesac\nenv\necho "RUNS $*"\n'
    )
    program.chmod(0o755)

    def told(*arguments, script=ENTRY_POINT, **variables):
        variables = environment | {"PATH": f"{folder}:{environment['PATH']}"} | variables
        result = subprocess.run(
            [script, *arguments], cwd=ROOT, env=variables, capture_output=True, text=True, timeout=60, check=False
        )
        lines = result.stdout.splitlines()
        said = dict(line.split("=", 1) for line in lines if "=" in line)
        return result, said, next((line for line in lines if line.startswith("RUNS ")), "")

    return told


@pytest.mark.parametrize("file", sorted(DEPLOY.rglob("*Dockerfile")), ids=lambda file: str(file.relative_to(DEPLOY)))
def test_hadolint_finds_nothing(file):
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if hadolint is None:
        pytest.skip('hadolint is not installed (make install EXTRAS="deploy")')
    result = subprocess.run([hadolint, "--no-color", file], capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stdout


def test_all_images_are_of_the_version_that_is_required():
    required = next(line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("vllm=="))
    version = required.removeprefix("vllm==")
    assert f"vllm-openai:v{version}\n" in (DEPLOY / "docker" / "gpu.Dockerfile").read_text()


def test_what_images_copy_is_not_ignored():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    needed = [
        "chat",
        "deploy",
        "chatcore",
        "pyproject.toml",
        "requirements.txt",
        "README.md",
        "vllm_deploy.py",
    ]
    assert not set(needed) & set(ignored)
    assert {".*", "**/api-keys*", "**/*.env"} <= set(ignored)  # the history, keys and settings never get in


def test_entry_point_serves_a_mounted_model_and_rotates_its_log(environment, tmp_path):
    shutil.copytree(DEMO_MODEL_DIR, tmp_path / "models" / "team" / "small")
    variables = environment | {"MODEL_DIR": "team/small", "MODEL_NAME": "small-one"}
    variables |= {"LOG_BYTES": "6000", "LOG_BACKUPS": "2"}
    log = tmp_path / "logs" / "server.log"
    with (tmp_path / "output").open("wb") as output:
        process = subprocess.Popen(
            [ENTRY_POINT, "--max-model-len", "1024"], cwd=ROOT, env=variables, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = f"http://127.0.0.1:{environment['PORT']}"
        wait_for(url + "/health", process, tmp_path / "output")
        headers = {"Authorization": f"Bearer {KEY}"}
        (model,) = httpx2.get(f"{url}/v1/models", headers=headers).json()["data"]
        assert (model["id"], model["max_model_len"]) == ("small-one", 1024)
        assert httpx2.get(f"{url}/v1/models").status_code == 401
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(120)
    assert code == 0
    assert "small-one" in (tmp_path / "output").read_text()
    assert sorted(file.name for file in log.parent.iterdir()) == ["server.log", "server.log.1", "server.log.2"]
    assert all(file.stat().st_size < 10000 for file in log.parent.iterdir())
    assert (tmp_path / "data" / "conversations.sqlite").exists()


def wait_for(url, process, output):
    deadline_s = time.monotonic() + START_WITHIN_S
    while True:
        try:
            if httpx2.get(url, timeout=5).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        assert process.poll() is None, output.read_text()[-3000:]
        assert time.monotonic() < deadline_s, output.read_text()[-3000:]
        time.sleep(0.5)


def test_as_many_gpus_as_are_visible_share_the_model(told):
    assert told(CUDA_VISIBLE_DEVICES="0,1,2,3")[1]["TENSOR_PARALLEL_SIZE"] == "4"
    assert told(CUDA_VISIBLE_DEVICES="2")[1]["TENSOR_PARALLEL_SIZE"] == "1"
    assert "TENSOR_PARALLEL_SIZE" not in told(CUDA_VISIBLE_DEVICES="")[1]
    assert told(CUDA_VISIBLE_DEVICES="0,1", TENSOR_PARALLEL_SIZE="1")[1]["TENSOR_PARALLEL_SIZE"] == "1"


def test_a_container_without_arguments_serves_the_demo_model_on_port_9999(told, environment):
    for name in ("HOST", "PORT"):
        del environment[name]
    _, said, runs = told()
    assert runs == "RUNS -m vllm_deploy serve"
    assert (said["HOST"], said["PORT"], said["MODEL_DIR"], said["MODEL_NAME"]) == ("0.0.0.0", "9999", "demo", "demo")


def test_words_behind_the_images_name_are_options(told):
    assert told("--max-model-len", "8192")[2] == "RUNS -m vllm_deploy serve --max-model-len 8192"


def test_a_link_out_of_the_mount_is_explained(told, tmp_path):
    cache = tmp_path / "cache" / "models--Qwen--Qwen3"
    (cache / "blobs").mkdir(parents=True)
    (cache / "snapshots" / "1").mkdir(parents=True)
    (cache / "snapshots" / "1" / "config.json").symlink_to("../../blobs/sum")
    shutil.copytree(cache / "snapshots", tmp_path / "models", symlinks=True)
    result, _, runs = told(MODEL_DIR="1")
    assert result.returncode == 1
    assert not runs
    assert "config.json is a link to ../../blobs/sum, which is not in this container" in result.stderr
    assert "mount a folder that holds both" in result.stderr


def test_a_folder_that_is_itself_a_link_out_of_the_mount_is_explained(told, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "qwen").symlink_to("/mnt/elsewhere/qwen")
    result, _, _ = told(MODEL_DIR="qwen")
    assert result.returncode == 1
    assert "is a link to /mnt/elsewhere/qwen, which is not in this container" in result.stderr


def test_links_that_stay_inside_the_mount_are_no_problem(told, tmp_path):
    folder = tmp_path / "models" / "model"
    (folder / "blobs").mkdir(parents=True)
    (folder / "blobs" / "sum").write_text("{}")
    (folder / "config.json").symlink_to("blobs/sum")
    assert told(MODEL_DIR="model")[2]


def test_a_folder_that_is_not_mounted_is_named(told):
    result, _, _ = told(MODEL_DIR="/models/not-there")
    assert result.returncode == 1
    assert "there is no folder /models/not-there in this container" in result.stderr


def test_a_volume_that_cannot_be_written_is_named(told, tmp_path):
    (tmp_path / "a file").touch()
    result, _, _ = told(LOG_DIR=str(tmp_path / "a file"))
    assert result.returncode == 1
    assert "cannot be written by user" in result.stderr


def test_what_was_compiled_is_kept_in_the_data_folder(told, environment):
    said = told()[1]
    for name in ("VLLM_CACHE_ROOT", "TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR", "HF_HOME", "MODELSCOPE_CACHE"):
        assert said[name].startswith(environment["DATA_DIR"])


# -- the log --------------------------------------------------------------------------------------------------------


def test_the_log_is_copied_byte_by_byte_and_rotated(tmp_path):
    lines = [f"line {number} \N{SNOWMAN}".encode() for number in range(400)] + [b"\xff broken"]
    given = b"\n".join(lines) + b"\n"
    result = subprocess.run(
        [sys.executable, ROTATE, tmp_path / "log", "1000", "3"],
        input=given,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert result.stdout == given
    kept = [tmp_path / name for name in ("log.3", "log.2", "log.1", "log")]
    assert all(file.stat().st_size < 1100 for file in kept)
    text = "".join(file.read_text("utf-8") for file in kept)
    assert "line 399 \N{SNOWMAN}" in text
    assert text.count("line 350 ") == 1


def test_a_log_that_cannot_be_written_does_not_end_the_program(tmp_path):
    """The same as a full disk: nothing is kept, all of it is shown."""
    result = subprocess.run(
        [sys.executable, ROTATE, "/dev/full", "1000000", "1"], input=b"one\ntwo\n", capture_output=True, check=False
    )
    assert result.stdout == b"one\ntwo\n"


# -- serverless -----------------------------------------------------------------------------------------------------


def test_a_serverless_container_finds_its_caches_again_and_hides_the_keys(told, tmp_path):
    (tmp_path / "tmp").mkdir()
    variables = {"API_KEY_FILE": "", "API_KEYS": "alice: abc-secret-key", "CACHE_VOLUME": str(tmp_path / "kept")}
    result, said, runs = told(script=START, TMPDIR=str(tmp_path / "tmp"), **variables)
    assert runs == "RUNS -m vllm_deploy serve"
    assert "abc-secret-key" not in result.stdout + result.stderr
    keys = Path(said["API_KEY_FILE"])
    assert keys.read_text() == "alice: abc-secret-key\n"
    assert keys.stat().st_mode & 0o777 == 0o600
    assert said["VLLM_CACHE_ROOT"] == str(tmp_path / "kept" / "vllm")


def test_a_serverless_container_says_by_a_file_when_it_is_ready(environment, tmp_path):
    class Ping(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/ping" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").write_text("#!/bin/bash\n[[ $1 != *rotate_log.py ]] || exec cat\nsleep 20\n")
    (folder / "python3").chmod(0o755)
    ready = tmp_path / "ready"
    variables = environment | {"PATH": f"{folder}:{environment['PATH']}", "READY_FILE": str(ready)}
    process = subprocess.Popen([START], cwd=ROOT, env=variables)
    try:
        time.sleep(1.5)
        assert not ready.exists()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", int(environment["PORT"])), Ping)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        wait_until(ready.exists, "the file that says so")
        server.shutdown()
        server.server_close()
    finally:
        process.kill()
        process.wait()
