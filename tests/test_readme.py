"""README in both languages: its commands run, in order; its Python runs; what it names exists."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import vllm_wrapper
from chat.cli.main import whole_parser
from tests.program import ROOT

pytestmark = pytest.mark.usefixtures("no_host_is_left")
READMES = ("README.md", "README.zh-CN.md")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
OPTION = re.compile(r"(?<![\w/-])--[a-z][a-z-]+")
REAL_MODEL = re.compile(r"\bQwen(/Qwen)?[\d.]*-[\w.-]+")  # too large for a test: the embedded model stands in
STAY = {"serve", "stack", "web"}  # run until they are ended, and have tests of their own; here their options are read
OTHERS = {"git", "vllm", "source", "pip", "curl", "docker", "cd", "export"}  # commands that are not ours
TERMINAL_SECTION = re.compile(r"^### (?:Terminal|终端)\n(.*?)^### ", re.MULTILINE | re.DOTALL)


def blocks(name: str, kind: str) -> list[str]:
    """Return a README's blocks of one kind."""
    return [text for found, text in BLOCK.findall((ROOT / name).read_text("utf-8")) if found == kind]


def commands(name: str) -> list[str]:
    """Return what a README tells to type, in order, without what it says about it."""
    typed = [
        line.removeprefix("$ ") for block in blocks(name, "console") for line in block.splitlines() if "$ " in line
    ]
    return [re.sub(r"\s+# .*$", "", line).strip() for line in typed]


def parts(command: str) -> list[list[str]]:
    """Return the words of each command of a pipe."""
    return [shlex.split(part) for part in command.split(" | ")]


def ours(words: list[str]) -> list[str] | None:
    """Return the arguments of our program, or None if these words call another."""
    if words[:2] == ["python", "vllm_deploy.py"]:
        return words[2:]
    return words[1:] if words[:1] == ["vllm-deploy"] else None


@pytest.fixture
def workplace(tmp_path):
    """A folder with what the commands read."""
    question = {"messages": [{"role": "user", "content": "Hello!"}]}
    (tmp_path / "questions.jsonl").write_text(json.dumps(question) + "\n")
    (tmp_path / "vllm_deploy.py").symlink_to(ROOT / "vllm_deploy.py")
    return tmp_path


@pytest.mark.parametrize("name", READMES)
def test_every_command_is_one_that_there_is(name):
    parser, by_name = whole_parser()
    for command in commands(name):
        for words in parts(command):
            arguments = ours(words)
            if words[0] == "make":
                result = subprocess.run(
                    ["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, timeout=60, check=False
                )
                assert result.returncode == 0, command
            elif arguments is None:
                assert words[0] in OTHERS | {"python"}, command
            elif arguments:
                chosen = arguments if arguments[0] in by_name or arguments[0].startswith("-") else ["chat", *arguments]
                _, unknown = parser.parse_known_args([word for word in chosen if word != "--"])
                assert not unknown or chosen[0] in STAY, command  # servers pass on what is vLLM's


@pytest.mark.parametrize("name", READMES)
def test_the_commands_run_in_order(name, workplace):
    num_run = 0
    for command in commands(name):
        arguments = next((found for words in parts(command) if (found := ours(words)) is not None), None)
        if arguments is None or (arguments and arguments[0] in STAY) or "--url" in arguments:
            continue
        runnable = REAL_MODEL.sub("demo", command).replace("python ", f"{shlex.quote(sys.executable)} ")
        runnable = runnable.replace("vllm-deploy ", f"{shlex.quote(sys.executable)} vllm_deploy.py ")
        result = subprocess.run(
            ["bash", "-c", runnable],
            cwd=workplace,
            input="/exit\n",
            env={**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "MODELSCOPE_ENDPOINT": "http://127.0.0.1:9"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}{result.stderr}"
        num_run += 1
    assert num_run >= 5


class Shared:
    """The session's engine in the place of one that a block of Python makes; it stays when the block is done."""

    def __init__(self, llm):
        self._llm = llm

    def __call__(self, *_, **__):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def close(self):
        pass

    def __getattr__(self, name):
        return getattr(self._llm, name)


@pytest.mark.parametrize("name", READMES)
def test_the_python_runs(name, llm, monkeypatch, capsys):
    monkeypatch.setattr(vllm_wrapper, "VLLMWrapper", Shared(llm))
    for block in blocks(name, "python"):
        exec(compile(block, name, "exec"), {"__name__": "readme"})
        assert capsys.readouterr().out.strip(), block


def vllm_options() -> set[str]:
    """Return the options of vLLM's own server, which may stand behind ``--``."""
    from vllm.engine.arg_utils import AsyncEngineArgs

    return {"--" + field.replace("_", "-") for field in AsyncEngineArgs.__dataclass_fields__}


@pytest.mark.parametrize("name", READMES)
def test_every_option_that_is_named_exists(name):
    _, by_name = whole_parser()
    known = {"--help", "--version"} | vllm_options()
    for command in by_name.values():
        known |= set(options_of(command))
    assert set(OPTION.findall((ROOT / name).read_text("utf-8"))) - known == set()


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the options of a command and of its actions."""
    found: list[str] = []
    for action in parser._actions:
        found += action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            found += [option for sub in action.choices.values() for option in options_of(sub)]
    return found


@pytest.mark.parametrize("name", READMES)
def test_every_command_of_the_terminal_that_is_named_exists(name):
    source = "".join(file.read_text("utf-8") for file in sorted((ROOT / "chat" / "terminal").rglob("*.py")))
    section = TERMINAL_SECTION.search((ROOT / name).read_text("utf-8"))
    assert section is not None
    for typed in re.findall(r"`/([a-z]+)", section[1]):
        assert f'"help.{typed}"' in source, f"/{typed}"


def test_both_languages_tell_the_same_commands():
    def shape(command: str) -> str:
        return re.sub(r'"[^"]*"', '""', command)

    english, chinese = ([shape(command) for command in commands(name)] for name in READMES)
    assert english == chinese


@pytest.mark.parametrize("name", READMES)
def test_files_that_are_named_exist(name):
    for link in re.findall(r"\]\(([^)\s#]+)\)", (ROOT / name).read_text("utf-8")):
        if "://" not in link:
            assert Path(ROOT / link).exists(), link
