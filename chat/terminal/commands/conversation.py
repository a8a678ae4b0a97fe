"""Commands about the conversation: its turns, its branches, and the other conversations."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from chat.conversations.conversation import Conversation, make_title
from chat.session.sampling_options import parse_assignments
from chat.session.stored import SHORT_ID
from chat.terminal.app import TerminalApp
from chat.terminal.commands.numbers import whole_number
from chat.terminal.sending import answer, send
from chat.terminal.tool_calls import go_through
from chat.terminal.transcript import show_resumed, show_turn
from chatcore.errors import CommandError

if TYPE_CHECKING:
    from chat.session.stored import Turn
    from chat.store.local import Summary

__all__ = [
    "begin_new",
    "begin_private",
    "branch",
    "clear",
    "delete",
    "edit",
    "first_line",
    "go_on",
    "id_values",
    "list_conversations",
    "pin",
    "redo",
    "resume",
    "retry",
    "set_title",
    "show_history",
    "undo",
    "variants",
]

FIRST_LINE_COLUMNS = 40
MAX_LISTED = 20
CLEAR_SCREEN = "\x1b[2J\x1b[H"


def begin_new(app: TerminalApp, argument: str) -> None:
    """Begin a new conversation; the old one is kept."""
    _say_kept(app)
    app.session.begin(Conversation(title=argument))
    app.display.line(app.texts("new.done"))


def begin_private(app: TerminalApp, argument: str) -> None:
    """Begin a conversation of which nothing is kept."""
    _say_kept(app)
    app.session.begin(Conversation(), is_private=True)
    app.display.line(app.texts("private.done"))


def clear(app: TerminalApp, argument: str) -> None:
    """Clear the screen and begin again; the old conversation is kept."""
    app.display.escape(CLEAR_SCREEN)
    begin_new(app, "")


def _say_kept(app: TerminalApp) -> None:
    talk = app.session.talk
    if talk.conversation.messages and not talk.is_private:
        app.display.dim(app.texts("new.kept", title=talk.conversation.title, id=talk.short_id))


def show_history(app: TerminalApp, argument: str) -> None:
    """Print the turns of this conversation, or the last few."""
    turns = app.session.talk.turns()
    for turn in turns[-_number(app, argument, len(turns) or 1) :]:
        if turn.is_first_seen:
            app.display.dim(app.texts("history.rule"))
        show_turn(app, turn)
    if not turns:
        app.display.line(app.texts("history.empty"))


def list_conversations(app: TerminalApp, argument: str) -> None:
    """List the conversations, newest first, or those in which words occur."""
    found = app.session.conversations(argument, MAX_LISTED)
    if not found:
        app.display.line(app.texts("sessions.none"))
        return
    here = app.session.talk.conversation.id
    rows = [
        [
            "*" if entry.id == here else " ",
            entry.id[:SHORT_ID],
            _when(entry),
            _turns(app, entry.num_turns),
            entry.title,
        ]
        for entry in found
    ]
    app.display.table(rows, right=(3,))


def _when(entry: Summary) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.updated_at_utc))


def _turns(app: TerminalApp, number: int) -> str:
    return app.texts.count("turn", number)


def id_values(app: TerminalApp) -> Iterable[tuple[str, str]]:
    """Return the ids of the newest conversations with their titles."""
    return [(entry.id[:SHORT_ID], entry.title) for entry in app.session.conversations("", MAX_LISTED)]


def resume(app: TerminalApp, argument: str) -> None:
    """Go on with another conversation: the one with this id, or the newest other one."""
    app.session.resume(argument)
    show_resumed(app)


def set_title(app: TerminalApp, argument: str) -> None:
    """Show or set the title."""
    talk = app.session.talk
    if argument:
        talk.update(title=argument)
    app.display.line(talk.conversation.title or app.texts("title.none"))


def delete(app: TerminalApp, argument: str) -> None:
    """Delete a conversation for good, after asking."""
    session, texts = app.session, app.texts
    conversation = session.find(argument) if argument else session.talk.conversation
    question = texts("delete.ask", title=conversation.title, id=conversation.id[:SHORT_ID])
    if not app.confirms(question):
        app.display.line(texts("delete.not"))
        return
    session.delete(conversation.id)
    app.display.line(texts("delete.done", title=conversation.title))


def undo(app: TerminalApp, argument: str) -> None:
    """Take turns back; /redo brings them again."""
    number = _number(app, argument, 1)
    count = app.session.talk.change(lambda conversation: conversation.undo(number))
    if not count:
        raise CommandError(app.texts("undo.nothing"))
    app.display.line(app.texts("undone", turns=_turns(app, count)))


def redo(app: TerminalApp, argument: str) -> None:
    """Bring back turns that were taken back."""
    number = _number(app, argument, 1)
    count = app.session.talk.change(lambda conversation: conversation.redo(number))
    if not count:
        raise CommandError(app.texts("redo.nothing"))
    app.display.line(app.texts("redone", turns=_turns(app, count)))


def retry(app: TerminalApp, argument: str) -> None:
    """Answer the last message again; the old answer stays as a variant."""
    talk = app.session.talk
    sampling = parse_assignments(argument) if argument else {}
    if not talk.turns():
        raise CommandError(app.texts("retry.nothing"))
    app.wait_until_loaded()
    with talk.at(lambda conversation: conversation.before_answer()) as moved:
        moved.stays = app.may_send() and answer(app, sampling=sampling)
    if moved.stays and (count := talk.turns()[-1].num_variants) > 1:
        app.display.dim(app.texts("retry.variant", n=count))


def go_on(app: TerminalApp, argument: str) -> None:
    """Have the last answer continued where it ended: in its text, at a call of a tool, or after its results."""
    talk = app.session.talk
    tip = talk.conversation.tip
    if talk.open_calls():
        app.wait_until_loaded()
        go_through(app)
    elif tip is not None and tip.role == "tool":
        app.wait_until_loaded()
        if app.may_send():
            answer(app)
    elif tip is not None and tip.role == "assistant" and tip.content:
        app.wait_until_loaded()
        if app.may_send(continuing=True):
            answer(app, continuing=True)
    else:
        raise CommandError(app.texts("continue.nothing"))


def edit(app: TerminalApp, argument: str) -> None:
    """Change a message and have it answered: on a new branch, the old one stays."""
    session, texts = app.session, app.texts
    word, _, text = argument.partition(" ")
    turn = _turn(app, word or str(len(session.talk.turns())))
    session.editing = turn
    if text.strip():
        send(app, text.strip())
    else:
        app.draft = turn.question.content
        app.display.dim(texts("edit.begin", n=turn.number))


def branch(app: TerminalApp, argument: str) -> None:
    """List the branches of this conversation, or go to one."""
    talk, texts = app.session.talk, app.texts
    branches = talk.branches()
    if argument:
        number = _number(app, argument, 0)
        if number > len(branches):
            raise CommandError(texts("branch.unknown", n=argument, count=len(branches)))
        talk.change(lambda conversation: conversation.go_to(branches[number - 1].tip.id))
        show_resumed(app)
        return
    rows = [
        [
            "*" if b.is_current else " ",
            str(n),
            _turns(app, b.num_turns),
            first_line(b.question),
            first_line(b.tip.content),
        ]
        for n, b in enumerate(branches, start=1)
    ]
    app.display.table(rows, right=(1,))


def variants(app: TerminalApp, argument: str) -> None:
    """List the answers to the last message, or take one of them."""
    talk, texts = app.session.talk, app.texts
    found = talk.variants()
    if not found:
        raise CommandError(texts("retry.nothing"))
    if argument:
        number = _number(app, argument, 0)
        if number > len(found):
            raise CommandError(texts("variants.unknown", n=argument, count=len(found)))
        talk.change(lambda conversation: conversation.go_to(found[number - 1].id))
        show_turn(app, talk.turns()[-1])
        return
    current = talk.turns()[-1].messages[0]
    ends = [talk.conversation.end_of(v.id) for v in found]
    rows = [
        ["*" if v is current else " ", str(n), end.finish_reason or "", first_line(end.content)]
        for n, (v, end) in enumerate(zip(found, ends, strict=True), start=1)
    ]
    app.display.table(rows, right=(1,))


def pin(app: TerminalApp, argument: str) -> None:
    """Keep a turn in the prompt when the window is full, or no longer; without a number, list the pinned turns."""
    talk, texts = app.session.talk, app.texts
    if not argument:
        pinned = [turn for turn in talk.turns() if turn.is_pinned]
        for turn in pinned:
            app.display.line(f"{turn.number}. {first_line(turn.question.content)}")
        if not pinned:
            app.display.line(texts("pin.none"))
        return
    number = _turn(app, argument).number
    is_pinned = talk.change(lambda conversation: conversation.toggle_pin(number))
    app.display.line(texts("pin.on" if is_pinned else "pin.off", n=number))


def _turn(app: TerminalApp, argument: str) -> Turn:
    turns = app.session.talk.turns()
    number = _number(app, argument, 0)
    if not 1 <= number <= len(turns):
        raise CommandError(app.texts("turn.unknown", n=argument, count=len(turns)))
    return turns[number - 1]


def _number(app: TerminalApp, argument: str, default: int) -> int:
    """Return the whole number that an argument is; nothing is the default."""
    if not argument:
        return default
    number = whole_number(argument)
    if not number:
        raise CommandError(app.texts("number.bad", value=argument))
    return number


def first_line(text: str) -> str:
    """Return the beginning of a text, for a table."""
    return make_title(text, FIRST_LINE_COLUMNS)
