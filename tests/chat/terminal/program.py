"""The terminal program with a scripted backend, to be driven in a pseudo-terminal: ``program.py SCENARIO FOLDER``."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from chat.config import Settings
from chat.store.local import ConversationStore
from chat.terminal.repl import run
from chatcore.errors import EngineError, ModelLoadError
from tests.chat.terminal.scripted import Gate, ScriptedBackend, Step, Think
from vllm_wrapper import ToolCall

CODE = "Look:\n\n```python\nprint('hi')\n```\n\nDone."


def slowly(text: str, delay_s: float = 0.02) -> list[Step]:
    """Return a script that says one word after the other."""
    return [step for word in text.split(" ") for step in (word + " ", delay_s)]


def echo(folder: Path) -> ScriptedBackend:
    return ScriptedBackend()


def long(folder: Path) -> ScriptedBackend:
    return ScriptedBackend(slowly(" ".join(f"word{n}" for n in range(3000))), window=100_000)


def prefill(folder: Path) -> ScriptedBackend:
    """The first token never comes."""
    return ScriptedBackend([Gate(), "late"])


def partial(folder: Path) -> ScriptedBackend:
    """Half an answer, then silence; the next answers are whole."""
    return ScriptedBackend(["Once upon a time ", Gate()])


def thinking(folder: Path) -> ScriptedBackend:
    return ScriptedBackend([Think("Let me see. "), Think("Yes."), "The answer."])


def markdown(folder: Path) -> ScriptedBackend:
    return ScriptedBackend([CODE])


def dying(folder: Path) -> ScriptedBackend:
    return ScriptedBackend(["Half of ", EngineError("the engine has died", hint="/reload")], ["alive"])


def loading(folder: Path) -> ScriptedBackend:
    """Ready when the file ``ready`` appears, failed when ``failed`` does."""
    backend = ScriptedBackend(stage="load")

    def watch() -> None:
        while backend.stage == "load":
            if (folder / "ready").exists():
                backend.stage = "ready"
            if (folder / "failed").exists():
                backend.fail(ModelLoadError("the weights are cut off", hint="Fetch the model again."))
            time.sleep(0.01)

    threading.Thread(target=watch, daemon=True).start()
    return backend


TOOLS = """
import time
from pathlib import Path

def calculator(expression: str) -> str:
    "Evaluate an arithmetic expression."
    left, right = expression.split("*")
    return str(int(left) * int(right))

def wait(touch: str) -> str:
    "Wait for long."
    Path(touch).touch()
    time.sleep(60)
    return "awake"
"""
CALL = ToolCall("call-1", "calculator", '{"expression": "12 * 12"}')


def tools(folder: Path) -> ScriptedBackend:
    """Two questions that want the calculator, and one that does not."""
    return ScriptedBackend([CALL], ["It is 144."], [CALL], ["Again 144."], ["Bye."])


def waiting(folder: Path) -> ScriptedBackend:
    """A tool that takes long."""
    call = ToolCall("call-1", "wait", json.dumps({"touch": str(folder / "running")}))
    return ScriptedBackend(["Let me see. ", 0.5, call], ["I went on."])


SCENARIOS: dict[str, Callable[[Path], ScriptedBackend]] = {
    scenario.__name__: scenario
    for scenario in (echo, long, prefill, partial, thinking, markdown, dying, loading, tools, waiting)
}


def main(scenario: str, folder: Path, *, plain: bool = False) -> int:
    """Run the terminal until it ends; return its exit code."""
    (folder / "tools.py").write_text(TOOLS, "utf-8")
    own_tools = {"own": {"python": str(folder / "tools.py")}} if scenario in ("tools", "waiting") else {}
    settings = Settings(system="", plain=plain, tools=own_tools)
    return run(SCENARIOS[scenario](folder), lambda: ConversationStore(folder / "conversations.sqlite"), settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
