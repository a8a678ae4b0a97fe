"""Every example runs, on the real engine, and prints what it promises."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PROMISES = {
    "two_turns": ["Your name is Ada."],
    "tool_server": ["calculator", "tool: 144", "assistant: "],
    "tools": ["get_weather", '"temperature": 21', "assistant: "],
    "answer_form": ["mood='"],
    "side_by_side": ["Hello! -> ", "你好 -> ", " tokens, "],
    "several_answers": ["% sure of each token: "],
    "prompts_only": ["3 of them control tokens"],
}


def test_every_example_is_tested():
    assert sorted(PROMISES) == sorted(path.stem for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", sorted(PROMISES))
def test_the_example_prints_what_it_promises(name, llm, capsys):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(*([llm] if name != "prompts_only" else []))
    printed = capsys.readouterr().out
    assert all(promise in printed for promise in PROMISES[name]), printed
