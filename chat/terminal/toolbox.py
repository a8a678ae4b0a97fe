"""The tools of the configuration: which there are, which are on, and which may run without asking."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from chatcore.errors import ChatError, CommandError, ToolError
from chatcore.tools.configured import Source, open_source
from chatcore.tools.functions import Tool

__all__ = ["ToolRow", "Toolbox"]

State = Literal["off", "starting", "on", "failed"]


@dataclass(frozen=True, slots=True)
class ToolRow:
    """One line of ``/tools``: a tool, or a source whose tools are not there."""

    source: str
    tool: str
    state: State
    text: str


@dataclass(slots=True)
class _Entry:
    """A source, and what is known of its tools. They are asked for in a thread: a server may take long to start."""

    name: str
    table: Mapping[str, Any]
    folder: Path
    is_on: bool
    tools: Sequence[Tool] = ()
    error: ChatError | None = None
    is_told: bool = False  # the error has been told
    off: set[str] = field(default_factory=set)  # names of its tools that are off by themselves
    _source: Source | None = None
    _thread: threading.Thread | None = None

    @property
    def state(self) -> State:
        if not self.is_on:
            return "off"
        if self._thread is None or self._thread.is_alive():
            return "starting"
        return "failed" if self.error is not None else "on"

    def begin(self) -> None:
        if self.is_on and self._thread is None:
            self._thread = threading.Thread(target=self._open, name=f"tools.{self.name}", daemon=True)
            self._thread.start()

    def end(self) -> None:
        self.is_on, self._thread, self.tools, self.error = False, None, (), None
        if self._source is not None:
            self._source.close()
            self._source = None

    def _open(self) -> None:
        tools: Sequence[Tool] = ()
        error: ChatError | None = None
        try:
            source = self._source = open_source(self.name, self.table, self.folder)
            tools = source.tools()
        except ChatError as problem:
            error = problem
        if self._thread is threading.current_thread():  # it was not switched off meanwhile
            self.tools, self.error, self.is_told = tools, error, False


@dataclass(slots=True)
class Toolbox:
    """What the model may call.

    Args:
        tables: ``[tools.NAME]`` of the configuration, by name.
        folder: what relative paths in them begin from.
        approval: ``ask`` before each call, or ``auto``.

    Attributes:
        allowed: names of tools that are run without asking, because the person said "always".
    """

    tables: Mapping[str, Mapping[str, Any]]
    folder: Path
    approval: str
    allowed: set[str] = field(default_factory=set)
    _entries: list[_Entry] = field(init=False)

    def __post_init__(self) -> None:
        self._entries = [
            _Entry(name, table, self.folder, table.get("enabled", True)) for name, table in self.tables.items()
        ]

    def begin(self) -> None:
        """Start the sources that are on, in the background; returns at once."""
        for entry in self._entries:
            entry.begin()

    def starting(self) -> list[str]:
        """Return the names of the sources that are on and not there yet."""
        return [entry.name for entry in self._entries if entry.state == "starting"]

    def wait(self, timeout_s: float) -> None:
        """Wait a moment for sources that are starting."""
        deadline_s = time.monotonic() + timeout_s
        while self.starting() and time.monotonic() < deadline_s:
            time.sleep(0.02)

    def tools(self) -> list[Tool]:
        """Return the tools that are there and on. Never waits. Of two of one name, the first source's is taken."""
        found: dict[str, Tool] = {}
        for entry in self._entries:
            if entry.state != "on":
                continue
            if doubled := sorted(found.keys() & {tool.name for tool in entry.tools}):
                entry.error = ToolError(
                    f"tools.{entry.name} has tools of names that are taken: {', '.join(doubled)}",
                    hint=f'Give them a prefix: prefix = "{entry.name}_" in [tools.{entry.name}].',
                )
                continue
            found |= {tool.name: tool for tool in entry.tools}
        off = set().union(*(entry.off for entry in self._entries))
        return [tool for tool in found.values() if tool.name not in off]

    def may_run(self, name: str) -> bool:
        """Tell whether a tool is run without asking."""
        return self.approval == "auto" or name in self.allowed

    def take_errors(self) -> list[ChatError]:
        """Return, once each, why sources are not there."""
        errors = []
        for entry in self._entries:
            if entry.state == "failed" and entry.error is not None and not entry.is_told:
                entry.is_told = True
                errors.append(entry.error)
        return errors

    def rows(self) -> list[ToolRow]:
        """Return every tool that is there, and every source whose tools are not."""
        self.tools()  # finds names that are taken twice
        rows = []
        for entry in self._entries:
            if entry.state != "on":
                rows.append(ToolRow(entry.name, "", entry.state, str(entry.error or "")))
            for tool in entry.tools if entry.state == "on" else ():
                state: State = "off" if tool.name in entry.off else "on"
                rows.append(ToolRow(entry.name, tool.name, state, tool.description))
        return rows

    def names(self) -> list[str]:
        """Return the names that can be switched: those of the sources and of their tools."""
        return [entry.name for entry in self._entries] + [tool.name for entry in self._entries for tool in entry.tools]

    def switch(self, name: str, *, on: bool) -> None:
        """Switch a source or a tool on or off; everything, without a name. A source that is off does not run.

        Raises:
            CommandError: nothing is named so.
        """
        named = [entry for entry in self._entries if name in ("", entry.name)]
        holding = [entry for entry in self._entries if name in {tool.name for tool in entry.tools}]
        if not named and not holding:
            raise CommandError(f"no tool and no source is named {name!r}", hint=", ".join(self.names()))
        for entry in holding:
            entry.off = entry.off - {name} if on else entry.off | {name}
        for entry in named:
            if not on:
                entry.end()
            elif entry.state in ("off", "failed"):
                entry.end()
                entry.is_on = True
                entry.begin()
            if on:
                entry.off = set()

    def close(self) -> None:
        """End the sources, all at once."""
        threads = [threading.Thread(target=entry.end) for entry in self._entries]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
