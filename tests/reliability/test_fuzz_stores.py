"""Stores that are cut off, that bits were flipped in, that are of the future, or that are something else."""

from __future__ import annotations

import contextlib
import io
import random
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat.cli import conversations as conversations_command
from chat.conversations import files
from chat.conversations.conversation import Conversation, Message, make_id
from chat.store.local import ConversationStore
from chat.store.maintenance import backup, describe_store
from chat.store.schema import MIGRATIONS
from chat.store.server_state import KeptResponse
from chatcore.errors import StoreError
from tests.reliability.cases import folder_in_memory, refused, run_cases
from tests.reliability.mutation import mutate_bytes, odd_value

Spoil = Callable[[random.Random, Path], None]
PAGE = 4096
NOT_STORES = [
    b"Dear diary,\n",
    b"PK\x03\x04" + bytes(200),
    b"SQLite format 3\0",
    b"SQLite format 2\0" * 300,
    bytes(9000),
]
NOT_JSON = ["[1]", "{}", '{"a": [}', "[[]]", b"abc", "null", "7"]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with folder_in_memory() as folder:
        yield folder


@pytest.fixture(scope="module")
def stores(folder: Path) -> list[bytes]:
    """A store of each schema, and a file of another program, all of them whole."""
    file = folder / "whole.sqlite"
    store = ConversationStore(file)
    for number in range(3):
        conversation = store.create(title=f"Number {number}", system="Be terse.", settings={"sampling": {"top_p": 0.9}})
        for turn in range(3):
            store.add(conversation, Message("user", f"Where is the 灯塔 {turn}?"))
            store.add(conversation, Message("assistant", "There. " * 30, reasoning="Hm.", token_ids=tuple(range(40))))
        conversation.toggle_pin(1)
        conversation.undo()
        store.save(conversation)
    store.served.begin_session(conversation.id, 7, owner="local")
    tip = conversation.tip_id
    assert tip is not None
    store.served.add_response(KeptResponse("a" * 24, conversation.id, tip, {"status": "completed"}), owner="local")
    store.add(conversation, Message("user", "A question that was cut off"))
    store.close()
    latest = file.read_bytes()
    with contextlib.closing(sqlite3.connect(file)) as database:
        for table in ("responses", "sessions", "turn_leases"):
            database.execute(f"DROP TABLE {table}")
        database.execute("UPDATE store_version SET version = 1")
        database.commit()
        database.execute("VACUUM")
    first = file.read_bytes()
    file.unlink()
    with contextlib.closing(sqlite3.connect(file)) as database:
        database.execute("CREATE TABLE messages (who TEXT, what TEXT)")
        database.execute("INSERT INTO messages VALUES ('somebody', 'something')")
        database.commit()
    return [latest, first, file.read_bytes()]


def test_a_damaged_store_is_refused_or_read_as_far_as_it_goes(stores, folder):
    """Whatever is wrong with the file: a sentence says so, and a file that is refused is left as it was."""
    file = folder / "store.sqlite"

    def case(rng: random.Random) -> str:
        for left in folder.glob("store.sqlite*"):
            left.unlink()
        file.write_bytes(rng.choice([stores[0]] * 4 + stores[1:]))
        rng.choice(SPOILERS)(rng, file)
        data = file.read_bytes()
        try:
            store = ConversationStore(file)
        except StoreError as error:
            assert file.read_bytes() == data, "a store that is refused was changed"
            return refused(error)
        try:
            return _use(rng, store, folder)
        finally:
            store.close()

    outcomes = run_cases("store files", case, short=250)
    assert set(outcomes) == {"refused", "partly read", "read"}


