"""The command about tools: which there are, which are on, and whether to ask before a call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from chat.terminal.commands.conversation import first_line
from chatcore.errors import CommandError

if TYPE_CHECKING:
    from chat.terminal.repl import Repl

__all__ = ["tool_values", "tools"]

APPROVALS = ("ask", "auto")


def tools(repl: Repl, argument: str) -> None:
    """List the tools, switch them on or off, or say whether to ask before a call."""
    toolbox, texts = repl.session.toolbox, repl.texts
    word, _, name = argument.partition(" ")
    if not toolbox.tables:
        from chat.config import default_file

        repl.display.line(texts("tools.none", file=default_file()))
        return
    if word in APPROVALS and not name:
        toolbox.approval = word
        if word == "ask":
            toolbox.allowed.clear()
    elif word in ("on", "off"):
        try:
            toolbox.switch(name.strip(), on=word == "on")
        except CommandError as error:
            raise CommandError(texts("tools.unknown", name=name.strip()), hint=", ".join(toolbox.names())) from error
        repl.session.forget_line()
    elif argument:
        raise CommandError(texts("tools.what", value=argument), hint="on, off, ask, auto")
    _show(repl)


def _show(repl: Repl) -> None:
    toolbox, texts = repl.session.toolbox, repl.texts
    toolbox.begin()
    toolbox.wait(timeout_s=1.0)
    rows = [
        [
            texts(f"tools.state.{row.state}"),
            row.tool or f"[{row.source}]",
            row.text if row.state == "failed" else first_line(row.text),
        ]
        for row in toolbox.rows()
    ]
    repl.display.table(rows)
    for error in toolbox.take_errors():
        repl.display.error(error)
    repl.display.dim(texts(f"tools.{toolbox.approval}"))
    if toolbox.approval == "ask" and toolbox.allowed:
        repl.display.dim(texts("tools.allowed", names=", ".join(sorted(toolbox.allowed))))


def tool_values(repl: Repl) -> Iterable[tuple[str, str]]:
    """Return the words that /tools knows, and the names of sources and tools."""
    words = [(word, repl.texts(f"tools.word.{word}")) for word in ("on", "off", *APPROVALS)]
    return words + [(name, "") for name in repl.session.toolbox.names()]
