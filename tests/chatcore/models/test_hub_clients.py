"""Models from ModelScope and Hugging Face, fetched by their own client libraries from a stand-in for both.

The libraries read their addresses and folders when they are imported, so each case is a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from chatcore.models.hub import DEMO_MODEL_DIR
from chatcore.models.hub_clients import HubFile, needed_files
from tests.chatcore.models.hub_server import HubState, hub_server
from tests.program import ROOT, run

LARGE_BYTES = (
    24 << 20
)  # huggingface_hub writes 10 MiB at a time: a cut in the middle must leave something to go on from
HUBS = ("huggingface", "modelscope")
TOKEN = "hub-token-4711"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model with weights that are large enough to be cut."""
    folder = tmp_path_factory.mktemp("hub") / "model"
    shutil.copytree(DEMO_MODEL_DIR, folder)
    header = {"x": {"dtype": "U8", "shape": [LARGE_BYTES], "data_offsets": [0, LARGE_BYTES]}}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as weights:
        weights.write(struct.pack("<Q", len(text)) + text + os.urandom(LARGE_BYTES))
    (folder / "pytorch_model.bin").write_bytes(b"the same weights in another format")
    return folder


@pytest.fixture
def state(model):
    return HubState({"Qwen/Qwen3-tiny": model})


@pytest.fixture
def hub(state):
    with hub_server(state) as address:
        yield address


@pytest.fixture
def dead_address():
    """An address at which nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


@pytest.fixture
def environment(tmp_path):
    """Caches of their own, and no user's token."""
    return {
        **{
            name: value for name, value in os.environ.items() if not name.startswith(("HF_", "MODELSCOPE_", "VLLM_USE"))
        },
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "hf"),
        "MODELSCOPE_CACHE": str(tmp_path / "ms"),
        "MODELSCOPE_DOWNLOAD_MAX_RETRIES": "1",
        "LANG": "C.UTF-8",
    }


@pytest.fixture
def download(hub, environment):
    """Run ``download`` against the stand-in."""

    def download(name, *options, **more):
        addresses = {"HF_ENDPOINT": hub, "MODELSCOPE_ENDPOINT": hub}
        return run("download", name, *options, env={**environment, **addresses, **more})

    return download


def resolve(name: str, hub: str, environment: dict[str, str]) -> str:
    """Return what the library makes of a name: a folder, or an error's type and words."""
    code = (
        "import sys\nfrom chatcore.errors import ChatError, describe\nfrom chatcore.models.hub import resolve_model\n"
        "try:\n    print(resolve_model(sys.argv[1], hub=sys.argv[2]))\n"
        "except ChatError as error:\n    print(type(error).__name__, describe(error))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, name, hub],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in result.stdout + result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("name", HUBS)
def test_a_model_comes_whole_and_then_from_the_cache(download, state, environment, dead_address, model, name):
    first = download("Qwen3-tiny", "--hub", name)
    assert first.returncode == 0, first.stderr
    folder = Path(first.stdout.strip())
    assert {file.name for file in folder.iterdir() if not file.name.startswith(".")} == {
        file.name for file in model.iterdir() if file.suffix != ".bin"
    }
    assert (folder / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert "24." in first.stderr
    assert "its sums are right" in first.stderr
    away = {**environment, "HF_ENDPOINT": dead_address, "MODELSCOPE_ENDPOINT": dead_address}
    assert resolve("Qwen/Qwen3-tiny", "auto", away) == str(folder)


@pytest.mark.parametrize(("name", "layout"), [("huggingface", "hf/hub/models--Qwen--Qwen3-tiny/snapshots")])
def test_files_lie_where_other_programs_look_for_them(download, tmp_path, name, layout):
    folder = Path(download("Qwen3-tiny", "--hub", name).stdout.strip())
    assert folder.is_relative_to(tmp_path / layout)
    listed = json.loads(run("models", "--json", env={**os.environ, "HF_HOME": str(tmp_path / "hf")}).stdout)
    assert [model["complete"] for model in listed if model["model"] == "Qwen/Qwen3-tiny"] == [True]


@pytest.mark.parametrize("name", HUBS)
def test_a_connection_that_is_cut_once_is_taken_up_in_the_middle(download, state, name):
    state.cuts = {"model.safetensors": 1}
    result = download("Qwen3-tiny", "--hub", name)
    assert result.returncode == 0, result.stderr
    first, second = state.ranges_of("model.safetensors")
    assert first == ""
    assert int(second.removeprefix("bytes=").rstrip("-")) >= 10 << 20
    assert "retry" not in result.stderr.lower()


def test_a_download_that_failed_goes_on_where_it_stopped(download, state):
    state.cuts = {"model.safetensors": 2}
    failed = download("Qwen3-tiny", "--hub", "modelscope")
    assert failed.returncode == 1
    assert "error: " in failed.stderr
    assert "ModelScope does not answer" in failed.stderr
    state.requests.clear()
    assert download("Qwen3-tiny", "--hub", "modelscope").returncode == 0
    assert [asked != "" for asked in state.ranges_of("model.safetensors")] == [True]
    assert state.ranges_of("config.json") == []  # what was complete is not fetched again


@pytest.mark.parametrize("name", HUBS)
def test_a_model_that_is_half_there_is_not_taken_for_a_whole_one(download, state, environment, hub, name):
    folder = Path(download("Qwen3-tiny", "--hub", name).stdout.strip())
    (folder / "model.safetensors").resolve().unlink()
    state.requests.clear()
    addresses = {"HF_ENDPOINT": hub, "MODELSCOPE_ENDPOINT": hub}
    assert resolve("Qwen3-tiny", name, {**environment, **addresses}) == str(folder)
    assert state.ranges_of("model.safetensors") == [""]


@pytest.mark.parametrize(
    ("name", "file"),
    [("huggingface", "model.safetensors"), ("huggingface", "config.json"), ("modelscope", "model.safetensors")],
)
def test_a_damaged_file_is_found_by_its_sum_and_fetched_again(download, state, name, file):
    state.damaged = {file}
    damaged = download("Qwen3-tiny", "--hub", name)
    assert damaged.returncode == 1
    assert f"error: {file} was damaged on its way" in damaged.stderr
    state.damaged = set()
    state.requests.clear()
    assert download("Qwen3-tiny", "--hub", name).returncode == 0
    assert state.ranges_of(file) == [""]
    assert state.ranges_of("tokenizer.json") == []


@pytest.mark.parametrize("name", HUBS)
def test_a_token_is_sent_and_shown_nowhere(download, state, tmp_path, name):
    state.token = TOKEN
    without = download("Qwen3-tiny", "--hub", name)
    assert without.returncode == 1
    assert "hint: " in without.stderr
    result = download("Qwen3-tiny", "--hub", name, HF_TOKEN=TOKEN, MODELSCOPE_API_TOKEN=TOKEN, HF_DEBUG="1")
    assert result.returncode == 0, result.stderr
    assert TOKEN in state.tokens
    assert TOKEN not in result.stdout + result.stderr
    state.damaged = {"config.json"}
    shutil.rmtree(Path(result.stdout.strip()))
    again = download("Qwen3-tiny", "--hub", name, HF_TOKEN=TOKEN, MODELSCOPE_API_TOKEN=TOKEN)
    assert TOKEN not in again.stdout + again.stderr
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and TOKEN.encode() in file.read_bytes()]


@pytest.mark.parametrize(("name", "title"), [("huggingface", "Hugging Face"), ("modelscope", "ModelScope")])
def test_a_wrong_name_is_one_clear_line_with_the_nearest(download, name, title):
    result = download("Qwen/Qwen3-tny", "--hub", name)
    assert result.returncode == 1
    assert f"error: there is no model Qwen/Qwen3-tny on {title}, and no folder of that name" in result.stderr
    assert "hint: Did you mean Qwen/Qwen3-tiny?" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("name", "title"), [("huggingface", "Hugging Face"), ("modelscope", "ModelScope")])
