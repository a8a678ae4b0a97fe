"""What was typed before, for Up and Ctrl-R: one file, shared by all terminals of a user."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from prompt_toolkit.history import History

__all__ = ["InputHistory"]

MAX_ENTRIES = 5000


class InputHistory(History):
    """Lines typed before, newest first, each once. Every entry is one line of JSON, so no entry can be torn apart.

    Args:
        file: where they are kept, readable by the user alone; None to keep them only in this process.
        on_trouble: called once, with the reason, if the file cannot be read or written.

    What begins with a space is not kept.
    """

    def __init__(self, file: Path | None, on_trouble: Callable[[str], None]) -> None:
        super().__init__()
        self._file = file
        self._on_trouble = on_trouble

    def load_history_strings(self) -> Iterable[str]:
        """Return the entries, newest first."""
        return list(dict.fromkeys(reversed(self._read())))

    def append_string(self, string: str) -> None:
        """Keep what was typed."""
        if string.strip() and not string.startswith(" "):
            super().append_string(string)

    def store_string(self, string: str) -> None:
        """Write an entry to the file; drop the oldest ones when there are too many."""
        if self._file is None:
            return
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "a+", encoding="utf-8", errors="replace") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # two terminals write one after the other; closing unlocks
                file.write(json.dumps(string, ensure_ascii=False) + "\n")
                file.flush()
                file.seek(0)
                lines = file.readlines()
                if len(lines) > 2 * MAX_ENTRIES:
                    file.truncate(0)
                    file.writelines(lines[-MAX_ENTRIES:])
        except OSError as error:
            self._give_up(error)

    def _read(self) -> list[str]:
        if self._file is None:
            return []
        try:
            lines = self._file.read_text("utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return []
        except OSError as error:
            self._give_up(error)
            return []
        return [entry for line in lines[-MAX_ENTRIES:] if isinstance(entry := _parse(line), str)]

    def _give_up(self, error: OSError) -> None:
        self._file = None
        self._on_trouble(str(error))


def _parse(line: str) -> object:
    try:
        return json.loads(line)
    except ValueError:  # cut off by a crash: only this entry is lost
        return None
