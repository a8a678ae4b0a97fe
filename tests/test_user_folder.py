"""A user's own modules, named like parts of this project, next to the user's script."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.program import ROOT
from tests.wheel import wheel_environment

NAMES = ("config", "errors", "models", "reply", "sampling", "server", "tools", "prompts", "store", "engine")
SCRIPT = """\
from pathlib import Path

with open("runs", "a") as runs:
    runs.write("x")

import errors, reply, sampling
from prompt_utils import PromptBuilder
from vllm_wrapper import PromptTooLongError, vLLMWrapper

assert errors.WHOSE == reply.WHOSE == sampling.WHOSE == "the user's"
if __name__ == "__main__":
    with vLLMWrapper("demo") as llm:
        answer, history = llm.chat("What is 12 + 30?", temperature=0, enable_thinking=False)
        assert isinstance(llm.prompt_builder, PromptBuilder)
    print("answer:", answer)
"""


@pytest.fixture
def folder(tmp_path):
    """A folder with the user's modules and a script that is called chat.py."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text('WHOSE = "the user\'s"\n')
    (tmp_path / "chat.py").write_text(SCRIPT)
    return tmp_path


@pytest.fixture(params=["clone", "wheel"])
def installed(request, tmp_path_factory) -> tuple[str, str]:
    """A Python that has the project, and the PYTHONPATH that it needs for it."""
    if request.param == "clone":
        return sys.executable, str(ROOT)
    environment = wheel_environment(tmp_path_factory.mktemp("wheel"), with_packages=True)
    return str(environment / "bin" / "python"), ""


def test_a_script_answers_next_to_modules_of_the_same_names(folder, installed):
    python, path = installed
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    environment.pop("VLLM_PLUGINS", None)
    done = subprocess.run(
        [python, "chat.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert "answer: 12 + 30 = 42" in done.stdout, done.stderr[-3000:]
    assert (folder / "runs").read_text() == "x"
    assert "Failed to load plugin" not in done.stdout + done.stderr
