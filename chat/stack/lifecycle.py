"""A stack is brought up in order, looked at, and brought down."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx2

from chat.net.api_keys import find_api_key, make_key_file, read_key_file
from chat.stack.checks import check_front, check_memory, check_ports, check_programs, find_nginx
from chat.stack.description import read_description
from chat.stack.files import StackFiles, files_of, make_folders, write_private
from chat.stack.front import Upstreams, nginx_config
from chat.stack.plan import Plan, Process, make_plan
from chat.stack.presets import PRESETS, Kind
from chat.stack.supervision import ProcessState, Supervisor, supervisor_config
from chatcore.errors import ConfigError, StackError
from chatcore.models.fit import find_machine
from chatcore.models.hub import resolve_model

__all__ = ["Row", "bring_down", "bring_up", "read_plan", "rows_of"]

POLL_S = 0.5
HEALTH_TIMEOUT_S = 5.0
LOG_LINES = 12  # of a process that could not start


@dataclass(frozen=True, slots=True)
class Row:
    """What ``status`` tells of one process."""

    process: Process
    state: ProcessState
    is_healthy: bool
    memory_bytes: int

    @property
    def word(self) -> str:
        """One word for people: ready, loading, down, failed ..."""
        if self.state.runs:
            return "ready" if self.is_healthy else "loading"
        return {"BACKOFF": "retrying", "FATAL": "failed", "STOPPED": "down"}.get(self.state.state, "down")


def read_plan(file: Path) -> Plan:
    """Return what a stack's file asks for; models are looked up, and downloaded if need be.

    Raises:
        ConfigError: something is wrong with the file.
        ModelError: a model cannot be had.
        StackError: nginx is missing.
    """
    description = read_description(file)
    folders: dict[Kind, Path] = {}
    for kind, service in description.services():
        name = service.model or PRESETS[service.preset].model
        beside = file.resolve().parent / Path(name).expanduser()
        folders[kind] = resolve_model(beside if beside.is_dir() else name).resolve()
    machine = find_machine()
    return make_plan(description, files_of(file), folders, nginx=find_nginx(), has_gpu=machine.kind == "gpu")


def bring_up(file: Path) -> Plan:
    """Start what is not up yet, in order, each process once those before it can work.

    Raises:
        ConfigError: something is wrong with the file, or the stack is up with other settings.
        StackError: something is missing or taken, or a process cannot start; then nothing is left running.
    """
    plan = read_plan(file)
    check_programs(needs_router=plan.router is not None)
    configurations = _configurations(plan)
    supervisor = Supervisor(plan.files)
    if supervisor.is_up():
        if any(path.read_text("utf-8") != text for path, text in configurations.items()):
            raise ConfigError("the stack is up with other settings", hint="First: stack down.")
        _start_in_order(plan, supervisor)
        return plan
    _check_before_start(plan)
    for path, text in configurations.items():
        write_private(path, text)
    check_front(plan)
    supervisor.start()
    try:
        _start_in_order(plan, supervisor)
    except BaseException:
        say("stopping what had started")
        supervisor.stop()
        raise
    return plan


def bring_down(files: StackFiles) -> None:
    """End a stack's processes; answers that are being given may be finished.

    Raises:
        StackError: it is not up, or does not stop.
    """
    Supervisor(files).stop()


def rows_of(plan: Plan) -> list[Row]:
    """Return the state of every process, in the order in which they start.

    Raises:
        StackError: the stack is not up.
    """
    states = Supervisor(plan.files).states()
    return [
        Row(process, state, state.runs and is_healthy(process), _memory_bytes(state.pid))
        for process in plan.processes
        if (state := states.get(process.name)) is not None
    ]


def say(text: str) -> None:
    """Tell what goes on, on standard error."""
    print(text, file=sys.stderr, flush=True)


def is_healthy(process: Process) -> bool:
    """Ask a process whether it can work."""
    try:
        answer = httpx2.get(f"{process.url}{process.health}", timeout=HEALTH_TIMEOUT_S, trust_env=False)
    except httpx2.HTTPError:
        return False
    return bool(answer.status_code == httpx2.codes.OK)


def _check_before_start(plan: Plan) -> None:
    """Find what would go wrong; make the folders and, if nobody has named any, the keys."""
    if plan.description.api_key_file:
        read_key_file(plan.keys_file)
    check_ports(plan)
    check_memory(plan, find_machine())
    make_folders(plan.files)
    if not plan.description.api_key_file and make_key_file(plan.keys_file):
        say(f"a key was made: {plan.keys_file}")
    write_private(plan.files.models, json.dumps({"object": "list", "data": []}))


def _configurations(plan: Plan) -> dict[Path, str]:
    """Return what the supervisor and nginx are told, by their files."""
    host, files = plan.description.host, plan.files
    listen = f"[{host}]:{plan.front.port}" if ":" in host else f"{host}:{plan.front.port}"
    front = nginx_config(
        upstreams_of(plan), listen=listen, folder=files.folder, models=files.models, as_root=os.geteuid() == 0
    )
    return {files.supervisor_config: supervisor_config(plan), files.nginx_config: front}


def upstreams_of(plan: Plan) -> Upstreams:
    """Return where the front finds the services."""

    def address(process: Process | None) -> str:
        return process.url.removeprefix("http://") if process else ""

    llm = plan.description.llm
    return Upstreams(
        llm=tuple(address(server) for server in plan.replicas),
        router=address(plan.router),
        embedding=address(plan.server("embedding")),
        rerank=address(plan.server("rerank")),
        web=address(plan.web),
        data_parallel_size=llm.data_parallel_size if llm else 1,
    )


def _start_in_order(plan: Plan, supervisor: Supervisor) -> None:
    """Start the processes; those whose models share no GPU load at the same time."""
    for wave in _waves(plan):
        started_s = time.monotonic()
        for process in wave:
            if not supervisor.states()[process.name].runs:
                say(f"{process.name}: starting (log: {plan.files.log_of(process.name)})")
                supervisor.start_process(process.name)
        if plan.front in wave:
            _write_models(plan)
        for process in wave:
            _wait_until_healthy(process, plan, supervisor, started_s)


def _waves(plan: Plan) -> Iterator[Sequence[Process]]:
    """Yield what may start together: one server on each GPU, since vLLM measures its free memory; one on each core."""
    wave: list[Process] = []
    for server in plan.servers:
        shared = any(set(server.gpus) & set(other.gpus) for other in wave)
        if shared or len(wave) == (os.cpu_count() or 1):
            yield tuple(wave)
            wave = []
        wave.append(server)
    yield tuple(wave)
    for process in plan.processes[len(plan.servers) :]:
        yield (process,)


def _wait_until_healthy(process: Process, plan: Plan, supervisor: Supervisor, started_s: float) -> None:
    limit_s = plan.description.start_timeout_s
    while not is_healthy(process):
        state = supervisor.states()[process.name]
        if not state.runs and state.state != "STOPPING":
            raise StackError(
                f"{process.name} cannot start ({state.problem or state.state.lower()}):\n{_last_lines(plan, process)}",
                hint=f"Its log: {plan.files.log_of(process.name)}",
            )
        if time.monotonic() - started_s > limit_s:
            raise StackError(
                f"{process.name} did not answer within {limit_s:.0f} s:\n{_last_lines(plan, process)}",
                hint="Give it longer: start_timeout_s.",
            )
        time.sleep(POLL_S)
    say(f"{process.name}: ready after {time.monotonic() - started_s:.0f} s")


def _last_lines(plan: Plan, process: Process) -> str:
    try:
        text = plan.files.log_of(process.name).read_text("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join(f"  {line}" for line in text.splitlines()[-LOG_LINES:])


def _write_models(plan: Plan) -> None:
    """Write down the models of all services, as each tells them: nginx answers /v1/models from it."""
    key = find_api_key(plan.url, str(plan.keys_file))
    models: dict[str, object] = {}
    for server in plan.servers:
        answer = httpx2.get(
            f"{server.url}/v1/models",
            headers={"Authorization": f"Bearer {key}"},
            timeout=HEALTH_TIMEOUT_S,
            trust_env=False,
        )
        if answer.status_code != httpx2.codes.OK:
            raise StackError(f"{server.name} does not tell its models: {answer.status_code} {answer.text[:200]}")
        models |= {model["id"]: model for model in answer.json()["data"]}
    write_private(plan.files.models, json.dumps({"object": "list", "data": list(models.values())}))


def _memory_bytes(pid: int) -> int:
    """Return what a process and its children hold, in bytes; shared pages count once for each."""
    import psutil

    if not pid:
        return 0
    total = 0
    try:
        process = psutil.Process(pid)
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    except psutil.Error:
        pass
    return total
