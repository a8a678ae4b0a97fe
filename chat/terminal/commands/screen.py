"""Commands about the screen and the program itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from chat.session.texts import LANGUAGES, Language
from chatcore.errors import CommandError

if TYPE_CHECKING:
    from chat.terminal.repl import Repl

__all__ = ["help_values", "language", "language_values", "leave", "multiline", "raw", "show_help"]

MAX_ARGUMENTS = 18  # characters in the list of commands; /help COMMAND shows all


def show_help(repl: Repl, argument: str) -> None:
    """List the commands, or tell about one of them, or about the keys."""
    from chat.terminal.commands.table import COMMANDS, find_command

    texts = repl.texts
    if argument == "keys":
        repl.display.line(texts("help.keys.text"))
        return
    if argument:
        command = find_command(argument.lstrip("/／"))
        repl.display.line(f"/{command.name} {command.arguments}".rstrip())
        repl.display.line(texts(f"help.{command.name}"))
        if command.more:
            repl.display.line(texts(command.more))
        names = [f"/{name}" for name in (*command.aliases, command.chinese)]
        repl.display.dim(texts("help.same", names=", ".join(names)))
        return
    short = [c.arguments if len(c.arguments) <= MAX_ARGUMENTS else "…" for c in COMMANDS]
    rows = [[f"/{c.name} {shown}", texts(f"help.{c.name}")] for c, shown in zip(COMMANDS, short, strict=True)]
    repl.display.table(rows)
    repl.display.dim(texts("help.more"))


def help_values(repl: Repl) -> Iterable[tuple[str, str]]:
    """Return the names that /help knows."""
    from chat.terminal.commands.table import COMMANDS

    yield "keys", repl.texts("help.keys")
    for command in COMMANDS:
        yield command.name, repl.texts(f"help.{command.name}")


def leave(repl: Repl, argument: str) -> None:
    """End the program."""
    from chat.terminal.repl import Leave

    raise Leave


def raw(repl: Repl, argument: str) -> None:
    """Show answers as the model wrote them, or as Markdown again."""
    if not repl.display.mode.repainting:
        raise CommandError(repl.texts("raw.always"))
    repl.display.raw = not repl.display.raw
    repl.display.line(repl.texts("raw.on" if repl.display.raw else "raw.off"))


def multiline(repl: Repl, argument: str) -> None:
    """Swap what Enter and Alt-Enter do."""
    repl.session.multiline = not repl.session.multiline
    repl.display.line(repl.texts("multiline.on" if repl.session.multiline else "multiline.off"))


def language(repl: Repl, argument: str) -> None:
    """Switch the language of the program's own texts."""
    names: dict[str, Language] = {"en": "en", "english": "en", "zh": "zh", "中文": "zh", "chinese": "zh"}
    if argument:
        if argument.lower() not in names:
            raise CommandError(repl.texts("language.unknown", name=argument), hint=", ".join(LANGUAGES))
        repl.texts.language = names[argument.lower()]
    repl.display.line(repl.texts("language.is"))


def language_values(repl: Repl) -> Iterable[tuple[str, str]]:
    """Return the languages."""
    return [("en", "English"), ("zh", "中文")]
