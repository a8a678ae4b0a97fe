"""What is installed is pinned to the version; what the checker of unsafe calls must pass over is explained."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections import defaultdict

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.program import ROOT
from tests.reliability import scale

LOCKS = sorted(ROOT.glob("requirements*.txt"))
PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[a-z,]+\])?==[0-9][A-Za-z0-9.+!]*")
NOQA = re.compile(r"# noqa: (S\d+)(?:, S\d+)*\s*(?P<why>.*)")
FOLDERS = ("chat", "chatcore", "demo_model", "docs", "examples")


def lines_of(lock) -> list[str]:
    return [line for line in lock.read_text("utf-8").splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("lock", LOCKS, ids=[lock.name for lock in LOCKS])
def test_every_line_of_a_lock_names_one_version(lock):
    assert lines_of(lock)
    assert [line for line in lines_of(lock) if not PINNED.fullmatch(line)] == []
    names = [canonicalize_name(Requirement(line).name) for line in lines_of(lock)]
    assert len(set(names)) == len(names)


def test_no_two_locks_want_different_versions():
    wanted = defaultdict(set)
    for lock in LOCKS:
        for line in lines_of(lock):
            requirement = Requirement(line)
            wanted[canonicalize_name(requirement.name)].add(str(requirement.specifier))
    assert {name: versions for name, versions in wanted.items() if len(versions) > 1} == {}
    scale.keep("dependencies", {"locks": len(LOCKS), "packages": len(wanted)})


def test_what_the_package_asks_for_is_what_the_locks_hold():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    locked = {canonicalize_name(Requirement(line).name): Requirement(line) for lock in LOCKS for line in lines_of(lock)}
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    for text in [*project["dependencies"], *extras]:
        asked = Requirement(text)
        (pin,) = locked[canonicalize_name(asked.name)].specifier
        assert asked.specifier.contains(pin.version, prereleases=True), text
        assert text not in extras or re.search(r"==[0-9.]+$", text), f"{text}: an extra is pinned"


def test_the_set_for_a_gpu_names_what_the_package_asks_for():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["gpu"]
    named = lines_of(ROOT / "requirements.txt")
    assert {canonicalize_name(Requirement(line).name) for line in named} == {
        canonicalize_name(Requirement(text).name) for text in asked
    }


def test_security_rules_pass_and_every_exception_has_a_reason():
    command = [sys.executable, "-m", "ruff", "check", "--select", "S", "--ignore", "S101", *FOLDERS]
    files = [file.name for file in ROOT.glob("*.py")]
    done = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout
    silent = []
    for file in [
        *(ROOT / name for name in files),
        *(one for folder in FOLDERS for one in (ROOT / folder).rglob("*.py")),
    ]:
        lines = file.read_text("utf-8").splitlines()
        for number, line in enumerate(lines):
            if (found := NOQA.search(line)) and len(found["why"].strip("# ()")) < 8:
                silent.append(f"{file.relative_to(ROOT)}:{number + 1}")
    assert silent == []
