"""The store at its edges: strange names and words, damaged files, full disks, folders that cannot be written."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from chat.conversations.conversation import Conversation, Message
from chat.store.local import ConversationStore
from chatcore.errors import ConversationNotFoundError, StoreError
from tests.chat.store.storing import assert_same, path

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conversations.sqlite"


def talk(store: ConversationStore, *contents: str, owner: str = "local") -> Conversation:
    """Return a stored conversation of contents, user and assistant in turn."""
    conversation = store.create(owner=owner)
    for index, content in enumerate(contents):
        store.add(conversation, Message("assistant" if index % 2 else "user", content))
    return conversation


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# -- what is typed ----------------------------------------------------------------------------------------------------


def test_a_strange_id_is_an_id_of_nothing(store):
    talk(store, "a")
    for strange in ("abcd\0", "abcd\ud800", "____", "%%%%", "' OR 1=1", "x" * 10_000, "", "abc"):
        for ask in (store.load, store.delete):
            with pytest.raises(ConversationNotFoundError):
                ask(strange)


def test_token_ids_come_back_as_they_were(store):
    conversation = talk(store, "hi")
    token_ids = (0, 1, 255, 256, 151_645, 2**31, 2**32 - 1)
    message = store.add(conversation, Message("assistant", "x", token_ids=token_ids))
    assert store.load(conversation.id).messages[message.id].token_ids == token_ids


def test_two_owners_ids_that_begin_alike_do_not_disturb_each_other(store):
    """An answer of "several" would tell that somebody else has such a conversation."""
    for name, owner in (("abcd11", "me"), ("abcd22", "them")):
        store.add(store.create(id=name, owner=owner), Message("user", name))
    assert store.load("abcd", owner="me").id == "abcd11"
    for ask in (store.load, store.delete, store.settle):
        with pytest.raises(ConversationNotFoundError, match="^there is no conversation abcd22$"):
            ask("abcd22", owner="me")


TEXTS = {
    "operators": 'NOT this OR that AND "quoted" NEAR(a b) col:val -minus star* ^caret',
    "rare": "𠮷野家で食べる",
    "numbers": "call 1e5 0x1F 2024-05-17 v2 3d",
    "version": "版本0.32",
}
FOUND = {
    '"': set(),
    '"quoted"': {"operators"},
    '"quoted': {"operators"},
    "*": set(),
    "star*": {"operators"},
    "OR": {"operators"},
    "missing OR that": set(),
    "NOT": {"operators"},
    "-minus": {"operators"},
    "NEAR(": {"operators"},
    "NEAR(a b)": {"operators"},
    "col:val": {"operators"},
    "words:val": set(),
    "^caret": {"operators"},
    "'": set(),
    "\\": set(),
    "that & !missing | :*": set(),
    "𠮷野": {"rare"},
    "𠮷": {"rare"},
    "1e5": {"numbers"},
    "0x1f": {"numbers"},
    "2024-05": {"numbers"},
    "v2": {"numbers"},
    "版本0.32": {"version"},
    "\0": set(),
    "\ud800": set(),
    "\x1b[": set(),
}


def test_the_syntax_of_searches_is_text_like_any_other(store):
    for name, text in TEXTS.items():
        store.add(store.create(title=name), Message("user", text))
    assert {wanted: {hit.title for hit in store.search(wanted)} for wanted in FOUND} == FOUND


def test_chinese_characters_that_stand_apart_are_no_word(store):
    talk(store, "图书和书馆")
    assert store.search("图书馆") == []


# -- files and disks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a?b.sqlite", "a%20b#c.sqlite", "对话 1.sqlite", "a:b.sqlite"])
def test_any_file_name_will_do(tmp_path, name):
    with closing(ConversationStore(tmp_path / name)) as store:
        talk(store, "a")
    assert (tmp_path / name).stat().st_size > 0
    with closing(ConversationStore(str(tmp_path / name))) as store:
        assert len(store.recent()) == 1


def test_an_empty_file_becomes_a_store(file):
    file.touch()
    with closing(ConversationStore(file)) as store:
        assert store.recent() == []


@contextmanager
def without_root(folder: Path) -> Iterator[None]:
    """Go on as a user who may not do everything, to whom the folder belongs."""
    if os.getuid() != 0:
        yield
        return
    nobody = 65534
    opened = [parent for parent in folder.parents if parent.stat().st_uid == 0 and not mode(parent) & 0o001]
    modes = {parent: mode(parent) for parent in opened}
    for parent in opened:
        parent.chmod(modes[parent] | 0o011)
    for entry in (folder, *folder.rglob("*")):
        os.chown(entry, nobody, nobody)
    os.seteuid(nobody)
    try:
        yield
    finally:
        os.seteuid(0)
        for parent in opened:
            parent.chmod(modes[parent])


def test_an_unwritable_folder_is_one_sentence(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    with without_root(folder):
        folder.chmod(0o500)
        with pytest.raises(StoreError, match="cannot be written: Permission denied") as caught:
            ConversationStore(folder / "conversations.sqlite")
        folder.chmod(0o700)
    assert "Make the folder writable" in caught.value.hint


def test_an_unwritable_file_is_one_sentence(tmp_path):
    folder = tmp_path / "data"
    ConversationStore(folder / "conversations.sqlite").close()
    with without_root(folder):
        (folder / "conversations.sqlite").chmod(0o400)
        with pytest.raises(StoreError, match="cannot be written: Permission denied"):
            ConversationStore(folder / "conversations.sqlite")


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(StoreError, match="cannot be written: Is a directory"):
        ConversationStore(tmp_path)


@pytest.mark.parametrize("fraction", [0.02, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_one_sentence(file, fraction):
    with closing(ConversationStore(file)) as store:
        conversation = talk(store, *("text " * 200 for _ in range(60)))
    with file.open("r+b") as opened:
        opened.truncate(int(file.stat().st_size * fraction))

    def use() -> None:
        with closing(ConversationStore(file)) as store:
            store.load(conversation.id)
            store.search("text")
            store.add(store.load(conversation.id), Message("user", "more"))

    with pytest.raises(StoreError) as caught:
        use()
    assert "damaged" in caught.value.hint or "disk" in caught.value.hint


FULL_DISK = """
import resource, sys
from chat.conversations.conversation import Message
from chat.store import ConversationStore
from chatcore.errors import StoreError
store = ConversationStore(sys.argv[1])
conversation = store.create()
resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
try:
    while True:
        store.add(conversation, Message("user", "x" * 20_000))
