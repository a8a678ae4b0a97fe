"""What a page does, without a browser: a scripted backend, and a real store."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mdit_py_plugins", reason="the extra for the web page is not installed")

from chat.config import Settings
from chat.conversations.conversation import Conversation, Message
from chat.store.local import ConversationStore
from chat.web import view
from chat.web.open_pages import Pages, act
from chat.web.session import PageSession, Person
from chat.web.texts import TEXTS, Texts
from chat.web.users import OwnedStore, People, by_key_file
from chatcore.errors import ChatError, EngineError, SamplingError
from tests.chat.store.storing import keep_fruit
from tests.chat.terminal.scripted import Gate, ScriptedBackend, Think
from tests.patience import patient


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ConversationStore]:
    store = ConversationStore(tmp_path / "conversations.sqlite")
    yield store
    store.close()


@pytest.fixture
def make_session(store: ConversationStore) -> Callable[..., PageSession]:
    def make(*scripts: Any, owner: str = "local", **options: Any) -> PageSession:
        backend = ScriptedBackend(*scripts, **options)
        person = Person(f"id-of-{owner}", owner, OwnedStore(store, owner), backend)
        return PageSession(person, Settings(system="Be brief."), Texts("en"))

    return make


def finish(session: PageSession) -> None:
    """Wait until the answer is over, as the page does."""
    if session.answering is not None:
        assert session.answering.wait(10)
    session.take_outcome()


def say(session: PageSession, text: str) -> str:
    session.send(text)
    finish(session)
    answer = session.talk.last_answer()
    return answer.content if answer else ""


def contents(session: PageSession) -> list[str]:
    return [message.content for message in session.talk.conversation.path()]


def test_a_conversation_is_kept_and_goes_on_elsewhere(make_session, store) -> None:
    session = make_session()
    assert say(session, "one") == "echo: one"
    say(session, "two")
    other = make_session()
    other.open(session.talk.conversation.id)
    assert contents(other) == ["one", "echo: one", "two", "echo: two"]
    assert other.talk.conversation.system == "Be brief."
    assert other.person.backend.requests == []


def test_stopping_keeps_what_has_arrived(make_session, store) -> None:
    gate = Gate()
    session = make_session(["half ", gate, "never"])
    session.send("tell me")
    assert gate.reached.wait(10)
    session.stop()
    finish(session)
    kept = store.load(session.talk.conversation.id)
    assert kept.tip is not None
    assert (kept.tip.content, kept.tip.finish_reason, kept.tip.status) == ("half ", "abort", "complete")
    assert "stopped" in view.transcript_html(session)


def test_stopping_before_the_first_word_gives_the_message_back(make_session) -> None:
    gate = Gate()
    session = make_session([gate])
    session.send("tell me")
    assert gate.reached.wait(10)
    session.stop()
    finish(session)
    assert session.draft == "tell me"
    assert contents(session) == []


def test_stopping_while_the_model_loads_waits_for_nothing(make_session) -> None:
    session = make_session(stage="load")
    session.send("hello")
    began_s = time.monotonic()
    session.stop()
    finish(session)
    assert time.monotonic() - began_s < patient(2)
    assert session.draft == "hello"
    assert "loading the weights" in view.head_html(session, can_log_out=False)


def test_leaving_ends_the_request(make_session) -> None:
    gate = Gate()
    session = make_session(["half ", gate])
    session.send("tell me")
    assert gate.reached.wait(10)
    session.leave()
    assert session.backend.aborted.wait(10)


def test_another_answer_stands_beside_the_first(make_session) -> None:
    session = make_session(["first"], ["second"])
    say(session, "hello")
    first = session.talk.last_answer()
    session.answer_again(first.id)
    finish(session)
    assert contents(session) == ["hello", "second"]
    assert "2 of 2" in view.transcript_html(session)
    session.show_variant(first.id)
    assert contents(session) == ["hello", "first"]
    assert "1 of 2" in view.transcript_html(session)


def test_an_edited_message_begins_a_branch(make_session) -> None:
    session = make_session()
    say(session, "one")
    say(session, "two")
    session.edit(session.talk.turns()[0].question.id)
    assert (session.draft, session.editing) == ("one", 1)
    assert 'data-action="cancel-edit"' in view.notice_html(session)
    assert say(session, "uno") == "echo: uno"
    assert contents(session) == ["uno", "echo: uno"]
    versions = session.talk.conversation.variants(session.talk.turns()[0].question.id)
    session.show_variant(versions[0].id)
    assert contents(session) == ["one", "echo: one", "two", "echo: two"]


def test_an_edit_can_be_left(make_session) -> None:
    session = make_session()
    say(session, "one")
    session.edit(session.talk.turns()[0].question.id)
    session.cancel_edit()
    say(session, "two")
    assert contents(session) == ["one", "echo: one", "two", "echo: two"]


def test_undo_and_redo(make_session) -> None:
    session = make_session()
    say(session, "one")
    session.undo()
    assert contents(session) == []
    session.redo()
    assert contents(session) == ["one", "echo: one"]
    with pytest.raises(ChatError, match="nothing to bring back"):
        session.redo()


def test_an_answer_is_continued_in_its_place(make_session) -> None:
    session = make_session(["begin"], [" end"])
    say(session, "hello")
    session.go_on()
    assert session.answering.before.content == "begin"
    finish(session)
    assert contents(session) == ["hello", "begin end"]
    assert session.person.backend.requests[1][1]["continue_final_message"] is True


def test_a_failure_is_told_and_the_message_comes_back(make_session) -> None:
    session = make_session([EngineError("the engine has ended", hint="Load it again.")])
    say(session, "hello")
    assert session.notice == "the engine has ended. Load it again.\nYour message is back in the box."
    assert session.draft == "hello"


def test_what_came_before_a_failure_is_kept(make_session) -> None:
    session = make_session(["half", EngineError("broken")])
    say(session, "hello")
    assert contents(session) == ["hello", "half"]
    assert session.draft is None


def test_what_no_longer_fits_is_named(make_session) -> None:
    session = make_session(window=160)
    for number in range(6):
        say(session, f"question {number}")
    assert "no longer sees" in session.notice or session.num_dropped_turns
    assert session.num_dropped_turns > 0
    assert "left out" in view.head_html(session, can_log_out=False)
    assert "no longer sees what is above" in view.transcript_html(session)


def test_each_answer_has_its_figures(make_session, store) -> None:
    usage = {"num_prompt_tokens": 1204, "num_cached_tokens": 1100, "num_output_tokens": 11, "ttft_ms": 310.0}
    conversation = Conversation()
    conversation.add(Message("user", "hello"))
    conversation.add(Message("assistant", "hi", finish_reason="length", usage={**usage, "e2el_ms": 810.0}))
    store.save(conversation)
    session = make_session()
    session.open(conversation.id)
    figures = "11 tokens · TTFT 0.31 s · 20.0 tok/s · prompt 1,204 · 1,100 cached · cut off at the limit"
    assert figures in view.transcript_html(session)
    assert session.num_context_tokens == 1215


def test_thinking_is_folded(make_session) -> None:
    session = make_session([Think("let me see"), "42"])
    say(session, "hello")
    html = view.transcript_html(session)
    assert '<details class="thinking"><summary>Thought · 10 characters</summary>' in html
    assert "let me see" in html


def test_calls_of_tools_are_steps(make_session, store) -> None:
    conversation = Conversation()
    conversation.add(Message("user", "weather?"))
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"city": "<b>Paris</b>"}'}}
    conversation.add(Message("assistant", "", tool_calls=(call,)))
    conversation.add(Message("tool", "18 <degrees>", tool_call_id="1"))
    conversation.add(Message("assistant", "18 degrees."))
    store.save(conversation)
    session = make_session()
    session.open(conversation.id)
    html = view.transcript_html(session)
    assert "<summary>Tool: look</summary>" in html
    assert "&lt;b&gt;Paris&lt;/b&gt;" in html
    assert "18 &lt;degrees&gt;" in html


def test_files_cost_what_is_said_before_they_are_sent(make_session, tmp_path) -> None:
    session = make_session()
    file = tmp_path / "notes.md"
    file.write_text("four", "utf-8")
    session.attach([file])
    shown = view.attached_html(session)
    assert "notes.md · 4 bytes · 24 tokens · utf-8" in shown
    assert session.attached[0].num_tokens == len("notes.md:\n```md\nfour\n```")  # a token is a character here
    say(session, "Look:")
    assert "```md\nfour\n```" in contents(session)[0]
    assert session.attached == []


def test_a_file_that_is_no_text_is_refused_by_its_name(make_session, tmp_path) -> None:
    session = make_session()
    file = tmp_path / "picture.png"
    file.write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    with pytest.raises(ChatError, match=r"^picture\.png is not text$"):
        session.attach([file])


def test_settings_stay_with_the_conversation(make_session) -> None:
    session = make_session()
    say(session, "hello")
    session.set_sampling("temperature", "0.2")
    session.set_sampling("stop", '["END"]')
    session.set_thinking("off")
    other = make_session()
    other.open(session.talk.conversation.id)
    assert other.sampling == {"temperature": 0.2, "stop": ["END"]}
    assert other.thinking_mode == "off"
    say(other, "again")
    assert other.person.backend.requests[-1][1]["temperature"] == 0.2
    assert other.person.backend.requests[-1][1]["enable_thinking"] is False


def test_the_models_own_value_is_no_setting(make_session) -> None:
    session = make_session()
    session.set_sampling("temperature", "0.1")
    session.set_sampling("temperature", "0.7")  # what the model has
    session.set_sampling("top_p", "1.0")  # what does nothing
    assert session.sampling == {}
    with pytest.raises(SamplingError, match="temperature cannot be 3"):
        session.set_sampling("temperature", "3")


def test_settings_of_a_strange_conversation_are_checked(make_session, store) -> None:
    conversation = Conversation(
        settings={"web": {"sampling": {"temperature": 99, "top_p": 0.5, "x": 1}, "thinking": 7}}
    )
    conversation.add(Message("user", "hello"))
    store.save(conversation)
    session = make_session()
    session.open(conversation.id)
    assert session.sampling == {"top_p": 0.5}
    assert session.thinking_mode == "auto"


def test_conversations_are_found_by_title_and_by_words(make_session) -> None:
    session = make_session()
    say(session, "about foxes")
    session.rename("Animals")
    session.begin_new()
    say(session, "about stones")
    assert [entry.title for entry in session.find_conversations("")] == ["about stones", "Animals"]
    assert [entry.title for entry in session.find_conversations("anim")] == ["Animals"]
    assert [entry.title for entry in session.find_conversations("foxes")] == ["Animals"]
    assert "foxes" in session.find_conversations("foxes")[0].excerpt


def test_conversations_are_found_however_often_another_has_the_word(make_session) -> None:
    session = make_session()
    keep_fruit(session.person.store)
    found = session.find_conversations("apple")
    assert [(entry.title, entry.excerpt) for entry in found] == [
        ("Orchard", "Yes, apple 100."),
        ("Dessert", "apple pie recipe"),
    ]
    assert [entry.title for entry in session.find_conversations("Banana")] == ["Banana notes"]
    assert "apple pie recipe" in view.list_html(session, "apple")


def test_deleting_the_conversation_that_is_shown_begins_a_new_one(make_session, store) -> None:
    session = make_session()
    say(session, "hello")
    session.delete(session.talk.conversation.id)
    assert contents(session) == []
    assert store.recent() == []


def test_only_the_last_turns_of_a_long_conversation_are_shown(make_session, store) -> None:
    conversation = Conversation()
    for number in range(100):
        conversation.add(Message("user", f"question {number};"))
        conversation.add(Message("assistant", f"answer {number};"))
    store.save(conversation)
    session = make_session()
    session.open(conversation.id)
    html = view.transcript_html(session)
    assert "question 70;" in html
    assert "question 69;" not in html
    assert "Show what was said before (70 turns)" in html
    session.show_earlier()
    assert "question 40;" in view.transcript_html(session)


# -- people -----------------------------------------------------------------------------------------------------------


def test_each_key_has_its_own_conversations(store) -> None:
    backend = ScriptedBackend()
    keys = {"key-of-alice": "alice", "key-of-bob": "bob"}
    people = People(admit=by_key_file(keys, store, backend))
    assert people.needs_login
    assert people.log_in("wrong") is None
    assert people.log_in("") is None
    pages = Pages(people, Settings())
    sessions = []
    for key in keys:
        person = people.find(people.log_in(key))
        assert person is not None
        sessions.append(pages.session(person.id, "page"))
        say(sessions[-1], f"I am {person.name}")
    alice, bob = sessions
    assert [entry.title for entry in alice.find_conversations("")] == ["I am alice"]
    act(bob, {"action": "open", "id": alice.talk.conversation.id})
    assert "there is no conversation" in bob.notice
    act(bob, {"action": "delete", "id": alice.talk.conversation.id})
    assert len(alice.find_conversations("")) == 1


def test_a_page_of_somebody_else_is_another_page(store) -> None:
    people = People(admit=by_key_file({"key-of-alice": "alice", "key-of-bob": "bob"}, store, ScriptedBackend()))
    pages = Pages(people, Settings())
    alice, bob = (people.find(people.log_in(key)) for key in ("key-of-alice", "key-of-bob"))
    assert pages.session(alice.id, "same") is pages.session(alice.id, "same")
    assert pages.session(alice.id, "same") is not pages.session(bob.id, "same")
    with pytest.raises(ChatError, match="no longer logged in"):
        pages.session("nobody", "same")


def test_logging_out_is_for_good(store) -> None:
    people = People(admit=by_key_file({"key-of-alice": "alice"}, store, ScriptedBackend()))
    token = people.log_in("key-of-alice")
    people.log_out(token)
    assert people.find(token) is None


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"action": "no such thing"},
        {"action": "__class__", "id": "x"},
        {"action": ["open"], "id": {"a": 1}},
        {"action": "open", "id": "x" * 10_000},
        {"action": "variant", "id": "../../etc/passwd"},
        {"action": "detach", "id": "-1"},
        {"action": "retry", "id": None},
    ],
)
def test_a_browser_may_send_anything(make_session, data) -> None:
    session = make_session()
    act(session, data)
    assert contents(session) == []


# -- texts ------------------------------------------------------------------------------------------------------------


def test_both_languages_take_the_same_facts() -> None:
    from string import Formatter

    for key, texts in TEXTS.items():
        fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in texts]
        assert fields[0] == fields[1], key


def test_every_text_is_used() -> None:
    folder = Path(view.__file__).parent
    source = "".join(file.read_text("utf-8") for file in folder.glob("*.py") if file.name != "texts.py")
    made_of_parts = ("think.",)
    used = set(re.findall(r"""["']([a-z.]+)["']""", source))
    assert {key for key in TEXTS if key not in used and not key.startswith(made_of_parts)} == set()
