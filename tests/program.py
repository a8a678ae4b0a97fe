"""The command line program, run as people run it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, str(ROOT / "vllm_deploy.py")]
GREEDY = ["--temperature", "0", "--no-think"]


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; standard input is empty unless options say otherwise."""
    defaults = {"capture_output": True, "text": True, "timeout": 300, "check": False, "stdin": subprocess.DEVNULL}
    return subprocess.run([*PROGRAM, *arguments], **(defaults | options))
