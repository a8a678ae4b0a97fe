"""The built package in an empty environment: the command, the entry points by which vLLM finds us, the demo model."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

from tests.program import ROOT, run


@pytest.mark.skipif(not (ROOT / ".git").exists() or shutil.which("git") is None, reason="not a checkout of git")
def test_the_wheel_holds_everything_that_it_is_installed_for():
    pytest.importorskip("build")
    result = subprocess.run(
        ["bash", str(ROOT / "deploy" / "check_wheel.sh"), sys.executable],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.endswith("all is well\n")
    assert "'chatml': 'chatcore.engine.plugins:register'" in result.stdout
    assert f"command: {run('--version').stdout}" in result.stdout
