"""What tests of a store do again and again: have a turn, compare, run another program on the same store."""

from __future__ import annotations

import subprocess
import sys

from chat.conversation import Conversation, Message
from chat.store import ConversationStore
from tests.program import ROOT

__all__ = ["ask", "assert_same", "path", "start"]


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


def start(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Run a program that uses the store."""
    code = "import dataclasses, sys, time\nfrom chat.conversation import Message\nfrom chat.store import *\n" + script
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, bufsize=1
    )
