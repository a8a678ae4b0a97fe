"""Batch files through the real program: what is written, and what a second run does after anything ended the first."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest

from tests.patience import wait_until
from tests.program import GREEDY, run, start

pytestmark = pytest.mark.usefixtures("no_host_is_left")


@pytest.fixture
def files(tmp_path):
    return tmp_path / "in.jsonl", tmp_path / "out.jsonl"


OPENAI_OPTIONS = {"logprobs": True, "top_logprobs": 2, "response_format": {"type": "text"}, "seed": 1}


def conversation(text):
    return {"messages": [{"role": "user", "content": text}]}


def write_lines(path, lines):
    path.write_text("".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines))


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_answers_have_the_format_of_their_line_and_errors_a_record(files):
    source, target = files
    body = conversation("你好") | {"model": "demo"}
    lines = [
        conversation("Hello!"),
        "this is not JSON",
        {"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": body},
        {"messages": [{"role": "robot", "content": "x"}], "id": "bad-role"},
        conversation("Hello!") | {"temprature": 1},
        {"custom_id": "y", "body": conversation("Hello!") | {"max_completion_tokens": 2} | OPENAI_OPTIONS},
        conversation("Hello!") | {"id": "likely", "logprobs": 0, "max_tokens": 2},
    ]
    write_lines(source, lines)
    result = run("batch", str(source), str(target), *GREEDY)
    assert result.returncode == 0, result.stderr
    assert "4 answered, 3 failed, 0 before" in result.stderr
    records = {record["id"]: record for record in read_lines(target)}
    assert records["line-1"]["text"].startswith("Hello!")
    assert records["line-1"]["finish_reason"] == "stop"
    assert records["line-2"]["error"]["type"] == "InvalidMessageError"
    assert records["batch-x"]["custom_id"] == "x"
    answer = records["batch-x"]["response"]["body"]["choices"][0]["message"]
    assert answer["role"] == "assistant"
    assert answer["content"].startswith("你好")
    choice = records["batch-y"]["response"]["body"]["choices"][0]
    assert choice["finish_reason"] == "length"
    assert "".join(place["token"] for place in choice["logprobs"]["content"]) == choice["message"]["content"]
    assert [len(place["top_logprobs"]) for place in choice["logprobs"]["content"]] == [2, 2]
    assert [place["chosen"]["rank"] for place in records["likely"]["logprobs"]] == [1, 1]
    assert "logprobs" not in records["line-1"]
    assert "你好" in target.read_text()  # as it is, not escaped
    assert "robot" in records["bad-role"]["error"]["message"]
    assert records["line-5"]["error"]["hint"] == "Did you mean temperature?"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_second_run_goes_on_where_the_first_was_ended(files, how):
    source, target = files
    write_lines(source, [conversation(f"Count from {number} to 100.") for number in range(60)])
    command = ["batch", str(source), str(target), "--max-tokens", "40", *GREEDY]
    process = start(*command, stderr=subprocess.PIPE)
    wait_until(lambda: target.exists() and target.read_text().count("\n") >= 3, "answers", within_s=120, every_s=0.005)
    process.send_signal(how)
    _, errors = process.communicate(timeout=60)
    assert b"Traceback" not in errors
    num_before = target.read_text().count("\n")
    assert num_before >= 3
    if how is signal.SIGINT and process.returncode:  # it may have been faster than the signal
        assert process.returncode == 130
        assert b"the same command goes on" in errors
    with target.open("a") as torn:
        torn.write('{"id": "line-6')
    result = run(*command)
    assert f"{num_before} before" in result.stderr
    ids = [record["id"] for record in read_lines(target)]
    assert sorted(ids) == sorted(f"line-{number}" for number in range(1, 61))


def test_limit_answers_so_many_and_a_later_run_the_rest(files):
    source, target = files
    write_lines(source, [conversation("Hello!")] * 3)
    run("batch", str(source), str(target), "--limit", "2", *GREEDY)
    assert len(read_lines(target)) == 2
    assert "1 answered, 0 failed, 2 before" in run("batch", str(source), str(target), *GREEDY).stderr


@pytest.mark.parametrize(
    ("source_text", "target_text", "message"),
    [
        (None, None, "cannot be read"),
        ('{"id": "a", "messages": []}\n{"id": "a", "messages": []}\n', None, "the id a occurs twice"),
        ('{"messages": []}\n', "precious notes\n", "holds no replies of a batch"),
        ('{"messages": []}\n', "precious notes", "holds no replies of a batch"),
    ],
)
def test_files_that_cannot_be_used_are_named_and_left_alone(files, source_text, target_text, message):
    source, target = files
    if source_text is not None:
        source.write_text(source_text)
    if target_text is not None:
        target.write_text(target_text)
    result = run("batch", str(source), str(target))
    assert result.returncode == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert target_text is None or target.read_text() == target_text
