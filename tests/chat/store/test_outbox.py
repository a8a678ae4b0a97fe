"""What waits for a server, in files of this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from chat.conversations.conversation import Conversation, Message
from chat.store.outbox import Outbox


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data"


def said(text: str, **fields: object) -> Conversation:
    conversation = Conversation(**fields)  # type: ignore[arg-type]
    conversation.add(Message("user", text))
    return conversation


def test_what_waits_comes_back_as_it_was(data):
    conversation = said("hello", system="Be terse.")
    outbox = Outbox("http://one alice")
    outbox.put(conversation)
    outbox.put(conversation)
    assert list(Outbox("http://one alice").waiting()) == [conversation]
    assert [file.stat().st_mode & 0o777 for file in data.rglob("*.json")] == [0o600]
    outbox.remove(conversation.id)
    assert list(outbox.waiting()) == []


def test_servers_and_owners_are_kept_apart():
    Outbox("http://one alice").put(said("hello"))
    for other in ("http://one bob", "http://two alice"):
        assert list(Outbox(other).waiting()) == []


def test_an_id_that_a_server_made_up_leads_to_no_other_folder(data, tmp_path):
    outbox = Outbox("http://one alice")
    for conversation_id in ("../../../outside", "/outside", "a/b", "x" * 1000):
        outbox.put(said("hello", id=conversation_id))
        (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
        assert data / "vllm-deploy" / "unsent" == file.parent.parent
        outbox.remove(conversation_id)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_file_that_cannot_be_read_does_not_stop_the_others(data):
    outbox = Outbox("http://one alice")
    outbox.put(said("hello"))
    (file,) = data.rglob("*.json")
    file.with_name("0.json").write_text("{")
    file.with_name("1.json").write_bytes(b"\xff")
    assert [conversation.title for conversation in outbox.waiting()] == ["hello"]


def test_a_disk_that_cannot_be_written_is_not_the_error_to_tell(data):
    data.write_text("a file where the folder should be")
    outbox = Outbox("http://one alice")
    outbox.put(said("hello"))
    outbox.remove("hello")
    assert list(outbox.waiting()) == []
