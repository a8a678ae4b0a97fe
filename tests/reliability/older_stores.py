"""Stores as released versions made them, as text: one file for each schema, and what is in it.

A released file is never made again. When a step has been added to ``MIGRATIONS``, and before it is released::

    python -m tests.reliability.older_stores
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from chat.conversations import files
from chat.store import database
from chat.store.local import ConversationStore
from chat.store.schema import MIGRATIONS
from chat.store.server_state import KeptResponse
from tests.chat.store.storing import rich_conversation

__all__ = ["FOLDER", "OWNERS", "contents", "open_with", "restore"]

FOLDER = Path(__file__).parent / "stores"
OWNERS = ("local", "alice")
WRITER = "elsewhere 1/1 4194304 1 00000000"  # of another machine: what it left open has been cut off
FIRST_WITH_SERVER_TABLES = 2


def restore(version: int, file: Path) -> None:
    """Make the file of a store again as a version of this program left it."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript((FOLDER / f"schema-{version}.sql").read_text("utf-8"))


def contents(store: ConversationStore) -> dict[str, list[dict[str, Any]]]:
    """Return every conversation of a store, whole, by its owner."""
    found = {
        owner: [files.to_dict(store.load(line.id, owner=owner)) for line in store.recent(owner=owner, limit=100)]
        for owner in OWNERS
    }
    return dict(json.loads(json.dumps(found)))


@contextlib.contextmanager
def open_with(version: int) -> Any:
    """Make the program for a while the one that knew only so many steps."""
    with mock.patch.object(database, "MIGRATIONS", MIGRATIONS[:version]):
        yield


def _fill(store: ConversationStore, version: int) -> None:
    for owner in OWNERS:
        question = "How is the weather in 北京?\n'; DROP TABLE messages; --"
        made = rich_conversation(question, system=f"You are terse, {owner}.", owner=owner)
        store.save(made)
        if version >= FIRST_WITH_SERVER_TABLES:
            store.served.begin_session(made.id, 7, owner=owner)
            response = KeptResponse(f"response-of-{owner}", made.id, str(made.tip_id), {"status": "completed"})
            store.served.add_response(response, owner=owner)
    store.create(title="an empty one")


def _dump(file: Path) -> str:
    """Return statements that make a store again; those of the full-text index by its rows, not by its inner tables."""
    with contextlib.closing(sqlite3.connect(file)) as connection:
        lines = [line for line in connection.iterdump() if "message_search" not in line]
        lines = [line for line in lines if "writable_schema" not in line]
        (index,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'message_search'").fetchone()
        rows = connection.execute("SELECT rowid, quote(words) FROM message_search").fetchall()
    words = [f"INSERT INTO message_search(rowid, words) VALUES({row}, {text});" for row, text in rows]
    return "\n".join([*lines[:-1], f"{index};", *words, lines[-1], "PRAGMA journal_mode = WAL;", ""])


def make(version: int) -> None:
    """Write what a schema's store looks like."""
    with tempfile.TemporaryDirectory() as folder, open_with(version):
        file = Path(folder) / "store.sqlite"
        with contextlib.closing(ConversationStore(file)) as store:
            _fill(store, version)
            found, writer = contents(store), store._writer.name
        (FOLDER / f"schema-{version}.sql").write_text(_dump(file).replace(writer, WRITER), "utf-8")
    text = json.dumps(found, ensure_ascii=False, indent=1)
    (FOLDER / f"schema-{version}.json").write_text(f"{text}\n", "utf-8")


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for number in range(1, len(MIGRATIONS) + 1):
        if not (FOLDER / f"schema-{number}.sql").exists():
            make(number)
            print(f"schema {number}", file=sys.stderr)
