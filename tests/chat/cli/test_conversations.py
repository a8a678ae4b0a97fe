"""``conversations search``: what it prints, and when it says that there are more."""

from __future__ import annotations

import pytest

from chat.store.local import ConversationStore
from tests.chat.store.storing import ask, keep_fruit
from vllm_deploy import main


@pytest.fixture
def store(tmp_path, monkeypatch) -> ConversationStore:
    """The store that the command opens, too."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return ConversationStore()


def search(capsys, *arguments: str) -> tuple[list[str], str]:
    """Return the lines without their ids and times, and what is on standard error."""
    assert main(["conversations", "search", *arguments]) == 0
    printed = capsys.readouterr()
    return [line.split("  ", 2)[2].strip() for line in printed.out.splitlines()], printed.err


def test_every_conversation_that_has_the_words_is_printed_with_an_excerpt(store, capsys):
    keep_fruit(store)
    assert search(capsys, "apple") == (["202  Orchard | Yes, apple 100.", "1  Dessert | apple pie recipe"], "")
    assert search(capsys, "apple", "pie") == (["1  Dessert | apple pie recipe"], "")
    assert search(capsys, "Banana") == (["1  Banana notes"], "")
    assert search(capsys, "cherry") == ([], "")


def test_what_is_left_out_is_said(store, capsys):
    for number in range(3):
        ask(store, store.create(title=f"number {number}"), "needle")
    lines, told = search(capsys, "needle", "--limit", "2")
    assert [line.split("  ")[-1] for line in lines] == ["number 2 | needle", "number 1 | needle"]
    assert told == "There are more conversations with these words; --limit N shows more.\n"
    assert search(capsys, "needle", "--limit", "3")[1] == ""
