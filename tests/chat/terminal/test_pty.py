"""The real program in a pseudo-terminal: keys in, a screen out."""

from __future__ import annotations

import base64
import os
import re
import shlex
import signal
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chat.store import ConversationStore
from tests.chat.terminal.driver import Driver, command
from tests.chat.terminal.program import main

Start = Callable[..., Driver]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    drivers: list[Driver] = []

    def start(scenario: str, *, plain: bool = False, **options: object) -> Driver:
        drivers.append(Driver(lambda: main(scenario, tmp_path, plain=plain), **options))  # type: ignore[arg-type]
        drivers[-1].wait_until(drivers[-1].prompts, "the first prompt")
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()


def contents(folder: Path) -> list[str]:
    """Return what is kept of the newest conversation."""
    store = ConversationStore(folder / "conversations.sqlite")
    newest = store.recent(limit=1)
    return [message.content for message in store.load(newest[0].id).path()] if newest else []


# -- Ctrl-C, Ctrl-D, Ctrl-Z ---------------------------------------------------------------------------------------


def test_ctrl_c_during_prefill_gives_the_prompt_back_within_200_ms(start: Start, tmp_path: Path) -> None:
    terminal = start("prefill")
    terminal.enter("hello")
    terminal.wait_for("waiting 1 s")
    terminal.press("\x03")
    assert terminal.wait_for("interrupted before the first token") < 0.2
    terminal.wait_for("> hello\n")  # the message is in the line again
    terminal.wait_until(lambda: contents(tmp_path) == [], "what is kept")


def test_ctrl_c_keeps_the_partial_answer_as_a_turn(start: Start, tmp_path: Path) -> None:
    terminal = start("partial")
    terminal.enter("tell me a story")
    terminal.wait_for("Once upon a time")
    terminal.press("\x03")
    assert terminal.wait_for("interrupted: 17 tokens kept") < 0.2
    terminal.enter("go on")
    terminal.wait_for("echo: go on")
    terminal.wait_until(lambda: terminal.screen.text.count("TTFT") == 2)
    terminal.wait_until(
        lambda: contents(tmp_path) == ["tell me a story", "Once upon a time ", "go on", "echo: go on"], "what is kept"
    )


def test_a_real_sigint_does_what_the_key_does(start: Start) -> None:
    terminal = start("partial")
    terminal.enter("tell me a story")
    terminal.wait_for("Once upon a time")
    terminal.kill(signal.SIGINT)
    assert terminal.wait_for("interrupted: 17 tokens kept") < 0.2


def test_ctrl_c_clears_the_line_and_up_brings_it_back(start: Start) -> None:
    terminal = start("echo")
    terminal.press("half a thought")
    terminal.wait_for("> half a thought")
    terminal.press("\x03")
    terminal.wait_until(lambda: "half a thought" not in terminal.screen.text)
    terminal.press("\x1b[A")
    terminal.wait_for("> half a thought")


def test_ctrl_c_twice_on_an_empty_line_leaves_with_130(start: Start) -> None:
    """vllm's chat left with 0."""
    terminal = start("echo")
    terminal.press("\x03")
    terminal.wait_for("Ctrl-C again")
    terminal.press("\x03")
    assert terminal.wait_for_end() == 130
    assert b"Traceback" not in terminal.raw


def test_ctrl_d_leaves_with_0(start: Start) -> None:
    terminal = start("echo")
    terminal.enter("one")
    terminal.wait_for("echo: one", "TTFT")
    terminal.wait_until(lambda: terminal.prompts() == 2)
    terminal.press("\x04")
    assert terminal.wait_for_end() == 0
    assert "Go on with: --resume" in terminal.screen.text


@pytest.mark.parametrize("scenario", ["echo", "partial"])
def test_ctrl_z_suspends_and_comes_back(tmp_path: Path, scenario: str) -> None:
    """vllm's chat was killed by it. From a shell with job control; at the prompt, and in the middle of an answer."""
    shell = Driver(["bash", "--norc", "-i"], environ={"PS1": "shell: "})
    try:
        shell.wait_for("shell:")
        shell.press(shlex.join(command(scenario, tmp_path)) + "\r")
        shell.wait_until(shell.prompts, "the first prompt")
        shell.enter("hello") if scenario == "partial" else shell.press("abc")
        shell.wait_for("Once upon a time" if scenario == "partial" else "> abc")
        shell.press("\x1a")
        shell.wait_for("Stopped")
        shell.press("echo $((6 * 7))\r")
        shell.wait_for("\n42\n")
        shell.press("fg\r")
        shell.wait_until(lambda: "2004" in shell.screen.modes or scenario == "partial", "the program again")
        if scenario == "partial":
            time.sleep(0.5)  # nothing on the screen tells that the program goes on
        shell.press("\x03" if scenario == "partial" else "d")
        shell.wait_for("interrupted" if scenario == "partial" else "> abcd")
    finally:
        shell.close()


@pytest.mark.parametrize(("keys", "code"), [("\x04", 0), ("TERM", 143), ("HUP", 129)])
@pytest.mark.parametrize("scenario", ["echo", "partial"])
def test_the_terminal_is_always_restored(start: Start, tmp_path: Path, scenario: str, keys: str, code: int) -> None:
    terminal = start(scenario)
    if scenario == "partial":
        terminal.enter("tell me a story")
        terminal.wait_for("Once upon a time")
    fd = os.dup(terminal.fd)
    if keys == "\x04":
        if scenario == "partial":
            terminal.press("\x03")
            terminal.wait_for("interrupted")
            terminal.wait_until(lambda: terminal.prompts() == 2)
        terminal.press(keys)
    else:
        terminal.kill(getattr(signal, f"SIG{keys}"))
    assert terminal.wait_for_end() == code
    modes = termios.tcgetattr(fd)
    os.close(fd)
    assert modes[3] == terminal.found_modes[3]
    assert not terminal.screen.modes & {"2004", "1049"}
    if scenario == "partial":
        terminal.wait_until(lambda: contents(tmp_path)[-1:] == ["Once upon a time "], "what is kept")