def _use(rng: random.Random, store: ConversationStore, folder: Path) -> str:
    """Do some of what can be done with a store; each may fail, with an error of ours."""
    damaged = 0
    ids: list[str] = []

    def read() -> None:
        conversation = store.load(rng.choice(ids))
        files.to_markdown(conversation)
        files.to_json(conversation)
        files.to_jsonl([conversation])
        conversation.redo(9)
        store.add(conversation, Message("user", "And now?"))

    ways: list[Callable[[], Any]] = [
        lambda: conversations_command.list_conversations(store, limit=10),
        lambda: conversations_command.search(store, "灯塔", limit=10),
        lambda: store.unfinished(),
        lambda: store.served.find_session(7, owner="local"),
        lambda: store.served.find_response("a" * 24, owner="local"),
        lambda: store.leases.take(rng.choice(ids), make_id(), owner="local") if ids else None,
        lambda: describe_store(store),
        lambda: backup(store, folder / "copy.sqlite", overwrite=True),
        lambda: store.insert(Conversation(title="new")),
        lambda: store.settle(rng.choice(ids)) if ids else None,
        lambda: store.delete(rng.choice(ids)) if ids else None,
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        for way in (lambda: ids.extend(line.id for line in store.recent(limit=10)), read, *rng.sample(ways, 2)):
            if way is read and not ids:
                continue
            try:
                way()
            except StoreError as error:
                refused(error)
                damaged += 1
    return "partly read" if damaged else "read"


# -- what can be wrong ------------------------------------------------------------------------------------------------


def _flip_bits(rng: random.Random, file: Path) -> None:
    data = bytearray(file.read_bytes())
    page = rng.randrange(len(data) // PAGE) * PAGE if rng.random() < 0.5 else 0
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        place = rng.randrange(page, min(len(data), page + rng.choice([100, PAGE, len(data)])))
        data[place] ^= 1 << rng.randrange(8)
    file.write_bytes(data)


def _cut_off(rng: random.Random, file: Path) -> None:
    data = file.read_bytes()
    end = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(len(data) // PAGE) * PAGE
    file.write_bytes(data[:end])


def _mix_pages(rng: random.Random, file: Path) -> None:
    data = bytearray(file.read_bytes())
    first, second = (rng.randrange(1, len(data) // PAGE) * PAGE for _ in range(2))
    data[first : first + PAGE] = bytes(PAGE) if rng.random() < 0.3 else data[second : second + PAGE]
    file.write_bytes(data)


def _change_bytes(rng: random.Random, file: Path) -> None:
    file.write_bytes(mutate_bytes(rng, file.read_bytes()))


def _something_else(rng: random.Random, file: Path) -> None:
    file.write_bytes(mutate_bytes(rng, rng.choice(NOT_STORES)))


def _leave_a_journal(rng: random.Random, file: Path) -> None:
    """A journal of another file lies beside it."""
    name = f"{file.name}{rng.choice(['-wal', '-journal', '-shm'])}"
    file.with_name(name).write_bytes(rng.randbytes(rng.choice([10, 32, 5000])))


def _come_from_the_future(rng: random.Random, file: Path) -> None:
    versions: list[Any] = [len(MIGRATIONS) + 1, 2**31, -1, 0, None, "three", b"\xff", 2.5, 2**62]
    _execute(file, "UPDATE store_version SET version = ?", rng.choice(versions))


def _change_values(rng: random.Random, file: Path) -> None:
    """Values that SQLite keeps in a column of any kind, and this program never wrote."""
    with contextlib.closing(sqlite3.connect(file)) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = rng.choice([name for name in tables if not name.startswith("sqlite_")])
        columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        ids = [row[0] for row in database.execute("SELECT id FROM messages")] if "id" in columns else []
    value = rng.choice(ids) if ids and rng.random() < 0.3 else _kept(rng)
    few = "rowid % 3 = 0" if rng.random() < 0.5 else "1"
    _execute(file, f"UPDATE OR IGNORE {table} SET {rng.choice(columns)} = ? WHERE {few}", value)


def _kept(rng: random.Random) -> Any:
    """Return a value that SQLite can hold."""
    value = odd_value(rng)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(2**80)
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode()
        return text.encode() if rng.random() < 0.2 else text
    return value if isinstance(value, int | float | None) else rng.choice(NOT_JSON)


STATEMENTS = [
    "DROP TABLE messages",
    "DROP TABLE conversations",
    "DROP TABLE turns_under_way",
    "DROP TABLE store_version",
    "DROP TABLE message_search",
    "DELETE FROM messages WHERE rowid % 2",
    "DELETE FROM conversations WHERE rowid = 1",
    "DELETE FROM store_version",
    "INSERT INTO store_version VALUES (1)",
    "ALTER TABLE messages RENAME COLUMN content TO said",
    "CREATE VIEW v AS SELECT 1",
    "PRAGMA user_version = 99",
]


def _change_tables(rng: random.Random, file: Path) -> None:
    _execute(file, rng.choice(STATEMENTS))


def _execute(file: Path, statement: str, *values: Any) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database, contextlib.suppress(sqlite3.Error):
        database.execute(statement, values)
        database.commit()


SPOILERS: list[Spoil] = [_flip_bits, _flip_bits, _flip_bits, _cut_off, _mix_pages, _change_bytes, _something_else]
SPOILERS += [_leave_a_journal, _come_from_the_future, _change_values, _change_values, _change_values, _change_tables]
