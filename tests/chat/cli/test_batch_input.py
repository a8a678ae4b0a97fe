"""Lines of a batch as no program should write them: each has its place in the replies, and a second run finds it."""

from __future__ import annotations

import json

import pytest

from chat.cli.batch import run_batch
from chatcore.errors import ChatError
from tests.chat.terminal.scripted import ScriptedBackend


@pytest.fixture
def files(tmp_path):
    return tmp_path / "in.jsonl", tmp_path / "out.jsonl"


def answered(files, *lines):
    """Run a batch; return what is in each reply's place, by id, and how the next run goes."""
    source, target = files
    source.write_text("\n".join(lines), "utf-8")
    run_batch(ScriptedBackend(), source, target, progress=False)
    records = {record["id"]: record for record in map(json.loads, target.read_text("utf-8").split("\n")[:-1])}
    return records, run_batch(ScriptedBackend(), source, target, progress=False)


def test_an_id_with_half_a_character_is_kept_as_json_spells_it(files):
    records, again = answered(files, '{"id": "\\ud800", "messages": [{"role": "user", "content": "x"}]}')
    assert list(records) == ["\ud800"]
    assert again.num_before == 1


def test_a_line_separator_inside_a_text_ends_no_line(files):
    text = json.dumps({"messages": [{"role": "user", "content": "one\u2028two"}], "id": "a"}, ensure_ascii=False)
    records, _ = answered(files, text)
    assert list(records) == ["a"]


def test_a_line_of_a_thousand_brackets_is_an_error_in_its_place(files):
    records, _ = answered(files, "[" * 3000)
    assert records["line-1"]["error"]["type"] == "InvalidMessageError"


@pytest.mark.parametrize("text", ["[1]\n", "[" * 3000 + "\n", "3\n", "null\n"])
def test_a_file_of_something_else_is_no_file_of_replies(files, text):
    source, target = files
    source.write_text('{"messages": []}\n')
    target.write_text(text)
    with pytest.raises(ChatError, match="holds no replies of a batch"):
        run_batch(ScriptedBackend(), source, target, progress=False)
    assert target.read_text() == text
