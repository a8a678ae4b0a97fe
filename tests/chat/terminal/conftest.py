"""What the terminal's tests share: a store in a file, a whole conversation as a transcript, the program in a
pseudo-terminal."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chat.config import Settings
from chat.store.local import ConversationStore
from chat.terminal.repl import run
from tests.chat.terminal.driver import Driver
from tests.chat.terminal.program import main
from tests.chat.terminal.scripted import ScriptedBackend

Talk = Callable[..., str]
Start = Callable[..., Driver]


@pytest.fixture
def store(tmp_path: Path) -> ConversationStore:
    return ConversationStore(tmp_path / "conversations.sqlite")


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG", "NO_COLOR", "ACCESSIBLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def talk(store: ConversationStore) -> Talk:
    """Say lines to a backend; return everything that was printed."""

    def talk(
        backend: ScriptedBackend,
        *lines: str,
        settings: Settings | None = None,
        resume: str | None = None,
        store: ConversationStore = store,
        code: int = 0,
        **options: Any,
    ) -> str:
        output = io.StringIO()
        settings = settings or Settings(system="")
        typed = io.StringIO("".join(f"{line}\n" for line in lines))
        assert run(backend, store, settings, resume=resume, input=typed, output=output, **options) == code
        return output.getvalue()

    return talk


def said(backend: ScriptedBackend, index: int = -1) -> list[str]:
    """Return the contents of the messages of a request."""
    return [message["content"] for message in backend.requests[index][0]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the program in pseudo-terminals, each with its prompt on the screen; all are closed at the end."""
    drivers: list[Driver] = []

    def start(scenario: str, *, plain: bool = False, **options: object) -> Driver:
        drivers.append(Driver(lambda: main(scenario, tmp_path, plain=plain), **options))  # type: ignore[arg-type]
        drivers[-1].wait_until(drivers[-1].prompts, "the first prompt")
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


def contents(folder: Path) -> list[str]:
    """Return what is kept of the newest conversation."""
    store = ConversationStore(folder / "conversations.sqlite")
    newest = store.recent(limit=1)
    return [message.content for message in store.load(newest[0].id).path()] if newest else []
