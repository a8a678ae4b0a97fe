"""Commands with arguments that nobody has thought of: a sentence, and the next prompt."""

from __future__ import annotations

import json
import os

import pytest

from chat.terminal.keys import whole_characters
from chat.terminal.repl import Repl
from tests.chat.terminal.scripted import ScriptedBackend


@pytest.fixture(autouse=True)
def no_mistake_of_our_own(monkeypatch, tmp_path):
    """What the program takes for its own mistake is one."""
    monkeypatch.chdir(tmp_path)

    def fail(_, error):
        raise AssertionError from error

    monkeypatch.setattr(Repl, "_tell_internal", fail)


@pytest.mark.parametrize(
    "line",
    [
        "/think budget ²",
        "/think budget " + "9" * 5000,
        "/copy code " + "9" * 5000,
        "/copy code ²",
        "/file a\0b",
        "/file ~a\0b",
        "/retry temperature=" + "9" * 400,
        "/import a\0b",
        "/import ~a\0b",
        "/export ~a\0b",
        "/save ~a\0b",
        "/export a\0b",
        "/save code 1 a\0b",
        "/system @a\0b",
        "/save " + "x" * 5000,
        "/import " + "x" * 5000,
        "/file " + "x" * 5000,
    ],
)
def test_an_argument_that_means_nothing_is_told(talk, line):
    backend = ScriptedBackend(["```\ncode\n```"])
    talk(backend, "Hello", line, "Still there?")
    assert backend.requests[-1][0][-1]["content"] == "Still there?"


def test_a_pipe_is_no_file_to_attach(talk, tmp_path):
    """To read it would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    assert "pipe is no file" in talk(ScriptedBackend(), f"/file {tmp_path / 'pipe'}")


def test_an_import_is_kept_as_a_whole(talk, store, tmp_path):
    lines = [{"messages": [{"role": "user", "content": text}]} for text in ("one", "two")]
    (tmp_path / "file.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    talk(ScriptedBackend(), f"/import {tmp_path / 'file.jsonl'}")
    assert sorted(line.title for line in store.recent()) == ["one", "two"]


def test_bytes_that_are_no_text_are_told_by_a_sign():
    """The terminal hands them on as halves of characters, which no file, store or model takes."""
    assert whole_characters("a\udcff你\ud800") == "a\ufffd你\ufffd"
