"""Messages are found by their words."""

from __future__ import annotations

import dataclasses

import pytest

from chat.conversations.conversation import Message
from tests.chat.store.storing import ask

TEXTS = {
    "zh": "请用vLLM部署通义千问，谢谢",
    "en": "The quick brown fox runs; naïve café, snake_case",
    "mixed": "部分服务 已经署名 ＡＢＣ 東京タワー 한국어",
}


@pytest.mark.parametrize(
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
