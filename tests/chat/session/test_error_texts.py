"""Errors in Chinese: the frame is ours, the cause is as it was said."""

from __future__ import annotations

import pytest

from chat.session.error_texts import CHINESE, error_words
from chatcore.errors import CommandError, EngineError, PromptTooLongError, ResponseNotFoundError, from_dict, to_dict


def test_english_is_the_errors_own():
    error = EngineError("the engine has ended", hint="/reload")
    assert error_words(error, "en") == ("the engine has ended", "/reload")


def test_chinese_names_the_kind_and_keeps_the_cause():
    assert error_words(EngineError("out of memory"), "zh") == (
        "引擎出错：out of memory",
        "对话已保存。请重新载入模型，然后重试。",
    )


def test_a_hint_of_its_own_is_kept_beside_the_usual_one():
    said, hint = error_words(EngineError("it has ended", hint="Its log: engine.log"), "zh")
    assert said == "引擎出错：it has ended"
    assert hint == "对话已保存。请重新载入模型，然后重试。（Its log: engine.log）"


def test_facts_survive_the_way_from_the_engine_host():
    error = from_dict(to_dict(PromptTooLongError(9000, 8192)))
    assert error_words(error, "zh")[0] == "提示需要 9,000 词元，最多 8,192 词元"


def test_an_error_without_its_facts_is_told_in_its_own_words():
    error = from_dict({"type": "PromptTooLongError", "message": "too long"})
    assert error_words(error, "zh")[0] == "too long"


def test_a_kind_without_words_of_its_own_takes_those_above_it():
    assert error_words(ResponseNotFoundError("resp_1"), "zh")[0].startswith("对话存储出错：")


def test_what_the_terminal_said_itself_is_in_its_language_already():
    assert error_words(CommandError("没有第 9 轮"), "zh") == ("没有第 9 轮", "")


@pytest.mark.parametrize("kind", CHINESE, ids=lambda kind: kind.__name__)
def test_the_words_fit_the_kind(kind):
    facts = {"num_prompt_tokens": 2, "max_prompt_tokens": 1} if kind is PromptTooLongError else {}
    error = from_dict({"type": kind.__name__, "message": "{why}", "facts": facts})
    said = error_words(error, "zh")[0]
    assert facts or said.endswith("{why}")
    assert any("\u4e00" <= character <= "\u9fff" for character in said)
