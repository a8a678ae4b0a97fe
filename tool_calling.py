"""Python functions as tools that a model may call.

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
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from errors import InvalidMessageError

__all__ = ["MAX_RESULT_CHARACTERS", "Tool", "as_tool", "as_tools", "call_tool"]

MAX_RESULT_CHARACTERS = 20_000  # of one result; about 6,000 tokens


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool as the model sees it, and the function behind it, if there is one.

    ``schema`` is OpenAI's: ``{"type": "function", "function": {"name", "description", "parameters"}}``.
    """

    name: str
    schema: Mapping[str, Any]
    function: Callable[..., Any] | None = None


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
        if tool.get("type") != "function" or not isinstance(name, str) or not name:
            raise InvalidMessageError(
                f"this is no tool: {tool!r:.80}",
                hint='A tool is a function, or {"type": "function", "function": {"name": ..., "parameters": ...}}.',
            )
        return Tool(name, tool)
    return Tool(tool.__name__, _schema(tool), tool)


def as_tools(tools: Iterable[Tool | Callable[..., Any] | Mapping[str, Any]] | None) -> list[Tool]:
    """Return tools for functions and dictionaries; two of one name are an error."""
    found = [as_tool(tool) for tool in tools or ()]
    names = [tool.name for tool in found]
    if doubled := {name for name in names if names.count(name) > 1}:
        raise InvalidMessageError(f"several tools are named {', '.join(sorted(doubled))}", hint="Rename one of them.")
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
    functions = {tool.name: tool.function for tool in tools}
    function = functions.get(name)
    if function is None:
        return f"error: there is no tool {name}; there are: {', '.join(functions)}"
    try:
        values = json.loads(arguments or "{}")
    except ValueError as error:
        return f"error: the arguments are not JSON: {error}"
    if not isinstance(values, dict):
        return "error: the arguments are not a JSON object"
    try:
        result = _call(function, values)
    except Exception as error:  # whatever a tool raises, the model shall read it and the program go on
        return f"error: {type(error).__name__}: {error}"[:max_result_characters]
    text = result if isinstance(result, str) else json.dumps(result, ensure_ascii=False, default=str)
    if len(text) > max_result_characters:
        return f"{text[:max_result_characters]}\n[cut: {len(text)} characters, {max_result_characters} are shown]"
    return text


def _call(function: Callable[..., Any], values: dict[str, Any]) -> Any:
    from pydantic import ValidationError, validate_call

    try:
        return validate_call(function)(**values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'arguments'}: {problem['msg']}" for problem in error.errors()
        )
        raise ValueError(problems) from error


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
