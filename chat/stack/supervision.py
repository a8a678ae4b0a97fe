"""supervisor's configuration for a stack, and a line to the supervisor that runs."""

from __future__ import annotations

import contextlib
import re
import shlex
import subprocess
import sys
import time
import xmlrpc.client
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chat.stack.files import StackFiles
from chat.stack.plan import DRAIN_S, FRONT, Plan, Process
from chatcore.errors import ConfigError, StackError

__all__ = ["ProcessState", "Supervisor", "supervisor_config"]

LOG_BYTES, LOG_BACKUPS = 20 << 20, 5  # a log is at most 120 MiB: the newest 20 and five before them
START_RETRIES = 10  # after 1, 2, 3 ... seconds, a minute in all: so long its predecessor may hold the port
STOP_S = DRAIN_S + 30
ANSWER_S = 30
# supervisor cuts a value off where its files' comments begin, whatever the quotes.
COMMENT = re.compile(r"\s[;#]|[\r\n]")


def supervisor_config(plan: Plan) -> str:
    """Return the configuration that keeps a plan's processes alive.

    Nothing starts by itself when the supervisor does: the order is kept by whoever brings the stack up. Later each
    process is started again when it ends; one that cannot start is tried ever later and then left alone.

    Raises:
        ConfigError: a value that supervisor's files cannot hold.
    """
    files = plan.files
    sections = [
        "; Written by vllm_deploy.py stack; changes are lost.",
        f"[unix_http_server]\nfile={_value(str(files.socket))}\nchmod=0700",
        f"[supervisord]\nlogfile={_value(str(files.log_of('supervisor')))}\nlogfile_maxbytes={LOG_BYTES}\n"
        f"logfile_backups={LOG_BACKUPS}\npidfile={_value(str(files.pid_file))}\numask=077",
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        f"[supervisorctl]\nserverurl=unix://{_value(str(files.socket))}",
        *(_program(process, files) for process in plan.processes),
    ]
    return "\n\n".join(sections) + "\n"


def _program(process: Process, files: StackFiles) -> str:
    settings = {
        "command": _value(shlex.join(process.arguments)),
        "directory": _value(str(files.folder)),
        "environment": ",".join(f"{name}={_value(_quoted(text))}" for name, text in process.environment.items()),
        "autostart": "false",
        "autorestart": "true",
        "startsecs": process.start_s,
        "startretries": START_RETRIES,
        "stopsignal": process.stop_signal,
        "stopwaitsecs": STOP_S,
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": _value(str(files.log_of(process.name))),
        "stdout_logfile_maxbytes": LOG_BYTES,
        "stdout_logfile_backups": LOG_BACKUPS,
    }
    lines = [f"{name}={value}" for name, value in settings.items() if value != ""]
    return "\n".join([f"[program:{process.name}]", *lines])


def _quoted(text: str) -> str:
    """Return a value of an environment variable as supervisor reads it back."""
    if '"' in text:
        if "'" in text:
            raise ConfigError("a variable of the environment has both kinds of quotes, which supervisor cannot hold")
        return f"'{text}'"
    return f'"{text}"'


def _value(text: str) -> str:
    if COMMENT.search(text):
        raise ConfigError(
            f"supervisor cannot hold {text[:80]!r}: it would end at a space before ; or # and at a line's end",
            hint="Put the value into a file, or write it without that space.",
        )
    return text.replace("%", "%%")


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What the supervisor says of a process; ``pid`` is 0 while it does not run.

    Attributes:
        name: of the process.
        state: supervisor's word: STOPPED, STARTING, RUNNING, BACKOFF, STOPPING, EXITED, FATAL.
        age_s: since when it runs, in seconds.
        problem: what the supervisor says of its last end.
    """

    name: str
    state: str
    pid: int
    age_s: float
    problem: str

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self.pid > 0


class Supervisor:
    """The supervisor of one stack."""

    def __init__(self, files: StackFiles) -> None:
        self._files = files

    def start(self) -> None:
        """Start it in the background.

        Raises:
            StackError: it does not start.
        """
        self._files.socket.parent.mkdir(parents=True, exist_ok=True)
        result = subprocess.run(  # noqa: S603  # supervisor's own command
            [sys.executable, "-P", "-m", "supervisor.supervisord", "-c", str(self._files.supervisor_config)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            umask=0o077,
        )
        if result.returncode:
            raise StackError(f"the supervisor does not start: {(result.stderr or result.stdout).strip()}")
        deadline_s = time.monotonic() + ANSWER_S
        while not self.is_up():
            if time.monotonic() > deadline_s:
                raise StackError(f"the supervisor does not answer; see {self._files.log_of('supervisor')}")
            time.sleep(0.1)

    def is_up(self) -> bool:
        """Tell whether it runs."""
        try:
            with self._ask() as supervisor:
                supervisor.getState()
        except StackError:
            return False
        return True

    def states(self) -> dict[str, ProcessState]:
        """Return the state of every process by its name."""
        with self._ask() as supervisor:
            rows = supervisor.getAllProcessInfo()
        return {
            row["name"]: ProcessState(
                row["name"],
                row["statename"],
                row["pid"],
                float(row["now"] - row["start"]) if row["pid"] else 0.0,
                row["spawnerr"] or (f"exit code {row['exitstatus']}" if row["exitstatus"] else ""),
            )
            for row in rows
        }

    def start_process(self, name: str) -> None:
        """Start a process; returns before it can work."""
        with self._ask() as supervisor:
            supervisor.startProcess(name, False)

    def stop(self) -> None:
        """End the front, so that nothing new comes in, then everything else at once, then the supervisor itself.

        Each process may finish its work first; one that takes longer than a minute is killed.

        Raises:
            StackError: the supervisor is not up, or does not end.
        """
        with self._ask() as supervisor:
            if self.states()[FRONT].runs:
                supervisor.stopProcess(FRONT)
            supervisor.stopAllProcesses()
            supervisor.shutdown()
        deadline_s = time.monotonic() + ANSWER_S
        while self.is_up() or self._files.pid_file.exists():
            if time.monotonic() > deadline_s:
                raise StackError("the supervisor does not end", hint=f"See {self._files.log_of('supervisor')}.")
            time.sleep(0.1)

    @contextlib.contextmanager
    def _ask(self) -> Iterator[Any]:
        from supervisor.xmlrpc import SupervisorTransport

        transport = SupervisorTransport(None, None, f"unix://{self._files.socket}")
        try:
            with xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport) as server:
                yield server.supervisor
        except xmlrpc.client.Fault as error:
            raise StackError(f"the supervisor refuses: {error.faultString}") from error
        except (OSError, xmlrpc.client.Error) as error:
            raise StackError("the stack is not up", hint="Start it: stack up.") from error
        finally:
            transport.close()
