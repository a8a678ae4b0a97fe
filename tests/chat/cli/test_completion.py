"""Tab in a real shell: commands, options and their values, as the printed script completes them."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.program import run


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """The script for bash, as it is printed."""
    result = run("completion", "bash")
    assert result.returncode == 0, result.stderr
    file = tmp_path_factory.mktemp("completion") / "script"
    file.write_text(result.stdout)
    return file


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["do"], {"doctor", "download"}),
        (["conversations", "ex"], {"export"}),
        (["chat", "--max-m"], {"--max-model-len"}),
        (["download", "--hub", "mo"], {"modelscope"}),
        (["serve", "--mod"], {"--model"}),
    ],
)
def test_tab_completes_commands_options_and_values(script, typed, offered):
    words = " ".join(["vllm-deploy", *typed])
    code = (
        f'source {script}; COMP_WORDS=({words}); COMP_CWORD={len(typed)}; _shtab_vllm_deploy; echo "${{COMPREPLY[@]}}"'
    )
    result = subprocess.run(["bash", "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert offered <= set(result.stdout.split())
    assert result.stderr == ""


def test_tab_completes_files(script, tmp_path):
    (tmp_path / "questions.jsonl").touch()
    code = f"source {script}; COMP_WORDS=(vllm-deploy batch quest); COMP_CWORD=2; _shtab_vllm_deploy; echo $COMPREPLY"
    result = subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=True)
    assert result.stdout.split() == ["questions.jsonl"]


@pytest.mark.skipif(shutil.which("zsh") is None, reason="there is no zsh")
def test_zsh_reads_its_script(tmp_path):
    (tmp_path / "_vllm-deploy").write_text(run("completion", "zsh").stdout)
    subprocess.run(["zsh", "-n", str(tmp_path / "_vllm-deploy")], timeout=30, check=True)


def test_an_unknown_shell_is_refused():
    assert run("completion", "cmd").returncode == 2
