"""The loop "ask the model, run the tools that it calls, ask again", without any input or output.

A driver gets one step after the other and sends back what it gave, so that a library call, a coroutine, a command and a
terminal that asks a person first go through the same rounds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass

from chatcore.reply import ToolCall

__all__ = [
    "MAX_ROUNDS",
    "REFUSED",
    "STOPPED",
    "TOO_MANY",
    "AskAgain",
    "KeepResult",
    "RunCall",
    "Sent",
    "Step",
    "adrive",
    "drive",
    "tool_rounds",
]

MAX_ROUNDS = 8  # of calls in one turn
REFUSED = "error: the user did not allow this call"
STOPPED = "error: the user stopped this call"
TOO_MANY = f"error: this call was not run: {MAX_ROUNDS} rounds of calls are the most in one turn"


@dataclass(frozen=True, slots=True)
class RunCall:
    """Run a call. Send back its result; None if the user stopped it, which ends the rounds."""

    call: ToolCall


@dataclass(frozen=True, slots=True)
class KeepResult:
    """Add the result of a call to the messages. Send back nothing."""

    call: ToolCall
    result: str


@dataclass(frozen=True, slots=True)
class AskAgain:
    """Have the model answer with the results. Send back the calls of its answer; None or none end the rounds."""


Step = RunCall | KeepResult | AskAgain
Sent = str | Sequence[ToolCall] | None
Rounds = Generator[Step, Sent, Sequence[ToolCall]]


def tool_rounds(calls: Sequence[ToolCall], max_rounds: int = MAX_ROUNDS) -> Rounds:
    """Yield the steps that follow an answer which calls tools.

    Args:
        calls: those of the answer.
        max_rounds: how many times calls are run and the model is asked again.
    Returns:
        the calls that are left: more than ``max_rounds`` rounds were asked for, and they were not run.

    >>> steps = tool_rounds([ToolCall("1", "add", "{}")])
    >>> next(steps).call.name, steps.send("3").result, steps.send(None)
    ('add', '3', AskAgain())
    """
    for _ in range(max_rounds):
        if not calls:
            return ()
        for index, call in enumerate(calls):
            result = yield RunCall(call)
            if result is None:
                for stopped in calls[index:]:
                    yield KeepResult(stopped, STOPPED)
                return ()
            assert isinstance(result, str)
            yield KeepResult(call, result)
        answered = yield AskAgain()
        assert not isinstance(answered, str)
        calls = answered or ()
    return calls


def drive(rounds: Rounds, act: Callable[[Step], Sent]) -> Sequence[ToolCall]:
    """Go through the rounds; ``act`` does each step and returns what to send back. Return the calls that are left."""
    sent: Sent = None
    while True:
        try:
            step = rounds.send(sent)
        except StopIteration as end:
            left: Sequence[ToolCall] = end.value
            return left
        sent = act(step)


async def adrive(rounds: Rounds, act: Callable[[Step], Awaitable[Sent]]) -> Sequence[ToolCall]:
    """:func:`drive` for asyncio."""
    sent: Sent = None
    while True:
        try:
            step = rounds.send(sent)
        except StopIteration as end:
            left: Sequence[ToolCall] = end.value
            return left
        sent = await act(step)
