"""A writer that is at work is never taken for a dead one, and a dead one is known at once where that is possible."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from chat.store.writer import LEASE_S, Writer, is_gone

ROOT = Path(__file__).resolve().parents[3]
LONG_S = 100 * LEASE_S


@pytest.fixture
def writer():
    writer = Writer()
    yield writer
    writer.leave()


def with_part(writer: Writer, index: int, value: str) -> str:
    """Return a writer's name with one part changed: host, boot, process id, start, serial."""
    parts = writer.name.split(" ")
    parts[index] = value
    return " ".join(parts)


def test_a_writer_of_this_process_is_there_until_it_leaves(writer):
    assert not is_gone(writer.name, silent_s=LONG_S)
    writer.leave()
    assert is_gone(writer.name, silent_s=0)


def test_two_writers_of_one_process_are_told_apart(writer):
    other = Writer()
    other.leave()
    assert is_gone(other.name, silent_s=0)
    assert not is_gone(writer.name, silent_s=0)


def test_a_process_that_has_ended_is_gone_at_once(writer):
    ended = subprocess.run(
        [sys.executable, "-c", "from chat.store.writer import Writer; print(Writer().name)"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    name = ended.stdout.strip()
    assert name.split(" ")[:2] == writer.name.split(" ")[:2]
    assert is_gone(name, silent_s=0)


def test_a_living_process_is_there_however_long_it_is_silent(writer):
    """A terminal may wait for hours, with a question unanswered, for a model to be downloaded."""
    program = (
        "import sys; from chat.store.writer import Writer; w = Writer(); print(w.name, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    ) as process:
        name = process.stdout.readline().strip()
        assert not is_gone(name, silent_s=LONG_S)
    assert is_gone(name, silent_s=0)


def test_a_process_id_that_is_used_again_is_another_writer(writer):
    assert is_gone(with_part(writer, 3, "1"), silent_s=0)


@pytest.mark.parametrize("part", [0, 1])
def test_a_writer_on_another_machine_is_gone_when_it_is_silent_for_long(writer, part):
    name = with_part(writer, part, "other")
    assert not is_gone(name, silent_s=LEASE_S - 1)
    assert is_gone(name, silent_s=LEASE_S + 1)
