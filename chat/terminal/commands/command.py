"""One slash command: what a row of the table holds, and how a command is found by what was typed."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from chat.terminal.app import TerminalApp
from chatcore.errors import UnknownCommandError

__all__ = ["Command", "command_named", "find_command"]

Handler = Callable[[TerminalApp, str], None]
Values = Callable[[TerminalApp], Iterable[tuple[str, str]]]  # what may follow a command, each with a remark


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table.

    Args:
        name: as you type it, without the slash.
        chinese: its Chinese name.
        handler: does it; gets the app and what follows the name.
        arguments: how ``/help`` writes what may follow the name; nothing may, if empty.
        aliases: other names.
        values: completes what follows the name.
        takes_path: what follows the name ends in a path.
        more: key of a text that ``/help`` shows next to the one line.
    """

    name: str
    chinese: str
    handler: Handler
    arguments: str = ""
    aliases: tuple[str, ...] = ()
    values: Values | None = None
    takes_path: bool = False
    more: str = ""


def command_named(name: str, commands: Sequence[Command]) -> Command | None:
    """Return the command of a name, an alias or a Chinese name, in upper or lower case."""
    lowered = name.lower()
    return next((c for c in commands if lowered in (c.name, c.chinese, *c.aliases)), None)


def find_command(name: str, commands: Sequence[Command]) -> Command:
    """Return the command of a name, an alias, a Chinese name, or the beginning of just one name.

    >>> from chat.terminal.commands.table import COMMANDS
    >>> find_command("multi", COMMANDS).name
    'multiline'

    Raises:
        UnknownCommandError: names what may have been meant.
    """
    if command := command_named(name, commands):
        return command
    lowered = name.lower()
    begun = [command for command in commands if lowered and command.name.startswith(lowered)]
    if len(begun) == 1:
        return begun[0]
    names = [known for command in commands for known in (command.name, *command.aliases)]
    near = [command.name for command in begun] or difflib.get_close_matches(lowered, names, n=2, cutoff=0.6)
    raise UnknownCommandError(
        name,
        tuple(near),
        hint=f"Nothing was sent. /help lists the commands; //{name} sends the line as a message.",
    )
