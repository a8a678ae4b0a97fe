"""What a stack's file asks for -> the processes that run it, in the order in which they start."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chat.net.api_keys import default_key_file
from chat.stack.description import LLMDescription, ServiceDescription, StackDescription
from chat.stack.files import StackFiles
from chat.stack.presets import PRESETS, Kind

__all__ = ["ROUTER_TUNING", "Plan", "Process", "make_plan", "served_name"]

INNER_HOST = "127.0.0.1"
PROGRAM = (sys.executable, "-m", "vllm_deploy")
MODEL_START_S = 60  # a server that ends sooner than this has failed to start and is tried again ever later
START_S = 3
FRONT = "nginx"
ROUTER_HEALTH = "/readiness"  # 200 while one server works; its /health wants all of them
DRAIN_S = 30  # a server that is told to stop may finish its answers for so long: the default of serve


@dataclass(frozen=True, slots=True)
class Process:
    """One program that the supervisor keeps alive.

    Attributes:
        name: such as ``llm-1``.
        arguments: the command line; holds no secret.
        port, host: where it can be reached from this machine.
        health: the path that answers 200 once it can work.
        kind: of the model that it serves; None if it serves none.
        model: under which name clients ask for it.
        folder: the model's folder.
        gpus: numbers of the GPUs that it uses.
        start_s: it has failed to start if it ends sooner, in seconds.
        description: what the stack's file says of it.
    """

    name: str
    arguments: tuple[str, ...]
    port: int
    health: str = "/health"
    environment: Mapping[str, str] = field(default_factory=dict)
    kind: Kind | None = None
    model: str = ""
    folder: Path | None = None
    gpus: tuple[int, ...] = ()
    start_s: int = START_S
    stop_signal: str = "TERM"
    description: ServiceDescription | None = None
    host: str = INNER_HOST

    @property
    def url(self) -> str:
        """Its inner address."""
        return f"http://{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Plan:
    """All processes of a stack.

    Attributes:
        servers: vLLM's servers.
        router: in front of several servers of the language model.
        web: the web page.
        front: nginx; it starts last.
        router_metrics_port: where the router tells Prometheus about itself.
    """

    description: StackDescription
    files: StackFiles
    keys_file: Path
    servers: tuple[Process, ...]
    front: Process
    router: Process | None = None
    web: Process | None = None
    router_metrics_port: int | None = None

    @property
    def processes(self) -> tuple[Process, ...]:
        """Every process, in the order in which they start."""
        middle = tuple(process for process in (self.router, self.web) if process is not None)
        return (*self.servers, *middle, self.front)

    @property
    def url(self) -> str:
        """The one address in front, as it is reached from this machine."""
        return self.front.url

    @property
    def replicas(self) -> tuple[Process, ...]:
        """The servers of the language model."""
        return tuple(server for server in self.servers if server.kind == "llm")

    def server(self, kind: Kind) -> Process | None:
        """Return the first server of a kind of model."""
        return next((server for server in self.servers if server.kind == kind), None)


def served_name(service: ServiceDescription) -> str:
    """Return the name under which clients ask for a service's model."""
    return service.name or service.model or PRESETS[service.preset].model


def make_plan(
    description: StackDescription,
    files: StackFiles,
    folders: Mapping[Kind, Path],
    *,
    nginx: str,
    has_gpu: bool = False,
) -> Plan:
    """Return the processes that a description asks for.

    Args:
        folders: each model's folder on this machine.
        nginx: the program.
        has_gpu: a service that names no GPU then gets the first.
    """
    ports = _Ports(description)
    front = _front(description, files, nginx)
    keys_file = Path(description.api_key_file).expanduser() if description.api_key_file else default_key_file()
    common = {"API_KEY_FILE": str(keys_file), "VERBOSE": "1"}  # vLLM's log goes to the supervisor, which keeps it
    if description.store:
        common["VLLMDEPLOY_STORE"] = description.store
    servers = [
        process
        for kind, service in description.services()
        for process in _servers(kind, service, folders[kind], ports, common, has_gpu)
    ]
    replicas = [server for server in servers if server.kind == "llm"]
    router = metrics_port = web = None
    if len(replicas) > 1:
        port, metrics_port = ports.take(None), ports.take(None)
        arguments = tuple(router_arguments(port, metrics_port, replicas))
        router = Process("router", arguments, port, health=ROUTER_HEALTH, environment={"NO_COLOR": "1"})
    if description.web:
        port = ports.take(description.web.port)
        web = Process("web", tuple(web_arguments(front.url, port)), port, health="/login", start_s=10)
    return Plan(description, files, keys_file, tuple(servers), front, router, web, metrics_port)


