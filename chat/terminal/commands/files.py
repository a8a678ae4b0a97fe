"""Commands about files and the clipboard."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

from chat.conversations.conversation import Conversation
from chat.session.attachments import read_attachment, split_paths
from chat.session.stored import SHORT_ID
from chat.terminal.app import TerminalApp
from chat.terminal.clipboard import copy_sequence, copy_with_tool, paste_with_tool
from chat.terminal.commands.numbers import whole_number
from chat.terminal.transcript import show_resumed
from chatcore.errors import CommandError

__all__ = ["attach", "copy", "export", "format_values", "import_file", "load", "paste", "save"]

FORMATS = {"md": ".md", "json": ".json", "openai": ".jsonl"}
NOT_IN_FILE_NAMES = re.compile(r'[\x00-\x1f/\\:*?"<>|]+')


def attach(app: TerminalApp, argument: str) -> None:
    """Attach files to the next message."""
    if not argument:
        raise CommandError(app.texts("file.which"))
    for path in split_paths(argument):
        attachment = read_attachment(path)
        app.tell_attached(attachment)
        app.session.attachments.append(attachment)


def paste(app: TerminalApp, argument: str) -> None:
    """Put the clipboard's text into the line, where it can be looked at before it is sent."""
    text = paste_with_tool()
    if text is None:
        raise CommandError(app.texts("paste.none"), hint=app.texts("paste.hint"))
    app.draft += app.folds.fold(text.rstrip("\n"))


def copy(app: TerminalApp, argument: str) -> None:
    """Copy the last answer, a turn's answer, or a block of code."""
    words = argument.split()
    text = _code(app, words[1:]) if words[:1] == ["code"] else _answer(app, argument)
    sequence = copy_sequence(text)
    app.display.escape(sequence)
    if not copy_with_tool(text) and not (sequence and app.display.mode.editing):
        raise CommandError(app.texts("copy.cannot"))
    app.display.line(app.texts("copy.done", size=app.texts.count("character", len(text))))


def save(app: TerminalApp, argument: str) -> None:
    """Write this conversation, with everything that is kept of it, to a file; or one block of code."""
    words = argument.split(maxsplit=2)
    if words[:1] == ["code"]:
        if len(words) < 3:
            raise CommandError(app.texts("save.code.how"), hint="/save code 1 PATH")
        _write(app, Path(words[2]), _code(app, words[1:2]) + "\n")
    else:
        export(app, f"json {argument}".strip())


def load(app: TerminalApp, argument: str) -> None:
    """Read a file that /save or /export wrote, and go on with its conversation."""
    ids = _import(app, argument)
    if ids:
        app.session.resume(ids[0])
    show_resumed(app)


def export(app: TerminalApp, argument: str) -> None:
    """Write this conversation to a file: Markdown, JSON with all branches, or OpenAI's messages."""
    word, _, rest = argument.partition(" ")
    if word not in FORMATS:
        suffix = Path(argument).suffix.lower()
        word, rest = next((name for name, ending in FORMATS.items() if ending == suffix), "md"), argument
    path = Path(rest.strip() or _file_name(app) + FORMATS[word])
    from chat.conversations.files import to_json, to_jsonl, to_markdown

    conversation = app.session.talk.conversation
    as_text: dict[str, Callable[[Conversation], str]] = {
        "md": to_markdown,
        "json": to_json,
        "openai": lambda one: to_jsonl([one]),
    }
    _write(app, path, as_text[word](conversation))


def format_values(app: TerminalApp) -> Iterable[tuple[str, str]]:
    """Return the formats of /export."""
    return [(name, app.texts(f"export.{name}")) for name in FORMATS]


def import_file(app: TerminalApp, argument: str) -> None:
    """Read conversations from a file into the store; this conversation goes on."""
    ids = _import(app, argument)
    app.display.line(app.texts("import.done", n=len(ids), ids=", ".join(id[:SHORT_ID] for id in ids[:5])))


def _import(app: TerminalApp, argument: str) -> list[str]:
    from chat.conversations.files import read

    if not argument:
        raise CommandError(app.texts("file.which"))
    store = app.session.store
    return [conversation.id for conversation in store.insert_all(read(Path(argument)))]


def _write(app: TerminalApp, path: Path, text: str) -> None:
    """Write a file; never over one that is there without asking. Folders are made."""
    from chat.conversations.files import write

    try:
        path = Path(os.path.expanduser(path))
        if path.is_dir():
            raise CommandError(app.texts("save.folder", path=path))
        if path.exists() and not app.confirms(app.texts("save.ask", path=path)):
            app.display.line(app.texts("save.not"))
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, text, overwrite=True)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = getattr(error, "strerror", None) or error
        raise CommandError(app.texts("save.cannot", path=path, reason=reason)) from error
    app.display.line(app.texts("save.done", path=path))


def _file_name(app: TerminalApp) -> str:
    """Return a file name made of the title, Chinese and all."""
    talk = app.session.talk
    return NOT_IN_FILE_NAMES.sub(" ", talk.conversation.title).strip(" ~.")[:60] or talk.short_id


def _answer(app: TerminalApp, argument: str) -> str:
    turns = app.session.talk.turns()
    wanted = [turn for turn in turns if not argument or str(turn.number) == argument.strip()]
    answers = [turn.answer.content for turn in wanted if turn.answer is not None]
    if not answers:
        raise CommandError(app.texts("copy.nothing"))
    return answers[-1]


def _code(app: TerminalApp, words: list[str]) -> str:
    """Return a block of code of the last answer, by the number that stands above it."""
    from chat.terminal.markdown import split_blocks

    blocks = [block.code.rstrip("\n") for block in split_blocks(_answer(app, "")) if block.kind == "fence"]
    number = (whole_number(words[0]) or 0) if words else 1
    if not 1 <= number <= len(blocks):
        raise CommandError(app.texts("copy.no_code", n=words[0] if words else 1, count=len(blocks)))
    return blocks[number - 1]
