"""A conversation: ordered messages with an id, and what can be done to them. Pure values, no input or output.

Messages form a tree: each names the one that it follows, and the conversation's *tip* says which path through the tree
is the current one. So undo, edit, regenerate and branch only move the tip; nothing is ever deleted.

::

    system (a setting)
    user "Hello" ── assistant "Hi!"          <- a variant, kept
                └── assistant "Hello you!"   <- the tip
"""

from __future__ import annotations

import dataclasses
import re
import secrets
import time
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from chatcore.errors import InvalidMessageError

if TYPE_CHECKING:
    from chatcore.reply import Reply

__all__ = ["MAX_TIME_S", "Conversation", "Message", "find_stray", "from_dicts", "make_id", "make_title"]

MAX_TIME_S = 253_370_764_800  # the year 9999; calendars end with it
TITLE_COLUMNS = 48  # columns of a terminal, in which a Chinese character takes two
JOINER = "\u200d"  # puts several emoji together to one
# What must not be torn apart: a character, what is put on it, and what is joined to it.
CLUSTERS = re.compile(
    rf".[\u0300-\u036f\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]*(?:{JOINER}.[\ufe00-\ufe0f\U0001f3fb-\U0001f3ff]*)*"
)
Status = Literal["complete", "partial"]


def make_id() -> str:
    """Return a new id: 24 hexadecimal digits that nobody can guess."""
    return secrets.token_hex(12)


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation.

    Attributes:
        parent_id: the message that it follows; None for the first.
        token_ids: ids that an answer was generated as.
        finish_reason: why an answer ended.
        usage: figures of an answer, as :class:`chatcore.reply.Usage` names them.
        status: ``partial`` while an answer is being written, and for ever if its writer died.
        created_at_utc: seconds since 1970.
    """

    role: str
    content: str
    id: str = field(default_factory=make_id)
    parent_id: str | None = None
    reasoning: str = ""
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    tool_call_id: str | None = None
    token_ids: tuple[int, ...] = ()
    finish_reason: str | None = None
    usage: Mapping[str, float] = field(default_factory=dict)
    status: Status = "complete"
    created_at_utc: float = field(default_factory=time.time)

    @classmethod
    def from_reply(cls, reply: Reply) -> Message:
        """Return the message that an answer is. A tool call that was cut off is no call, and is left out."""
        is_whole = reply.finish_reason not in ("abort", "length")
        return cls(
            role="assistant",
            content=reply.text,
            reasoning=reply.reasoning,
            tool_calls=tuple(call.as_message_part() for call in reply.tool_calls) if is_whole else (),
            token_ids=reply.token_ids,
            finish_reason=reply.finish_reason,
            usage=dataclasses.asdict(reply.usage),
        )

    def continued(self, more: Message) -> Message:
        """Return this answer with more of it behind it. Its ids are kept only if all of them are known."""
        is_begun = bool(self.content)
        return replace(
            more,
            id=self.id,
            parent_id=self.parent_id,
            content=self.content + more.content,
            reasoning=self.reasoning + more.reasoning,
            token_ids=(*self.token_ids, *more.token_ids) if self.token_ids or not is_begun else (),
            created_at_utc=self.created_at_utc if is_begun else more.created_at_utc,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the message in OpenAI's shape, with the ids that it was generated as."""
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["tool_calls"] = [dict(call) for call in self.tool_calls]
        if self.tool_call_id is not None:
            message["tool_call_id"] = self.tool_call_id
        if self.token_ids:
            message["token_ids"] = list(self.token_ids)
        return message


