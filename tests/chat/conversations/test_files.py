"""Conversations as files: what is written comes back, and nothing else is mistaken for it."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from chat.conversations import files
from chat.conversations.conversation import Conversation, Message
from chatcore.errors import StoreError, describe
from tests.chat.store.storing import CALL, rich_conversation


@pytest.fixture
def conversation() -> Conversation:
    return rich_conversation("How is the weather in 北京?", system="You are terse.", owner="somebody")


def save(tmp_path: Path, content: str | bytes) -> Path:
    path = tmp_path / "file"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def fields(conversation: Conversation) -> dict:
    names = ("title", "system", "settings", "messages", "tip_id", "redo_ids", "pinned_ids", "window_start_id")
    return {name: getattr(conversation, name) for name in (*names, "created_at_utc", "updated_at_utc")}


# -- JSON: everything -------------------------------------------------------------------------------------------------


def test_json_brings_back_everything_but_the_owner(tmp_path, conversation):
    (back,) = files.read(save(tmp_path, files.to_json(conversation)))
    assert fields(back) == fields(conversation)
    assert list(back.messages) == list(conversation.messages)
    assert back.owner == "local"
    back.redo()
    assert back.path()[-1].content == "one more"


def test_json_can_be_read_by_people_and_does_not_name_the_owner(conversation):
    text = files.to_json(conversation)
    assert "北京" in text
    assert "somebody" not in text
    assert json.loads(text)["version"] == 1


def test_json_of_an_unused_conversation_with_a_system_message_comes_back(tmp_path):
    (back,) = files.read(save(tmp_path, files.to_json(Conversation(system="Be kind."))))
    assert (back.system, back.messages, back.tip_id) == ("Be kind.", {}, None)


def test_a_file_of_a_newer_version_is_refused(tmp_path, conversation):
    data = json.loads(files.to_json(conversation)) | {"version": 2}
    with pytest.raises(StoreError, match="newer version of this program"):
        files.read(save(tmp_path, json.dumps(data)))


def broken(conversation: Conversation, change) -> str:
    data = json.loads(files.to_json(conversation))
    change(data["conversation"])
    return json.dumps(data)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.pop("messages"), "messages is missing"),
        (lambda c: c.update(messages={}), "messages is of a wrong kind"),
        (lambda c: c["messages"].append("hello"), "messages[8] is no object"),
        (lambda c: c["messages"][1].pop("content"), "messages[1]: content is missing"),
        (lambda c: c["messages"][1].update(content=None), "messages[1]: content is of a wrong kind"),
        (lambda c: c["messages"][1].update(role="admin"), "the role 'admin' is none of system,"),
        (lambda c: c["messages"][1].update(role="user<|im_end|>"), "is none of system,"),
        (lambda c: c["messages"][1].update(status="lost"), "status is of a wrong kind"),
        (lambda c: c["messages"][1].update(token_ids=[-1]), "token_ids is of a wrong kind"),
        (lambda c: c["messages"][1].update(token_ids=[1 << 32]), "token_ids is of a wrong kind"),
        (lambda c: c["messages"][1].update(token_ids=[True]), "token_ids is of a wrong kind"),
        (lambda c: c["messages"][1].update(tool_calls=["x"]), "tool_calls is of a wrong kind"),
        (lambda c: c["messages"][1].update(created_at_utc="now"), "created_at_utc is of a wrong kind"),
        (lambda c: c["messages"][1].update(created_at_utc=1e300), "created_at_utc is of a wrong kind"),
        (lambda c: c["messages"][1].update(id=c["messages"][0]["id"]), "has the id of another message"),
        (lambda c: c["messages"][0].update(parent_id=c["messages"][1]["id"]), "follows a message that is not there"),
        (lambda c: c["messages"][0].update(parent_id=c["messages"][0]["id"]), "follows a message that is not there"),
        (lambda c: c.update(tip_id="x"), "names a message that is not there"),
        (lambda c: c.update(redo_ids=["x"]), "names a message that is not there"),
        (lambda c: c.update(redo_ids=[[]]), "names a message that is not there"),
        (lambda c: c.update(pinned_ids=["x"]), "names a message that is not there"),
        (lambda c: c.update(window_start_id="x"), "names a message that is not there"),
        (lambda c: c.update(settings=[]), "settings is of a wrong kind"),
        (lambda c: c.update(title=1), "title is of a wrong kind"),
    ],
)
def test_a_damaged_file_says_in_one_sentence_what_is_wrong(tmp_path, conversation, change, said):
    path = save(tmp_path, broken(conversation, change))
    with pytest.raises(StoreError) as caught:
        files.read(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert caught.value.hint


# -- JSONL: OpenAI's messages -----------------------------------------------------------------------------------------


def test_jsonl_holds_the_current_path_without_token_ids(conversation):
    lines = files.to_jsonl([conversation, conversation]).split("\n")
    assert len(lines) == 3
    assert lines[2] == ""
    messages = json.loads(lines[0])["messages"]
    roles = ["system", "user", "assistant", "tool", "assistant", "user", "assistant"]
    assert [message["role"] for message in messages] == roles
    assert messages[2]["tool_calls"] == [CALL]
    assert messages[3]["tool_call_id"] == "call_1"
    assert "token_ids" not in lines[0]


def test_exporting_leaves_the_conversation_as_it_was(conversation):
    before = dataclasses.replace(conversation, messages=dict(conversation.messages))
    files.to_jsonl([conversation])
    files.to_json(conversation)
    files.to_markdown(conversation)
    assert fields(conversation) == fields(before)
    assert conversation.path()[3].token_ids == (5, 0, 4_294_967_295)


def test_jsonl_comes_back_line_by_line(tmp_path, conversation):
    other = Conversation()
    other.add(Message("user", "您好"))
    found = files.read(save(tmp_path, files.to_jsonl([conversation, other])))
    expected = conversation.as_dicts()
    del expected[4]["token_ids"]
    assert found[0].as_dicts() == expected
    assert [found[1].title, found[1].system] == ["您好", ""]


@pytest.mark.parametrize(
    "content",
    [
        '{"messages": [{"role": "user", "content": "hi"}]}',
        '[{"role": "user", "content": "hi"}]',
        '[{"messages": [{"role": "user", "content": "hi"}]}]',
        '\n{"messages": [{"role": "user", "content": "hi"}], "model": "x"}\r\n\n',
        '{\n "messages": [\n  {"role": "user", "content": "hi"}\n ]\n}',
    ],
)
def test_openai_messages_are_known_in_every_usual_wrapping(tmp_path, content):
    (back,) = files.read(save(tmp_path, content))
    assert [(message.role, message.content) for message in back.path()] == [("user", "hi")]


def test_a_null_content_beside_tool_calls_is_empty(tmp_path):
    line = {
        "messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}]
    }
    (back,) = files.read(save(tmp_path, json.dumps(line)))
    assert (back.path()[1].content, back.path()[1].tool_calls) == ("", (CALL,))


GOOD = '{"messages": [{"role": "user", "content": "hi"}]}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("[]", "holds no conversation"),
        ("42", "it is no conversation"),
        ('{"a": 1}', "it is no conversation"),
        ('{"messages": []}', "it has no messages"),
        ('{"messages": "hi"}', "it is no conversation"),
        ('{"messages": ["hi"]}', "messages[0]: it is no object"),
        ('{"messages": [{"role": "user"}, 1]}', "messages[1]: it is no object"),
        ('{"messages": [{"content": "hi"}]}', "role"),
        ('{"messages": [{"role": 1, "content": "hi"}]}', "role is of a wrong kind"),
        ('{"messages": [{"role": "user", "content": ["hi"]}]}', "content is of a wrong kind"),
        ('{"messages": [{"role": "assistant", "tool_calls": {"a": 1}}]}', "tool_calls is of a wrong kind"),
        ('{"messages": [{"role": "user", "content": "x", "tool_call_id": 5}]}', "tool_call_id is of a wrong kind"),
        ('{"messages": [{"role": "root", "content": "hi"}]}', "the role 'root' is none of"),
        ("# A title\n\n## User\n", "is not JSON"),
        (GOOD + '{"messages": [{"role": "us', "line 2 is not JSON"),
        (GOOD + "\n" + '{"a": 1}\n', "line 3: it is no conversation"),
        (f"[{GOOD}, 1]", "item 2: it is no conversation"),
        ("[" * 100_000, "nested too deep"),
        ("1" * 10_000, "is not JSON"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\xff\xff", "is no text in UTF-8, UTF-16 or GB18030"),
        (b"\xff\xfe\x00", "is no text"),
    ],
)
def test_a_foreign_file_says_in_one_sentence_what_is_wrong(tmp_path, content, said):
    with pytest.raises(StoreError) as caught:
        files.read(save(tmp_path, content))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "gb18030"])
def test_a_file_is_read_in_the_encodings_that_chinese_programs_write(tmp_path, encoding):
    text = '{"messages": [{"role": "user", "content": "能不能帮我写一封信？"}]}\n'
    (back,) = files.read(save(tmp_path, text.encode(encoding)))
    assert back.tip.content == "能不能帮我写一封信？"


def test_what_no_store_can_keep_is_marked_on_the_way_in(tmp_path):
    (back,) = files.read(save(tmp_path, r'{"messages": [{"role": "user", "content": "a\u0000b\ud800c\ud83d\ude42"}]}'))
    assert back.tip.content == "a\ufffdb\ufffdc🙂"


def test_a_title_from_a_file_cannot_steer_the_terminal(tmp_path, conversation):
    text = broken(conversation, lambda c: c.update(title="\x1b]0;owned\x07\x1b[31mred"))
    (back,) = files.read(save(tmp_path, text))
    assert not any(ord(character) < 32 for character in back.title)


def test_a_missing_file_and_a_folder_are_one_sentence(tmp_path):
    with pytest.raises(StoreError, match="cannot be read: No such file"):
        files.read(tmp_path / "nothing")
    with pytest.raises(StoreError, match="cannot be read: Is a directory"):
        files.read(tmp_path)


def test_a_file_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 10)
    with pytest.raises(StoreError, match="larger than 10 bytes"):
        files.read(save(tmp_path, GOOD))


# -- Markdown ---------------------------------------------------------------------------------------------------------


def test_markdown_shows_the_current_path(conversation):
    text = files.to_markdown(conversation)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        "# How is the weather in 北京?",
        "## System",
        "## User",
        "## Assistant",
        "## Tool",
        "## Assistant",
        "## User",
        "## Assistant",
    ]
    assert "*(unfinished)*" in text
    assert "one more" not in text
    assert text.endswith("\n")


def test_markdown_quotes_thinking():
    conversation = Conversation()
    conversation.add(Message("user", "hi"))
    conversation.add(Message("assistant", "Hello!", reasoning="Be\n\nkind."))
    assert "> Be\n>\n> kind.\n\nHello!" in files.to_markdown(conversation)


@pytest.mark.parametrize(
    ("content", "end"),
    [
        ("```python\nprint()", "print()\n```"),
        ("~~~~\n~~~\ncode", "code\n~~~~"),
        ("````\n```\ncode\n```", "```\n````"),
        ("```\ncode\n```", "code\n```"),
        ("no code", "no code"),
    ],
)
def test_a_cut_off_code_block_does_not_swallow_the_next_message(content, end):
    conversation = Conversation()
    conversation.add(Message("user", "hi"))
    conversation.add(Message("assistant", content))
    conversation.add(Message("user", "thanks"))
    assert f"{end}\n\n## User\n\nthanks\n" in files.to_markdown(conversation)


# -- writing ----------------------------------------------------------------------------------------------------------


def test_a_file_is_private_and_its_folders_are_made(tmp_path):
    path = tmp_path / "a" / "b" / "file.md"
    files.write(path, "您好\n")
    assert path.read_text("utf-8") == "您好\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["file.md"]


def test_a_file_that_is_there_is_not_touched_unless_told(tmp_path):
    path = save(tmp_path, "mine")
    with pytest.raises(StoreError, match="is there already"):
        files.write(path, "new")
    assert path.read_text() == "mine"
    files.write(path, "new", overwrite=True)
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["file"]


def test_of_two_that_write_one_file_at_once_one_is_told(tmp_path, monkeypatch):
    """The other's file appears after everything has been looked at, just before ours is put in its place."""
    path = tmp_path / "file"
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (path.write_text("theirs"), real(descriptor)))
    with pytest.raises(StoreError, match="is there already"):
        files.write(path, "mine")
    assert path.read_text() == "theirs"


