"""The real program in a pseudo-terminal: calls of tools are asked about, run and stopped."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.chat.terminal.conftest import Start, contents
from tests.patience import patient


def test_a_call_is_run_when_the_person_says_so(start: Start, tmp_path: Path) -> None:
    terminal = start("tools")
    terminal.enter("What is 12 * 12?")
    terminal.wait_for('● calculator(expression="12 * 12")', "Run it? (y/n/always)")
    terminal.press("y\r")
    terminal.wait_for("  144\nIt is 144.", "TTFT")
    terminal.wait_until(lambda: contents(tmp_path)[2:] == ["144", "It is 144."], "what is kept")


@pytest.mark.parametrize("answer", ["n", "", "yep"])
def test_without_a_yes_no_call_is_run(start: Start, tmp_path: Path, answer: str) -> None:
    terminal = start("tools")
    terminal.enter("What is 12 * 12?")
    terminal.wait_for("Run it?")
    terminal.press(f"{answer}\r")
    terminal.wait_for("It is 144.", "TTFT")
    terminal.wait_until(lambda: contents(tmp_path)[2:3] == ["error: the user did not allow this call"], "what is kept")


def test_always_asks_no_more_for_this_tool(start: Start) -> None:
    terminal = start("tools")
    terminal.enter("What is 12 * 12?")
    terminal.wait_for("Run it?")
    terminal.press("always\r")
    terminal.wait_for("It is 144.")
    terminal.enter("Once more.")
    terminal.wait_for("Again 144.")
    assert terminal.screen.text.count("Run it?") == 1
    terminal.enter("/tools")
    terminal.wait_for("Not asked about: calculator")


def test_ctrl_c_in_the_question_runs_nothing_and_gives_the_prompt_back(start: Start, tmp_path: Path) -> None:
    terminal = start("tools")
    terminal.enter("What is 12 * 12?")
    terminal.wait_for("Run it?")
    terminal.press("\x03")
    terminal.wait_for("stopped; what has arrived is kept")
    terminal.wait_until(lambda: terminal.prompts() == 2, "a prompt")
    terminal.wait_until(lambda: contents(tmp_path)[2:] == ["error: the user stopped this call"], "what is kept")


def test_what_was_typed_before_the_question_does_not_answer_it(start: Start, tmp_path: Path) -> None:
    """A "y" and Enter of the next message must not let a tool run."""
    terminal = start("waiting")
    terminal.enter("Go on.")
    terminal.wait_for("Let me see.")
    terminal.press("y\r")
    terminal.wait_for("Run it?")
    time.sleep(0.3)
    assert not (tmp_path / "running").exists()
    terminal.press("\x03")
    terminal.wait_for("stopped;")
    terminal.wait_for("> y")


def test_ctrl_c_stops_a_running_tool_and_continue_goes_on(start: Start, tmp_path: Path) -> None:
    terminal = start("waiting")
    terminal.enter("Go on.")
    terminal.wait_for("Let me see.", "Run it?")
    terminal.press("y\r")
    terminal.wait_for("wait is running · Ctrl-C stops it")
    terminal.wait_until((tmp_path / "running").exists, "the tool")
    terminal.press("\x03")
    assert terminal.wait_for("stopped; what has arrived is kept") < patient(0.5)
    terminal.enter("/continue")
    terminal.wait_for("I went on.")


def test_kill_9_in_a_running_tool_loses_nothing(start: Start, tmp_path: Path) -> None:
    terminal = start("waiting")
    terminal.enter("Go on.")
    terminal.wait_for("Run it?")
    terminal.press("y\r")
    terminal.wait_until((tmp_path / "running").exists, "the tool")
    terminal.kill()
    terminal.wait_for_end()
    assert contents(tmp_path) == ["Go on.", "Let me see. "]
    again = start("tools")
    again.wait_for("Cut off last time: Go on.")
    again.enter("/resume")
    again.wait_for("● wait", "/continue goes on")
