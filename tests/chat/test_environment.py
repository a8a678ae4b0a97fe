"""Variables of the environment, under their present names and under those from before."""

from __future__ import annotations

import os

import pytest

from chat.environment import read_variable
from tests.program import ROOT, run


def test_a_variable_is_read_by_its_name(monkeypatch):
    monkeypatch.setenv("VLLMDEPLOY_STORE", "new.sqlite")
    monkeypatch.setenv("VLLM_DEPLOY_STORE", "old.sqlite")
    assert read_variable("VLLMDEPLOY_STORE") == "new.sqlite"


def test_an_old_name_is_read_with_a_warning(monkeypatch):
    monkeypatch.delenv("VLLMDEPLOY_STORE", raising=False)
    monkeypatch.setenv("VLLM_DEPLOY_STORE", "old.sqlite")
    with pytest.warns(FutureWarning, match="VLLM_DEPLOY_STORE is now called VLLMDEPLOY_STORE"):
        assert read_variable("VLLMDEPLOY_STORE") == "old.sqlite"


def test_the_program_takes_an_old_name_and_says_the_new_one(tmp_path):
    environment = {**os.environ, "VLLM_DEPLOY_MODEL": "some/model", "VLLMDEPLOY_CONFIG": str(tmp_path / "none.toml")}
    shown = run("config", env=environment)
    assert "warning: VLLM_DEPLOY_MODEL is now called VLLMDEPLOY_MODEL" in shown.stderr
    assert "some/model" in shown.stdout


def test_no_variable_of_ours_has_the_prefix_of_vllms():
    files = [*(ROOT / "chat").rglob("*.py"), *(ROOT / "chatcore").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    texts = {file: file.read_text("utf-8") for file in files if file != ROOT / "chat" / "environment.py"}
    assert [file.name for file, text in texts.items() if "VLLM_DEPLOY_" in text and file.name != "migrating.md"] == []
