"""Whole transcripts with commands about the conversation: taking back, asking again, resuming, deleting."""

from __future__ import annotations

from pathlib import Path

from chat.conversations.conversation import Conversation
from chat.store.local import ConversationStore
from chatcore.errors import EngineError, StoreError
from tests.chat.store.storing import keep_fruit
from tests.chat.terminal.conftest import Talk, said
from tests.chat.terminal.scripted import ScriptedBackend

# -- taking back, asking again -------------------------------------------------------------------------------------


def test_undo_and_redo_move_through_the_turns(talk: Talk) -> None:
    backend = ScriptedBackend(["1"], ["2"], ["3"])
    shown = talk(backend, "one", "two", "/undo 2", "/redo", "/redo", "/redo", "three")
    assert "2 turns taken back" in shown
    assert shown.count("1 turn brought back") == 2
    assert "nothing to bring back" in shown
    assert said(backend) == ["one", "1", "two", "2", "three"]


def test_undo_has_nothing_to_take_back_at_the_beginning(talk: Talk) -> None:
    assert "nothing to take back" in talk(ScriptedBackend(), "/undo")


def test_retry_keeps_the_old_answer_as_a_variant(talk: Talk, store: ConversationStore) -> None:
    backend = ScriptedBackend(["first"], ["second"], ["next"])
    shown = talk(backend, "one", "/retry temperature=1.1", "/variants", "/variants 1", "two")
    assert backend.requests[1] == ([{"role": "user", "content": "one"}], {"temperature": 1.1})
    assert "This is answer 2" in shown
    assert said(backend) == ["one", "first", "two"]
    conversation = store.load(store.recent()[0].id)
    assert {message.content for message in conversation.messages.values()} >= {"first", "second"}


def test_edit_makes_a_branch_and_keeps_the_old_one(talk: Talk) -> None:
    backend = ScriptedBackend(["1"], ["2"], ["new"])
    shown = talk(backend, "one", "two", "/edit 1 uno", "/branch", "/branch 1", "three")
    assert said(backend, 2) == ["uno"]
    assert said(backend, 3) == ["one", "1", "two", "2", "three"]
    assert "*  2  1 turn" in shown


def test_continue_goes_on_inside_the_last_answer(talk: Talk) -> None:
    backend = ScriptedBackend(["One, two"], [", three"])
    backend.finish_reason = "length"
    shown = talk(backend, "count", "/continue", "/history")
    assert "cut at 8 tokens" in shown
    messages, options = backend.requests[1]
    assert options == {"continue_final_message": True}
    assert messages[-1]["content"] == "One, two"
    assert "One, two, three" in shown


def test_a_failed_edit_leaves_the_conversation_as_it_was(talk: Talk) -> None:
    backend = ScriptedBackend(["1"], [EngineError("the engine has died")], ["ok"])
    talk(backend, "one", "/edit 1 uno", "/history", "two")
    assert said(backend) == ["one", "1", "two"]


# -- conversations -------------------------------------------------------------------------------------------------


def test_new_keeps_the_old_conversation(talk: Talk, store: ConversationStore) -> None:
    backend = ScriptedBackend(["a"], ["b"], ["c"])
    shown = talk(backend, "first talk", "/new", "second talk", "/sessions", "/sessions first", "/resume", "more")
    assert "first talk is kept" in shown
    assert said(backend) == ["first talk", "a", "more"]
    assert len(store.recent()) == 2


def test_sessions_are_found_however_often_another_has_the_word(talk: Talk, store: ConversationStore) -> None:
    keep_fruit(store)
    apples, bananas = talk(ScriptedBackend(), "/sessions apple"), talk(ScriptedBackend(), "/sessions Banana")
    assert "Orchard" in apples
    assert "Dessert" in apples
    assert "Banana notes" not in apples
    assert "Banana notes" in bananas
    assert "Orchard" not in bananas


def test_an_unused_conversation_leaves_no_trace(talk: Talk, store: ConversationStore) -> None:
    talk(ScriptedBackend(), "/new", "/new", "/title x")
    assert store.recent() == []


def test_resume_by_id_goes_on(talk: Talk, store: ConversationStore) -> None:
    talk(ScriptedBackend(["a"]), "first talk")
    backend = ScriptedBackend(["b"])
    shown = talk(backend, "more", resume=store.recent()[0].id[:8])
    assert "first talk · 1 turn" in shown
    assert said(backend) == ["first talk", "a", "more"]
    assert "there is no conversation" in talk(ScriptedBackend(), resume="ffffffff")


def test_delete_asks_first(talk: Talk, store: ConversationStore) -> None:
    talk(ScriptedBackend(["a"]), "first talk", "/delete", "n")
    assert len(store.recent()) == 1
    talk(ScriptedBackend(["a"]), "/resume", "/delete", "y")
    assert store.recent() == []


def test_a_private_conversation_is_not_kept(talk: Talk, store: ConversationStore, tmp_path: Path) -> None:
    talk(ScriptedBackend(["a"]), "/private", "my secret word is xyzzy")
    assert store.recent() == []
    assert b"xyzzy" not in b"".join(file.read_bytes() for file in tmp_path.glob("conversations*"))


def test_saving_goes_on_when_the_disk_has_room_again(talk: Talk, store: ConversationStore) -> None:
    backend = ScriptedBackend(["a"], ["b"], ["c"])
    save, failures = store.save, [True] * 3

    def failing(conversation: Conversation) -> None:
        if failures and failures.pop():
            raise StoreError("disk is full", hint="Free some space.")
        save(conversation)

    store.save = failing  # type: ignore[method-assign]
    shown = talk(backend, "one", "two", "three")
    assert shown.count("cannot be saved: disk is full") == 1
    kept = store.load(store.recent()[0].id)
    assert [message.content for message in kept.path()] == ["one", "a", "two", "b", "three", "c"]
