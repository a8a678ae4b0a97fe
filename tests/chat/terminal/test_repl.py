"""Whole transcripts of the loop: lines in, everything that is printed out, and what the backend was asked for."""

from __future__ import annotations

import re

import pytest

from chat.backends.engine_host import log_dir
from chat.config import Settings
from chat.store.local import ConversationStore
from chatcore.errors import EngineError
from tests.chat.terminal.conftest import Talk, said
from tests.chat.terminal.scripted import ScriptedBackend

# -- the loop ------------------------------------------------------------------------------------------------------


def test_a_conversation_goes_back_and_forth(talk: Talk) -> None:
    backend = ScriptedBackend(["Hello ", "Ada."], ["You are Ada."])
    shown = talk(backend, "I am Ada", "Who am I?")
    assert "Hello Ada.\n" in shown
    assert "10 tokens · TTFT 0.01 s" in shown
    assert said(backend) == ["I am Ada", "Hello Ada.", "Who am I?"]


def test_generated_ids_go_back_with_the_answer(talk: Talk) -> None:
    backend = ScriptedBackend(["abc"])
    talk(backend, "one", "two")
    assert backend.requests[1][0][1]["token_ids"] == [0, 1, 2]


def test_a_typo_is_not_sent_to_the_model(talk: Talk) -> None:
    """Qwen's demo sent ":hlep" to the model."""
    backend = ScriptedBackend()
    shown = talk(backend, "/hlep", "/exiting now", "/exitnow")
    assert "Did you mean /help?" in shown
    assert backend.requests == []


def test_exiting_now_does_not_exit(talk: Talk) -> None:
    """llama-cli and ollama left at "/exiting now": they compared beginnings."""
    backend = ScriptedBackend()
    talk(backend, "/exiting now", "/exit now", "still here")
    assert said(backend) == ["still here"]


def test_an_empty_enter_does_nothing(talk: Talk) -> None:
    """FastChat left."""
    backend = ScriptedBackend()
    talk(backend, "", "   ", "still here")
    assert len(backend.requests) == 1


def test_a_one_letter_message_is_a_message(talk: Talk) -> None:
    """mlx took "q" and "r" for commands."""
    backend = ScriptedBackend()
    talk(backend, "q", "r")
    assert said(backend)[-1] == "r"
    assert len(backend.requests) == 2


@pytest.mark.parametrize("text", ["ends with /", "ends with \\", "a\\", "/"])
def test_a_trailing_slash_or_backslash_is_not_eaten(talk: Talk, text: str) -> None:
    backend = ScriptedBackend()
    talk(backend, f"x {text}")
    assert said(backend) == [f"x {text}"]


def test_blank_lines_in_a_block_survive(talk: Talk) -> None:
    """llm and lmdeploy dropped them."""
    backend = ScriptedBackend()
    talk(backend, '"""', "one", "", "", "two", '"""')
    assert said(backend) == ["one\n\n\ntwo"]


def test_exit_inside_a_block_is_text(talk: Talk) -> None:
    backend = ScriptedBackend()
    talk(backend, '"""first', "/exit", "exit", 'last"""', "after")
    assert said(backend, 0) == ["first\n/exit\nexit\nlast"]
    assert len(backend.requests) == 2


def test_a_path_is_sent_only_after_asking(talk: Talk) -> None:
    backend = ScriptedBackend()
    assert "Send it as a message?" in talk(backend, "/etc/hosts: what is this", "n")
    assert backend.requests == []
    talk(backend, "/etc/hosts: what is this", "y")
    assert said(backend) == ["/etc/hosts: what is this"]


# -- errors --------------------------------------------------------------------------------------------------------


def test_an_error_leaves_no_user_turn_and_no_empty_answer(talk: Talk, store: ConversationStore) -> None:
    """llama-cli kept an empty assistant turn after an error, ollama the user's turn."""
    backend = ScriptedBackend([EngineError("the engine has died")], ["fine"])
    shown = talk(backend, "one", "two")
    assert "error: the engine has died" in shown
    assert "Your message is back in the line." in shown
    assert said(backend) == ["two"]


def test_a_partial_answer_is_kept_when_the_engine_dies(talk: Talk, store: ConversationStore) -> None:
    backend = ScriptedBackend(["The answer", EngineError("the engine has died")], ["."])
    shown = talk(backend, "one", "/retry")
    assert "What had arrived is kept" in shown
    conversation = store.load(store.recent()[0].id)
    assert "The answer" in {message.content for message in conversation.messages.values()}


