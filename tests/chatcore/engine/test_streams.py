"""Streams on the real engine: whole characters, no leaked stop strings, aborts that come at once."""

from __future__ import annotations

import threading
import time

import pytest
import regex

from chatcore.engine.outputs import num_whole
from chatcore.errors import InvalidMessageError
from tests.patience import patient

GREEDY = {"temperature": 0.0, "enable_thinking": False}
QUESTION = [{"role": "user", "content": "Say it."}]
COUNT = [{"role": "user", "content": "Count from 1 to 100."}]
FAMILY = "👨‍👩‍👧‍👦"
WHOLE = ["Hi 👩🏽‍🚀!", f"{FAMILY} 🇫🇷🇩🇪 ok", "नमस्ते", "ภาษาไทย", "你好，世界。", "naïve €5"]


def characters(text):
    """Return a text's characters as people count them."""
    return regex.findall(r"\X", text)


@pytest.mark.parametrize("text", WHOLE)
def test_a_delta_never_ends_inside_a_character(llm, text):
    """A form makes the model write the text; its bytes are tokens of their own, so a careless stream would split."""
    with llm.stream(QUESTION, response_format=[text], max_tokens=200, **GREEDY) as stream:
        pieces = [delta.text for delta in stream]
    assert "".join(pieces) == stream.reply.text == text
    assert len(pieces) > 1
    assert [character for piece in pieces for character in characters(piece)] == characters(text)


def test_a_character_that_is_cut_off_by_the_limit_still_comes_out(llm):
    text = "🇫🇷🇩🇪🇫🇷🇩🇪"
    for max_tokens in range(1, 30):
        with llm.stream(QUESTION, response_format=[text], max_tokens=max_tokens, **GREEDY) as stream:
            pieces = [delta.text for delta in stream]
        assert "".join(pieces) == stream.reply.text
        assert text.startswith(stream.reply.text)


def test_what_is_held_back_is_not_lost_when_an_answer_is_aborted(llm):
    with llm.stream(QUESTION, response_format=["🇫🇷🇩🇪" * 20], max_tokens=400, **GREEDY) as stream:
        pieces = [next(stream).text for _ in range(3)]
        stream.abort()
        pieces += [delta.text for delta in stream]
    assert "".join(pieces) == stream.reply.text
    assert num_whole(stream.reply.text) < len(stream.reply.text)


@pytest.mark.parametrize("stop", ["STOP HERE", ["nothing", "P HERE f"], "three STOP"])
def test_no_part_of_a_stop_string_is_ever_shown(llm, stop):
    text = "one two three STOP HERE four"
    with llm.stream(QUESTION, response_format=[text], stop=stop, max_tokens=100, **GREEDY) as stream:
        pieces = [delta.text for delta in stream]
    wanted = text[: text.index([stop, stop[-1]][isinstance(stop, list)])]
    assert "".join(pieces) == stream.reply.text == wanted
    assert stream.reply.finish_reason == "stop"


def test_a_text_that_only_begins_like_a_stop_string_is_shown(llm):
    text = "one STOP HER four"
    reply = llm.reply(QUESTION, response_format=[text], stop="STOP HERE", max_tokens=100, **GREEDY)
    assert reply.text == text


def test_an_abort_does_not_wait_for_a_step_that_takes_long(llm):
    """The engine is held in one step; the reader must hear of the abort all the same, and the engine be free after."""
    release = threading.Event()
    holder = threading.Thread(target=lambda: llm._thread.call(lambda engine: release.wait(20)))
    with llm.stream(COUNT, **GREEDY) as stream:
        next(stream)
        holder.start()
        started_s = time.perf_counter()
        threading.Timer(0.05, stream.abort).start()
        reply = stream.reply
        elapsed_s = time.perf_counter() - started_s
    release.set()
    holder.join()
    assert reply.finish_reason == "abort"
    assert elapsed_s < patient(0.25)  # 50 ms until the abort, and 200 ms
    assert not llm._thread.call(lambda engine: engine.has_unfinished_requests())


def test_an_abort_during_the_reading_of_a_long_prompt_comes_at_once(llm):
    messages = [{"role": "user", "content": "word " * 5000}]
    stream = llm.stream(messages, skip_reading_prefix_cache=True, **GREEDY)
    time.sleep(0.05)
    started_s = time.perf_counter()
    stream.abort()
    assert stream.reply.text == ""
    assert time.perf_counter() - started_s < patient(0.2)


def test_a_batch_goes_on_beside_conversations_that_cannot_be_answered(llm):
    conversations = [
        [{"role": "user", "content": f"My name is {name}."}] if name else bad
        for name, bad in [("Ada", None), ("", []), ("Bob", None), ("", [{"role": "robot", "content": "x"}])]
    ]
    conversations.append([{"role": "user", "content": "word " * 20_000}])
    results = llm.reply_batch(conversations, progress=False, **GREEDY)
    assert [type(result).__name__ for result in results] == [
        "Reply",
        "InvalidMessageError",
        "Reply",
        "InvalidMessageError",
        "PromptTooLongError",
    ]
    assert "Ada" in results[0].text
    assert "Bob" in results[2].text
    assert isinstance(results[1], InvalidMessageError)


def test_a_batch_that_ends_early_frees_the_engine_of_all_of_it(llm):
    def conversations():
        for _ in range(4):
            yield COUNT
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        llm.reply_batch(conversations(), progress=False, **GREEDY)
    assert not llm._thread.call(lambda engine: engine.has_unfinished_requests())
