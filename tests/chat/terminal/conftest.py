"""What the terminal's tests share: a store in a file, and a whole conversation as a transcript."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chat.config import Settings
from chat.store import ConversationStore
from chat.terminal.repl import run
from tests.chat.terminal.scripted import ScriptedBackend

Talk = Callable[..., str]


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
