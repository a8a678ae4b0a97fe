"""The event log of a program under test: what it wrote and what was acknowledged, read by the test after its death.

Each line goes out with one system call to a file, so that a killed program has written whole lines and at most one torn
one. A line is a JSON object with ``event`` and ``at_s``, the seconds of a clock that never jumps:

- ``begins``: a conversation is about to be kept in this ``state``;
- ``kept``: what was begun last is kept, the store said;
- ``queued``: the store said that it will be kept within a second (part of an answer, on its way to a server);
- ``failed``: the store said that it could not be kept;
- ``deletes``: a conversation is about to be deleted; then ``kept`` or ``failed``;
- ``received``: so much of an answer has arrived at the program;
- any other event is for the test to wait for.
"""

from __future__ import annotations

import json
import math
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chat.conversations.conversation import Conversation, Message
from chat.store.changes import add_message
from chatcore.errors import StoreError, StoreUnreachableError

__all__ = ["EventLog", "Expected", "History", "LoggedStore", "read_history", "state_of"]

State = dict[str, Any] | None  # None: the conversation is not there


def state_of(conversation: Conversation) -> dict[str, Any]:
    """Return all that must not get lost of a conversation, as JSON has it."""
    return {
        "id": conversation.id,
        "title": conversation.title,
        "tip": conversation.tip_id,
        "pinned": sorted(conversation.pinned_ids),
        "messages": [[m.id, m.parent_id, m.role, m.content, m.status] for m in conversation.messages.values()],
    }


class EventLog:
    """The log file, as the program under test writes it."""

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, event: str, **fields: Any) -> None:
        """Append an event."""
        line = json.dumps({"event": event, "at_s": time.monotonic(), **fields}) + "\n"
        os.write(self._fd, line.encode())


class LoggedStore:
    """A store whose writes are logged. All else is the store's own.

    Args:
        store: the real one, on this machine or on a server.
        event_log: read by the test.
    """

    def __init__(self, store: Any, event_log: EventLog) -> None:
        self._store, self._event_log = store, event_log

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def save(self, conversation: Conversation) -> None:
        self._event_log.write("begins", state=state_of(conversation))
        waits = self._store.is_remote and any(m.status == "partial" for m in conversation.messages.values())
        self._logged(lambda: self._store.save(conversation), "queued" if waits else "kept", conversation.id)

    def create(self, **fields: Any) -> Conversation:
        conversation = Conversation(**fields)
        self.save(conversation)
        return conversation

    def add(self, conversation: Conversation, message: Message) -> Message:
        return add_message(conversation, message, self.save)

    def delete(self, conversation_id: str) -> None:
        self._event_log.write("deletes", id=conversation_id)
        self._logged(lambda: self._store.delete(conversation_id), "kept", conversation_id)

    def _logged(self, act: Any, event: str, conversation_id: str) -> None:
        try:
            act()
        except StoreUnreachableError as error:  # it is in a file of this machine, and is sent later
            self._event_log.write("kept" if self._store.is_remote else "failed", id=conversation_id, said=str(error))
            raise
        except StoreError as error:
            self._event_log.write("failed", id=conversation_id, said=str(error))
            raise
        self._event_log.write(event, id=conversation_id)


@dataclass(slots=True)
class Expected:
    """The states that one conversation may have after the fault.

    Attributes:
        kept: as the store last said it has kept it.
        begun: states that were begun since, in order; any of them may have been reached.
        is_under_way: the store had not answered yet when the fault came.
    """

    kept: State = None
    begun: list[State] = field(default_factory=list)
    is_under_way: bool = False

    def allows(self, state: State) -> bool:
        return state == self.kept or state in self.begun


@dataclass(slots=True)
class History:
    """A whole event log.

    Attributes:
        expected: by the id of the conversation.
        events: all of them, in order.
    """

    expected: dict[str, Expected]
    events: list[dict[str, Any]]

    @property
    def is_under_way(self) -> bool:
        return any(expected.is_under_way for expected in self.expected.values())

    @property
    def num_kept(self) -> int:
        return sum(event["event"] == "kept" for event in self.events)

    def last(self, name: str) -> dict[str, Any] | None:
        """Return the last event of a name."""
        return next((event for event in reversed(self.events) if event["event"] == name), None)


def read_history(file: Path, *, sure_until_s: float = math.inf) -> History:
    """Read a log up to its end; a torn last line does not count.

    What the store acknowledged after ``sure_until_s`` may hold or not.
    """
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    history = History({}, [json.loads(line) for line in lines])
    for event in history.events:
        match event["event"]:
            case "begins":
                _begin(history.expected.setdefault(event["state"]["id"], Expected()), event["state"])
            case "deletes":
                _begin(history.expected.setdefault(event["id"], Expected()), None)
            case "kept" if event["at_s"] < sure_until_s:
                expected = history.expected[event["id"]]
                expected.kept, expected.begun, expected.is_under_way = expected.begun[-1], [], False
            case "queued" | "failed":
                history.expected[event["id"]].is_under_way = False
    return history


def _begin(expected: Expected, state: State) -> None:
    expected.begun.append(state)
    expected.is_under_way = True
