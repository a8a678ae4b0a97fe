"""Whole transcripts with commands about the model: system message, sampling, thinking, another model."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from chat.config import Settings
from chatcore.errors import ModelNotFoundError
from tests.chat.terminal.conftest import Talk, said
from tests.chat.terminal.scripted import ScriptedBackend, Think

# -- the system message --------------------------------------------------------------------------------------------


def test_the_system_message_is_there_once(talk: Talk) -> None:
    """mlx repeated it at each turn."""
    backend = ScriptedBackend()
    talk(backend, "one", "two", "three", settings=Settings(system="Be brief."))
    assert [message["role"] for message in backend.requests[-1][0]].count("system") == 1


def test_a_new_system_message_replaces_the_old_one(talk: Talk) -> None:
    """ollama appended it."""
    backend = ScriptedBackend()
    talk(
        backend,
        "one",
        "/system You are a poet.",
        "two",
        "/system reset",
        "three",
        settings=Settings(system="Be brief."),
    )
    assert said(backend, 1)[0] == "You are a poet."
    assert "Be brief." not in said(backend, 1)
    assert said(backend, 2)[0] == "Be brief."


def test_the_system_message_can_come_from_a_file(talk: Talk, tmp_path: Path) -> None:
    file = tmp_path / "poet.txt"
    file.write_text("你是诗人。\n", "gb18030")
    backend = ScriptedBackend()
    talk(backend, f"/system @{file}", "one")
    assert said(backend)[0] == "你是诗人。"


# -- sampling ------------------------------------------------------------------------------------------------------


def test_set_has_an_effect(talk: Talk) -> None:
    """In Qwen's demo ":conf" had none."""
    backend = ScriptedBackend()
    talk(backend, '/set temperature=0.2 top_k=20 stop="\\n\\n"', "one", "/reset top_k", "two", "/reset", "three")
    assert backend.requests[0][1] == {"temperature": 0.2, "top_k": 20, "stop": ["\n\n"]}
    assert backend.requests[1][1] == {"temperature": 0.2, "stop": ["\n\n"]}
    assert backend.requests[2][1] == {}


@pytest.mark.parametrize(
    "line",
    [
        "temperature=3",
        "temperature=nan",
        "temperature=inf",
        "temprature=1",
        "top_p=0",
        "top_k=1.5",
        "seed=x",
        "max_tokens=0",
    ],
)
def test_an_impossible_value_is_refused_with_the_range(talk: Talk, line: str) -> None:
    backend = ScriptedBackend()
    shown = talk(backend, f"/set {line}", "one")
    assert "error:" in shown
    assert "hint:" in shown
    assert backend.requests[0][1] == {}


def test_values_are_never_evaluated(talk: Talk, tmp_path: Path) -> None:
    """Qwen's demo called eval on what was typed."""
    target = tmp_path / "evil"
    shown = talk(ScriptedBackend(), f"/set seed=__import__('pathlib').Path('{target}').touch()", "/set seed=1+1")
    assert not target.exists()
    assert shown.count("error:") == 2


def test_set_lists_what_can_be_set(talk: Talk) -> None:
    shown = talk(ScriptedBackend(), "/set top_p 0.5", "/set")
    assert "top_p               0.5" in shown
    assert "0.7" in shown  # the model's own temperature


# -- thinking ------------------------------------------------------------------------------------------------------


def test_thinking_is_counted_shown_on_demand_and_not_part_of_the_answer(talk: Talk) -> None:
    backend = ScriptedBackend([Think("Let me "), Think("see."), "42"])
    shown = talk(backend, "what?", "/think show", "again")
    assert "thought for" in shown
    assert shown.count("Let me see.") == 1
    assert backend.requests[1][0][1]["content"] == "42"


def test_thinking_can_be_shown_in_full_or_hidden(talk: Talk) -> None:
    script = [Think("Let me see."), "42"]
    assert "Let me see.\n──\n42\n" in talk(ScriptedBackend(script), "/think full", "what?")
    hidden = talk(ScriptedBackend(script), "/think hidden", "what?")
    assert "see" not in hidden
    assert "thought" not in hidden


def test_think_reaches_the_model(talk: Talk) -> None:
    backend = ScriptedBackend()
    talk(backend, "/think off", "one", "/think on", "/think budget 100", "two", "/think auto", "three")
    assert [options for _, options in backend.requests] == [
        {"enable_thinking": False},
        {"enable_thinking": True, "thinking_token_budget": 100},
        {},
    ]


# -- the model -----------------------------------------------------------------------------------------------------


def test_another_model_goes_on_with_the_conversation(talk: Talk) -> None:
    """ollama wiped the chat when the model was changed."""
    backend, other = ScriptedBackend(["a"]), ScriptedBackend(["b"], name="other", stage="load")
    threading.Timer(0.3, lambda: setattr(other, "stage", "ready")).start()
    shown = talk(backend, "one", "/model other", "two", "/model", open_backend={"other": other}.__getitem__)
    assert "loading the weights\nother goes on with the conversation." in shown
    assert said(other) == ["one", "a", "two"]
    assert re.search(r"^model +other$", shown, re.MULTILINE)
    assert backend.is_closed
    assert other.is_closed


def test_a_model_that_cannot_be_loaded_leaves_the_old_one_in_use(talk: Talk) -> None:
    backend, broken = ScriptedBackend(["a"], ["b"]), ScriptedBackend()
    broken.fail(ModelNotFoundError("there is no model nonsense"))
    shown = talk(backend, "one", "/model nonsense", "two", open_backend=lambda name: broken)
    assert "error: there is no model nonsense\n" in shown
    assert "scripted stays in use." in shown
    assert said(backend) == ["one", "a", "two"]
    assert broken.is_closed


def test_a_larger_window_shows_the_model_again_what_was_left_out(talk: Talk) -> None:
    small, large = ScriptedBackend(*[["a" * 20]] * 6, window=200), ScriptedBackend(window=4000)
    lines = [f"question {n} ----------" for n in range(6)]
    talk(small, *lines, "/model large", "and now?", open_backend=lambda name: large)
    assert "question 0 ----------" not in said(small)
    assert "question 0 ----------" in said(large)


def test_model_lists_what_can_be_used_at_once(talk: Talk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    opened = {name: ScriptedBackend(name=name) for name in ("first", "second")}
    talk(opened["first"], "one", "/model second", "two", open_backend=opened.__getitem__)
    shown = talk(ScriptedBackend(), "/model", "/model scripted", open_backend=opened.__getitem__)
    assert re.search(r"^loaded +other\nused before +second\nused before +first\nembedded +demo$", shown, re.MULTILINE)
    assert "scripted is in use." in shown
    assert (tmp_path / "vllm-deploy" / "recent_models.json").stat().st_mode & 0o777 == 0o600


def test_without_others_the_model_cannot_be_changed(talk: Talk) -> None:
    assert "scripted is the only model here" in talk(ScriptedBackend(), "/model other")
