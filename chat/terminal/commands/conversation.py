"""Commands about the conversation: its turns, its branches, and the other conversations."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from chat.conversations.conversation import Conversation, make_title
from chat.session.sampling_options import parse_assignments
from chat.session.stored import SHORT_ID
from chat.terminal.commands.numbers import whole_number
from chat.terminal.tool_calls import go_through
from chat.terminal.transcript import show_resumed, show_turn
from chatcore.errors import CommandError

if TYPE_CHECKING:
    from chat.session.stored import Turn
    from chat.store.local import Summary
    from chat.terminal.repl import Repl

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


def begin_new(repl: Repl, argument: str) -> None:
    """Begin a new conversation; the old one is kept."""
    _say_kept(repl)
    repl.session.begin(Conversation(title=argument))
    repl.display.line(repl.texts("new.done"))


def begin_private(repl: Repl, argument: str) -> None:
    """Begin a conversation of which nothing is kept."""
    _say_kept(repl)
    repl.session.begin(Conversation(), is_private=True)
    repl.display.line(repl.texts("private.done"))


def clear(repl: Repl, argument: str) -> None:
    """Clear the screen and begin again; the old conversation is kept."""
    repl.display.escape(CLEAR_SCREEN)
    begin_new(repl, "")


def _say_kept(repl: Repl) -> None:
    talk = repl.session.talk
    if talk.conversation.messages and not talk.is_private:
        repl.display.dim(repl.texts("new.kept", title=talk.conversation.title, id=talk.short_id))


def show_history(repl: Repl, argument: str) -> None:
    """Print the turns of this conversation, or the last few."""
    turns = repl.session.talk.turns()
    for turn in turns[-_number(repl, argument, len(turns) or 1) :]:
        if turn.is_first_seen:
            repl.display.dim(repl.texts("history.rule"))
        show_turn(repl, turn)
    if not turns:
        repl.display.line(repl.texts("history.empty"))


def list_conversations(repl: Repl, argument: str) -> None:
    """List the conversations, newest first, or those in which words occur."""
    found = repl.session.conversations(argument, MAX_LISTED)
    if not found:
        repl.display.line(repl.texts("sessions.none"))
        return
    here = repl.session.talk.conversation.id
    rows = [
        [
            "*" if entry.id == here else " ",
            entry.id[:SHORT_ID],
            _when(entry),
            _turns(repl, entry.num_turns),
            entry.title,
        ]
        for entry in found
    ]
    repl.display.table(rows, right=(3,))


def _when(entry: Summary) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.updated_at_utc))


def _turns(repl: Repl, number: int) -> str:
    return repl.texts.count("turn", number)


def id_values(repl: Repl) -> Iterable[tuple[str, str]]:
    """Return the ids of the newest conversations with their titles."""
    return [(entry.id[:SHORT_ID], entry.title) for entry in repl.session.conversations("", MAX_LISTED)]


def resume(repl: Repl, argument: str) -> None:
    """Go on with another conversation: the one with this id, or the newest other one."""
    repl.session.resume(argument)
    show_resumed(repl)


def set_title(repl: Repl, argument: str) -> None:
    """Show or set the title."""
    talk = repl.session.talk
    if argument:
        talk.change(lambda conversation: setattr(conversation, "title", argument))
    repl.display.line(talk.conversation.title or repl.texts("title.none"))


def delete(repl: Repl, argument: str) -> None:
    """Delete a conversation for good, after asking."""
    session, texts = repl.session, repl.texts
    conversation = session.find(argument) if argument else session.talk.conversation
    question = texts("delete.ask", title=conversation.title, id=conversation.id[:SHORT_ID])
    if not repl.confirms(question):
        repl.display.line(texts("delete.not"))
        return
    session.delete(conversation.id)
    repl.display.line(texts("delete.done", title=conversation.title))


def undo(repl: Repl, argument: str) -> None:
    """Take turns back; /redo brings them again."""
    number = _number(repl, argument, 1)
    count = repl.session.talk.change(lambda conversation: conversation.undo(number))
    if not count:
        raise CommandError(repl.texts("undo.nothing"))
    repl.display.line(repl.texts("undone", turns=_turns(repl, count)))


def redo(repl: Repl, argument: str) -> None:
    """Bring back turns that were taken back."""
    number = _number(repl, argument, 1)
    count = repl.session.talk.change(lambda conversation: conversation.redo(number))
    if not count:
        raise CommandError(repl.texts("redo.nothing"))
    repl.display.line(repl.texts("redone", turns=_turns(repl, count)))


def retry(repl: Repl, argument: str) -> None:
    """Answer the last message again; the old answer stays as a variant."""
    talk = repl.session.talk
    sampling = parse_assignments(argument) if argument else {}
    if not talk.turns():
        raise CommandError(repl.texts("retry.nothing"))
    repl.wait_until_loaded()
    with talk.at(lambda conversation: conversation.before_answer()) as moved:
        moved.stays = repl.may_send() and repl.answer(sampling=sampling)
    if moved.stays and (count := talk.turns()[-1].num_variants) > 1:
        repl.display.dim(repl.texts("retry.variant", n=count))


def go_on(repl: Repl, argument: str) -> None:
    """Have the last answer continued where it ended: in its text, at a call of a tool, or after its results."""
    talk = repl.session.talk
    tip = talk.conversation.tip
    if talk.open_calls():
        repl.wait_until_loaded()
        go_through(repl)
    elif tip is not None and tip.role == "tool":
        repl.wait_until_loaded()
        if repl.may_send():
            repl.answer()
    elif tip is not None and tip.role == "assistant" and tip.content:
        repl.wait_until_loaded()
        if repl.may_send(continuing=True):
            repl.answer(continuing=True)
    else:
        raise CommandError(repl.texts("continue.nothing"))


def edit(repl: Repl, argument: str) -> None:
    """Change a message and have it answered: on a new branch, the old one stays."""
    session, texts = repl.session, repl.texts
    word, _, text = argument.partition(" ")
    turn = _turn(repl, word or str(len(session.talk.turns())))
    session.editing = turn
    if text.strip():
        repl.send(text.strip())
    else:
        repl.draft = turn.question.content
        repl.display.dim(texts("edit.begin", n=turn.number))


def branch(repl: Repl, argument: str) -> None:
    """List the branches of this conversation, or go to one."""
    talk, texts = repl.session.talk, repl.texts
    branches = talk.branches()
    if argument:
        number = _number(repl, argument, 0)
        if number > len(branches):
            raise CommandError(texts("branch.unknown", n=argument, count=len(branches)))
        talk.change(lambda conversation: conversation.go_to(branches[number - 1].tip.id))
        show_resumed(repl)
        return
    rows = [
        [
            "*" if b.is_current else " ",
            str(n),
            _turns(repl, b.num_turns),
            first_line(b.question),
            first_line(b.tip.content),
        ]
        for n, b in enumerate(branches, start=1)
    ]
    repl.display.table(rows, right=(1,))


def variants(repl: Repl, argument: str) -> None:
    """List the answers to the last message, or take one of them."""
    talk, texts = repl.session.talk, repl.texts
    found = talk.variants()
    if not found:
        raise CommandError(texts("retry.nothing"))
    if argument:
        number = _number(repl, argument, 0)
        if number > len(found):
            raise CommandError(texts("variants.unknown", n=argument, count=len(found)))
        talk.change(lambda conversation: conversation.go_to(found[number - 1].id))
        show_turn(repl, talk.turns()[-1])
        return
    current = talk.turns()[-1].messages[0]
    ends = [talk.conversation.end_of(v.id) for v in found]
    rows = [
        ["*" if v is current else " ", str(n), end.finish_reason or "", first_line(end.content)]
        for n, (v, end) in enumerate(zip(found, ends, strict=True), start=1)
    ]
    repl.display.table(rows, right=(1,))


def pin(repl: Repl, argument: str) -> None:
    """Keep a turn in the prompt when the window is full, or no longer; without a number, list the pinned turns."""
    talk, texts = repl.session.talk, repl.texts
    if not argument:
        pinned = [turn for turn in talk.turns() if turn.is_pinned]
        for turn in pinned:
            repl.display.line(f"{turn.number}. {first_line(turn.question.content)}")
        if not pinned:
            repl.display.line(texts("pin.none"))
        return
    number = _turn(repl, argument).number
    is_pinned = talk.change(lambda conversation: conversation.toggle_pin(number))
    repl.display.line(texts("pin.on" if is_pinned else "pin.off", n=number))


def _turn(repl: Repl, argument: str) -> Turn:
    turns = repl.session.talk.turns()
    number = _number(repl, argument, 0)
    if not 1 <= number <= len(turns):
        raise CommandError(repl.texts("turn.unknown", n=argument, count=len(turns)))
    return turns[number - 1]


def _number(repl: Repl, argument: str, default: int) -> int:
    """Return the whole number that an argument is; nothing is the default."""
    if not argument:
        return default
    number = whole_number(argument)
    if not number:
        raise CommandError(repl.texts("number.bad", value=argument))
    return number


def first_line(text: str) -> str:
    """Return the beginning of a text, for a table."""
    return make_title(text, FIRST_LINE_COLUMNS)
