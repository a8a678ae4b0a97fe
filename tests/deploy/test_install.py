"""The installation, up to where it would fetch packages; the rest is what docs/newcomer.md logs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.program import ROOT


@pytest.fixture
def install(tmp_path):
    """Return a function that calls the script with programs of the test in front of the system's."""

    def install(build="auto", python=sys.executable, **programs):
        for name, text in programs.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
            (tmp_path / name).chmod(0o755)
        return subprocess.run(
            [ROOT / "deploy" / "install.sh", str(tmp_path / "venv"), build, python],
            cwd=ROOT,
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return install


def test_what_cannot_work_is_said_before_anything_is_made(install, tmp_path):
    for said, result in {
        "vLLM 0.32 has no package for macOS": install(uname="echo Darwin"),
        "BUILD=tpu is unknown": install("tpu", uname="echo Linux"),
        "Python 3.10.2; Python 3.11 to 3.13 is needed": install(
            python=str(tmp_path / "old"), old='[ "$1" = --version ] && echo Python 3.10.2'
        ),
        "Python 3.11 to 3.13 is needed": install(python=str(tmp_path / "missing")),
    }.items():
        assert result.returncode == 1
        assert said in result.stderr
        assert "hint: " in result.stderr
        assert not (tmp_path / "venv").exists()


def test_the_build_follows_the_machine(install, tmp_path):
    """A Python that is too old ends it behind the choice, which is said first."""
    old = {"python": str(tmp_path / "old"), "old": "exit 1"}
    for build, listed, chosen in [
        ("auto", "GPU 0: NVIDIA H100", "the gpu build"),
        ("auto", "", "the cpu build"),
        ("cpu", "GPU 0: NVIDIA H100", "the cpu build"),
    ]:
        said = install(build, **old, **{"nvidia-smi": f"echo '{listed}'"}).stderr
        assert f"Installing {chosen} into" in said
