"""The whole program as a person starts it: vllm_deploy.py in a pseudo-terminal, the real engine, the demo model."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chat.backends.engine_host_client import list_hosts, stop_hosts
from chatcore.models.hub import DEMO_MODEL_DIR
from tests.chat.terminal.driver import ROOT, Driver
from tests.patience import patient

LOAD_TIMEOUT_S = 120.0  # importing vLLM on a slow core under load
COMMAND = [sys.executable, str(ROOT / "vllm_deploy.py"), "chat"]

pytestmark = pytest.mark.skipif(
    not (DEMO_MODEL_DIR / "model.safetensors").exists() and "VLLMDEPLOY_MODEL" not in os.environ,
    reason="the demo model has no weights here",
)

CONFIG = f"""
[tools.arithmetic]
command = ["{sys.executable}", "{ROOT}/tests/chatcore/tools/mcp_server.py", "stdio", "calculator"]
"""

Start = Callable[..., Driver]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    """Start terminals that share a store and an engine; stop the engine at the end."""
    monkeypatch.setenv("VLLMDEPLOY_STORE", str(tmp_path / "conversations.sqlite"))
    monkeypatch.setenv("VLLMDEPLOY_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text(CONFIG)
    drivers: list[Driver] = []

    def start() -> Driver:
        drivers.append(Driver(COMMAND, columns=100, lines=40))
        drivers[-1].wait_until(drivers[-1].prompts, "the first prompt")
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.close()
    stop_hosts()


def answered(terminal: Driver) -> int:
    return terminal.screen.text.count("TTFT")


def say(terminal: Driver, text: str, timeout_s: float = LOAD_TIMEOUT_S) -> None:
    """Send a message and wait until it is answered."""
    before = answered(terminal)
    terminal.enter(text)
    terminal.wait_until(lambda: answered(terminal) > before, f"an answer to {text!r}", timeout_s)
    terminal.wait_until(terminal.is_prompting)


def is_streaming(terminal: Driver, question: str, num_characters: int = 25) -> bool:
    """Tell whether so much of the answer is there; below a question that is still in the line is a toolbar.

    Characters, since the demo model, told to go on for thousands of tokens, writes words of any length.
    """
    below = terminal.screen.text.rpartition(question)[2]
    return "│" not in below and len("".join(below.split())) > num_characters


def test_a_day_at_the_terminal(start: Start, tmp_path: Path) -> None:
    """One engine for all of it, since it is what takes time: loading, sharing, interrupting, dying, resuming."""
    terminal = start()
    say(terminal, "Hello!")  # typed while the model loads, sent by itself
    assert "Traceback" not in terminal.screen.text
    assert "INFO" not in terminal.screen.text  # vLLM's own log lines

    other = start()  # a second terminal finds the engine warm
    say(other, "Hello!", timeout_s=patient(20))
    assert len(list_hosts()) == 1

    terminal.wait_for("ctx ")
    gauge = re.findall(r"ctx ([\d,]+)/", terminal.screen.text)[-1]
    prompt, output = re.search(r"(\d+) tokens · TTFT .* prompt (\d+)", terminal.screen.text).groups()[::-1]  # type: ignore[union-attr]
    assert int(gauge.replace(",", "")) == int(prompt) + int(output)

    terminal.enter("/set min_tokens=3000 max_tokens=4000")
    terminal.wait_until(terminal.is_prompting)
    terminal.enter("Tell me a story.")
    terminal.wait_until(lambda: is_streaming(terminal, "a story."), "some words")
    terminal.press("\x03")
    assert terminal.wait_for("interrupted: ", timeout_s=patient(5)) < patient(0.3)
    say(other, "Hello again!", timeout_s=patient(20))  # the engine is free

    terminal.enter("Tell me another story.")
    terminal.wait_until(lambda: is_streaming(terminal, "another story."), "some words")
    os.kill(list_hosts()[0].pid, signal.SIGKILL)
    terminal.wait_for("the engine has ended unexpectedly", "What had arrived is kept")
    terminal.enter("/reload")
    terminal.wait_for("again.")
    terminal.enter("One more story.")
    terminal.wait_for("queued: One more story.")
    terminal.wait_until(lambda: is_streaming(terminal, "One more story.", 600), "some words", LOAD_TIMEOUT_S)
    terminal.kill()
    terminal.wait_for_end()

    again = start()
    again.wait_for("Cut off last time: Hello!")
    again.enter("/resume")
    again.wait_for("[interrupted]")
    say(again, "/retry min_tokens=0 max_tokens=20", timeout_s=LOAD_TIMEOUT_S)
    assert "This is answer 2" in again.screen.text

    again.enter("/new")
    again.wait_for("A new conversation.")
    again.enter("/think off")
    again.wait_for("Thinking: off")
    again.enter("/set temperature=0")
    again.wait_until(again.is_prompting)
    again.enter("What is 12 * 12?")
    again.wait_for('● calculator(expression="12 * 12")', "Run it? (y/n/always)", timeout_s=patient(20))
    again.press("y\r")
    again.wait_for("  144\n12 * 12 = 144", timeout_s=patient(20))
    again.wait_until(again.is_prompting)

    again.enter("/model ./no/such/folder")
    again.wait_for("error: there is no folder ./no/such/folder", "demo stays in use.", timeout_s=patient(20))
    shutil.copytree(DEMO_MODEL_DIR, tmp_path / "second")
    again.enter(f"/model {tmp_path}/second")
    again.wait_for("second goes on with the conversation.", timeout_s=LOAD_TIMEOUT_S)
    again.enter("What is 13 * 17?")
    again.wait_for('● calculator(expression="13 * 17")', timeout_s=patient(20))
    again.press("\x03")
    again.wait_for("stopped;")
    assert sorted(Path(host.model).name for host in list_hosts()) == ["demo", "second"]
