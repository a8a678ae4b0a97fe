"""Calls of tools: shown, asked about, run, and kept with what they gave."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from chat.terminal.app import TerminalApp
from chatcore.reply import ToolCall
from chatcore.tools.functions import MAX_RESULT_CHARACTERS, call_tool
from chatcore.tools.rounds import (
    MAX_ROUNDS,
    REFUSED,
    TOO_MANY,
    AskAgain,
    KeepResult,
    RunCall,
    Sent,
    Step,
    drive,
    tool_rounds,
)

__all__ = ["go_through", "shown_call", "shown_result"]

MAX_SHOWN_ROWS = 5  # of a result; the model reads all of it
MAX_SHOWN_CHARACTERS = 400
MAX_ARGUMENT_CHARACTERS = 4_000  # a person cannot judge more than that
ONE_LINE_CHARACTERS = 70

ALWAYS = ("a", "always", "总是", "一直")


def go_through(app: TerminalApp, sampling: Mapping[str, Any] | None = None) -> None:
    """Run what the last answer asks for and have the model go on, until it asks for nothing more.

    It ends early when the person stops a call, when an answer fails, and after ``MAX_ROUNDS``; ``/continue`` goes on.
    """
    talk = app.session.talk
    is_stopped = False

    def act(step: Step) -> Sent:
        nonlocal is_stopped
        match step:
            case RunCall(call):
                result = _run(app, call)
                is_stopped = result is None
                return result
            case KeepResult(call, kept):
                talk.add_result(call, kept)
                return None
            case AskAgain():
                is_stopped = app.signals.take_missed()  # Ctrl-C in the moment between a call and what follows
                return None if is_stopped else _answer_results(app, sampling)

    calls, num_rounds = talk.open_calls(), MAX_ROUNDS
    if not calls and talk.conversation.tip is not None and talk.conversation.tip.role == "tool":
        calls, num_rounds = _answer_results(app, sampling), MAX_ROUNDS - 1
    left = drive(tool_rounds(calls, num_rounds), act)
    if is_stopped or app.signals.take_missed():
        app.display.dim(app.texts("call.stopped"))
    for call in left:
        talk.add_result(call, TOO_MANY)
    if left:
        app.display.warn(app.texts("call.limit", n=MAX_ROUNDS))


def _answer_results(app: TerminalApp, sampling: Mapping[str, Any] | None) -> list[ToolCall]:
    """Have the model answer with the results; return the calls of its answer."""
    if not app.may_send() or not app.generate(sampling=sampling):
        return []
    return app.session.talk.open_calls()


def _run(app: TerminalApp, call: ToolCall) -> str | None:
    """Show a call, ask about it, run it, and show what it gave; return that, or None for Ctrl-C."""
    display, texts, session = app.display, app.texts, app.session
    display.line(shown_call(call.name, call.arguments))
    tools = session.toolbox.tools()
    if any(tool.name == call.name for tool in tools) and not session.toolbox.may_run(call.name):
        allowed = _is_allowed(app, call.name)
        if not allowed:
            return None if allowed is None else REFUSED
    display.status(texts("call.running", name=call.name))
    # A result that fills the window could never be sent; a token is a character at the least.
    limit = min(MAX_RESULT_CHARACTERS, session.max_model_len // 2)
    try:
        with app.signals.interruptible():
            result = call_tool(tools, call.name, call.arguments, max_result_characters=limit)
    except KeyboardInterrupt:
        return None
    finally:
        display.status("")
    display.dim(shown_result(result), wrapped=False)
    return result


def _is_allowed(app: TerminalApp, name: str) -> bool | None:
    """Ask whether a call may run; None for Ctrl-C."""
    if not app.is_attended:
        app.display.warn(app.texts("call.unattended"))
        return False
    answer = app.ask(app.texts("call.ask"))
    if answer is None:
        return None
    if answer.lower() in ALWAYS:
        app.session.toolbox.allowed.add(name)
        return True
    return app.is_yes(answer)


def shown_call(name: str, arguments: str) -> str:
    """Return a call as a person reads it: all of what the tool would get.

    >>> print(shown_call("calculator", '{"expression": "12 * 12"}'))
    ● calculator(expression="12 * 12")
    """
    try:
        values = json.loads(arguments or "{}")
    except ValueError:
        values = None
    if not isinstance(values, dict):
        return f"● {name}: {_cut(arguments, MAX_ARGUMENT_CHARACTERS)}"
    parts = {key: json.dumps(value, ensure_ascii=False) for key, value in values.items()}
    line = f"● {name}({', '.join(f'{key}={value}' for key, value in parts.items())})"
    if len(line) <= ONE_LINE_CHARACTERS:
        return line
    rows = [f"● {name}"]
    for key, value in values.items():
        text = value if isinstance(value, str) else parts[key]
        rows.append(f"  {key}: " + _cut(text, MAX_ARGUMENT_CHARACTERS).replace("\n", "\n    "))
    return "\n".join(rows)


def shown_result(result: str) -> str:
    """Return the beginning of a result, indented.

    >>> print(shown_result("144"))
      144
    """
    lines = _cut(result.strip("\n"), MAX_SHOWN_CHARACTERS).split("\n")
    if len(lines) > MAX_SHOWN_ROWS:
        lines = [*lines[:MAX_SHOWN_ROWS], "…"]
    return "\n".join(f"  {line}" for line in lines)


def _cut(text: str, max_characters: int) -> str:
    return text if len(text) <= max_characters else f"{text[:max_characters]}… ({len(text):,})"
