"""The disk under the store: full, read-only from one moment to the next, or without power."""

from __future__ import annotations

import time

import pytest

from chat.store.local import ConversationStore
from chatcore.errors import ChatError, StoreError
from tests.reliability.faults.checks import check_readable, check_store
from tests.reliability.faults.disk import Disk, unavailable_reason
from tests.reliability.faults.fault import Fault, Faults
from tests.reliability.faults.writer import WriterProcess, store_opener


@pytest.fixture(scope="module", autouse=True)
def needs_a_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    if reason := unavailable_reason(tmp_path_factory.mktemp("disk")):
        pytest.skip(reason)


def test_a_full_disk_loses_nothing_and_writing_goes_on_with_free_space(faults: Faults) -> None:
    for fault in faults.of("disk full", full=40, short=3):
        with fault, Disk(fault.folder) as disk:
            fill_and_free(fault, disk)


def fill_and_free(fault: Fault, disk: Disk) -> None:
    where = disk.folder / "store.sqlite"
    with WriterProcess(fault, store_opener(where)) as writer:
        writer.wait_for_progress(1)
        num_before = writer.num_events()
        disk.fill(but_bytes=fault.chance.choice((0, 0, 4096, 100_000)))
        writer.wait_for("trouble", after=num_before)
        if fault.chance.random() < 0.5:  # the terminal is still there when there is room again
            disk.free()
            writer.wait_for("kept", after=writer.num_events())
            check_store(where, writer.kill())
            return
        history = writer.kill()
    check_readable(where, history)
    disk.free()
    check_store(where, history)


def test_a_disk_that_turns_read_only_takes_nothing_with_it(faults: Faults) -> None:
    for fault in faults.of("disk read-only", full=30, short=2):
        with fault, Disk(fault.folder) as disk:
            turn_read_only(fault, disk)


def turn_read_only(fault: Fault, disk: Disk) -> None:
    where = disk.folder / "store.sqlite"
    with WriterProcess(fault, store_opener(where)) as writer:
        writer.wait_for_progress(1)
        num_before = writer.num_events()
        # While it turns, ext4 (Linux 6.18) lets an fsync succeed whose bytes never reach the disk, undetectably.
        turned_at_s = time.monotonic()
        disk.turn_read_only()
        writer.wait_for("trouble", after=num_before)
        history = writer.kill(sure_until_s=turned_at_s)
    disk.start_again()
    disk.remount(read_only=True)  # as it may stay until an administrator has looked at it
    with pytest.raises(StoreError) as refused:
        ConversationStore(where).close()
    check_words(refused.value)
    disk.remount(read_only=False)
    check_store(where, history)


def check_words(error: ChatError) -> None:
    """Check that an error is one sentence and says what to do."""
    assert "\n" not in str(error)
    assert "Traceback" not in str(error)
    assert error.hint


def test_what_was_kept_is_there_after_the_power_has_failed(faults: Faults) -> None:
    """Nothing that was not synced reaches the disk: what a crash of the machine does, and kill -9 does not."""
    for fault in faults.of("power cut", full=40, short=4):
        with fault, Disk(fault.folder) as disk:
            where = disk.folder / "store.sqlite"
            with WriterProcess(fault, store_opener(where)) as writer:
                writer.wait_for_progress(1)
                disk.cut_power()
                history = writer.kill()
            disk.start_again()
            check_store(where, history)
