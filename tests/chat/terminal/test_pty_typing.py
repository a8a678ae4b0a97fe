"""The real program in a pseudo-terminal: characters of every width, messages of several lines."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chat.terminal.conftest import Start, contents

# -- characters ----------------------------------------------------------------------------------------------------


def test_backspace_erases_one_chinese_character(start: Start) -> None:
    """ollama and others erased a byte of it, and left rubbish in the message."""
    terminal = start("echo")
    terminal.press("能不能")
    terminal.wait_for("> 能不能")
    terminal.press("\x7f")
    terminal.wait_until(lambda: "> 能不\n" in terminal.screen.text + "\n")
    assert terminal.screen.cursor[0] == len("> ") + 4
    terminal.press("\r")
    terminal.wait_for("echo: 能不")


def test_backspace_and_arrows_take_an_emoji_as_one(start: Start, tmp_path: Path) -> None:
    terminal = start("echo")
    terminal.press("a👩\u200d👩\u200d👧b")
    terminal.wait_for("b")
    terminal.press("\x1b[D\x7f\r")
    terminal.wait_for("echo: ab", "TTFT")
    terminal.wait_until(lambda: contents(tmp_path)[:1] == ["ab"], "what is kept")


def test_a_line_of_wide_characters_wraps_and_can_be_edited_at_the_edge(start: Start, tmp_path: Path) -> None:
    terminal = start("echo", columns=21)
    terminal.press("今天天气很好我们去公园散步")
    terminal.wait_for("公园散步")
    terminal.press("\x7f" * 3)
    terminal.wait_until(lambda: "散" not in terminal.screen.text)
    terminal.press("吧\r")
    terminal.wait_for("echo:")
    terminal.wait_until(lambda: contents(tmp_path)[:1] == ["今天天气很好我们去公吧"], "what is kept")


@pytest.mark.parametrize(
    "report", ["\x1b[<;M", "\x1b[<;;M", "\x1b[;;M", "\x1b[<0;1;1M", "\x1b[<64;85;12M", "\x1b[M a*"]
)
def test_a_mouse_that_another_program_left_on_says_nothing(start: Start, report: str) -> None:
    terminal = start("echo")
    terminal.press(f"a{report}b")
    terminal.wait_for("> ab")
    terminal.press("\r")
    terminal.wait_for("echo: ab")


@pytest.mark.parametrize(("there", "back"), [("\x1b[B", "\x1b[A"), ("\x0e", "\x10")])
def test_a_negative_count_turns_up_and_down_round(start: Start, tmp_path: Path, there: str, back: str) -> None:
    terminal = start("echo")
    terminal.press("one\x1b\rtwo\x1b-" + there + "X")
    terminal.wait_for("oneX")
    terminal.press("\x1b-" + back + "Y")
    terminal.wait_for("twoY")
    terminal.press("\r")
    terminal.wait_until(lambda: contents(tmp_path)[:1] == ["oneX\ntwoY"], "what is kept")


def test_half_a_character_is_no_end(start: Start) -> None:
    terminal = start("echo")
    terminal.press(b"\xe8\x83")
    terminal.press(b"\xbd\xff ok")
    terminal.wait_for("能", "ok")
    terminal.press("\r")
    terminal.wait_for("echo: 能")


def test_full_width_commands_work_as_an_input_method_types_them(start: Start) -> None:
    terminal = start("echo")
    terminal.enter("／帮助")
    terminal.wait_for("list the commands")


# -- several lines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["\x1b\r", "\n", "\x1b[13;2u", "\x1b[27;2;13~"])
def test_keys_that_make_a_new_line(start: Start, tmp_path: Path, keys: str) -> None:
    """Alt-Enter, Ctrl-J, and Shift-Enter as terminals tell it apart in two ways."""
    terminal = start("echo")
    terminal.press("one")
    terminal.wait_for("> one")
    terminal.press(keys)
    terminal.press("two")
    terminal.wait_for("> one\n  two")
    terminal.press("\r")
    terminal.wait_until(lambda: contents(tmp_path)[:1] == ["one\ntwo"], "what is kept")


def test_multiline_swaps_enter_and_alt_enter(start: Start, tmp_path: Path) -> None:
    terminal = start("echo")
    terminal.enter("/multiline")
    terminal.wait_for("Enter makes a new line")
    terminal.wait_until(terminal.is_prompting)
    terminal.press("one")
    terminal.press("\r")
    terminal.press("two")
    terminal.wait_for("> one\n  two")
    terminal.press("\x1b\r")
    terminal.wait_until(lambda: contents(tmp_path)[:1] == ["one\ntwo"], "what is kept")


def test_the_line_is_edited_in_the_editor(start: Start, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\nprintf "%s\\n能" "$(cat "$1")" > "$1"\n')
    editor.chmod(0o755)
    terminal = start("echo", environ={"VISUAL": str(editor)})
    terminal.press("first")
    terminal.wait_for("> first")
    terminal.press("\x18\x05")
    terminal.wait_until(
        lambda: contents(tmp_path)[:1] == ["first\n能"] or "  能" in terminal.screen.text, "the edited line"
    )
    terminal.press("\r")
    terminal.wait_until(lambda: contents(tmp_path)[:1] == ["first\n能"], "what is kept")
