"""The tools that the configuration names: MCP servers, and functions of Python files. Nothing else is ever run.

::

    [tools.calculator]
    python = "calculator.py"        # beside the configuration file; "package.module", and ":function" behind either

    [tools.notes]
    command = ["npx", "-y", "@modelcontextprotocol/server-filesystem", "/home/me/notes"]

    [tools.search]
    url = "https://search.example/mcp"
    headers = { Authorization = "Bearer ${env:SEARCH_KEY}" }

Secrets do not stand in the file: ``${env:NAME}`` takes the value of a variable, ``${file:PATH}`` the text of a file.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from chatcore.errors import ConfigError, ToolError
from chatcore.tools.functions import Tool, as_tool, as_tools
from chatcore.tools.mcp import MCPTools

__all__ = ["KEYS", "PythonTools", "Source", "check_source", "open_source", "opened"]

KEYS: Mapping[str, tuple[type, ...]] = {
    "command": (list,),
    "url": (str,),
    "python": (str,),
    "env": (dict,),
    "cwd": (str,),
    "headers": (dict,),
    "prefix": (str,),
    "timeout_s": (int, float),
    "enabled": (bool,),
}
KINDS = {list: "a list of texts", str: "text", dict: "a table of texts", int: "a number", bool: "true or false"}
WAYS = ("command", "url", "python")  # a source has one of them
BELONGS_TO = {"env": "command", "cwd": "command", "headers": "url", "timeout_s": "command or url"}
REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")
SECRET = re.compile(r"auth|key|token|secret|passw|cookie", re.IGNORECASE)  # names whose values are secrets


class Source(Protocol):
    """A source of tools that can be ended."""

    def tools(self) -> Sequence[Tool]:
        """Its tools; a server is started for it."""

    def close(self) -> None:
        """End what was started."""


def check_source(name: str, table: Any) -> None:
    """Look whether a table ``[tools.NAME]`` can be meant.

    Raises:
        ConfigError: it cannot; the message says why.
    """
    place = f"tools.{name}"
    if not isinstance(table, Mapping):
        raise ConfigError(f"{place} is not a table", hint=f'It looks so: [{place}], then python = "file.py"')
    for key, value in table.items():
        if key not in KEYS:
            nearest = difflib.get_close_matches(key, KEYS, n=1)
            hint = f"Did you mean {nearest[0]}?" if nearest else f"Known: {', '.join(KEYS)}."
            raise ConfigError(f"unknown setting {key!r} in {place}", hint=hint)
        texts = value if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
        is_kind = isinstance(value, KEYS[key]) and (bool in KEYS[key] or not isinstance(value, bool))
        if not is_kind or not all(isinstance(text, str) for text in texts):  # not shown: it may hold a key
            raise ConfigError(f"{key} in {place} is of a wrong kind; it is {KINDS[KEYS[key][0]]}")
    ways = [way for way in WAYS if table.get(way)]
    if len(ways) != 1:
        raise ConfigError(f"{place} has {' and '.join(ways) or 'no source'}; it needs one of {', '.join(WAYS)}")
    for key, way in BELONGS_TO.items():
        if key in table and ways[0] not in way:
            raise ConfigError(f"{key} in {place} goes with {way} only")
    for key, value in {**table.get("headers", {}), **table.get("env", {})}.items():
        if SECRET.search(key) and not REFERENCE.search(value):
            raise ConfigError(
                f"{key} in {place} stands in the file itself",
                hint="A secret is named, not written: ${env:VARIABLE} or ${file:PATH}.",
            )


def open_source(name: str, table: Mapping[str, Any], folder: Path) -> Source:
    """Return the source that a table describes; nothing is started before its tools are asked for.

    Args:
        name: the table's.
        table: one that :func:`check_source` lets pass.
        folder: what a relative path to a Python file begins from.
    Raises:
        ToolError: a secret that it names cannot be read.
    """
    prefix = table.get("prefix", "")
    if "python" in table:
        return PythonTools(table["python"], folder, prefix=prefix)
    options: dict[str, Any] = {"timeout_s": float(table["timeout_s"])} if "timeout_s" in table else {}
    if "cwd" in table:
        options["cwd"] = Path(os.path.expanduser(table["cwd"]))
    return MCPTools(
        table.get("url") or table["command"],
        name=name,
        prefix=prefix,
        env=_filled(name, table.get("env", {})),
        headers=_filled(name, table.get("headers", {})),
        **options,
    )


@contextlib.contextmanager
def opened(tables: Mapping[str, Mapping[str, Any]], folder: Path) -> Iterator[list[Tool]]:
    """Give the tools of all sources that are enabled; end the sources when the block ends.

    Raises:
        ToolError: a source's tools cannot be had.
    """
    sources = [open_source(name, table, folder) for name, table in tables.items() if table.get("enabled", True)]
    try:
        yield as_tools(sources)
    finally:
        for source in sources:
            source.close()


class PythonTools:
    """Functions of a Python file or module as tools: one that is named, those in ``__all__``, or all public ones.

    Args:
        target: ``file.py``, ``package.module``, or either with ``:function`` behind it.
        folder: what a relative path begins from.
        prefix: stands before the name of each tool.
    """

    def __init__(self, target: str, folder: Path, *, prefix: str = "") -> None:
        self._target = target
        self._folder = folder
        self._prefix = prefix
        self._tools: list[Tool] | None = None

    def tools(self) -> list[Tool]:
        """Return the tools; loads the file the first time.

        Raises:
            ToolError: it cannot be loaded, or has no functions.
        """
        if self._tools is None:
            place, _, name = self._target.partition(":")
            module = self._load(place)
            functions = [self._function(module, name)] if name else _public_functions(module)
            if not functions:
                raise ToolError(f"{place} has no functions", hint="A tool is a function with a docstring and types.")
            self._tools = [self._as_tool(function) for function in functions]
        return self._tools

    def close(self) -> None:
        """Forget the functions; they are loaded again when they are asked for."""
        self._tools = None

    def _load(self, place: str) -> ModuleType:
        try:
            if not place.endswith(".py"):
                return importlib.import_module(place)
            path = self._folder / Path(os.path.expanduser(place))
            spec = importlib.util.spec_from_file_location(f"tools_{path.stem}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # pydantic looks types up there
            spec.loader.exec_module(module)
            return module
        except FileNotFoundError as error:
            raise ToolError(f"there is no file {error.filename}") from error
        except (Exception, SystemExit) as error:
            raise ToolError(f"the tools in {place} cannot be loaded: {type(error).__name__}: {error}") from error

    def _function(self, module: ModuleType, name: str) -> Callable[..., Any]:
        function = getattr(module, name, None)
        if not inspect.isfunction(function):
            raise ToolError(f"{self._target.partition(':')[0]} has no function {name}")
        return function

    def _as_tool(self, function: Callable[..., Any]) -> Tool:
        tool = as_tool(function)
        name = self._prefix + tool.name
        return Tool(name, {**tool.schema, "function": {**tool.schema["function"], "name": name}}, tool.function)


def _public_functions(module: ModuleType) -> list[Callable[..., Any]]:
    names = getattr(module, "__all__", None)
    if names is not None:
        return [function for name in names if inspect.isfunction(function := getattr(module, name, None))]
    return [
        value
        for name, value in vars(module).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == module.__name__
    ]


def _filled(source: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Return texts with the secrets that they name."""

    def secret(match: re.Match[str]) -> str:
        kind, name = match.groups()
        if kind == "env":
            if name not in os.environ:
                raise ToolError(f"the variable {name}, which tools.{source} names, is not set")
            return os.environ[name]
        try:
            return Path(os.path.expanduser(name)).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ToolError(f"the file {name}, which tools.{source} names, cannot be read: {reason}") from error

    return {key: REFERENCE.sub(secret, text) for key, text in texts.items()}