def test_a_hub_that_is_away_is_one_clear_line_that_names_what_is_here(download, environment, dead_address, name, title):
    assert download("Qwen3-tiny", "--hub", name).returncode == 0
    said = resolve(
        "Qwen/Qwen3-0.6B", name, {**environment, "HF_ENDPOINT": dead_address, "MODELSCOPE_ENDPOINT": dead_address}
    )
    assert said.startswith(f"HubUnreachableError error: Qwen/Qwen3-0.6B is not on this machine, and {title} does not")
    assert "On this machine: Qwen/Qwen3-tiny." in said


def test_the_hub_that_answers_is_taken_where_the_other_is_away(hub, environment, dead_address):
    away = {**environment, "HF_ENDPOINT": dead_address, "MODELSCOPE_ENDPOINT": hub}
    assert "/ms/" in run("download", "Qwen3-tiny", env=away).stdout
    other = {**environment, "HF_ENDPOINT": hub, "MODELSCOPE_ENDPOINT": dead_address}
    shutil.rmtree(environment["MODELSCOPE_CACHE"])
    assert "/hf/" in run("download", "Qwen3-tiny", env=other).stdout


@pytest.mark.parametrize(("setting", "part"), [("1", "/ms/"), ("0", "/hf/")])
def test_the_setting_says_which_hub_comes_first(download, setting, part):
    assert part in download("Qwen3-tiny", VLLM_USE_MODELSCOPE=setting).stdout


def test_a_disk_that_is_too_small_is_told_before_anything_is_fetched(state, tmp_path, monkeypatch):
    from chatcore.errors import ModelError
    from chatcore.models import hub_clients

    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 30))
    with pytest.raises(ModelError, match=r"the download needs 16\.0 GiB; 1\.0 GiB are free in"):
        hub_clients._begin([HubFile("a", 16 << 30)], [HubFile("a", 16 << 30)], tmp_path, None, "HF_HOME")


def test_models_lists_what_is_there_and_what_is_incomplete(download, state, environment):
    folder = Path(download("Qwen3-tiny", "--hub", "modelscope").stdout.strip())
    listing = run("models", env=environment)
    assert "Qwen/Qwen3-tiny" in listing.stdout
    assert "24." in listing.stdout
    assert "demo " in listing.stdout
    os.truncate(folder / "model.safetensors", 1000)
    broken = run("models", env={**environment, "LANG": "zh_CN.UTF-8"})
    assert "不完整" in broken.stdout
    assert "download" in broken.stderr


def test_a_folder_has_nothing_to_be_fetched():
    result = run("download", "demo")
    assert result.stdout.strip() == str(DEMO_MODEL_DIR)


def test_weights_are_not_fetched_in_two_formats():
    names = ["model.safetensors", "pytorch_model.bin", "config.json", "model.gguf", "original/x.safetensors"]
    wanted = [file.path for file in needed_files(HubFile(name, 1) for name in names)]
    assert wanted == ["model.safetensors", "config.json"]
    assert len(needed_files([HubFile("pytorch_model.bin", 1)])) == 1
