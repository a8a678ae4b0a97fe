"""The real program in a pseudo-terminal: what is on the screen while it loads and while it answers."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from tests.chat.terminal.conftest import Start, contents

# -- loading -------------------------------------------------------------------------------------------------------


def test_typing_works_while_the_model_loads_and_a_message_is_queued(start: Start, tmp_path: Path) -> None:
    terminal = start("loading")
    terminal.wait_for("loading the weights")
    terminal.enter("hello")
    terminal.wait_for("queued: hello")
    terminal.press("and a dra")
    terminal.wait_for("> and a dra")
    terminal.wait_until(lambda: contents(tmp_path) == ["hello"], "what is kept")  # kept before the model is there
    (tmp_path / "ready").touch()
    terminal.wait_for("echo: hello", "> and a dra")
    terminal.press("ft\r")
    terminal.wait_for("echo: and a draft")
    assert terminal.screen.text.count("> and a dra") == 1


def test_ctrl_c_takes_a_waiting_message_back(start: Start, tmp_path: Path) -> None:
    terminal = start("loading")
    terminal.enter("hello")
    terminal.wait_for("queued: hello")
    terminal.press("\x03")
    terminal.wait_for("Taken back", "> hello")
    terminal.wait_until(lambda: contents(tmp_path) == [], "what is kept")


def test_a_load_error_is_shown_and_the_message_is_put_back(start: Start, tmp_path: Path) -> None:
    terminal = start("loading")
    terminal.enter("hello")
    terminal.wait_for("queued: hello")
    (tmp_path / "failed").touch()
    terminal.wait_for("error: the weights are cut off", "hint: Fetch the model again.", "not loaded")
    terminal.wait_for("> hello\n")


def test_a_folder_that_cannot_be_written_is_told_about_and_ends_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "conversations.sqlite").mkdir()
    terminal = start("echo", columns=200)
    terminal.wait_for("cannot be saved", "/save PATH")
    terminal.enter("hello")
    terminal.wait_for("echo: hello")
    terminal.enter(f"/save {tmp_path}/talk.json")
    terminal.wait_for("Written:")
    terminal.wait_until(terminal.is_prompting)
    terminal.press("\x04")
    assert terminal.wait_for_end() == 0
    assert "hello" in (tmp_path / "talk.json").read_text("utf-8")
    assert "--resume" not in terminal.screen.text


# -- looks ---------------------------------------------------------------------------------------------------------


def test_the_gauge_counts_the_line_being_typed(start: Start) -> None:
    terminal = start("echo")
    terminal.wait_for("ctx 0/4,096")
    terminal.press("12345")
    terminal.wait_for("ctx 9/4,096")
    terminal.press("\r")
    terminal.wait_for("echo: 12345")
    terminal.wait_for("ctx 20/4,096")  # 9 of the prompt and 11 of the answer


def test_markdown_is_rendered_and_code_is_copied_through_the_terminal(start: Start) -> None:
    terminal = start("markdown")
    terminal.enter("code")
    terminal.wait_for("── python · /copy code 1\nprint('hi')\n──", "Done.")
    terminal.enter("/copy code 1")
    terminal.wait_for("Copied: 11 characters")
    assert base64.b64decode(terminal.screen.clipboard) == b"print('hi')"


def test_thinking_is_one_line_that_counts(start: Start) -> None:
    terminal = start("thinking")
    terminal.enter("what?")
    terminal.wait_for("thought for", "16 characters", "The answer.")
    assert "Let me see" not in terminal.screen.text


def test_tab_completes_commands(start: Start) -> None:
    terminal = start("echo")
    terminal.press("/mul")
    terminal.wait_for("/multiline")
    terminal.press("\t\r")
    terminal.wait_for("Enter makes a new line")


def colours(raw: bytes) -> set[bytes]:
    found = re.findall(rb"\x1b\[([0-9;]*)m", raw)
    return {code for codes in found for code in codes.split(b";") if code[:1] in (b"3", b"9") and len(code) == 2}


def test_no_color_leaves_colours_out(start: Start) -> None:
    terminal = start("markdown", environ={"NO_COLOR": "1"})
    terminal.enter("code")
    terminal.wait_for("print('hi')", "Done.", "ctx")
    assert colours(terminal.raw) == set()
    coloured = start("markdown")
    coloured.enter("code")
    coloured.wait_for("print('hi')", "Done.")
    assert colours(coloured.raw) != set()


def test_accessible_has_labels_and_no_repainting(start: Start) -> None:
    terminal = start("markdown", environ={"ACCESSIBLE": "1"})
    terminal.wait_for("You:")
    terminal.press("code")
    terminal.press("\r")
    terminal.wait_for("scripted:", "```python\nprint('hi')\n```", "Done.")
    assert "ctx" not in terminal.screen.text
    answer = terminal.raw.partition(b"scripted:")[2].partition(b"Done.")[0]
    assert b"\x1b" not in answer


def test_plain_is_text_without_decoration(start: Start) -> None:
    terminal = start("markdown", plain=True)
    terminal.enter("code")
    terminal.wait_for("```python\nprint('hi')\n```", "Done.")
    assert "ctx" not in terminal.screen.text
    assert colours(terminal.raw) == set()


def test_a_dumb_terminal_gets_no_escape_sequences(start: Start, tmp_path: Path) -> None:
    terminal = start("partial", environ={"TERM": "dumb"})
    terminal.press("tell me\x7f\x7fus\r")
    terminal.wait_for("Once upon a time")
    terminal.press("typed ahead\r")
    terminal.press("\x03")
    terminal.wait_for("interrupted", "Typed before: typed ahead")
    terminal.press("\r")
    terminal.wait_for("echo: typed ahead")
    assert b"\x1b" not in terminal.raw
    terminal.wait_until(lambda: contents(tmp_path)[:1] == ["tell us"], "what is kept")
