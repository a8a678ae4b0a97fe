"""The texts that several surfaces share."""

from __future__ import annotations

import re
from string import Formatter
from typing import get_args

import pytest

import chat.doctor.texts
import chat.terminal.texts
import chat.web.texts
from chat.backends.base import Stage
from chat.session.texts import SHARED, TextTable
from tests.program import ROOT

TABLES = {module.__name__: module.TEXTS for module in (chat.doctor.texts, chat.terminal.texts, chat.web.texts)}


def test_both_languages_take_the_same_facts():
    for key, texts in SHARED.items():
        fields = [{name for _, name, _, _ in Formatter().parse(text) if name} for text in texts]
        assert fields[0] == fields[1], key


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_no_surface_says_again_what_all_say(table):
    assert set(SHARED) & set(table) == set()
    assert set(SHARED.values()) & set(table.values()) == set()


def test_there_is_a_text_for_every_stage_of_loading_and_none_besides():
    assert {key.removeprefix("stage.") for key in SHARED if key.startswith("stage.")} == set(get_args(Stage))


def test_every_shared_text_is_used():
    source = "".join(file.read_text("utf-8") for file in (ROOT / "chat").rglob("*.py") if file.name != "texts.py")
    counted = {f"{unit}.{form}" for unit in re.findall(r'count\("([a-z]+)"', source) for form in ("one", "many")}
    named = set(re.findall(r'"([a-z]+\.[a-z]+)"', source))
    assert {key for key in SHARED if not key.startswith("stage.")} <= counted | named


def test_a_number_has_its_unit_in_both_languages():
    assert [TextTable({}, "en").count("turn", number) for number in (1, 1000)] == ["1 turn", "1,000 turns"]
    assert TextTable({}, "zh").count("turn", 2) == "2 轮"