@dataclass(slots=True)
class Conversation:
    """A tree of messages, and which path through it is the current one.

    Attributes:
        owner: whose it is: ``local`` for the terminal, the key's name on a server.
        system: the system message; none if empty.
        settings: whatever goes with the conversation, such as sampling parameters.
        messages: all messages by id, in the order in which they were written.
        tip_id: the last message of the current path; None before the first.
        redo_ids: tips that were left by undo, the newest last.
        pinned_ids: messages that always stay in the window.
        window_start_id: the first message of the path that the model still sees; None if it sees all of it.
        kept: what a store holds of it; only the store that holds it reads or writes this.
    """

    id: str = field(default_factory=make_id)
    owner: str = "local"
    title: str = ""
    system: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    tip_id: str | None = None
    redo_ids: list[str | None] = field(default_factory=list)
    pinned_ids: set[str] = field(default_factory=set)
    window_start_id: str | None = None
    created_at_utc: float = field(default_factory=time.time)
    updated_at_utc: float = field(default_factory=time.time)
    kept: Any = field(default=None, repr=False, compare=False)
    _child_ids: dict[str | None, list[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._child_ids = {}
        for message in self.messages.values():
            self._child_ids.setdefault(message.parent_id, []).append(message.id)

    # -- the current path ---------------------------------------------------------------------------------------

    def path(self) -> list[Message]:
        """Return the messages from the first one to the tip."""
        return self._path_to(self.tip_id)

    def as_dicts(self) -> list[dict[str, Any]]:
        """Return the current path in OpenAI's shape, the system message first if there is one."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return system + [message.as_dict() for message in self.path()]

    @property
    def tip(self) -> Message | None:
        """The last message of the current path; None if there is none."""
        return self.messages[self.tip_id] if self.tip_id else None

    @property
    def num_turns(self) -> int:
        """Number of user messages on the current path."""
        return sum(message.role == "user" for message in self.path())

    # -- adding -------------------------------------------------------------------------------------------------

    def add(self, message: Message) -> Message:
        """Put a message behind the tip and make it the tip; return it with its place in the tree.

        A message whose id is already there is replaced: so a partial answer grows in its place.
        """
        if message.id in self.messages:  # its place is its own, whatever the caller still knows of it
            message = replace(message, parent_id=self.messages[message.id].parent_id)
        else:
            message = replace(message, parent_id=self.tip_id)
            self._child_ids.setdefault(message.parent_id, []).append(message.id)
            self.redo_ids.clear()
        self.messages[message.id] = message
        self.tip_id = message.id
        if not self.title and message.role == "user":
            self.title = make_title(message.content)
        return message

    def forget(self, message: Message) -> None:
        """Take a message out again that could not be kept; the tip, if it is there, moves before it."""
        del self.messages[message.id]
        self._child_ids[message.parent_id].remove(message.id)
        if self.tip_id == message.id:
            self.tip_id = message.parent_id

    def remove(self, message_id: str) -> None:
        """Take a message out for ever; what follows it moves up to what it followed."""
        message = self.messages[message_id]
        following = self._child_ids.pop(message_id, [])
        if self.window_start_id == message_id:
            on_path = {later.id for later in self.path()}
            self.window_start_id = next((child for child in following if child in on_path), message.parent_id)
        for child_id in following:
            self.messages[child_id] = replace(self.messages[child_id], parent_id=message.parent_id)
        self.forget(message)
        self._child_ids.setdefault(message.parent_id, []).extend(following)
        self.redo_ids = [message.parent_id if tip_id == message_id else tip_id for tip_id in self.redo_ids]
        self.pinned_ids.discard(message_id)

    # -- moving the tip -----------------------------------------------------------------------------------------

    def undo(self, num_turns: int = 1) -> int:
        """Move the tip before the last turns; return how many there were to undo."""
        done = 0
        while done < num_turns and (user := self._last_user()) is not None:
            self.redo_ids.append(self.tip_id)
            self.tip_id = user.parent_id
            done += 1
        return done

    def redo(self, num_turns: int = 1) -> int:
        """Take back that many undos; return how many there were."""
        done = 0
        while done < num_turns and self.redo_ids:
            self.tip_id = self.redo_ids.pop()
            done += 1
        return done

    def before_answer(self, message_id: str = "") -> Message:
        """Move the tip to :meth:`question_of` a message, so that the next answer becomes a variant; return it."""
        user = self.question_of(message_id)
        self.tip_id = user.id
        return user

    def question_of(self, message_id: str = "") -> Message:
        """Return the user message that a message of the path answers or is; the last one if it is not on the path.

        Raises:
            InvalidMessageError: nothing was asked yet.
        """
        path = self.path()
        index = next((i for i, message in enumerate(path) if message.id == message_id), len(path) - 1)
        user = next((message for message in reversed(path[: index + 1]) if message.role == "user"), None)
        if user is None:
            raise InvalidMessageError("there is no message to answer yet", hint="Ask something first.")
        return user

    def before_turn(self, number: int) -> Message:
        """Move the tip before a turn, so that the next message begins a branch; return the turn's user message.

        Args:
            number: counted from 1 on the current path.
        Raises:
            InvalidMessageError: there is no such turn.
        """
        user = self.turn(number)
        self.tip_id = user.parent_id
        self.redo_ids.clear()
        return user

    def go_to(self, message_id: str) -> None:
        """Make a message part of the current path, with what was said last behind it."""
        tip_id = message_id
        while children := self._children(tip_id):
            tip_id = children[-1].id
        self.tip_id = tip_id
        self.redo_ids.clear()

    def end_of(self, message_id: str) -> Message:
        """Return the last message of a turn, from one of its answers on, by what was said last behind it."""
        message = self.messages[message_id]
        while (children := self._children(message.id)) and children[-1].role != "user":
            message = children[-1]
        return message

    # -- looking around -----------------------------------------------------------------------------------------

    def turn(self, number: int) -> Message:
        """Return the user message of a turn, counted from 1 on the current path."""
        users = [message for message in self.path() if message.role == "user"]
        if not 1 <= number <= len(users):
            raise InvalidMessageError(f"there is no turn {number}", hint=f"There are {len(users)} turns: see /history.")
        return users[number - 1]

    def variants(self, message_id: str) -> list[Message]:
        """Return a message and those that were said in its place, oldest first."""
        message = self.messages[message_id]
        return [other for other in self._children(message.parent_id) if other.role == message.role]

    # -- the window ---------------------------------------------------------------------------------------------

    def toggle_pin(self, number: int) -> bool:
        """Keep a turn in the window whatever happens, or no longer; return which."""
        user = self.turn(number)
        self.pinned_ids ^= {user.id}
        return user.id in self.pinned_ids

    def pinned_positions(self, path: Sequence[Message] | None = None) -> set[int]:
        """Return the positions of the pinned turns' messages on a path, the present one if left out."""
        pinned: set[int] = set()
        is_pinned = False
        for position, message in enumerate(self.path() if path is None else path):
            if message.role == "user":
                is_pinned = message.id in self.pinned_ids
            if is_pinned:
                pinned.add(position)
        return pinned

    def window_start(self) -> int:
        """Return the position on the path of the first message that the model still sees."""
        path = self.path()
        return next((index for index, message in enumerate(path) if message.id == self.window_start_id), 0)

    def _last_user(self) -> Message | None:
        return next((message for message in reversed(self.path()) if message.role == "user"), None)

    def _children(self, parent_id: str | None) -> list[Message]:
        return [self.messages[child_id] for child_id in self._child_ids.get(parent_id, ())]

    def _path_to(self, message_id: str | None) -> list[Message]:
        path: list[Message] = []
        while message_id is not None:
            path.append(self.messages[message_id])
            message_id = path[-1].parent_id
        return path[::-1]


def find_stray(parents: Mapping[str, str | None]) -> str | None:
    """Return a message from which no way leads to a first one; None if all of them are a tree.

    Args:
        parents: what each message follows.

    >>> find_stray({"a": None, "b": "a"}), find_stray({"a": "b", "b": "a"}), find_stray({"a": "x"})
    (None, 'a', 'a')
    """
    known: set[str] = set()
    for message_id in parents:
        way: dict[str, None] = {}
        step: str | None = message_id
        while step is not None and step not in known:
            if step in way or step not in parents:
                return message_id
            way[step] = None
            step = parents[step]
        known |= way.keys()
    return None


def make_title(text: str, max_columns: int = TITLE_COLUMNS) -> str:
    """Return the first line of a text, cut to a width on the screen.

    Control characters go, since titles are printed on terminals. An emoji made of several characters is not cut apart.

    >>> make_title("  Hello\\nthere")
    'Hello'
    >>> make_title("能不能帮我", max_columns=7)
    '能不能…'
    """
    line = next((clean for line in text.splitlines() if (clean := _printable(line))), "")
    if sum(map(_num_columns, line)) <= max_columns:
        return line
    kept, width = "", 1  # of the ellipsis
    for cluster in CLUSTERS.findall(line):
        width += sum(map(_num_columns, cluster))
        if width > max_columns:
            break
        kept += cluster
    return kept.rstrip() + "…"


def _printable(text: str) -> str:
    """Return a text in one line, without the characters that command a terminal."""
    kept = (c if c == JOINER or unicodedata.category(c) not in ("Cc", "Cf", "Cs") else " " for c in text)
    return " ".join("".join(kept).split())


def _num_columns(character: str) -> int:
    if character == JOINER or unicodedata.combining(character) or unicodedata.category(character) == "Mn":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def from_dicts(messages: Sequence[Mapping[str, Any]], **fields: Any) -> Conversation:
    """Return a conversation of messages in OpenAI's shape.

    Raises:
        InvalidMessageError: a message is none.
    """
    conversation = Conversation(**fields)
    for index, message in enumerate(messages):
        role, content = message.get("role"), message.get("content") or ""
        if not isinstance(role, str) or not isinstance(content, str):
            raise InvalidMessageError("role and content are text", index=index)
        if role == "system" and index == 0:
            conversation.system = content
            continue
        conversation.add(
            Message(
                role=role,
                content=content,
                reasoning=message.get("reasoning_content") or "",
                tool_calls=tuple(message.get("tool_calls") or ()),
                tool_call_id=message.get("tool_call_id"),
                token_ids=tuple(message.get("token_ids") or ()),
            )
        )
    return conversation
