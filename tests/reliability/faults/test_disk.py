"""The disk under the store: full, read-only from one moment to the next, or without power."""

from __future__ import annotations

import time

import pytest

from chat.store.local import ConversationStore
from chatcore.errors import ChatError, StoreError
from tests.reliability.faults.checks import check_readable, check_store
from tests.reliability.faults.disk import Disk, why_no_disk
from tests.reliability.faults.fault import Fault, Faults
from tests.reliability.faults.writer import Writing, opening


@pytest.fixture(scope="module", autouse=True)
def needs_a_disk(tmp_path_factory: pytest.TempPathFactory) -> None:
    if reason := why_no_disk(tmp_path_factory.mktemp("disk")):
        pytest.skip(reason)


def test_a_full_disk_takes_nothing_and_once_there_is_room_all_of_it_is_kept(faults: Faults) -> None:
    for fault in faults.of("disk full", full=40, short=3):
        with fault, Disk(fault.folder) as disk:
            fill_and_free(fault, disk)


def fill_and_free(fault: Fault, disk: Disk) -> None:
    where = disk.folder / "store.sqlite"
    with Writing(fault, opening(where)) as writer:
        writer.wait_for_some_lines(1)
        line = writer.num_lines()
        disk.fill(but_bytes=fault.chance.choice((0, 0, 4096, 100_000)))
        writer.wait_for("trouble", after_line=line)
        if fault.chance.random() < 0.5:  # the terminal is still there when there is room again
            disk.free()
            writer.wait_for("kept", after_line=writer.num_lines())
            check_store(where, writer.kill())
            return
        account = writer.kill()
    check_readable(where, account)
    disk.free()
    check_store(where, account)


def test_a_disk_that_turns_read_only_takes_nothing_with_it(faults: Faults) -> None:
    for fault in faults.of("disk read-only", full=30, short=2):
        with fault, Disk(fault.folder) as disk:
            turn_read_only(fault, disk)


def turn_read_only(fault: Fault, disk: Disk) -> None:
    where = disk.folder / "store.sqlite"
    with Writing(fault, opening(where)) as writer:
        writer.wait_for_some_lines(1)
        line = writer.num_lines()
        # While it turns, ext4 (Linux 6.18) lets an fsync succeed whose bytes never reach the disk: nobody could know.
        turned_at_s = time.monotonic()
        disk.turn_read_only()
        writer.wait_for("trouble", after_line=line)
        account = writer.kill(sure_until_s=turned_at_s)
    disk.start_again()
    disk.remount(read_only=True)  # as it may stay until somebody has looked at it
    with pytest.raises(StoreError) as refused:
        ConversationStore(where).close()
    check_words(refused.value)
    disk.remount(read_only=False)
    check_store(where, account)


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
            with Writing(fault, opening(where)) as writer:
                writer.wait_for_some_lines(1)
                disk.cut_power()
                account = writer.kill()
            disk.start_again()
            check_store(where, account)