def test_a_model_that_cannot_be_loaded_leaves_the_program_alive(talk: Talk) -> None:
    backend = ScriptedBackend(["hello"])
    backend.fail(EngineError("the engine did not start", hint="Free some memory."))
    shown = talk(backend, "one", "/reload", "two")
    assert shown.count("error: the engine did not start") >= 1
    assert "hint: Free some memory." in shown
    assert said(backend) == ["two"]


def test_a_message_that_cannot_be_sent_comes_back_into_the_line(talk: Talk) -> None:
    """Also when the engine died before, while nobody asked it anything."""
    backend = ScriptedBackend(["hello"])
    backend.fail(EngineError("the engine has died"))
    shown = talk(backend, "my long question", "/reload", "")
    assert "Your message is back in the line." in shown
    assert "Typed before: my long question" in shown
    assert said(backend) == ["my long question"]


def test_a_mistake_of_ours_ends_nothing(talk: Talk) -> None:
    backend = ScriptedBackend()
    backend.fit = None  # type: ignore[assignment]
    shown = talk(backend, "one", "/title still here")
    assert "a mistake in this program: TypeError" in shown
    assert "Traceback" not in shown
    assert "still here" in shown
    assert (log_dir() / "terminal.log").stat().st_mode & 0o077 == 0


def test_a_message_larger_than_the_window_is_refused_with_both_numbers(talk: Talk) -> None:
    backend = ScriptedBackend(window=100)
    shown = talk(backend, "x" * 200, "short")
    assert "204 tokens; 84 fit" in shown
    assert said(backend) == ["short"]


# -- the window ----------------------------------------------------------------------------------------------------


def test_what_no_longer_fits_is_named_as_it_goes(talk: Talk) -> None:
    backend = ScriptedBackend(*[["a" * 20]] * 6, window=200)
    shown = talk(backend, *[f"question {n} ----------" for n in range(6)], "/history")
    assert "Left out of the prompt: turn" in shown
    assert "── the model no longer sees what is above ──" in shown
    assert "question 0 ----------" not in said(backend)
    assert said(backend)[-1] == "question 5 ----------"
    assert "question 0 ----------" in shown.rpartition("tokens · TTFT")[2]


def test_a_cut_leaves_room_and_stays_until_the_window_is_full_again(talk: Talk) -> None:
    """One turn less at every turn would lose the prefix cache at every turn."""
    backend = ScriptedBackend(*[["a" * 20]] * 12, window=400)
    talk(backend, *[f"question {n:02} ----------" for n in range(12)])
    starts = [said(backend, index)[0] for index in range(12)]
    assert 1 < len(set(starts)) <= 4
    assert starts == sorted(starts)


def test_a_pinned_turn_stays(talk: Talk) -> None:
    backend = ScriptedBackend(*[["a" * 20]] * 8, window=250)
    talk(backend, "my name is Ada", "/pin 1", *[f"question {n} ----------" for n in range(7)])
    assert said(backend)[0] == "my name is Ada"
    assert "question 0 ----------" not in said(backend)


def test_nothing_is_left_out_without_leave(talk: Talk) -> None:
    backend = ScriptedBackend(*[["a" * 20]] * 9, window=200)
    lines = [f"question {n} ----------" for n in range(5)]
    shown = talk(backend, "/context error", *lines)
    assert "not sent" in shown
    assert len(backend.requests) < 5
    asked = talk(ScriptedBackend(*[["a" * 20]] * 9, window=200), "/context ask", *lines[:4], "y", *lines[4:])
    assert "Send? (y/n)" in asked


def numbers_of_tokens(shown: str) -> dict[str, int]:
    rows = re.findall(r"^(.+?) +([\d,]+) +\d+%$", shown, re.MULTILINE)
    return {name: int(value.replace(",", "")) for name, value in rows}


def test_tokens_adds_up_to_the_window(talk: Talk) -> None:
    backend = ScriptedBackend(["12345"])
    numbers = numbers_of_tokens(talk(backend, "hello", "/tokens", settings=Settings(system="Be brief.")))
    assert numbers["system message"] == 13
    assert numbers["1. hello"] == 18
    assert sum(value for name, value in numbers.items() if name != "window") == numbers["window"] == 4096


def test_tokens_leaves_out_the_turns_that_will_not_fit_any_more(talk: Talk) -> None:
    backend = ScriptedBackend(["a" * 50], ["b" * 50], window=200)
    numbers = numbers_of_tokens(talk(backend, "first " * 10, "second " * 9, "/tokens"))
    assert not any(name.startswith("1. ") for name in numbers)
    assert any(name.startswith("2. second") for name in numbers)
    assert sum(value for name, value in numbers.items() if name != "window") == numbers["window"] == 200