def _front(description: StackDescription, files: StackFiles, nginx: str) -> Process:
    """Return nginx, which is reached at 127.0.0.1 where it listens on all addresses."""
    host = {"0.0.0.0": INNER_HOST, "::": "::1"}.get(description.host, description.host)  # noqa: S104  # compared, not listened on
    arguments = (nginx, "-c", str(files.nginx_config), "-e", "stderr")
    return Process(FRONT, arguments, description.port, stop_signal="QUIT", host=f"[{host}]" if ":" in host else host)


class _Ports:
    """Hands out the ports behind the stack's own, leaving out those that the file gives to somebody."""

    def __init__(self, description: StackDescription) -> None:
        asked = [service.port for _, service in description.services()]
        asked.append(description.web.port if description.web else None)
        self._taken = {description.port, *(port for port in asked if port)}
        self._next = description.port + 1

    def take(self, asked: int | None, offset: int = 0) -> int:
        """Return the port that was asked for (for replicas: and those behind it), else the next free one."""
        if asked:
            return asked + offset
        while self._next in self._taken:
            self._next += 1
        self._taken.add(self._next)
        return self._next


def _servers(
    kind: Kind,
    service: ServiceDescription,
    folder: Path,
    ports: _Ports,
    environment: Mapping[str, str],
    has_gpu: bool,
) -> Iterator[Process]:
    """Yield one process, or one for each replica, with its share of the GPUs."""
    replicas = service.replicas if isinstance(service, LLMDescription) else 1
    gpus = service.gpus or ([0] if has_gpu else [])
    share = max(1, len(gpus) // replicas)
    for replica in range(replicas):
        mine = tuple(gpus[replica * share : (replica + 1) * share]) or tuple(gpus)
        port = ports.take(service.port, replica)
        own = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, mine))} if mine else {}
        yield Process(
            name=f"{kind}-{replica + 1}" if replicas > 1 else kind,
            arguments=(*PROGRAM, "serve", *_serve_arguments(service, folder, port, len(mine))),
            port=port,
            environment={**environment, "MODEL_NAME": served_name(service), **own, **service.environment},
            kind=kind,
            model=served_name(service),
            folder=folder,
            gpus=mine,
            start_s=MODEL_START_S,
            description=service,
        )


def _serve_arguments(service: ServiceDescription, folder: Path, port: int, num_gpus: int) -> Iterator[str]:
    """Yield what ``serve`` is told; behind -- stand options of vLLM's server."""
    yield from ("--model", str(folder), "--host", INNER_HOST, "--port", str(port), "--")
    engines = service.data_parallel_size if isinstance(service, LLMDescription) else 1
    if engines > 1:
        yield from ("--data-parallel-size", str(engines))
    if num_gpus // engines > 1:
        yield from ("--tensor-parallel-size", str(num_gpus // engines))
    if service.gpu_memory_utilization is not None:
        yield from ("--gpu-memory-utilization", str(service.gpu_memory_utilization))
    if service.max_model_len is not None:
        yield from ("--max-model-len", str(service.max_model_len))
    preset = PRESETS[service.preset].arguments if service.preset else {}
    for name, value in {**preset, **_dashed(service.arguments)}.items():
        yield from option(name, value)


def _dashed(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {name.replace("_", "-"): value for name, value in arguments.items()}


def option(name: str, value: Any) -> list[str]:
    """Return an option of vLLM's server as words of a command line.

    >>> option("max-num-seqs", 64), option("enforce-eager", True), option("hf-overrides", {"a": 1})
    (['--max-num-seqs', '64'], ['--enforce-eager'], ['--hf-overrides', '{"a": 1}'])
    """
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, (dict, list)):
        return [f"--{name}", json.dumps(value, ensure_ascii=False)]
    return [f"--{name}", str(value)]


def web_arguments(url: str, port: int) -> Iterator[str]:
    """Yield the web page's command line: it talks to the front as any client does; people log in with their keys."""
    yield from (*PROGRAM, "web", "--url", f"{url}/v1", "--host", INNER_HOST, "--port", str(port))


# A dead server is left out after two failed checks, a second apart, so that conversations move to another one within
# 5 s; a server that is only busy has 5 s to answer a check. It is back 5 s after it answers again.
ROUTER_TUNING = (
    "--policy=sticky_least_loaded",
    "--health-check-interval-secs=1",
    "--health-check-timeout-secs=5",
    "--health-failure-threshold=2",
    "--health-success-threshold=1",
    "--cb-timeout-duration-secs=5",
    "--worker-startup-check-interval=1",
    "--request-timeout-secs=7200",
)


def router_arguments(port: int, metrics_port: int, replicas: Sequence[Process]) -> Iterator[str]:
    """Yield the router's command line."""
    yield from (sys.executable, "-m", "vllm_router.launch_router", "--host", INNER_HOST, "--port", str(port))
    yield from ("--worker-urls", *(replica.url for replica in replicas))
    yield from (*ROUTER_TUNING, "--prometheus-port", str(metrics_port))