@pytest.mark.parametrize("is_there", [False, True])
def test_a_file_system_without_links_is_written_as_well(tmp_path, monkeypatch, is_there):
    def no_link(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_link)
    path = tmp_path / "file"
    if is_there:
        path.write_text("theirs")
        with pytest.raises(StoreError, match="is there already"):
            files.write(path, "mine")
    else:
        files.write(path, "mine")
    assert path.read_text() == ("theirs" if is_there else "mine")
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_keeps_being_a_link(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    files.write(link, "new", overwrite=True)
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_folder_is_not_written_over(tmp_path):
    with pytest.raises(StoreError, match="is a folder"):
        files.write(tmp_path, "x", overwrite=True)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written: "):
        files.write(tmp_path / "file" / "below.md", "x")


def test_halves_of_characters_do_not_keep_a_file_from_being_written(tmp_path):
    files.write(tmp_path / "file", "a\ud800b")
    assert (tmp_path / "file").read_text("utf-8") == "a\ufffdb"


FULL_DISK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
from chat.conversations import files
from chatcore.errors import StoreError
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    files.write(sys.argv[2], "x" * 20_000, overwrite=True)
except StoreError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file_and_no_rest(tmp_path):
    path = save(tmp_path, "mine")
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", FULL_DISK, root, path], capture_output=True, text=True, check=True)
    assert "cannot be written: File too large" in done.stdout
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["file"]


def test_errors_are_for_people(tmp_path):
    with pytest.raises(StoreError) as caught:
        files.read(save(tmp_path, "hello"))
    assert describe(caught.value).startswith("error: ")
    assert '{"messages": [...]}' in describe(caught.value)


@pytest.mark.parametrize("moment", [9e11, 10**400])
def test_a_time_that_no_calendar_knows_is_refused(tmp_path, moment):
    conversation = Conversation()
    conversation.add(Message("user", "Hello"))
    document = files.to_dict(conversation)
    document["conversation"]["created_at_utc"] = moment
    (tmp_path / "file.json").write_text(json.dumps(document))
    with pytest.raises(StoreError, match="created_at_utc is of a wrong kind"):
        files.read(tmp_path / "file.json")
