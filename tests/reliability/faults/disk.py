"""A small disk of its own, which fills up, turns read-only, or loses its power: a file with ext4 on it, mounted."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from pathlib import Path

__all__ = ["Disk", "unavailable_reason"]

SIZE_BYTES = 16 << 20
SHUTDOWN = 0x8004587D  # the kernel's EXT4_IOC_SHUTDOWN: from now on nothing reaches the disk
WITHOUT_ITS_LOG = struct.pack("I", 2)  # what was not synced is lost, as when the power fails
BALLAST = "ballast"


class Disk:
    """A mounted disk; gone afterwards.

    Args:
        folder: where its file is, and the folder ``disk`` that it is mounted on.
    """

    def __init__(self, folder: Path) -> None:
        self._image, self.folder = folder / "disk.img", folder / "disk"

    def __enter__(self) -> Disk:
        self.folder.mkdir()
        with self._image.open("wb") as image:
            image.truncate(SIZE_BYTES)
        _run("mkfs.ext4", "-q", self._image)
        self._mount()
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", "--lazy", self.folder], check=False, capture_output=True)
        self._image.unlink()

    def fill(self, *, but_bytes: int) -> None:
        """Use up all of its space, but for so much."""
        with (self.folder / BALLAST).open("wb", buffering=0) as ballast:
            try:
                while True:
                    ballast.write(bytes(4096))
            except OSError:
                ballast.truncate(max(0, ballast.tell() - but_bytes))

    def free(self) -> None:
        """Give the space back."""
        (self.folder / BALLAST).unlink()

    def turn_read_only(self) -> None:
        """Do what ext4 does when it meets an error: programs with open files can no longer write to them."""
        (Path("/sys/fs/ext4") / self._device() / "trigger_fs_error").write_text("1")

    def cut_power(self) -> None:
        """Lose all that was not synced; later writes fail."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, SHUTDOWN, WITHOUT_ITS_LOG)
        finally:
            os.close(descriptor)

    def start_again(self) -> None:
        """Bring it back as the start of a machine does. No process may have files open."""
        _run("umount", self.folder)
        subprocess.run(["e2fsck", "-p", self._image], check=False, capture_output=True)  # 1: it has mended something
        self._mount()

    def remount(self, *, read_only: bool) -> None:
        """Allow writing, or do not. No process may have files open for writing."""
        _run("mount", "-o", f"remount,{'ro' if read_only else 'rw'}", self.folder)

    def _mount(self) -> None:
        _run("mount", "-o", "loop,errors=remount-ro", self._image, self.folder)

    def _device(self) -> str:
        lines = Path("/proc/mounts").read_text("utf-8").splitlines()
        return next(Path(line.split()[0]).name for line in lines if line.split()[1] == str(self.folder))


def unavailable_reason(folder: Path) -> str:
    """Return why no such disk can be mounted on this machine, or an empty text if one can."""
    if os.geteuid() != 0:
        return "only root can mount a disk"
    if not all(shutil.which(program) for program in ("mkfs.ext4", "e2fsck", "mount", "umount")):
        return "mkfs.ext4, e2fsck or mount is not installed"
    try:
        with Disk(folder) as disk:
            name = disk._device()
            return "" if (Path("/sys/fs/ext4") / name / "trigger_fs_error").exists() else "the kernel has no ext4"
    except subprocess.CalledProcessError as error:
        return f"no disk can be mounted here: {error.stderr.strip()}"


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
