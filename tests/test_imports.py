"""Imports have one direction: each package may use only those below it, and no file is on a circle of imports."""

from __future__ import annotations

import ast
import tomllib
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.program import ROOT

# From the ground up; packages in one row never import one another. A name that is not in the table belongs to the
# longest package of the table that it lies in.
FLOORS = [
    {"chatcore", "chatcore.errors", "chatcore.reply"},
    {"chatcore.json_files"},
    {"chatcore.prompts", "chatcore.models", "chatcore.tools"},
    {"chatcore.engine"},
    {"chat", "chat.environment", "chat.private_files"},
    {"chat.conversations", "chat.net"},
    {"chat.store", "chat.config"},
    {"chat.backends", "chat.client"},
    {"chat.session"},
    {"chat.terminal", "chat.web", "chat.doctor", "chat.stack", "chat.server", "chat.server.settings"},
    {"chat.server.limits"},
    {"chat.server.vllm_plugin"},
    {"chat.server.api"},
    {"chat.server.guard"},
    {"chat.server.process"},
    {"chat.cli"},
    {"prompt_utils", "vllm_wrapper", "vllm_deploy"},
]
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted([*ROOT.glob("*.py"), *(ROOT / "chat").rglob("*.py"), *(ROOT / "chatcore").rglob("*.py")])
FILES.remove(ROOT / "conftest.py")


def room_of(module: str) -> str | None:
    """Return the package of the table that a module belongs to, or None if it is not ours."""
    while module and module not in FLOOR_OF:
        module = module.rpartition(".")[0]
    return module or None


def module_of(file: Path) -> str:
    parts = list(file.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path) -> set[str]:
    """Return the names that a file imports, those inside functions and for type checking included."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda file: module_of(file))
def test_a_package_imports_only_packages_below(file):
    room = room_of(module_of(file))
    assert room is not None, f"{file.name} has no place in FLOORS"
    for module in imports_of(file):
        other = room_of(module)
        if other is not None and other != room:
            assert FLOOR_OF[other] < FLOOR_OF[room], f"{room} imports {other} ({module})"


DOORS = {"chatcore.engine.vllm_api", "chat.server.vllm_plugin.compatibility"}
PUBLIC_OF_VLLM = {"vllm", "vllm.LLM", "vllm.SamplingParams"}


@pytest.mark.parametrize("file", FILES, ids=lambda file: module_of(file))
def test_private_names_of_vllm_come_through_two_doors(file):
    if module_of(file) not in DOORS:
        used = {name for name in imports_of(file) if name.partition(".")[0] == "vllm"}
        assert used <= PUBLIC_OF_VLLM


def test_no_circle_of_imports():
    """Imports inside functions and for type checking count, too."""
    imports = {module_of(file): imports_of(file) for file in FILES}

    def file_of(name: str) -> str:
        """Return the module that an imported name is, or is defined in; nothing if it is not ours."""
        while name and name not in imports:
            name = name.rpartition(".")[0]
        return name

    graph = {module: {file_of(name) for name in names} - {""} for module, names in imports.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail("circle of imports: " + " -> ".join(reversed(error.args[1])))


def test_site_packages_gets_three_modules_and_two_packages():
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["setuptools"]
    assert setuptools["py-modules"] == ["prompt_utils", "vllm_deploy", "vllm_wrapper"]
    assert {name.partition(".")[0] for name in setuptools["packages"]["find"]["include"]} == {"chat", "chatcore"}
    assert {file.stem for file in ROOT.glob("*.py")} == {*setuptools["py-modules"], "conftest"}
