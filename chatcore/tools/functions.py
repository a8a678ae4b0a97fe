"""Python functions, and the tools of servers, as tools that a model may call.

A function's JSON schema comes from its signature and docstring; arguments are validated before it is called. Whatever
goes wrong becomes a text that the model can read: it may try again, the program goes on.

::

    def get_weather(city: str) -> dict:
        '''Get the weather of a city.

        Args:
            city: name of the city
        '''
        return {"temperature": 21}

    reply = llm.run_tools(messages, [get_weather]).reply

A :class:`ToolSource` has several tools, such as those of an MCP server (:class:`vllm_wrapper.MCPTools`); it is passed
like a function.
"""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from chatcore.errors import ChatError, InvalidMessageError

__all__ = ["MAX_RESULT_CHARACTERS", "AnyTool", "Tool", "ToolSource", "acall_tool", "as_tool", "as_tools", "call_tool"]

MAX_RESULT_CHARACTERS = 20_000  # of one result; about 6,000 tokens


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as the model sees it, and the function behind it, if there is one.

    ``schema`` is OpenAI's: ``{"type": "function", "function": {"name", "description", "parameters"}}``.
    """

    name: str
    schema: Mapping[str, Any]
    function: Callable[..., Any] | None = None

    @property
    def description(self) -> str:
        """What it does, in the words that the model reads."""
        return str(self.schema["function"].get("description") or "")


@runtime_checkable
class ToolSource(Protocol):
    """What has several tools."""

    def tools(self) -> Sequence[Tool]:
        """Return them; may have to start or to ask something first.

        Raises:
            ToolError: they cannot be had.
        """


AnyTool = Tool | ToolSource | Callable[..., Any] | Mapping[str, Any]


def as_tool(tool: Tool | Callable[..., Any] | Mapping[str, Any]) -> Tool:
    """Return a tool for a function, or for a ready OpenAI tool dictionary.

    Raises:
        InvalidMessageError: the dictionary is no tool, or the function's types cannot be told as JSON.

    >>> def add(a: int, b: int = 1) -> int:
    ...     "Add two numbers."
    >>> as_tool(add).schema["function"]["parameters"]["required"]
    ['a']
    """
    if isinstance(tool, Tool):
        return tool
    if isinstance(tool, Mapping):
        name = tool.get("function", {}).get("name") if isinstance(tool.get("function"), Mapping) else None
        if tool.get("type") == "function" and isinstance(name, str) and name:
            return Tool(name, tool)
    elif callable(tool) and hasattr(tool, "__name__"):
        return Tool(tool.__name__, _schema(tool), tool)
    raise InvalidMessageError(
        f"this is no tool: {tool!r:.80}",
        hint='A tool is a function, or {"type": "function", "function": {"name": ..., "parameters": ...}}.',
    )


def as_tools(tools: Iterable[AnyTool] | None) -> list[Tool]:
    """Return tools for functions, dictionaries and sources; two of one name are an error.

    Raises:
        ToolError: a source's tools cannot be had.
    """
    found: list[Tool] = []
    for tool in tools or ():
        found += tool.tools() if isinstance(tool, ToolSource) else [as_tool(tool)]
    names = [tool.name for tool in found]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise InvalidMessageError(
            f"several tools are named {', '.join(sorted(doubled))}",
            hint='Rename one of them; a server\'s tools can have a prefix: MCPTools(..., prefix="files_").',
        )
    return found


def call_tool(
    tools: Iterable[Tool], name: str, arguments: str, *, max_result_characters: int = MAX_RESULT_CHARACTERS
) -> str:
    """Call the function that the model named; return what it gave, as text for the model. Never raises.

    Args:
        tools: those that the model was shown.
        name, arguments: what the model wrote; arguments are JSON text.
        max_result_characters: a longer result is cut, and says so.

    >>> def add(a: int, b: int) -> int:
    ...     return a + b
    >>> call_tool([as_tool(add)], "add", '{"a": 1, "b": 2}'), call_tool([as_tool(add)], "sub", "{}")
    ('3', 'error: there is no tool sub; there are: add')
    """
    try:
        result = _call(*_find(tools, name, arguments))
        if inspect.isawaitable(result):
            result = asyncio.run(_wait_for(result))
        text = _as_text(result)
    except Exception as error:  # whatever a tool raises, the model shall read it and the program go on
        text = _error_text(error)
    return _cut(text, max_result_characters)


async def acall_tool(
    tools: Iterable[Tool], name: str, arguments: str, *, max_result_characters: int = MAX_RESULT_CHARACTERS
) -> str:
    """:func:`call_tool` for asyncio: a coroutine function is awaited, any other one runs in a thread."""
    try:
        function, values = _find(tools, name, arguments)
        if inspect.iscoroutinefunction(function):
            result = await _call(function, values)
        else:
            result = await asyncio.to_thread(_call, function, values)
        text = _as_text(result)
    except Exception as error:  # as in call_tool
        text = _error_text(error)
    return _cut(text, max_result_characters)


def _find(tools: Iterable[Tool], name: str, arguments: str) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the function that is meant, and the arguments for it."""
    functions = {tool.name: tool.function for tool in tools}
    if name not in functions:
        raise _CallError(f"there is no tool {name}; there are: {', '.join(functions)}")
    function = functions[name]
    if function is None:
        raise _CallError(f"{name} cannot be called: there is no function behind it")
    try:
        values = json.loads(arguments or "{}")
    except ValueError as error:
        raise _CallError(f"the arguments are not JSON: {error}") from error
    if not isinstance(values, dict):
        raise _CallError("the arguments are not a JSON object")
    return function, values


class _CallError(Exception):
    """What the model asks for cannot be done."""


def _call(function: Callable[..., Any], values: dict[str, Any]) -> Any:
    from pydantic import ValidationError, validate_call

    try:
        return validate_call(function)(**values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}" for problem in error.errors()
        )
        raise _CallError(problems) from error


async def _wait_for(result: Awaitable[Any]) -> Any:
    return await result


def _error_text(error: Exception) -> str:
    """Return what the model reads of an error: the words alone where they are ours, else with the kind of error."""
    kind = "" if isinstance(error, (_CallError, ChatError)) else f"{type(error).__name__}: "
    return f"error: {kind}{error}"


def _as_text(result: Any) -> str:
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)


def _cut(text: str, max_characters: int) -> str:
    if len(text) > max_characters:
        return f"{text[:max_characters]}\n[cut: {len(text)} characters, {max_characters} are shown]"
    return text


def _schema(function: Callable[..., Any]) -> dict[str, Any]:
    from docstring_parser import parse
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(function)  # type: ignore[arg-type]  # functions too
        parameters = adapter.json_schema()
    except (PydanticUserError, NameError) as error:
        raise InvalidMessageError(
            f"the types of {function.__name__} cannot be told as JSON: {str(error).splitlines()[0]}",
            hint="Annotate its parameters with types that JSON knows, or pass an OpenAI tool dictionary.",
        ) from error
    docstring = parse(inspect.getdoc(function) or "")
    described = {parameter.arg_name: parameter.description for parameter in docstring.params}
    for name, schema in parameters.get("properties", {}).items():
        schema.pop("title", None)
        if described.get(name):
            schema["description"] = described[name]
    parameters.pop("title", None)
    description = " ".join(filter(None, (docstring.short_description, docstring.long_description)))
    return {
        "type": "function",
        "function": {"name": function.__name__, "description": description, "parameters": parameters},
    }
