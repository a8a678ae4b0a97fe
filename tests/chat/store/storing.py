"""What tests of a store do again and again: have a turn, compare, run another program on the same store."""

from __future__ import annotations

import subprocess
import sys

from chat.conversations.conversation import Conversation, Message
from chat.store.base import Store
from chat.store.local import ConversationStore
from tests.program import ROOT

__all__ = ["CALL", "ask", "assert_same", "keep_fruit", "path", "rich_conversation", "start"]

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "北京"}'}}


def rich_conversation(question: str, *, system: str, owner: str) -> Conversation:
    """Return one with everything: variants, a branch, a tool call, thinking, pins, a window, token ids."""
    made = Conversation(system=system, settings={"temperature": 0.5}, owner=owner)
    made.add(Message("user", question))
    made.add(Message("assistant", "", tool_calls=(CALL,), finish_reason="tool_calls"))
    made.add(Message("tool", '{"degrees": 21}', tool_call_id="call_1"))
    made.add(Message("assistant", "21 degrees.", token_ids=(5, 0, 4_294_967_295), finish_reason="stop"))
    made.toggle_pin(1)
    made.add(Message("user", "Say it again"))
    made.add(Message("assistant", "21.", reasoning="They want it\nshorter.", usage={"ttft_ms": 1.5}))
    made.before_answer()
    made.add(Message("assistant", "Twenty-one \u2028 degrees 🙂", status="partial"))
    made.add(Message("user", "one more"))
    made.undo()
    made.window_start_id = made.turn(2).id
    return made


def path(conversation: Conversation) -> list[str]:
    """Return what was said on the way to the tip."""
    return [message.content for message in conversation.path()]


def assert_same(loaded: Conversation, conversation: Conversation) -> None:
    """Compare two conversations, the order of their messages included."""
    assert loaded == conversation
    assert list(loaded.messages) == list(conversation.messages)


def ask(store: ConversationStore, conversation: Conversation, question: str, answer: str = "") -> Conversation:
    """Have a turn on disk; without an answer it stays open."""
    store.add(conversation, Message("user", question))
    if answer:
        store.add(conversation, Message("assistant", answer, finish_reason="stop"))
    return conversation


def keep_fruit(store: Store) -> None:
    """Keep one conversation about apples, a newer one that says the word in 202 messages, and one with a title only."""
    dessert, orchard, notes = (Conversation(title=title) for title in ("Dessert", "Orchard", "Banana notes"))
    dessert.add(Message("user", "apple pie recipe"))
    for number in range(101):
        orchard.add(Message("user", f"apple {number}"))
        orchard.add(Message("assistant", f"Yes, apple {number}.", finish_reason="stop"))
    notes.add(Message("user", "hello"))
    for conversation in (dessert, orchard, notes):
        store.insert(conversation)


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a program that uses the store."""
    code = (
        "import dataclasses, sys, time\nfrom chat.conversations.conversation import Message\nfrom chat.store import *\n"
        + script
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
    )
