"""What is typed: every command with odd arguments, bytes as lines, and bytes as keys."""

from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit.application import Application
from prompt_toolkit.history import InMemoryHistory
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput

from chat.config import Settings
from chat.conversations import files
from chat.conversations.conversation import Conversation, Message
from chat.store.local import ConversationStore
from chat.terminal.app import TerminalApp
from chat.terminal.commands.table import COMMANDS
from chat.terminal.completion import LineCompleter
from chat.terminal.line import EditedLines
from chat.terminal.repl import Repl, run
from chat.terminal.toolbar import Toolbar
from chat.terminal.tty import TypeAhead
from tests.chat.terminal.scripted import ScriptedBackend
from tests.reliability.cases import folder_in_memory, run_cases
from tests.reliability.mutation import mutate_bytes, odd_text

LINES = 25  # in one run of the program
KEYS = 50  # pressed at one prompt
LEAVING = {"exit"}
WORDS = ["0", "1", "2", "-1", "99999999999999", "١", "²", "on", "off", "auto", "show", "reset", "md", "json", "openai"]
WORDS += [
    "temperature=0.5",
    "temperature=nan",
    "top_k=9" + "9" * 300,
    "stop=[",
    "seed=1e5",
    "=",
    "a=b=c",
    "code 1",
    "code 0",
]
WORDS += [
    "code 1 out.txt",
    "budget 5",
    "budget ²",
    "budget " + "9" * 5000,
    "hidden",
    "roll",
    "error",
    "zh",
    "en",
    "keys",
]
WORDS += [
    "good.json",
    "spoiled.json",
    "no-such-file",
    "@spoiled.json",
    '"quoted name',
    "folder",
    "~nobody-here",
    "a\0b",
    "x" * 300,
]
ANSWERS = [
    "y",
    "n",
    "",
    "Hello",
    '"""',
    "text @good.json and @spoiled.json",
    "//slash",
    "/etc/hosts: what",
    "/",
    "。help",
    "/nonsense",
]
REPLY = ["# Title\n\n```python\nprint(1)\n```\n", "| a | b |\n|---|---|\n| 1 | 2 |\n\n* x\n  * y\n\n$e^x$ <b>**bold"]


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which the terminal runs, with files to read and all that it writes."""
    with folder_in_memory() as folder:
        monkeypatch.chdir(folder)
        for name in ("HOME", "XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "VLLMDEPLOY_LOG_DIR"):
            monkeypatch.setenv(name, str(folder))
        monkeypatch.setenv("EDITOR", "/bin/true")
        monkeypatch.setenv("PATH", "")  # no clipboard of this machine is touched
        (folder / "folder").mkdir()
        conversation = Conversation(title="Letters")
        conversation.add(Message("user", "Hello"))
        conversation.add(Message("assistant", REPLY[0]))
        files.write("good.json", files.to_json(conversation))
        yield folder


# -- lines ------------------------------------------------------------------------------------------------------------


def test_no_line_breaks_the_program(folder, monkeypatch):
    """Whatever is typed, the program says what is wrong with it and reads the next line; nothing said is lost."""
    good = (folder / "good.json").read_bytes()
    store = ConversationStore.in_memory()
    mistakes: list[Exception] = []  # what the program takes for its own, and tells the person
    monkeypatch.setattr(Repl, "_tell_internal", lambda _, error: mistakes.append(error))

    def case(rng: random.Random) -> str:
        (folder / "spoiled.json").write_bytes(mutate_bytes(rng, good))
        for line in store.recent(limit=50, with_empty=True)[10:]:
            store.delete(line.id)
        backend = ScriptedBackend(*([text] for text in rng.choices(REPLY, k=3)), window=400)
        typed = [_line(rng) for _ in range(LINES)]
        output = io.StringIO()
        if rng.random() < 0.3:
            harmless = [
                line for line in typed if not any(word in line for word in ("save", "export", "sav", "exp", "导", "保"))
            ]
            data = mutate_bytes(rng, "\n".join(harmless).encode("utf-8", "replace"), [b"\n/", b'"""\n'], times=9)
            source = io.TextIOWrapper(io.BytesIO(data), "utf-8")
        else:
            source = io.StringIO("".join(f"{line}\n" for line in typed))
        code = run(backend, store, Settings(system="Be terse."), input=source, output=output)
        if mistakes:
            error = mistakes[0]
            mistakes.clear()
            raise error
        assert code == 0
        assert "Traceback" not in output.getvalue()
        return "left"

    run_cases("lines in the terminal", case, short=1500, batch=LINES)


