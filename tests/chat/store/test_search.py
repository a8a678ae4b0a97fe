"""Messages and conversations are found by their words."""

from __future__ import annotations

import dataclasses

import pytest

from chat.conversations.conversation import Conversation, Message
from chat.store.local import ConversationStore
from tests.chat.store.storing import ask, keep_fruit

TEXTS = {
    "zh": "请用vLLM部署通义千问，谢谢",
    "en": "The quick brown fox runs; naïve café, snake_case",
    "mixed": "部分服务 已经署名 ＡＢＣ 東京タワー 한국어",
}


QUESTIONS = pytest.mark.parametrize(
    ("question", "found"),
    [
        ("部署", {"zh"}),
        ("千问", {"zh"}),
        ("部", {"zh", "mixed"}),
        ("谢", {"zh"}),
        ("问", {"zh"}),
        ("通义千问", {"zh"}),
        ("部署服务", set()),
        ("vllm部署", {"zh"}),
        ("VLL", {"zh"}),
        ("quick FOX", {"en"}),
        ("brow", {"en"}),
        ("rown", set()),
        ("quick 部署", set()),
        ("naive cafe", {"en"}),
        ("café", {"en"}),
        ("case", {"en"}),
        ("abc", {"mixed"}),
        ("タワー", {"mixed"}),
        ("국어", {"mixed"}),
        ("", set()),
        ("  ，。!", set()),
        ('fox" OR "', set()),
        ("fox*", {"en"}),
        ("NEAR(fox)", set()),
        ("fox' & 'quick", {"en"}),
        ("%", set()),
    ],
)


@QUESTIONS
def test_messages_are_found_by_their_words(store, question, found):
    ids = {ask(store, store.create(), text).id: name for name, text in TEXTS.items()}
    assert {ids[hit.conversation_id] for hit in store.search(question)} == found


def test_the_newest_hit_comes_first_with_the_text_around_it(store):
    ask(store, store.create(title="old"), "needle")
    new = ask(store, store.create(title="new"), 20 * "hay " + "needle" + 20 * " hay")
    first, second = store.search("needle")
    assert (first.title, second.title) == ("new", "old")
    assert first.conversation_id == new.id
    assert "needle" in first.excerpt
    assert first.excerpt.startswith("…")
    assert first.excerpt.endswith("…")
    assert len(store.search("needle", limit=1)) == 1


def test_a_growing_answer_is_found_once_it_is_complete(store):
    conversation = ask(store, store.create(), "q")
    answer = store.add(conversation, Message("assistant", "needle", status="partial"))
    assert store.search("needle") == []
    store.add(conversation, dataclasses.replace(answer, content="pin", status="complete"))
    assert store.search("needle") == []
    assert len(store.search("pin")) == 1


def test_a_message_as_long_as_a_book_is_kept_and_found(store):
    text = " ".join(f"word{number}" for number in range(100_000)) + " " + "x" * 10_000
    conversation = ask(store, store.create(), text)
    assert store.load(conversation.id).path()[0].content == text
    assert len(store.search("word17")) == 1


# -- conversations ----------------------------------------------------------------------------------------------------


def titles(store: ConversationStore, words: str, **options) -> list[str]:
    return [line.title for line in store.find_conversations(words, **options)]


@QUESTIONS
def test_conversations_are_found_by_their_words(store, question, found):
    ids = {ask(store, store.create(title="x"), text).id: name for name, text in TEXTS.items()}
    assert {ids[line.id] for line in store.find_conversations(question)} == found


@QUESTIONS
def test_conversations_are_found_by_their_titles(store, question, found):
    ids = {ask(store, store.create(title=text), "-").id: name for name, text in TEXTS.items()}
    assert {ids[line.id] for line in store.find_conversations(question)} == found


@pytest.mark.parametrize(
    ("title", "question"),
    [
        ("ПРИВЕТ, мир", "привет МИР"),
        ("Ελλάδα", "ελλαδα"),
        ("Cafe\u0301 noir", "CAFÉ"),
        ("ＡＢＣ", "abc"),
        ("vLLM部署", "部署"),
        ("部署vLLM", "vllm"),
        ("(apple)", "apple"),
        ("snake_case", "case"),
        ("مرحبا بك", "بك"),
        ("नमस्ते दुनिया", "दुनिया"),
        ("100 % [sure]?", "sure 100"),
    ],
)
def test_titles_are_found_whatever_their_script(store, title, question):
    ask(store, store.create(title=title), "-")
    assert titles(store, question) == [title]


def test_conversations_are_found_however_often_another_has_the_word(store):
    keep_fruit(store)
    assert titles(store, "apple") == ["Orchard", "Dessert"]
    assert titles(store, "Banana") == ["Banana notes"]
    assert titles(store, "apple", limit=1) == ["Orchard"]


def test_found_conversations_have_list_fields_and_the_newest_matching_message(store):
    keep_fruit(store)
    newer, older = store.find_conversations("apple")
    assert [dataclasses.replace(line, excerpt="") for line in (newer, older)] == store.recent()[1:]
    assert (newer.num_messages, newer.num_turns, newer.excerpt) == (202, 101, "Yes, apple 100.")
    assert older.excerpt == "apple pie recipe"
    assert [line.excerpt for line in store.find_conversations("banana")] == [""]
    assert store.find_conversations("Yes 100")[0].excerpt == "Yes, apple 100."


def test_the_list_of_found_conversations_goes_on_after_one_of_them(store):
    for number in range(5):
        ask(store, store.create(title=f"number {number}"), "needle" if number % 2 else "number")
    whole = store.find_conversations("number")
    assert [line.title for line in whole] == [f"number {number}" for number in (4, 3, 2, 1, 0)]
    assert store.find_conversations("number", limit=2, after=whole[1].id) == whole[2:4]
    assert titles(store, "needle", after=whole[1].id) == ["number 1"]


def test_a_whole_text_can_be_searched_for(store):
    text = " ".join(f"word{number}" for number in range(2000))
    ask(store, store.create(title="long"), text)
    assert titles(store, text) == ["long"]
    assert titles(store, "部" * 2000 + text) == []


def test_other_owners_conversations_are_not_found(store):
    theirs = Conversation(title="apple pie", owner="bob")
    theirs.add(Message("user", "apple pie"))
    store.save(theirs)
    keep_fruit(store)
    assert titles(store, "apple") == ["Orchard", "Dessert"]
    assert titles(store, "apple", owner="bob") == ["apple pie"]


def test_renamed_and_deleted_conversations_leave_the_search_index(store):
    conversation = ask(store, store.create(title="before"), "hello")
    conversation.title = "afterwards"
    store.save(conversation)
    assert (titles(store, "before"), titles(store, "after")) == ([], ["afterwards"])
    store.delete(conversation.id)
    assert titles(store, "after") == []
