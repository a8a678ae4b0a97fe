"""What Tab completes: commands, what may follow them, ids of conversations, and paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document

from chat.terminal.app import TerminalApp
from chat.terminal.commands.command import Command
from chat.terminal.commands.table import COMMANDS
from chatcore.errors import ChatError

__all__ = ["LineCompleter", "complete_path"]

MAX_PATHS = 200
MENTION = re.compile(r'(?:^|\s)@("[^"\n]*|\S*)$')  # a path behind an @ that is being typed


class LineCompleter(Completer):
    """Completes the line that is being typed."""

    def __init__(self, app: TerminalApp) -> None:
        self._app = app

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        """Yield what may stand where the cursor is."""
        before = document.text_before_cursor
        if before.startswith(("/", "／")) and "\n" not in before:
            yield from self._complete_command(before[1:])
        elif mention := MENTION.search(before):
            yield from _complete_mention(mention[1])
        elif complete_event.completion_requested:
            yield from complete_path(before.rpartition(" ")[2].rpartition("\n")[2])

    def _complete_command(self, before: str) -> Iterator[Completion]:
        name, space, argument = before.partition(" ")
        if not space:
            yield from self._complete_name(name)
            return
        command = next((c for c in COMMANDS if name in (c.name, c.chinese, *c.aliases)), None)
        if command is None:
            return
        yield from self._complete_value(command, argument)
        if command.takes_path or (command.name == "system" and argument.startswith("@")):
            path = argument.lstrip("@")  # all of it may be one path, with spaces in it
            yield from list(complete_path(path)) or complete_path(path.rpartition(" ")[2])

    def _complete_name(self, name: str) -> Iterator[Completion]:
        for command in COMMANDS:
            for known in (command.name, command.chinese):
                if known.startswith(name) and (name or known == command.name):
                    remark = self._app.texts(f"help.{command.name}")
                    yield Completion(known, -len(name), display=f"/{known}", display_meta=remark)

    def _complete_value(self, command: Command, argument: str) -> Iterator[Completion]:
        word = argument.rpartition(" ")[2]
        try:
            values: Iterable[tuple[str, str]] = command.values(self._app) if command.values else ()
        except ChatError:  # the store cannot be read: no completion, and the command itself will say why
            return
        for value, remark in values:
            if value.startswith(word):
                yield Completion(value, -len(word), display_meta=remark)


def _complete_mention(word: str) -> Iterator[Completion]:
    """Yield what may stand behind an @; a path with spaces is put between quotes."""
    path = word.removeprefix('"')
    for completion in complete_path(path):
        whole = path[: len(path) + completion.start_position] + completion.text
        if " " in whole or word.startswith('"'):
            end = "" if whole.endswith("/") else '"'
            yield Completion(f'"{whole}{end}', -len(word), display=completion.display)
        else:
            yield completion


def complete_path(word: str) -> Iterator[Completion]:
    """Yield the paths that begin like a word; ``~`` is the home folder, and folders end in a slash."""
    folder_part, slash, beginning = word.rpartition("/")
    try:
        folder = Path((folder_part + slash) or ".").expanduser()
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except (OSError, RuntimeError):
        return
    for entry in [e for e in entries if e.name.startswith(beginning)][:MAX_PATHS]:
        if entry.name.startswith(".") and not beginning.startswith("."):
            continue
        name = entry.name + ("/" if entry.is_dir() else "")
        yield Completion(name, -len(beginning), display=name)