def _line(rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.2:
        return rng.choice(ANSWERS)
    if chance < 0.25:
        return _harmless(odd_text(rng)[:2000])
    command = rng.choice([command for command in COMMANDS if command.name not in LEAVING])
    name = rng.choice([command.name, command.name, command.chinese, *command.aliases])
    arguments = rng.choices([*WORDS, _harmless(odd_text(rng)[:2000])], k=rng.choice([0, 1, 1, 1, 2]))
    return f"{rng.choice('//／')}{name} {' '.join(arguments)}"


def _harmless(text: str) -> str:
    """Return a text that names no place outside the test's own folder."""
    return text.replace("/", "|").replace("..", "--").replace("\n", " ").replace("\r", " ")


# -- keys -------------------------------------------------------------------------------------------------------------

SEQUENCES = [
    b"\x1b[A",
    b"\x1b[B",
    b"\x1b[C",
    b"\x1b[D",
    b"\x1b[3~",
    b"\x1b[200~",
    b"\x1b[201~",
    b"\x1b[13;2u",
    b"\x1b[27;2;13~",
]
SEQUENCES += [
    b"\x1b[I",
    b"\x1b[<0;10;10M",
    b"\x1b[6;1R",
    b"\x1b]0;t\x07",
    b"\x1bP",
    b"\x1b",
    b"\x1b\r",
    b"\x1bOP",
    b"\x1b[9999999A",
]
SEQUENCES += [
    b"\r",
    b"\n",
    b"\t",
    b"\x7f",
    b"\x08",
    b"\x01",
    b"\x05",
    b"\x0b",
    b"\x15",
    b"\x17",
    b"\x19",
    b"\x12",
    b"\x07",
    b"\x18\x10",
]
SEQUENCES += [
    b"\x03",
    b"\x11",
    b"\x1bf",
    b"\x1b1",
    b"\x1b-9",
    b"\x1b.",
    b"/",
    b"@",
    b"/se",
    b"/model ",
    b"@~",
    b'"""',
]
SEQUENCES += [
    "你好".encode(),
    "👩🏽\u200d🚀".encode(),
    "e\u0301".encode(),
    "🇫🇷".encode(),
    b"\xe4\xbd",
    b"\xff",
    b"\x00",
    b"\x80\x9b",
    b"word ",
]
SEQUENCES += [b"\x1b[200~" + b"line\n" * 30 + b"\x1b[201~", b"x" * 500, b"\xc2\x9b31m", b"\xed\xa0\x80"]
NOT_HERE = (b"\x18\x05", b"\x1a")  # the editor has the keyboard to itself; whoever is suspended reads no keys


def test_no_key_breaks_the_prompt(folder, monkeypatch):
    """Keys, halves of keys, pastes and broken UTF-8, at the prompt and ahead of it: a line comes out, or none."""
    store = ConversationStore.in_memory()
    app = TerminalApp(ScriptedBackend(), store, Settings(system="", plain=True), io.StringIO(), io.StringIO())
    told: list[Any] = []
    monkeypatch.setattr(Application, "_handle_exception", lambda _, loop, context: told.append(context))

    def case(rng: random.Random) -> str:
        data = b"".join(_key(rng) for _ in range(KEYS))
        for keys in NOT_HERE:
            data = data.replace(keys, b"")
        with create_pipe_input() as keyboard:
            lines = EditedLines(
                Toolbar(app.session, app.display.mode),
                history=InMemoryHistory(),
                completer=LineCompleter(app),
                folds=app.folds,
                signals=app.signals,
                is_multiline=lambda: rng.random() < 0.1,
                input=keyboard,
                output=DummyOutput(),
            )
            keyboard.send_bytes(data)
            keyboard.close()
            read = _read_all(lines)
        if told:
            raise told.pop().get("exception") or AssertionError("an error in the event loop")
        assert isinstance(_typed_ahead(data), str)
        app.folds.texts.clear()
        return "lines" if read else "no line"

    run_cases("keys at the prompt", case, short=400, batch=KEYS)


def _key(rng: random.Random) -> bytes:
    key = rng.choice(SEQUENCES) if rng.random() < 0.8 else rng.randbytes(rng.choice([1, 2, 4]))
    if rng.random() < 0.1:
        key = mutate_bytes(rng, key, times=1)
    return key[:1000]


def _read_all(lines: EditedLines) -> int:
    """Read lines until the keyboard is gone; return how many came."""
    num_lines = 0
    while True:
        try:
            num_lines += lines.read().text is not None
        except KeyboardInterrupt:
            continue
        except EOFError:
            return num_lines


def _typed_ahead(data: bytes) -> str:
    """Return what the program takes the same keys for while an answer is being written."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        ahead = TypeAhead(reading, marks_pastes=False)
        for start in range(0, len(data), 100):
            os.write(writing, data[start : start + 100])
            ahead.read()
        return ahead.take()
    finally:
        os.close(reading)
        os.close(writing)
