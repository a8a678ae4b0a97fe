"""Messages sent to the model: the answer is shown, with the calls of tools that it asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from chat.session.attachments import take_mentions, with_attachments
from chat.session.stored import Turn
from chat.terminal.app import TerminalApp
from chat.terminal.tool_calls import go_through
from chatcore.errors import ChatError

__all__ = ["answer", "answer_message", "send"]


def send(app: TerminalApp, text: str) -> None:
    """Send a message to the model and show the answer; while the model loads, let the message wait visibly."""
    session = app.session
    whole = with_attachments(text, [*session.attachments, *take_mentions(text, app.tell_attached)])
    if session.editing is None and session.is_loading() and app.display.mode.editing:
        session.queue_message(whole)
        session.attachments.clear()
        app.display.dim(app.texts("queued.note"))
        return
    try:
        app.wait_until_loaded()
    except (ChatError, KeyboardInterrupt):
        app.give_back(text)
        raise
    if session.editing is not None:
        sent = _send_edited(app, session.editing, whole)
    else:
        session.say(whole)
        sent = answer_message(app, typed=text)
    if sent:
        session.attachments.clear()


def _send_edited(app: TerminalApp, turn: Turn, text: str) -> bool:
    """Say something else in a turn's place: on a branch, next to what was said before."""
    session = app.session
    session.editing = None
    with session.talk.at(lambda conversation: conversation.before_turn(turn.number)) as moved:
        session.say(text)
        moved.stays = answer_message(app, typed=text)
    return moved.stays


def answer_message(app: TerminalApp, typed: str) -> bool:
    """Answer the last message. If that cannot be done, take the message back and put it into the line again."""
    answered = False
    try:
        answered = app.may_send() and answer(app)
    finally:
        if not answered:
            app.session.talk.withdraw_message()
            app.give_back(typed)
    return answered


def answer(app: TerminalApp, *, continuing: bool = False, sampling: Mapping[str, Any] | None = None) -> bool:
    """Generate an answer, and then run the tools that it asks for, until the model asks for none.

    Returns:
        whether anything arrived.
    """
    arrived = app.generate(continuing=continuing, sampling=sampling)
    if arrived:
        go_through(app, sampling)
    return arrived
