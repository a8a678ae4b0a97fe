"""What a store does not know yet of a conversation: found here, written by whichever store keeps it.

A store remembers of each conversation what it has seen of it last (:class:`Kept`). What differs from that, and nothing
else, is written, so that several programs may work on one conversation and nobody overwrites what another has said.
Writing the same changes twice is the same as writing them once.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from chat.conversations.conversation import Conversation, Message, make_id
from chatcore.errors import StoreError

__all__ = [
    "Changes",
    "Kept",
    "add_message",
    "copy_with_new_ids",
    "doubt",
    "find_changes",
    "is_open",
    "kept_by",
    "take_changes",
]

# Of a conversation, without its name, its owner, its messages, and the pins, which are put together.
FIELDS = ("title", "system", "settings", "tip_id", "redo_ids", "window_start_id", "created_at_utc", "updated_at_utc")


@dataclass(frozen=True, slots=True)
class Changes:
    """What is new of a conversation.

    Attributes:
        is_new: the store does not hold the conversation, as far as the writer knows.
        fields: the changed fields of :class:`Conversation` by name.
        pinned, unpinned: messages that were pinned, or are no longer.
        messages: the new and the changed ones, parents first.
        tip_id: the last message of the path that the writer is on, changed or not.
    """

    conversation_id: str
    is_new: bool
    fields: Mapping[str, Any]
    pinned: frozenset[str]
    unpinned: frozenset[str]
    messages: tuple[Message, ...]
    tip_id: str | None

    @property
    def concern_turn(self) -> bool:
        """Whether the turn that is under way is another one now, or further on."""
        return bool(self.messages) or ("tip_id" in self.fields and not self.is_new)

    @property
    def tip(self) -> Message | None:
        """The last message of the path, if it is among the new and the changed ones."""
        return next((message for message in reversed(self.messages) if message.id == self.tip_id), None)

    @property
    def named_ids(self) -> set[str]:
        """Messages that the fields and the messages name."""
        named = {self.tip_id, self.fields.get("tip_id"), self.fields.get("window_start_id")}
        named |= {*self.fields.get("redo_ids", ()), *self.pinned, *(m.parent_id for m in self.messages)}
        return {message_id for message_id in named if message_id is not None}

    def may_close_circle(self, kept: Mapping[str, str | None]) -> bool:
        """Tell whether the messages, written beside those that are kept, might follow one another in a circle.

        Args:
            kept: of the messages here that are kept already, what each follows.
        """
        known = {None, *kept}
        for message in self.messages:
            if message.parent_id not in known or kept.get(message.id, message.parent_id) != message.parent_id:
                return True
            known.add(message.id)
        return False


@dataclass(frozen=True, slots=True)
class Kept:
    """What a store holds of a conversation, as far as this process knows.

    Attributes:
        doubtful_pins: messages of which it is not known whether the store holds them as pinned.
    """

    store: object
    fields: Mapping[str, Any]
    pinned_ids: frozenset[str]
    messages: Mapping[str, Message]
    doubtful_pins: frozenset[str] = frozenset()


def doubt(conversation: Conversation, changes: Changes) -> None:
    """Note that changes could not be written, or so it was said: they are written again with the next ones.

    An answer may have been lost on its way, or a disk may have failed after it had written. So what is taken back
    afterwards must be written too, though the store was last known to hold just that.
    """
    kept = conversation.kept
    if isinstance(kept, Kept):
        ids = {message.id for message in changes.messages}
        conversation.kept = dataclasses.replace(
            kept,
            fields={name: value for name, value in kept.fields.items() if name not in changes.fields},
            messages={message_id: message for message_id, message in kept.messages.items() if message_id not in ids},
            doubtful_pins=kept.doubtful_pins | changes.pinned | changes.unpinned,
        )


def kept_by(store: object, conversation: Conversation) -> Kept:
    """Return that a store holds a conversation as it is now."""
    pinned_ids = frozenset(conversation.pinned_ids)
    return Kept(store, _fields(conversation), pinned_ids, dict(conversation.messages))


def find_changes(conversation: Conversation, store: object) -> Changes | None:
    """Return what a store has to write to hold a conversation as it is now; None if that is nothing."""
    kept = conversation.kept
    fields, pinned_ids = _fields(conversation), frozenset(conversation.pinned_ids)
    if not isinstance(kept, Kept) or kept.store is not store:
        messages = tuple(conversation.messages.values())
        return Changes(conversation.id, True, fields, pinned_ids, frozenset(), messages, conversation.tip_id)
    changed = {n: value for n, value in fields.items() if n not in kept.fields or value != kept.fields[n]}
    messages = tuple(m for m in conversation.messages.values() if kept.messages.get(m.id) is not m)
    if not changed and not messages and pinned_ids == kept.pinned_ids:
        return None
    pinned = pinned_ids - (kept.pinned_ids - kept.doubtful_pins)
    unpinned = (kept.pinned_ids | kept.doubtful_pins) - pinned_ids
    return Changes(conversation.id, False, changed, pinned, unpinned, messages, conversation.tip_id)


def take_changes(conversation: Conversation, store: object) -> Changes | None:
    """Return what :func:`find_changes` does, and note in the conversation that it has changed now."""
    changes = find_changes(conversation, store)
    if changes is None:
        return None
    conversation.updated_at_utc = time.time()
    return dataclasses.replace(changes, fields={**changes.fields, "updated_at_utc": conversation.updated_at_utc})


def add_message(conversation: Conversation, message: Message, save: Callable[[Conversation], None]) -> Message:
    """Put a message behind the tip and save; if the store fails, the conversation is what it was."""
    replaced = conversation.messages.get(message.id)
    before = (conversation.title, list(conversation.redo_ids), conversation.tip_id)
    placed = conversation.add(message)
    try:
        save(conversation)
    except StoreError:
        if replaced is None:
            conversation.forget(placed)
        else:
            conversation.messages[message.id] = replaced
        conversation.title, conversation.redo_ids, conversation.tip_id = before
        raise
    return placed


def _fields(conversation: Conversation) -> dict[str, Any]:
    values = {name: getattr(conversation, name) for name in FIELDS}
    return values | {"settings": dict(values["settings"]), "redo_ids": list(values["redo_ids"])}


def is_open(*, role: str, status: str, finish_reason: str | None) -> bool:
    """Tell whether a turn that ends in such a message still waits for something."""
    return role in ("user", "tool") or status == "partial" or finish_reason == "tool_calls"


def copy_with_new_ids(conversation: Conversation) -> Conversation:
    """Return the same conversation with ids that nobody has used."""
    new_ids: dict[str | None, str | None] = {None: None}
    new_ids |= {old_id: make_id() for old_id in conversation.messages}
    return dataclasses.replace(
        conversation,
        id=make_id(),
        settings=dict(conversation.settings),
        messages={
            str(new_ids[m.id]): dataclasses.replace(m, id=str(new_ids[m.id]), parent_id=new_ids[m.parent_id])
            for m in conversation.messages.values()
        },
        tip_id=new_ids[conversation.tip_id],
        redo_ids=[new_ids[old_id] for old_id in conversation.redo_ids],
        pinned_ids={str(new_ids[old_id]) for old_id in conversation.pinned_ids},
        window_start_id=new_ids[conversation.window_start_id],
        kept=None,
    )
