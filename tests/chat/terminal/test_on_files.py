"""Whole transcripts with commands about files: saving, exporting, attaching."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.chat.terminal.conftest import Talk, said
from tests.chat.terminal.scripted import ScriptedBackend


def test_save_with_a_name_works(talk: Talk, tmp_path: Path) -> None:
    """transformers' "!save NAME" was refused."""
    file = tmp_path / "new folder" / "my talk.json"
    talk(ScriptedBackend(["好的"]), "你好", f"/save {file}")
    assert "你好" in file.read_text("utf-8")
    assert "\\u" not in file.read_text("utf-8")


def test_saved_conversations_come_back(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "talk.json"
    talk(ScriptedBackend(["a"], ["b"]), "one", "/retry", f"/save {file}")
    backend = ScriptedBackend(["c"])
    talk(backend, f"/load {file}", "two")
    assert said(backend) == ["one", "b", "two"]


@pytest.mark.parametrize("name", ["talk.md", "talk.json", "talk.jsonl"])
def test_export_never_overwrites_without_asking(talk: Talk, tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    file.write_text("mine")
    shown = talk(ScriptedBackend(["a"]), "one", f"/export {file}", "n")
    assert "Overwrite" in shown
    assert file.read_text() == "mine"
    talk(ScriptedBackend(["a"]), "one", f"/export {file}", "y")
    assert "one" in file.read_text()


def test_export_to_openai_is_one_line_of_messages(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "talk.jsonl"
    talk(ScriptedBackend(["嗯"]), "你好", f"/export openai {file}")
    assert json.loads(file.read_text("utf-8"))["messages"] == [
        {"role": "user", "content": "你好"},
        {"role": "assistant", "content": "嗯"},
    ]


def test_a_file_is_attached_behind_the_message(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "my notes.md"
    file.write_text("```py\nx\n```\n")
    backend = ScriptedBackend()
    shown = talk(backend, f'/file "{file}"', "what is this?", "and now?")
    assert "attached: my notes.md, 12 bytes, " in shown
    assert said(backend, 0) == ["what is this?\n\nmy notes.md:\n````md\n```py\nx\n```\n````"]
    assert said(backend, 1)[-1] == "and now?"


def test_an_at_sign_attaches_a_file_that_exists_and_nothing_else(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("inside")
    backend = ScriptedBackend()
    talk(backend, f"look at @{file}, please", "mail me@example.com or @nobody")
    assert said(backend, 0)[0].endswith("a.txt:\n```txt\ninside\n```")
    assert said(backend, 1)[-1] == "mail me@example.com or @nobody"


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\x00\x01\x02", "is not text"), (b"\xff\xff\xff\xff", "is not text")]
)
def test_a_binary_file_is_refused(talk: Talk, tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(content)
    assert reason in talk(ScriptedBackend(), f"/file {file}")


def test_a_block_of_code_is_saved_by_its_number(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "f.py"
    answer = "One:\n\n```py\nx = 1\n```\n\nTwo:\n\n```py\ny = '/'\n```\n"
    talk(ScriptedBackend([answer]), "code", f"/save code 2 {file}")
    assert file.read_text() == "y = '/'\n"
    assert "the last answer has 2" in talk(ScriptedBackend([answer]), "code", f"/save code 3 {file}")
