"""Commands about the screen and the program itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chat.session.texts import LANGUAGES, Language
from chat.terminal.app import Leave, TerminalApp
from chat.terminal.commands.command import Command, find_command
from chatcore.errors import CommandError

__all__ = ["help_values", "language", "language_values", "leave", "multiline", "raw", "show_help"]

MAX_ARGUMENTS = 18  # characters in the list of commands; /help COMMAND shows all


def show_help(app: TerminalApp, argument: str, commands: Sequence[Command]) -> None:
    """List the commands, or describe one of them, or the keys."""
    texts = app.texts
    if argument == "keys":
        app.display.line(texts("help.keys.text"))
        return
    if argument:
        command = find_command(argument.lstrip("/／"), commands)
        app.display.line(f"/{command.name} {command.arguments}".rstrip())
        app.display.line(texts(f"help.{command.name}"))
        if command.more:
            app.display.line(texts(command.more))
        names = [f"/{name}" for name in (*command.aliases, command.chinese)]
        app.display.dim(texts("help.same", names=", ".join(names)))
        return
    short = [c.arguments if len(c.arguments) <= MAX_ARGUMENTS else "…" for c in commands]
    rows = [[f"/{c.name} {shown}", texts(f"help.{c.name}")] for c, shown in zip(commands, short, strict=True)]
    app.display.table(rows)
    app.display.dim(texts("help.more"))


def help_values(app: TerminalApp, commands: Sequence[Command]) -> Iterable[tuple[str, str]]:
    """Return the names that /help knows."""
    yield "keys", app.texts("help.keys")
    for command in commands:
        yield command.name, app.texts(f"help.{command.name}")


def leave(app: TerminalApp, argument: str) -> None:
    """End the program."""
    raise Leave


def raw(app: TerminalApp, argument: str) -> None:
    """Show answers as the model wrote them, or as Markdown again."""
    if not app.display.mode.repainting:
        raise CommandError(app.texts("raw.always"))
    app.display.raw = not app.display.raw
    app.display.line(app.texts("raw.on" if app.display.raw else "raw.off"))


def multiline(app: TerminalApp, argument: str) -> None:
    """Swap what Enter and Alt-Enter do."""
    app.session.multiline = not app.session.multiline
    app.display.line(app.texts("multiline.on" if app.session.multiline else "multiline.off"))


def language(app: TerminalApp, argument: str) -> None:
    """Switch the language of the program's own texts."""
    names: dict[str, Language] = {"en": "en", "english": "en", "zh": "zh", "中文": "zh", "chinese": "zh"}
    if argument:
        if argument.lower() not in names:
            raise CommandError(app.texts("language.unknown", name=argument), hint=", ".join(LANGUAGES))
        app.texts.language = names[argument.lower()]
    app.display.line(app.texts("language.is"))


def language_values(app: TerminalApp) -> Iterable[tuple[str, str]]:
    """Return the languages."""
    return [("en", "English"), ("zh", "中文")]
