"""``batch`` is killed, its disk is full, the power fails: at the end every line must be answered once."""

from __future__ import annotations

import json
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from chat.cli.batch import run_batch
from chatcore.errors import ChatError
from tests.chat.terminal.scripted import ScriptedBackend
from tests.patience import wait_until
from tests.reliability.faults.child import POLL_INTERVAL_S, Child, running
from tests.reliability.faults.disk import Disk, unavailable_reason
from tests.reliability.faults.fault import Fault, Faults

NUM_LINES = 200


def write_source(folder: Path) -> Path:
    source = folder / "in.jsonl"
    lines = [
        {"id": f"line {n}", "messages": [{"role": "user", "content": f"question {n} 你好"}]} for n in range(NUM_LINES)
    ]
    source.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return source


def start(source: Path, target: Path) -> AbstractContextManager[Child]:
    return running(lambda: run_batch(ScriptedBackend(), source, target, progress=False), source.parent)


def whole_lines(target: Path) -> bytes:
    data = target.read_bytes() if target.exists() else b""
    return data[: data.rfind(b"\n") + 1]


def finish(source: Path, target: Path, seen: bytes) -> None:
    """Run it to its end; every line must be answered once, and what was there before must be there still."""
    with start(source, target) as child:
        assert child.wait() == 0, child.error
    assert target.read_bytes().startswith(seen), "what was answered has changed"
    records = {record["id"]: record["text"] for record in map(json.loads, target.read_text().splitlines())}
    assert records == {f"line {n}": f"echo: question {n} 你好" for n in range(NUM_LINES)}
    assert target.read_bytes().count(b"\n") == NUM_LINES


def test_a_killed_batch_goes_on_until_every_line_is_answered_once(faults: Faults) -> None:
    for fault in faults.of("batch killed", full=30, short=3):
        with fault:
            source, target, seen = write_source(fault.folder), fault.folder / "out.jsonl", b""
            for _ in range(fault.chance.randint(1, 3)):  # again and again
                with start(source, target) as child:
                    time.sleep(fault.chance.uniform(0, 0.2))
                    if child.is_running():
                        child.kill()
                assert whole_lines(target).startswith(seen), "what was answered has changed"
                seen = whole_lines(target)
            finish(source, target, seen)


# -- its disk ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def needs_a_disk(tmp_path: Path) -> None:
    if reason := unavailable_reason(tmp_path):
        pytest.skip(reason)


@pytest.mark.usefixtures("needs_a_disk")
def test_a_batch_goes_on_where_a_full_disk_has_stopped_it(faults: Faults) -> None:
    for fault in faults.of("disk full under a batch", full=20, short=2):
        with fault, Disk(fault.folder) as disk:
            fill_and_free(fault, disk)


def fill_and_free(fault: Fault, disk: Disk) -> None:
    source, target = write_source(fault.folder), disk.folder / "out.jsonl"
    disk.fill(but_bytes=fault.chance.choice((0, 4096, 20_000)))
    with pytest.raises(ChatError) as stopped:
        run_batch(ScriptedBackend(), source, target, progress=False)
    assert "cannot be written: No space left on device" in str(stopped.value)
    seen = whole_lines(target)
    if fault.chance.random() < 0.3:  # a first line that was torn
        with target.open("ab") as torn:
            disk.free()
            torn.write(b'{"id": "line 0", "te')
    else:
        disk.free()
    finish(source, target, seen)


@pytest.mark.usefixtures("needs_a_disk")
def test_a_batch_goes_on_after_the_power_has_failed(faults: Faults) -> None:
    for fault in faults.of("power cut under a batch", full=20, short=2):
        with fault, Disk(fault.folder) as disk:
            cut_power(fault, disk)


def cut_power(fault: Fault, disk: Disk) -> None:
    source, target = write_source(fault.folder), disk.folder / "out.jsonl"
    num_lines = fault.chance.randint(0, NUM_LINES - 1)
    with start(source, target) as child:
        wait_until(
            lambda: whole_lines(target).count(b"\n") >= num_lines or not child.is_running(),
            "so many answers",
            every_s=POLL_INTERVAL_S,
        )
        seen = whole_lines(target)[:-1]
        disk.cut_power()
        child.wait()
    disk.start_again()
    finish(source, target, seen[: seen.rfind(b"\n") + 1])  # the last line that was seen may not have been synced yet
