"""The parts of the terminal by themselves: texts, keys, the clipboard, the input history."""

from __future__ import annotations

import importlib
import io
import pkgutil
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from string import Formatter
from typing import Any

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

import chat.terminal
from chat.config import Settings
from chat.conversations.conversation import Conversation, Message
from chat.session.texts import SHARED
from chat.store.local import ConversationStore
from chat.terminal.app import TerminalApp
from chat.terminal.clipboard import copy_sequence
from chat.terminal.commands.table import COMMANDS
from chat.terminal.completion import LineCompleter
from chat.terminal.display import find_mode
from chat.terminal.input_history import InputHistory
from chat.terminal.keys import Folds
from chat.terminal.repl import run
from chat.terminal.texts import TEXTS
from chatcore.errors import StoreError
from tests.chat.terminal.conftest import Talk
from tests.chat.terminal.scripted import ScriptedBackend
from tests.patience import patient

MODULES = [module.name for module in pkgutil.walk_packages(chat.terminal.__path__, "chat.terminal.")]


def test_importing_the_terminal_imports_nothing_heavy() -> None:
    code = "import sys, chat.terminal.repl; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "vllm", "sqlalchemy", "rich", "openai"} & set(loaded)


# -- texts --------------------------------------------------------------------------------------------------------


def test_both_languages_take_the_same_facts() -> None:
    for key, texts in TEXTS.items():
        fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in texts]
        assert fields[0] == fields[1], key


def test_every_text_that_is_asked_for_is_there_and_none_besides() -> None:
    names = [name for name in MODULES if name != "chat.terminal.texts"]
    source = "".join(Path(str(importlib.import_module(name).__file__)).read_text("utf-8") for name in names)
    literal = set(re.findall(r'texts\(\s*"([^"]+)"', source)) | {f"help.{command.name}" for command in COMMANDS}
    assert literal <= set(SHARED | TEXTS)
    made_of_parts = ("think.", "context.", "stats.", "export.", "set.", "tools.")
    unused = {key for key in TEXTS if f'"{key}"' not in source and not key.startswith(made_of_parts)}
    assert unused <= literal


# -- many turns, many terminals, broken disks ---------------------------------------------------------------------


def test_500_turns_in_one_conversation(talk: Talk, store: ConversationStore) -> None:
    conversation = Conversation(title="long")
    for number in range(499):
        conversation.add(Message(role="user", content=f"question {number}"))
        conversation.add(Message(role="assistant", content=f"answer {number}"))
    store.save(conversation)
    backend = ScriptedBackend(["last"], window=1_000_000)
    began_s = time.process_time()
    shown = talk(backend, "question 499", "/history 2", "/undo 400", "/redo 400", "/tokens", resume=conversation.id)
    assert time.process_time() - began_s < patient(5)
    assert "long · 499 turns" in shown
    assert "500.\n> question 499\nlast" in shown
    assert len(backend.requests[0][0]) == 999
    assert store.load(conversation.id).num_turns == 500


def test_two_terminals_on_one_conversation_lose_nothing(tmp_path: Path, store: ConversationStore) -> None:
    import io

    conversation = Conversation()
    conversation.add(Message(role="user", content="begin"))
    conversation.add(Message(role="assistant", content="begun"))
    store.save(conversation)

    def terminal(name: str) -> None:
        own = ConversationStore(store.file)
        lines = io.StringIO("".join(f"{name} {n}\n" for n in range(8)))
        run(ScriptedBackend(), own, Settings(system=""), resume=conversation.id, input=lines, output=io.StringIO())

    threads = [threading.Thread(target=terminal, args=(name,)) for name in ("left", "right")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    said = {message.content for message in store.load(conversation.id).messages.values()}
    for name in ("left", "right"):
        assert {f"{name} {n}" for n in range(8)} | {f"echo: {name} {n}" for n in range(8)} <= said


def test_a_store_that_cannot_be_read_ends_nothing(talk: Talk, store: ConversationStore) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise StoreError("disk I/O error", hint="Check the disk.")

    for name in ("save", "load", "recent", "unfinished", "search"):
        setattr(store, name, broken)
    backend = ScriptedBackend()
    shown = talk(backend, "one", "/sessions", "/resume abcd", "two")
    assert "cannot be saved: disk I/O error" in shown
    assert shown.count("error: disk I/O error") == 2
    assert backend.requests[1][0][-1]["content"] == "two"


# -- small parts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "plain", "expected"),
    [
        ({"TERM": "xterm-256color"}, False, (True, True, "256", False, False)),
        ({"TERM": "xterm", "COLORTERM": "truecolor"}, False, (True, True, "truecolor", False, False)),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False, (True, True, "standard", True, False)),
        ({"TERM": "xterm", "NO_COLOR": ""}, False, (True, True, "standard", False, False)),
        ({"TERM": "xterm", "ACCESSIBLE": "1"}, False, (True, False, None, False, True)),
        ({"TERM": "xterm"}, True, (True, False, None, False, False)),
        ({"TERM": "dumb"}, False, (False, False, None, False, False)),
        ({}, False, (False, False, None, False, False)),
    ],
)
def test_the_environment_decides_what_is_shown(environ: dict[str, str], plain: bool, expected: tuple[Any, ...]) -> None:
    mode = find_mode(is_terminal=True, output_is_terminal=True, plain=plain, environ=environ)
    assert (mode.editing, mode.repainting, mode.color_system, mode.no_color, mode.labels) == expected


