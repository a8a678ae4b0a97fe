"""What this machine has: GPUs, memory, disk, network, port, terminal."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from chat.doctor.findings import Finding, Reporter
from chat.net.ports import why_not_listening
from chatcore.models.fit import Machine, free_memory_bytes, gib

__all__ = [
    "Gpu",
    "check_disk",
    "check_gpus",
    "check_hubs",
    "check_memory",
    "check_port",
    "check_shared_memory",
    "check_terminal",
    "read_gpus",
]

NVIDIA_SMI_TIMEOUT_S = 5.0
PROGRAM_BYTES = 2 << 30  # 2 GiB: Python with PyTorch and vLLM imported takes 1 GiB, and a little is left to work with
LOW_SHM_BYTES = 1 << 30  # 1 GiB
LOW_DISK_BYTES = 5 << 30  # 5 GiB: a small model
FREE_PART = 0.9  # of a GPU's memory, which vLLM takes by default
HUB_TIMEOUT_S = 1.5
NARROW_COLUMNS = 60


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU as nvidia-smi lists it."""

    name: str
    memory_bytes: int
    free_bytes: int
    driver: str


def read_gpus() -> tuple[list[Gpu], str]:
    """Return the GPUs, and the newest CUDA that the driver runs, such as ``13.0``."""
    query = "--query-gpu=name,memory.total,memory.free,driver_version"
    listing = _nvidia_smi(query, "--format=csv,noheader,nounits")
    gpus = []
    for line in listing.splitlines():
        parts = [part.strip() for part in line.rsplit(",", 3)]
        if len(parts) == 4 and parts[1].isdigit() and parts[2].isdigit():
            gpus.append(Gpu(parts[0], int(parts[1]) << 20, int(parts[2]) << 20, parts[3]))
    cuda = re.search(r"CUDA Version:\s*([\d.]+)", _nvidia_smi()) if gpus else None
    return gpus, cuda[1] if cuda else ""


def _nvidia_smi(*arguments: str) -> str:
    try:
        result = subprocess.run(  # noqa: S603  # a fixed program, arguments of ours
            ["nvidia-smi", *arguments],  # noqa: S607  # where it lies differs by machine
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return result.stdout


def check_gpus(report: Reporter, gpus: list[Gpu], driver_cuda: str) -> Iterator[Finding]:
    """Look at the GPUs, at what others use of them, and whether the driver fits PyTorch."""
    if not gpus:
        yield report.note("gpu.none")
        return
    first = gpus[0]
    yield report.ok("gpu.ok", count=len(gpus), name=first.name, memory=gib(first.memory_bytes), driver=first.driver)
    for index, gpu in enumerate(gpus):
        if gpu.free_bytes < gpu.memory_bytes * FREE_PART:
            yield report.warning("gpu.busy", index=index, free=gib(gpu.free_bytes), memory=gib(gpu.memory_bytes))
    torch_cuda = _torch_cuda()
    if driver_cuda and torch_cuda and _numbers(driver_cuda) < _numbers(torch_cuda)[:1]:
        yield report.error("gpu.driver", driver=first.driver, driver_cuda=driver_cuda, torch_cuda=torch_cuda)


def _torch_cuda() -> str:
    """Return the CUDA that PyTorch brings along, such as ``13.0.88``; empty if none."""
    for distribution in ("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu13", "nvidia-cuda-runtime-cu12"):
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version))


def check_memory(report: Reporter) -> Iterator[Finding]:
    """Look at the main memory."""
    free = free_memory_bytes()
    if free < PROGRAM_BYTES:
        yield report.warning("memory.low", free=gib(free), needed=gib(PROGRAM_BYTES))
    else:
        yield report.ok("memory.ok", free=gib(free))


def check_shared_memory(report: Reporter, machine: Machine, folder: Path = Path("/dev/shm")) -> Iterator[Finding]:  # noqa: S108  # looked at, not written
    """Look at the shared memory, which only several GPUs, or several processes of one engine, need much of."""
    if not folder.is_dir():
        return
    size = shutil.disk_usage(folder).total
    if size < LOW_SHM_BYTES and machine.num_devices > 1:
        yield report.warning("shm.low", size=gib(size))
    else:
        yield report.ok("shm.ok", size=gib(size))


def check_disk(report: Reporter) -> Iterator[Finding]:
    """Look at the disk where models are kept."""
    cache = Path(os.environ.get("HF_HOME") or "~/.cache/huggingface").expanduser()
    folder = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if not os.access(folder, os.W_OK):
        yield report.warning("disk.readonly", folder=folder)
    elif free < LOW_DISK_BYTES:
        yield report.warning("disk.low", free=gib(free), folder=folder)
    else:
        yield report.ok("disk.ok", free=gib(free), folder=folder)


def check_hubs(report: Reporter, num_cached: int) -> Iterator[Finding]:
    """Ask both hubs at once whether they answer; any answer will do."""
    addresses = {
        "Hugging Face": os.environ.get("HF_ENDPOINT") or "https://huggingface.co",
        "ModelScope": os.environ.get("MODELSCOPE_ENDPOINT") or "https://www.modelscope.cn",
    }
    with ThreadPoolExecutor(len(addresses)) as pool:
        answers = list(pool.map(_answer_ms, addresses.values()))
    for title, answer in zip(addresses, answers, strict=True):
        if isinstance(answer, str):
            yield report.note("hub.away", title=title, reason=answer)
        else:
            yield report.ok("hub.ok", title=title, ms=answer)
    if all(isinstance(answer, str) for answer in answers):
        yield report.warning("hub.none", count=report.texts.count("model", num_cached))


def _answer_ms(address: str) -> int | str:
    """Return after how many milliseconds an address answers, or why it does not."""
    if "://" not in address:
        address = f"https://{address}"
    if not address.startswith(("http://", "https://")):
        return f"{address} is no address"
    started_s = time.monotonic()
    try:
        with urllib.request.urlopen(address, timeout=HUB_TIMEOUT_S):  # noqa: S310  # http or https: looked at above
            pass
    except urllib.error.HTTPError:
        pass  # an answer all the same
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", error))
    return round((time.monotonic() - started_s) * 1000)


def check_port(report: Reporter, port: int) -> Iterator[Finding]:
    """Look whether a server could listen on this machine."""
    taken = why_not_listening("127.0.0.1", port) is not None
    yield report.warning("port.taken", port=port) if taken else report.ok("port.ok", port=port)


def check_terminal(report: Reporter) -> Iterator[Finding]:
    """Look at the terminal: whether it shows Chinese, how wide it is, whether pastes arrive whole."""
    encoding = (sys.stdout.encoding or "").lower()
    if encoding.replace("-", "") != "utf8":
        yield report.warning("terminal.encoding", encoding=encoding or "?")
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        yield report.note("terminal.pipe")
        return
    term = os.environ.get("TERM", "")
    columns = shutil.get_terminal_size().columns
    if term in ("", "dumb"):
        yield report.warning("terminal.dumb", term=term)
    elif columns < NARROW_COLUMNS:
        yield report.warning("terminal.narrow", columns=columns)
    else:
        yield report.ok("terminal.ok", columns=columns, encoding=encoding)
