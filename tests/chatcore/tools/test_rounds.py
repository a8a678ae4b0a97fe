"""The rounds of tool calls, driven without a model and without tools."""

from __future__ import annotations

import asyncio

import pytest

from chatcore.reply import ToolCall
from chatcore.tools.rounds import STOPPED, AskAgain, KeepResult, RunCall, adrive, drive, tool_rounds

ONE, TWO, THREE = (ToolCall(name, name, "{}") for name in ("one", "two", "three"))


def drive_with(answers, calls, results, *, asynchronous=False, **options):
    """Drive the rounds; return what was kept, how many times the model was asked, and what is left."""
    kept, waiting = [], list(answers)

    def act(step):
        match step:
            case RunCall(call):
                return results[call.name]
            case KeepResult(call, result):
                kept.append((call.name, result))
            case AskAgain():
                return waiting.pop(0)

    async def act_later(step):
        await asyncio.sleep(0)
        return act(step)

    rounds = tool_rounds(calls, **options)
    left = asyncio.run(adrive(rounds, act_later)) if asynchronous else drive(rounds, act)
    return kept, len(answers) - len(waiting), [call.name for call in left]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_calls_are_run_in_order_until_an_answer_has_none(asynchronous):
    results = {"one": "1", "two": "2", "three": "3"}
    kept, num_asked, left = drive_with([[THREE], []], [ONE, TWO], results, asynchronous=asynchronous)
    assert kept == [("one", "1"), ("two", "2"), ("three", "3")]
    assert (num_asked, left) == (2, [])


def test_an_answer_without_calls_takes_no_step():
    assert drive_with([], [], {}) == ([], 0, [])


def test_a_stopped_call_stops_those_after_it():
    kept, num_asked, left = drive_with([[]], [ONE, TWO, THREE], {"one": "1", "two": None})
    assert kept == [("one", "1"), ("two", STOPPED), ("three", STOPPED)]
    assert (num_asked, left) == (0, [])


def test_calls_beyond_the_last_round_are_left():
    kept, num_asked, left = drive_with([[TWO], [THREE]], [ONE], {"one": "1", "two": "2"}, max_rounds=2)
    assert kept == [("one", "1"), ("two", "2")]
    assert (num_asked, left) == (2, ["three"])


def test_an_answer_that_failed_ends_the_rounds():
    assert drive_with([None], [ONE], {"one": "1"}) == ([("one", "1")], 1, [])