def test_no_colour_goes_into_a_pipe() -> None:
    """mlx wrote truecolor sequences into pipes."""
    environ = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}
    assert find_mode(is_terminal=False, output_is_terminal=False, plain=False, environ=environ).color_system is None


def test_the_clipboard_sequence_is_wrapped_for_tmux() -> None:
    assert copy_sequence("hi", {"TMUX": "x"}) == "\x1bPtmux;\x1b\x1b]52;c;aGk=\x07\x1b\\"
    assert copy_sequence("x" * 100_000, {}) == ""


def test_folded_pastes_open_again() -> None:
    folds = Folds(lambda lines: f"{lines} lines")
    one, two = "\n".join("a" * 30), "\n".join("b" * 30)
    marks = [folds.fold(one), folds.fold(two), folds.fold(one)]
    assert marks == ["[30 lines]", "[30 lines #2]", "[30 lines]"]
    assert folds.expand("x [30 lines #2] y") == f"x {two} y"
    assert folds.fold("short\npaste") == "short\npaste"


def test_the_input_history_is_private_shared_and_without_doubles(tmp_path: Path) -> None:
    trouble: list[str] = []
    file = tmp_path / "state" / "history.jsonl"
    first, second = InputHistory(file, trouble.append), InputHistory(file, trouble.append)
    for history, line in ((first, "one"), (second, "two\n\nlines"), (first, "one"), (second, " secret"), (first, "  ")):
        history.append_string(line)
    assert list(InputHistory(file, trouble.append).load_history_strings()) == ["one", "two\n\nlines"]
    assert file.stat().st_mode & 0o777 == 0o600
    with file.open("a") as torn:
        torn.write('"half an ent')
    assert list(InputHistory(file, trouble.append).load_history_strings()) == ["one", "two\n\nlines"]
    assert trouble == []


def test_an_unwritable_history_is_told_about_once(tmp_path: Path) -> None:
    trouble: list[str] = []
    blocked = tmp_path / "file"
    blocked.write_text("")
    history = InputHistory(blocked / "history.jsonl", trouble.append)
    history.append_string("one")
    history.append_string("two")
    assert len(trouble) == 1
    assert history.get_strings() == ["one", "two"]


# -- completion ---------------------------------------------------------------------------------------------------


def completed(line: str, settings: Settings | None = None) -> list[str]:
    """Return the lines that Tab offers for a line."""
    streams = io.StringIO(), io.StringIO()
    app = TerminalApp(ScriptedBackend(), ConversationStore.in_memory, settings or Settings(), *streams)
    found = LineCompleter(app).get_completions(Document(line), CompleteEvent(completion_requested=True))
    return [line[: len(line) + completion.start_position] + completion.text for completion in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/mul", "/multiline"),
        ("/多", "/多行"),
        ("/set temp", "/set temperature="),
        ("/think h", "/think hidden"),
        ("/tools o", "/tools off"),
        ("/tools off ca", "/tools off calc"),
        ("/model ot", "/model other"),
        ("/help too", "/help tools"),
        ("/export op", "/export openai"),
    ],
)
def test_tab_completes_commands_and_what_may_follow_them(line: str, expected: str) -> None:
    assert expected in completed(line, Settings(tools={"calc": {"python": "calc.py"}}))


def test_tab_completes_paths_with_spaces_and_quotes_them_in_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my notes.md").touch()
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert completed("/file my no") == ["/file my notes.md"]
    assert completed("/file a.txt ~/oth") == ["/file a.txt ~/other/"]
    assert completed("look at @my") == ['look at @"my notes.md"']
    assert completed('look at @"my no') == ['look at @"my notes.md"']
    assert completed("look at @~/oth") == ["look at @~/other/"]
    assert completed("mail me@my") == []
