"""A monitor of memory, descriptors, threads and file sizes of running processes, and of their growth."""

from __future__ import annotations

import json
import statistics
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from tests.program import python_path
from tests.serving import RunningServer

__all__ = ["PROBE", "Monitor", "cpu_seconds", "probe_environment", "server_processes"]

PROBE = Path(__file__).parent / "probe"
MEBIBYTE = 1 << 20
PROBE_TIMEOUT_S = 10.0
SETTLED = 1 / 3  # of the time; caches and pools fill in the beginning


def server_processes(server: RunningServer) -> dict[str, psutil.Process]:
    """Return the processes of a server by what they are: ``serve``, ``api``, ``engine``, ``worker``."""
    above = psutil.Process(server.process.pid)
    found = {"serve": above}
    for process in above.children(recursive=True):
        name = process.name().removeprefix("VLLM::")
        if "resource_tracker" in " ".join(process.cmdline()):
            continue
        found[{"EngineCore": "engine", "Worker": "worker"}.get(name, "api")] = process
    return found


def cpu_seconds(processes: Mapping[str, psutil.Process]) -> float:
    """Return the time that processes have worked, all cores together."""
    return sum(sum(process.cpu_times()[:2]) for process in processes.values())


def probe_environment(folder: Path) -> dict[str, str]:
    """Return environment variables that load the probe in a process and its children.

    Args:
        folder: where the probe reads requests and writes results.
    """
    folder.mkdir(exist_ok=True)
    return {**python_path(PROBE), "PROBE_FOLDER": str(folder)}


class Monitor:
    """Samples processes and files at an interval, in a thread, while a ``with`` block runs.

    Args:
        processes: by the names that they have in the figures.
        files: whose sizes are sampled; a missing one has size 0.
        interval_s: between two samples.
        folder: that of ``probe_environment``, if the processes run with the probe.
    """

    def __init__(
        self,
        processes: Mapping[str, psutil.Process],
        files: Mapping[str, Path] | None = None,
        *,
        interval_s: float,
        folder: Path | None = None,
    ) -> None:
        self.samples: list[tuple[float, dict[str, float]]] = []
        self._processes = dict(processes)
        self._files = dict(files or {})
        self._interval_s = interval_s
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="monitor", daemon=True)

    def __enter__(self) -> Monitor:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.samples.append(self.sample())

    def sample(self) -> tuple[float, dict[str, float]]:
        """Return the time and the current values.

        ``api rss_mb``, ``api descriptors``, ``api threads``, ``wal mb``; of processes with the probe also
        ``api held_mb`` and ``api objects``.
        """
        values: dict[str, float] = {}
        for name, process in self._processes.items():
            values |= {f"{name} {what}": value for what, value in self._probe_values(process).items()}
            with process.oneshot():
                values[f"{name} rss_mb"] = process.memory_info().rss / MEBIBYTE
                values[f"{name} descriptors"] = process.num_fds()
                values[f"{name} threads"] = process.num_threads()
        for name, file in self._files.items():
            values[f"{name} mb"] = file.stat().st_size / MEBIBYTE if file.exists() else 0.0
        return time.monotonic(), values

    def growth(self, name: str) -> float:
        """Return by how much the line through a value rises from the first third of the time to the end."""
        points = self._settled(name)
        times_s, values = [at_s for at_s, _ in points], [value for _, value in points]
        if len(points) < 3:
            return 0.0
        return statistics.linear_regression(times_s, values).slope * (times_s[-1] - times_s[0])

    def excess_growth(self, allowed: Mapping[str, float]) -> list[str]:
        """Return what has grown by more than is allowed, by the last word of its name; empty: all is flat."""
        names = [name for name in self.samples[0][1] if name.rsplit(" ", 1)[1] in allowed]
        return [
            f"{name}: {self.growth(name):+.1f}" for name in names if self.growth(name) > allowed[name.rsplit(" ", 1)[1]]
        ]

    def figures(self) -> dict[str, Any]:
        """Return of each value: its course in tenths of the time, at the first third, at the end, its largest, and its
        growth an hour since the third."""
        return {name: self._figures(name) for name in self.samples[0][1]}

    def _probe_values(self, process: psutil.Process) -> dict[str, float]:
        """Return the values that the probe in a process reports; none if it runs without the probe."""
        if not self._folder:
            return {}
        result = self._folder / f"{process.pid}.json"
        result.unlink(missing_ok=True)
        result.with_suffix(".ask").touch()
        deadline_s = time.monotonic() + PROBE_TIMEOUT_S
        while not result.exists():
            if time.monotonic() > deadline_s:
                raise TimeoutError(f"process {process.pid} does not answer the probe request")
            time.sleep(0.02)
        return dict(json.loads(result.read_text()))

    def _figures(self, name: str) -> dict[str, Any]:
        points = self._settled(name)
        hours = (points[-1][0] - points[0][0]) / 3600
        return {
            "settled": round(points[0][1], 1),
            "end": round(points[-1][1], 1),
            "max": round(max(values[name] for _, values in self.samples), 1),
            "course": [round(values[name], 1) for _, values in self.samples[:: max(1, len(self.samples) // 10)]],
            "growth": round(self.growth(name), 2),
            "growth_per_hour": round(self.growth(name) / hours, 1) if hours else 0.0,
        }

    def _settled(self, name: str) -> list[tuple[float, float]]:
        begun_s, ended_s = self.samples[0][0], self.samples[-1][0]
        since_s = begun_s + SETTLED * (ended_s - begun_s)
        return [(at_s, values[name]) for at_s, values in self.samples if at_s >= since_s]

    def _run(self) -> None:
        while not self._over.is_set():
            self.samples.append(self.sample())
            self._over.wait(self._interval_s)