except StoreError as error:
    print(error, "|", error.hint)
print(conversation.id, len(conversation.messages), len(conversation.path()))
assert len(store.load(conversation.id).messages) == len(conversation.messages)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.add(conversation, Message("user", "there is room again"))
store.close()
"""


def test_a_full_disk_keeps_what_was_kept_and_goes_on_when_there_is_room(file):
    command = [sys.executable, "-c", FULL_DISK, str(file)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    said, counted = done.stdout.splitlines()
    assert "what was kept before is safe" in said
    conversation_id, num_messages, length = counted.split()
    assert num_messages == length
    assert int(length) > 3
    with closing(ConversationStore(file)) as store:
        loaded = store.load(conversation_id)
        assert len(loaded.path()) == int(length) + 1
        assert loaded.tip.content == "there is room again"
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_store_that_fails_leaves_the_conversation_as_the_disk_has_it(store, monkeypatch):
    conversation = talk(store, "a", "A", "b", "B")
    conversation.undo()
    store.save(conversation)
    answer = conversation.tip

    def fail(*_: object, **__: object) -> None:
        raise StoreError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(store, "save", fail)
        for message in (Message("user", "c"), replace(answer, content="AA")):
            with pytest.raises(StoreError):
                store.add(conversation, message)
    assert_same(store.load(conversation.id), conversation)
    assert conversation.redo() == 1
    conversation.go_to(answer.id)
    assert path(conversation) == ["a", "A", "b", "B"]
