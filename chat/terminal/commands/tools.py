"""The command about tools: which there are, which are on, and whether to ask before a call."""

from __future__ import annotations

from collections.abc import Iterable

from chat.terminal.app import TerminalApp
from chat.terminal.commands.conversation import first_line
from chatcore.errors import CommandError

__all__ = ["tool_values", "tools"]

APPROVALS = ("ask", "auto")


def tools(app: TerminalApp, argument: str) -> None:
    """List the tools, switch them on or off, or say whether to ask before a call."""
    toolbox, texts = app.session.toolbox, app.texts
    word, _, name = argument.partition(" ")
    if not toolbox.tables:
        from chat.config import default_file

        app.display.line(texts("tools.none", file=default_file()))
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
        app.session.forget_line()
    elif argument:
        raise CommandError(texts("tools.what", value=argument), hint="on, off, ask, auto")
    _show(app)


def _show(app: TerminalApp) -> None:
    toolbox, texts = app.session.toolbox, app.texts
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
    app.display.table(rows)
    for error in toolbox.take_errors():
        app.display.error(error)
    app.display.dim(texts(f"tools.{toolbox.approval}"))
    if toolbox.approval == "ask" and toolbox.allowed:
        app.display.dim(texts("tools.allowed", names=", ".join(sorted(toolbox.allowed))))


def tool_values(app: TerminalApp) -> Iterable[tuple[str, str]]:
    """Return the words that /tools knows, and the names of sources and tools."""
    words = [(word, app.texts(f"tools.word.{word}")) for word in ("on", "off", *APPROVALS)]
    return words + [(name, "") for name in app.session.toolbox.names()]
