"""Turns that were said before, printed again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chat.terminal.app import TerminalApp
from chat.terminal.tool_calls import shown_call, shown_result

if TYPE_CHECKING:
    from chat.conversations.conversation import Message
    from chat.session.stored import Turn

__all__ = ["show_resumed", "show_turn"]


def show_resumed(app: TerminalApp) -> None:
    """Say which conversation goes on, and show how it ended."""
    talk, texts, display = app.session.talk, app.texts, app.display
    turns = talk.turns()
    display.line(texts("resumed", title=talk.conversation.title, turns=texts.count("turn", len(turns))))
    if turns:
        show_turn(app, turns[-1])
        if talk.open_calls():
            display.dim(texts("resumed.calls"))
        elif turns[-1].answer is None:
            display.dim(texts("resumed.unanswered"))


def show_turn(app: TerminalApp, turn: Turn) -> None:
    """Print a turn: its number and marks, the message, calls of tools and what they gave, the answer."""
    texts, display = app.texts, app.display
    marks = [texts("turn.pinned")] if turn.is_pinned else []
    if turn.num_variants > 1:
        marks.append(texts("turn.variant", variant=turn.variant, count=turn.num_variants))
    display.dim(texts("turn.head", n=turn.number, marks=" · ".join(marks)).rstrip())
    display.line("> " + turn.question.content.replace("\n", "\n  "))
    for message in turn.messages:
        _show_message(app, message)
    answer = turn.answer
    if answer is not None and (answer.status == "partial" or answer.finish_reason == "abort"):
        display.dim(texts("turn.interrupted"))


def _show_message(app: TerminalApp, message: Message) -> None:
    if message.role == "tool":
        app.display.dim(shown_result(message.content), wrapped=False)
        return
    if message.content or not message.tool_calls:
        app.display.markdown(message.content)
    for call in message.tool_calls:
        app.display.line(shown_call(call["function"]["name"], call["function"]["arguments"]))
