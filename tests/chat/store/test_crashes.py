"""What a killed program leaves behind, and who is offered to go on with it."""

from __future__ import annotations

import signal
import subprocess

import pytest

from chat.store.local import ConversationStore
from tests.chat.store.storing import ask, start

WRITE_AN_ANSWER = """
store = ConversationStore(sys.argv[1]); conversation = store.create()
store.add(conversation, Message("user", "count"))
answer = Message("assistant", "", status="partial")
for number in range(10_000):
    answer = dataclasses.replace(answer, content=answer.content + f"{number} ", token_ids=(*answer.token_ids, number))
    answer = store.add(conversation, answer)
    print(number, flush=True)
    time.sleep(0.01)
"""


def kill_when(process: subprocess.Popen[str], said: str) -> None:
    for line in process.stdout:
        if line.strip() == said:
            break
    process.send_signal(signal.SIGKILL)
    process.stdout.read()
    process.stdout.close()
    assert process.wait(10) == -signal.SIGKILL


def test_kill_9_in_the_middle_of_an_answer_keeps_what_was_written(where):
    """The program dies between two writes or within one; whatever it reported as written is there at the next start."""
    kill_when(start(WRITE_AN_ANSWER, where), "20")
    store = ConversationStore(where)
    [entry] = store.unfinished()
    assert (entry.title, entry.num_turns, entry.unfinished) == ("count", 1, True)
    conversation = store.load(entry.id)
    question, answer = conversation.path()
    assert question.content == "count"
    assert answer.status == "partial"
    assert answer.content.startswith(" ".join(map(str, range(21))))
    assert len(answer.token_ids) == len(answer.content.split())
    store.close()


def test_kill_9_before_the_answer_leaves_the_question_to_be_resumed(where):
    script = "s = ConversationStore(sys.argv[1]); s.add(s.create(), Message('user', 'q')); print('x'); time.sleep(60)"
    kill_when(start(script, where), "x")
    store = ConversationStore(where)
    [entry] = store.unfinished()
    assert [m.content for m in store.load(entry.id).path()] == ["q"]
    assert store.recent()[0].unfinished
    store.close()


def test_kill_9_after_a_tool_call_leaves_a_turn_to_resume(where):
    script = """
s = ConversationStore(sys.argv[1]); c = s.create(); s.add(c, Message("user", "q"))
s.add(c, Message("assistant", "", tool_calls=({"id": "1"},), finish_reason="tool_calls")); print("x"); time.sleep(60)
"""
    kill_when(start(script, where), "x")
    store = ConversationStore(where)
    assert len(store.unfinished()) == 1
    store.close()


def test_an_answer_that_another_terminal_is_writing_is_not_unfinished(where):
    writer = start(WRITE_AN_ANSWER, where)
    writer.stdout.readline()
    store = ConversationStore(where)
    assert store.unfinished() == []
    assert [entry.unfinished for entry in store.recent()] == [False]
    kill_when(writer, "5")
    assert [entry.title for entry in store.unfinished()] == ["count"]
    store.close()


@pytest.mark.parametrize("how", ["goes on", "takes back", "settles"])
def test_a_cut_off_turn_is_offered_until_somebody_decides(where, how):
    kill_when(start(WRITE_AN_ANSWER, where), "3")
    store = ConversationStore(where)
    conversation = store.load(store.unfinished()[0].id)
    if how == "goes on":
        ask(store, conversation, "next", "answer")
    elif how == "takes back":
        conversation.undo()
        store.save(conversation)
    else:
        store.settle(conversation.id)
    assert store.unfinished() == []
    assert len(store.load(conversation.id).messages) >= 2
    assert [hit.role for hit in store.search("2 3")] == ["assistant"], "what there is of the answer is found"
    store.close()


def test_a_question_that_was_left_open_on_purpose_is_not_offered(where):
    store = ConversationStore(where)
    ask(store, store.create(), "never mind")
    store.close()
    again = ConversationStore(where)
    assert again.unfinished() == []
    again.close()


def test_a_finished_conversation_is_not_offered_after_a_crash(where):
    script = """
s = ConversationStore(sys.argv[1]); c = s.create()
s.add(c, Message("user", "q")); s.add(c, Message("assistant", "a", finish_reason="stop")); print("x"); time.sleep(60)
"""
    kill_when(start(script, where), "x")
    store = ConversationStore(where)
    assert store.unfinished() == []
    assert len(store.recent()) == 1
    store.close()