# -- losing nothing -----------------------------------------------------------------------------------------------


def test_kill_9_loses_at_most_a_second_and_the_next_start_offers_to_resume(start: Start, tmp_path: Path) -> None:
    terminal = start("long")
    terminal.enter("tell me")
    terminal.wait_for("word60")
    terminal.kill()
    shown = terminal.screen.text.count("word")
    terminal.wait_for_end()
    kept = contents(tmp_path)
    assert kept[0] == "tell me"
    assert kept[1].count("word") >= shown - 50 - 10  # 50 words a second
    again = start("echo")
    again.wait_for("Cut off last time: tell me (1 turn) · /resume")
    again.enter("/resume")
    again.wait_for("word10", "[interrupted]")


def test_an_engine_that_dies_leaves_the_program_and_the_partial_answer(start: Start, tmp_path: Path) -> None:
    terminal = start("dying")
    terminal.enter("hello")
    terminal.wait_for("error: the engine has died", "hint: /reload", "What had arrived is kept")
    terminal.enter("/reload")
    terminal.wait_for("Loading scripted again")
    terminal.enter("again")
    terminal.wait_for("alive")
    terminal.wait_until(lambda: contents(tmp_path) == ["hello", "Half of ", "again", "alive"], "what is kept")


def test_what_is_typed_during_an_answer_is_kept_and_not_sent(start: Start, tmp_path: Path) -> None:
    terminal = start("partial")
    terminal.enter("tell me a story")
    terminal.wait_for("Once upon a time")
    terminal.press("next questionx\x7f\rsecond line")
    terminal.paste("pasted\nlines")
    terminal.press("\x03")
    terminal.wait_for("> next question\n  second linepasted\n  lines")
    assert terminal.screen.text.count("next question") == 1  # not echoed into the answer
    terminal.press("\r")
    terminal.wait_for("echo: next question")
    terminal.wait_until(lambda: contents(tmp_path)[2:3] == ["next question\nsecond linepasted\nlines"], "what is kept")


@pytest.mark.parametrize("marked", [True, False])
def test_a_paste_is_one_message(start: Start, tmp_path: Path, marked: bool) -> None:
    """Also where the terminal does not mark pastes, also with blank lines, and with "exit" and a command in it."""
    text = "first\n\nexit\n/exit\nlast"
    terminal = start("echo")
    if marked:
        terminal.paste(text)
    else:
        terminal.press(text.replace("\n", "\r"))
    terminal.wait_for("> first\n\n  exit\n  /exit\n  last")
    terminal.press("\r")
    terminal.wait_for("echo: first")
    terminal.wait_until(lambda: contents(tmp_path)[:1] == [text], "what is kept")


def test_a_long_paste_is_folded_and_sent_whole(start: Start, tmp_path: Path) -> None:
    text = "\n".join(f"line {n}" for n in range(212))
    terminal = start("echo", lines=40)
    terminal.press("look: ")
    terminal.paste(text)
    terminal.wait_for("> look: [pasted 212 lines]")
    terminal.press("\r")
    terminal.wait_for("line 211", "TTFT")
    terminal.wait_until(lambda: contents(tmp_path)[:1] == ["look: " + text], "what is kept")


def test_a_multi_line_message_comes_back_whole_from_the_history(start: Start, tmp_path: Path) -> None:
    """ollama tore it into lines."""
    terminal = start("echo")
    terminal.paste("one\n\nthree")
    terminal.wait_for("  three")
    terminal.press("\r")
    terminal.wait_for("TTFT")
    terminal.wait_until(terminal.is_prompting)
    terminal.press("\x04")
    terminal.wait_for_end()
    again = start("echo")
    again.wait_until(lambda: again.prompts() == 1)
    again.press("\x1b[A")
    again.wait_for("> one\n\n  three")
    history = Path(os.environ["XDG_STATE_HOME"]) / "vllm-deploy" / "input_history.jsonl"
    assert history.stat().st_mode & 0o777 == 0o600


# -- characters ---------------------------------------------------------------------------------------------------


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


# -- several lines -----------------------------------------------------------------------------------------------


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


# -- loading ------------------------------------------------------------------------------------------------------


def test_the_prompt_is_there_while_the_model_loads_and_a_message_waits_visibly(start: Start, tmp_path: Path) -> None:
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


def test_a_model_that_cannot_be_loaded_says_why_and_gives_the_message_back(start: Start, tmp_path: Path) -> None:
    terminal = start("loading")
    terminal.enter("hello")
    terminal.wait_for("queued: hello")
    (tmp_path / "failed").touch()
    terminal.wait_for("error: the weights are cut off", "hint: Fetch the model again.", "not loaded")
    terminal.wait_for("> hello\n")


def test_a_folder_that_cannot_be_written_is_told_about_and_ends_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "conversations.sqlite").mkdir()
    terminal = start("echo")
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


# -- tools --------------------------------------------------------------------------------------------------------


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
    assert terminal.wait_for("stopped; what has arrived is kept") < 0.5
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


# -- looks --------------------------------------------------------------------------------------------------------


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
