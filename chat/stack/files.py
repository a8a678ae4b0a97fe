"""Where a stack keeps what it generates: configurations, the logs, the supervisor's socket."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from chat.backends.engine_host import runtime_dir
from chat.private_files import open_private
from chatcore.errors import StackError

__all__ = ["StackFiles", "files_of", "write_private"]

APP_NAME = "vllm-deploy"


@dataclass(frozen=True, slots=True)
class StackFiles:
    """The files of one stack; ``folder`` holds all but the socket, whose path must be short."""

    folder: Path
    socket: Path

    @property
    def supervisor_config(self) -> Path:
        """supervisor's configuration."""
        return self.folder / "supervisord.conf"

    @property
    def nginx_config(self) -> Path:
        """nginx's configuration."""
        return self.folder / "nginx.conf"

    @property
    def models(self) -> Path:
        """What ``/v1/models`` answers: the models of all services in one list."""
        return self.folder / "models.json"

    @property
    def pid_file(self) -> Path:
        """Where supervisor writes its process id."""
        return self.folder / "supervisord.pid"

    @property
    def log_dir(self) -> Path:
        """Where the processes write their logs."""
        return self.folder / "logs"

    def log_of(self, process: str) -> Path:
        """Return the log of a process."""
        return self.log_dir / f"{process}.log"


def files_of(description_file: Path) -> StackFiles:
    """Return where the stack that a file describes keeps its own files; each such file has one place."""
    import platformdirs

    path = description_file.resolve()
    name = f"{path.stem}-{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    folder = platformdirs.user_state_path(APP_NAME) / "stacks" / name
    return StackFiles(folder, runtime_dir() / f"stack-{name[-8:]}.sock")


def make_folders(files: StackFiles) -> None:
    """Make the folders, closed to other users.

    Raises:
        StackError: they cannot be made.
    """
    try:
        files.log_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        files.folder.chmod(0o700)
    except OSError as error:
        raise StackError(f"{files.folder} cannot be written: {error.strerror}") from error


def write_private(file: Path, text: str) -> None:
    """Write a file that nobody else may read, whole or not at all."""
    new = file.with_name(f".{file.name}.new")
    try:
        with open(new, "w", encoding="utf-8", opener=open_private) as stream:
            stream.write(text)
        new.replace(file)
    except OSError as error:
        raise StackError(f"{file} cannot be written: {error.strerror}") from error
