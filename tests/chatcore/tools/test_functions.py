"""Python functions as tools: their schemas, and what becomes of what the model writes."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Literal

import pytest

from chatcore.errors import InvalidMessageError
from chatcore.tools.functions import Tool, acall_tool, as_tool, as_tools, call_tool


def get_weather(city: str, unit: Literal["C", "F"] = "C", days: int = 1) -> dict:
    """Get the weather of a city.

    Never rains here.

    Args:
        city: name of the city
        days: how many days
    """
    return {"city": city, "unit": unit, "days": days, "weather": "晴"}


def fail(reason: str) -> None:
    raise RuntimeError(reason)


TOOLS = as_tools([get_weather, fail])


def test_the_schema_comes_from_signature_and_docstring():
    assert as_tool(get_weather).schema == {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "Get the weather of a city. Never rains here.",
            "parameters": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "city": {"type": "string", "description": "name of the city"},
                    "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
                    "days": {"type": "integer", "default": 1, "description": "how many days"},
                },
                "required": ["city"],
            },
        },
    }


def test_a_ready_dictionary_stays_as_it_is():
    schema = as_tool(get_weather).schema
    assert as_tool(schema).schema is schema
    assert as_tool(as_tool(schema)).name == "get_weather"


@pytest.mark.parametrize("tool", [{}, {"type": "function"}, {"type": "function", "function": {"name": ""}}, 1, "ls"])
def test_what_is_no_tool_is_refused(tool):
    with pytest.raises(InvalidMessageError, match="this is no tool"):
        as_tool(tool)


def test_types_that_json_does_not_know_are_refused():
    def use(connection: type[object]) -> None: ...

    def use_unknown(thing: memoryview) -> None: ...

    with pytest.raises(InvalidMessageError, match="the types of use_unknown cannot be told as JSON"):
        as_tool(use_unknown)


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(InvalidMessageError, match="several tools are named fail"):
        as_tools([fail, fail])


def test_a_call_returns_json_that_reads_well():
    result = call_tool(TOOLS, "get_weather", '{"city": "北京", "days": "2"}')
    assert json.loads(result) == {"city": "北京", "unit": "C", "days": 2, "weather": "晴"}
    assert "晴" in result


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("get_wether", "{}", "error: there is no tool get_wether; there are: get_weather, fail"),
        ("get_weather", "{", "error: the arguments are not JSON"),
        ("get_weather", "[1]", "error: the arguments are not a JSON object"),
        ("get_weather", "{}", "error: city: Missing required"),
        ("get_weather", '{"city": "X", "unit": "K"}', "error: unit: Input should be"),
        ("get_weather", '{"city": "X", "colour": 1}', "error: colour: Unexpected keyword"),
        ("fail", '{"reason": "no network"}', "error: RuntimeError: no network"),
    ],
)
def test_what_goes_wrong_becomes_a_text_for_the_model(name, arguments, message):
    assert call_tool(TOOLS, name, arguments).startswith(message)


def test_a_long_result_is_cut_and_says_so():
    def shout() -> str:
        return "a" * 1000

    assert call_tool([as_tool(shout)], "shout", "{}", max_result_characters=10) == (
        "aaaaaaaaaa\n[cut: 1000 characters, 10 are shown]"
    )


def test_a_dictionary_can_be_shown_to_the_model_but_not_called():
    shown = as_tools([as_tool(get_weather).schema])
    assert call_tool(shown, "get_weather", "{}") == (
        "error: get_weather cannot be called: there is no function behind it"
    )


def test_a_source_gives_several_tools():
    class Source:
        def tools(self) -> list[Tool]:
            return TOOLS

    assert [tool.name for tool in as_tools([Source()])] == ["get_weather", "fail"]
    with pytest.raises(InvalidMessageError, match="several tools are named fail"):
        as_tools([fail, Source()])


def test_a_result_that_is_no_json_is_told_to_the_model():
    def loop() -> list:
        found: list = []
        found.append(found)
        return found

    assert call_tool([as_tool(loop)], "loop", "{}").startswith("error: ValueError: Circular reference")


def test_ctrl_c_in_a_function_reaches_the_caller():
    def interrupt() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_tool([as_tool(interrupt)], "interrupt", "{}")


async def fetch(city: str) -> str:
    """Get the weather of a city, some time."""
    await asyncio.sleep(0)
    return f"sunny in {city}"


def test_a_coroutine_function_is_a_tool_like_any_other():
    assert call_tool([as_tool(fetch)], "fetch", '{"city": "Paris"}') == "sunny in Paris"


def test_async_tools_are_awaited_and_sync_tools_do_not_block_the_loop():
    running = threading.Event()

    def wait() -> bool:
        return running.wait(10)

    async def both() -> list[str]:
        tools = as_tools([fetch, wait, fail])

        async def go_on() -> str:
            running.set()
            return await acall_tool(tools, "fetch", '{"city": "Paris"}')

        return await asyncio.gather(acall_tool(tools, "wait", "{}"), go_on(), acall_tool(tools, "fail", "{}"))

    waited, fetched, failed = asyncio.run(both())
    assert (waited, fetched) == ("true", "sunny in Paris")
    assert failed.startswith("error: reason: Missing required")
