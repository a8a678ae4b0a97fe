"""Deltas and replies from scripted outputs of the engine: what comes when, and what is held back."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import regex

from chatcore.engine.outputs import OutputCollector, num_whole
from chatcore.engine.thread import Arrival


def answer_to(pieces, *, num_top=-1, finish_reason="stop", **options):
    """Feed an answer piece by piece; return (deltas of each piece, the reply)."""
    answer = OutputCollector(
        parser=None,
        prompt_token_ids=[1, 2],
        stop_token_ids=[0],
        dropped_turns=0,
        started_s=time.perf_counter(),
        num_top=num_top,
    )
    deltas = []
    for number, piece in enumerate(pieces, start=1):
        completion = SimpleNamespace(text=piece, token_ids=[number], logprobs=None, **options)
        output = SimpleNamespace(
            outputs=[completion], num_cached_tokens=0, finished=number == len(pieces), prompt_logprobs=None
        )
        deltas.append([delta.text for delta in answer.take(Arrival(time.perf_counter(), output))])
    return deltas, answer.reply(finish_reason)


@pytest.mark.parametrize(
    ("pieces", "deltas"),
    [
        (["Hel", "lo"], [["Hel"], ["lo"]]),
        (["你", "好"], [["你"], ["好"]]),
        (["👩", "\u200d🚀", "!"], [[], [], ["👩\u200d🚀!"]]),
        (["👩", "🏽"], [[], ["👩🏽"]]),
        (["🇫", "🇷", "🇩", "🇪"], [[], [], ["🇫🇷"], ["🇩🇪"]]),
        (["ok 🇫"], [["ok ", "🇫"]]),
        (["नम", "स्", "ते", "."], [["न"], ["म"], [], ["स्ते."]]),
    ],
)
def test_only_whole_characters_come_out(pieces, deltas):
    came, reply = answer_to(pieces)
    assert came == deltas
    assert reply.text == "".join(pieces)


@pytest.mark.parametrize("text", ["Hello 👩🏽‍🚀🇫🇷 नमस्ते ภาษาไทย 你好 שלום", "❤️👨‍👩‍👧‍👦" * 3, "café…"])
def test_no_code_point_at_a_time_splits_a_character(text):
    came, reply = answer_to(list(text))
    pieces = [piece for deltas in came for piece in deltas]
    assert [c for piece in pieces for c in regex.findall(r"\X", piece)] == regex.findall(r"\X", text)
    assert reply.text == text


def test_nothing_is_held_back_of_ordinary_text():
    for text in (
        "Hello",
        "Привет",
        "καλημέρα",
        "你好",
        "こんにちは",
        "안녕",
        "naïve",
        "1 + 1 = 2",
        "“quoted”",
        "€",
        "",
    ):
        assert num_whole(text) == len(text)


def test_the_stop_token_is_no_part_of_the_reply():
    _, reply = answer_to(["a", "b"])
    assert reply.token_ids == (1, 2)
    answer = OutputCollector(parser=None, prompt_token_ids=[1], stop_token_ids=[9], dropped_turns=0, started_s=0.0)
    completion = SimpleNamespace(text="a", token_ids=[5, 9], logprobs=None)
    output = SimpleNamespace(outputs=[completion], num_cached_tokens=0, finished=True, prompt_logprobs=None)
    answer.take(Arrival(1.0, output))
    assert answer.reply("stop").token_ids == (5,)
    assert answer.reply("length").token_ids == (5, 9)
    assert answer.reply("stop").usage.num_output_tokens == 2
