"""The real program in a pseudo-terminal, keys in, a screen out: how it ends, and that nothing is lost."""

from __future__ import annotations

import os
import shlex
import signal
import termios
import time
from pathlib import Path

import pytest

from tests.chat.terminal.conftest import Start, contents
from tests.chat.terminal.driver import Driver, command
from tests.patience import patient

# -- Ctrl-C, Ctrl-D, Ctrl-Z ----------------------------------------------------------------------------------------


def test_ctrl_c_during_prefill_gives_the_prompt_back_within_200_ms(start: Start, tmp_path: Path) -> None:
    terminal = start("prefill")
    terminal.enter("hello")
    terminal.wait_for("waiting 1 s")
    terminal.press("\x03")
    assert terminal.wait_for("interrupted before the first token") < patient(0.2)
    terminal.wait_for("> hello\n")  # the message is in the line again
    terminal.wait_until(lambda: contents(tmp_path) == [], "what is kept")


def test_ctrl_c_keeps_the_partial_answer_as_a_turn(start: Start, tmp_path: Path) -> None:
    terminal = start("partial")
    terminal.enter("tell me a story")
    terminal.wait_for("Once upon a time")
    terminal.press("\x03")
    assert terminal.wait_for("interrupted: 17 tokens kept") < patient(0.2)
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
    assert terminal.wait_for("interrupted: 17 tokens kept") < patient(0.2)


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


# -- losing nothing ------------------------------------------------------------------------------------------------


def test_kill_9_loses_at_most_a_second_and_resume_is_offered(start: Start, tmp_path: Path) -> None:
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
