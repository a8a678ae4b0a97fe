"""The command line program, run as people run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PROGRAM = [sys.executable, str(ROOT / "vllm_deploy.py")]
GREEDY = ["--temperature", "0", "--no-think"]


def run(*arguments: str, **options) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; standard input is empty unless options say otherwise."""
    defaults = {"capture_output": True, "text": True, "timeout": 300, "check": False, "stdin": subprocess.DEVNULL}
    return subprocess.run([*PROGRAM, *arguments], **(defaults | options))


def start(*arguments: str, **options) -> subprocess.Popen[bytes]:
    """Start a command that Ctrl-C reaches, also where the tests run in the background and inherit that it does not."""
    return subprocess.Popen(
        [*PROGRAM, *arguments],
        stdin=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        **options,
    )


def python_path(*folders: Path) -> dict[str, str]:
    """Return an environment in which ``PYTHONPATH`` has these folders before those that it has already."""
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([*map(str, folders), *([known] if known else [])])}


def results_of(code: str, *arguments: str, said: str = "") -> list[Any]:
    """Run Python code in a process of its own, where it may have an engine.

    Args:
        said: its standard input.
    Returns:
        What it printed, line by line, as ``result`` and JSON.
    """
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        input=said,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=300,
        check=False,
    )
    results = [json.loads(line[7:]) for line in process.stdout.splitlines() if line.startswith("result ")]
    assert results, process.stderr[-3000:]
    return results
