"""What would go wrong, found before anything starts: programs, ports, memory."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from chat.net.ports import why_not_listening
from chat.stack.plan import Plan, Process
from chatcore.engine.loading import cpu_kv_cache_bytes
from chatcore.errors import ConfigError, StackError
from chatcore.models.fit import DEFAULT_PART, PROGRAM_BYTES, Machine, ModelFit, cpu_dtype, explain, fit_model, gib
from chatcore.models.memory import read_memory_needs

__all__ = ["check_front", "check_memory", "check_ports", "check_programs", "find_nginx"]

NGINX_PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/local/nginx/sbin", "/opt/homebrew/bin")


def find_nginx() -> str:
    """Return the path of nginx.

    Raises:
        StackError: it is not installed.
    """
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *NGINX_PLACES])
    if found := shutil.which("nginx", path=path):
        return found
    raise StackError("nginx is not installed", hint="Debian and Ubuntu: apt install nginx.")


def check_programs(*, needs_router: bool) -> None:
    """Raise StackError if a package of the extra ``stack`` is missing."""
    wanted = ["supervisor", *(["vllm_router"] if needs_router else [])]
    missing = [name.replace("_", "-") for name in wanted if importlib.util.find_spec(name) is None]
    if missing:
        raise StackError(f"{' and '.join(missing)} is not installed", hint='Install it: make install EXTRAS="stack".')


def check_ports(plan: Plan) -> None:
    """Raise StackError if a port is asked for twice, or somebody listens on it already; all are told at once."""
    wanted: dict[int, list[str]] = defaultdict(list)
    for process in plan.processes:
        wanted[process.port].append(process.name)
    if plan.router_metrics_port:
        wanted[plan.router_metrics_port].append("the router's metrics")
    twice = [f"port {port} is meant for {' and '.join(names)}" for port, names in wanted.items() if len(names) > 1]
    if twice:
        raise ConfigError("; ".join(twice), hint="Each service needs a port of its own.")
    hosts = {plan.front.port: plan.description.host}
    taken = [
        f"port {port} ({names[0]}) is taken{_by_whom(port)}"
        for port, names in wanted.items()
        if not _is_free(hosts.get(port, "127.0.0.1"), port)
    ]
    if taken:
        raise StackError("; ".join(taken), hint="End that program, or choose other ports in the stack's file.")


def check_front(plan: Plan) -> None:
    """Raise StackError if nginx does not accept the configuration that was written for it."""
    command = [*plan.front.arguments, "-t", "-q"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603  # programs that the stack starts
    if result.returncode:
        raise StackError(f"nginx refuses its configuration: {result.stderr.strip()}")


def _is_free(host: str, port: int) -> bool:
    error = why_not_listening(host, port)
    if port < 1024 and isinstance(error, PermissionError):
        raise StackError(f"port {port} is for root alone", hint="Choose one from 1024 on.") from error
    return error is None


def _by_whom(port: int) -> str:
    """Return who listens on a port, if this user may know."""
    import psutil

    try:
        for connection in psutil.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return ""


def check_memory(plan: Plan, machine: Machine) -> None:
    """Raise StackError if the models cannot all be loaded at once.

    Args:
        machine: what :func:`chatcore.models.fit.find_machine` found.
    """
    on_gpu = [server for server in plan.servers if server.gpus]
    _check_gpus(on_gpu, machine)
    _check_main_memory([server for server in plan.servers if not server.gpus])


def _check_gpus(servers: Iterable[Process], machine: Machine) -> None:
    parts: dict[int, dict[str, float]] = defaultdict(dict)
    for server in servers:
        part = _part(server)
        for gpu in server.gpus:
            parts[gpu][server.name] = part
        if machine.kind != "gpu" or max(server.gpus) >= machine.num_devices:
            number = machine.num_devices if machine.kind == "gpu" else 0
            raise StackError(f"{server.name} wants GPU {max(server.gpus)}; this machine has {number} GPUs")
        fit = _fit(server, machine, part)
        if fit is not None and not fit.fits:
            sentence, hint = explain(fit)
            raise StackError(f"{server.name} does not fit: {sentence}", hint=hint)
    for gpu, shares in parts.items():
        if sum(shares.values()) > 1 and len(shares) > 1:
            told = ", ".join(f"{name} {share:.2f}" for name, share in shares.items())
            even = DEFAULT_PART / len(shares)
            raise StackError(
                f"GPU {gpu} is given out {sum(shares.values()):.2f} times: {told}",
                hint=f"Set gpu_memory_utilization so that the sum is below 1, for example {even:.2f} each.",
            )


def _check_main_memory(servers: Iterable[Process]) -> None:
    import psutil

    needed = {server.name: _main_memory_bytes(server) for server in servers}
    available = psutil.virtual_memory().available
    if sum(needed.values()) > available:
        told = ", ".join(f"{name} {gib(size)}" for name, size in needed.items())
        raise StackError(
            f"{gib(sum(needed.values()))} of memory are needed, {gib(available)} are free: {told}",
            hint="Take smaller models or fewer replicas, or set arguments: kv-cache-memory-bytes.",
        )


def _main_memory_bytes(server: Process) -> int:
    """Return what a server takes without a GPU: the program, the weights, one step's values, the cache."""
    assert server.folder is not None
    arguments = _arguments(server)
    dtype = arguments.get("dtype") or cpu_dtype(server.folder, arguments.get("quantization"))
    needs = read_memory_needs(server.folder, dtype=dtype)
    cache = arguments.get("kv-cache-memory-bytes")
    window = server.description.max_model_len if server.description else None
    cache_bytes = int(cache) if cache else cpu_kv_cache_bytes(server.folder, dtype=dtype, max_model_len=window)
    return PROGRAM_BYTES["cpu"] + (needs.weights_bytes or 0) + needs.activation_bytes + cache_bytes


def _fit(server: Process, machine: Machine, part: float) -> ModelFit | None:
    needs = read_memory_needs(server.folder or Path())
    if needs.weights_bytes is None:
        return None
    engines = getattr(server.description, "data_parallel_size", 1)
    window = server.description.max_model_len if server.description else None
    return fit_model(needs, machine, num_gpus=len(server.gpus) // engines, part=part, max_model_len=window)


def _part(server: Process) -> float:
    chosen = server.description.gpu_memory_utilization if server.description else None
    return chosen or DEFAULT_PART


def _arguments(server: Process) -> Mapping[str, Any]:
    arguments = server.description.arguments if server.description else {}
    return {name.replace("_", "-"): value for name, value in arguments.items()}
