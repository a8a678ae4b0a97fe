"""The command ``web``: what it refuses, before a model is loaded."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

import vllm_deploy
from tests.program import ROOT


def refusal(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    """Return what ``web`` says when it does not start."""
    assert vllm_deploy.main(["web", *options]) == 1
    return capsys.readouterr().err


def test_other_machines_have_to_log_in(capsys) -> None:
    said = refusal(capsys, "--host", "0.0.0.0", "--port", "0")
    assert "nobody would have to log in" in said
    assert "--keys FILE" in said


def test_a_key_for_everybody_stays_on_this_machine(capsys, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("a-key-for-everybody", "utf-8")
    url = ("--url", "http://127.0.0.1:9/v1", "--api-key-file", str(key))
    assert "nobody would have to log in" in refusal(capsys, "--host", "0.0.0.0", "--port", "0", *url)


def test_a_port_that_is_taken_is_said(capsys) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refusal(capsys, "--port", str(port))
    assert f"127.0.0.1:{port} cannot be listened on: Address already in use" in said
    assert "--port N" in said


def test_options_that_exclude_each_other(capsys, tmp_path: Path) -> None:
    assert "exclude each other" in refusal(capsys, "--local", "--url", "http://127.0.0.1:9/v1")
    keys = ("--keys", str(tmp_path / "keys"), "--port", "0")
    assert "--keys is for an engine of this machine" in refusal(capsys, "--url", "http://127.0.0.1:9/v1", *keys)


def test_a_file_of_keys_that_is_none(capsys, tmp_path: Path) -> None:
    assert "cannot be read" in refusal(capsys, "--keys", str(tmp_path / "keys"), "--port", "0")


def test_a_missing_extra_is_named(capsys, monkeypatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "make install EXTRAS=web" in refusal(capsys, "--port", "0")


def test_the_command_imports_nothing_heavy() -> None:
    code = "import sys, chat.cli.web; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert not {"gradio", "torch", "vllm", "sqlalchemy", "fastapi"} & set(loaded.split())
