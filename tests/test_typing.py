"""A user's script, checked by mypy against the installed wheel: the types reach the user."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import chatcore.engine
import chatcore.prompts
import prompt_utils
import vllm_wrapper
from tests.wheel import wheel_environment

SCRIPT = """\
from chat.client import APIClient
from chatcore.engine import PromptTooLongError, ReplyOptions, VLLMWrapper, vLLMWrapper
from chatcore.prompts import PromptBuilder

llm = VLLMWrapper("demo")
reveal_type(llm.reply([{"role": "user", "content": "Hello"}], temperature=0.5, enable_thinking=False))
reveal_type(llm.chat("Hello", tools=[print], max_tokens=5))
reveal_type(vLLMWrapper("demo").reply_batch([]))
reveal_type(PromptBuilder.from_pretrained("demo").build([]).token_ids)
reveal_type(APIClient("http://127.0.0.1").available_models)
options: ReplyOptions = {"seed": 1, "stop": "END"}
for delta in llm.stream([], **options):
    reveal_type(delta.text)
llm.reply([], temprature=0.5)
llm.reply([], max_tokens="many")
"""
REVEALED = [
    "chatcore.reply.Reply",
    "tuple[str, list[tuple[str, str]]]",
    "list[chatcore.reply.Reply | chatcore.errors.ChatError]",
    "list[int]",
    "list[str]",
    "str",
]


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> Path:
    """An environment that holds the wheel and nothing else."""
    pytest.importorskip("mypy")
    return wheel_environment(tmp_path_factory.mktemp("wheel"), with_packages=False)


def test_a_users_script_sees_the_types(environment, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    python = str(environment / "bin" / "python")
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", python, "--cache-dir", ".cache"]
    done = subprocess.run(
        [*command, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert re.findall(r'Revealed type is "([^"]*)"', done.stdout) == REVEALED, done.stdout + done.stderr
    errors = re.findall(r"script.py:(\d+): error: (.*)", done.stdout)
    assert [line for line, _ in errors] == ["14", "15"], done.stdout
    assert 'Unexpected keyword argument "temprature"' in errors[0][1]
    assert "max_tokens" in errors[1][1]


def test_site_packages_gets_three_modules_and_two_packages(environment):
    (packages,) = environment.glob("lib/python3*/site-packages")
    names = {path.name for path in packages.iterdir() if not path.name.endswith((".dist-info", ".pth", "__pycache__"))}
    assert names - {"_virtualenv.py"} == {"chat", "chatcore", "prompt_utils.py", "vllm_deploy.py", "vllm_wrapper.py"}
    assert (packages / "chat" / "py.typed").is_file()
    assert (packages / "chatcore" / "py.typed").is_file()
    assert (packages / "chatcore" / "models" / "demo" / "model.safetensors").is_file()


def test_the_typed_packages_have_the_names_of_the_public_modules():
    assert set(chatcore.engine.__all__) == set(vllm_wrapper.__all__)
    assert set(chatcore.prompts.__all__) | {"_build_prompt"} == set(prompt_utils.__all__)
    for name in vllm_wrapper.__all__:
        assert getattr(chatcore.engine, name) is getattr(vllm_wrapper, name)
    for name in chatcore.prompts.__all__:
        assert getattr(chatcore.prompts, name) is getattr(prompt_utils, name)


def test_every_option_is_one_of_vllms_parameters():
    from vllm import SamplingParams

    assert set(vllm_wrapper.SamplingOptions.__annotations__) <= set(SamplingParams.__annotations__)


def test_an_exception_is_named_by_the_module_that_users_import():
    assert str(vllm_wrapper.PromptTooLongError) == "<class 'vllm_wrapper.PromptTooLongError'>"
