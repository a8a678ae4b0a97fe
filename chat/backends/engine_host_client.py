"""Replies from the engine host on this machine: connect to a warm one, or start one."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import Any

from chat.backends.base import BackendStatus, BackendStream, Fit, ModelInfo, Readiness
from chat.backends.engine_host import ROOT, HostSettings, runtime_dir
from chatcore.errors import ChatError, EngineError, InvalidMessageError, from_dict
from chatcore.reply import Delta, MessageDict, Reply

__all__ = ["EngineHostBackend", "HostDescription", "encode_request", "list_hosts", "stop_hosts"]

CONNECT_TIMEOUT_S = 20.0  # from starting a host to its socket; it listens before it imports anything heavy
RETRY_INTERVAL_S = 0.02
RELOAD_TIMEOUT_S = 10.0  # for an old host to leave
ASK_TIMEOUT_S = 2.0  # for hosts that are asked to describe themselves


class EngineHostBackend:
    """Replies from the engine host of these settings: a warm one if there is one, else one is started.

    Args:
        settings: the model and its engine's options.

    The constructor returns at once; connecting and loading go on in the background.
    """

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings
        self.name = settings.model
        self._link = _HostLink(settings)

    @property
    def log_file(self) -> Path | None:
        """Where the host's and vLLM's own log lines go."""
        return self._link.log_file

    def status(self) -> BackendStatus:
        """Tell how far loading is. Never blocks."""
        return self._link.readiness.status()

    def wait_until_ready(self, timeout_s: float | None = None) -> BackendStatus:
        """Wait until the model is loaded, or failed to load, or the time is over."""
        return self._link.readiness.wait(timeout_s)

    def info(self) -> ModelInfo:
        """Return what is known of the model; waits until it is loaded.

        Raises:
            ChatError: it could not be loaded.
        """
        return self._link.readiness.info()

    def stream(
        self, messages: Sequence[MessageDict], *, session_id: str | None = None, **options: Any
    ) -> BackendStream:
        """Begin an answer; options are those of :meth:`vllm_wrapper.VLLMWrapper.stream`. Waits for the model.

        ``session_id`` says which conversation it is; here, where there is one engine, it leads nowhere else.
        """
        link = self._link
        link.readiness.info()
        return _HostStream(link, *link.ask({"op": "stream", "messages": list(messages), "options": options}))

    def fit(self, messages: Sequence[MessageDict], **options: Any) -> Fit:
        """Return what of these messages fits the window; options as in :meth:`vllm_wrapper.VLLMWrapper.fit`.

        With ``per_message=True`` the tokens of each message are counted too, which takes longer.
        """
        link = self._link
        link.readiness.info()
        _, events = link.ask({"op": "fit", "messages": list(messages), "options": options})
        event = _raise_error(events.get())
        return Fit(
            event["num_prompt_tokens"],
            event["max_prompt_tokens"],
            tuple(event["dropped"]),
            tuple(event["message_tokens"]),
        )

    def models(self) -> list[str]:
        """Return the models that are loaded on this machine."""
        return [host.model for host in list_hosts()]

    def reload(self) -> None:
        """Load the model anew, in a new host; an old one that still runs is stopped."""
        with contextlib.suppress(ChatError):
            self._link.send({"op": "stop"})
            self._link.wait_until_gone(RELOAD_TIMEOUT_S)
        self._link.close()
        self._link = _HostLink(self._settings)

    def close(self) -> None:
        """Leave the host; it stays warm for its keep-alive."""
        self._link.close()


class _HostLink:
    """One connection to a host, from its opening to its end; a reload makes another."""

    def __init__(self, settings: HostSettings) -> None:
        self._settings = settings
        self.log_file = settings.log_file
        self._request_ids = itertools.count(1)
        self.readiness = Readiness()
        self._connection: Connection | None = None
        self._closed = False
        self._gone = threading.Event()
        self._waiting: dict[int, queue.SimpleQueue[dict[str, Any]]] = {}
        self._send_lock = threading.Lock()
        threading.Thread(target=self._run, name="engine-host-client", daemon=True).start()

    def wait_until_gone(self, timeout_s: float) -> None:
        self._gone.wait(timeout_s)

    def ask(self, request: Mapping[str, Any]) -> tuple[int, queue.SimpleQueue[dict[str, Any]]]:
        """Send a request; return its id, and where its events will come."""
        request_id = next(self._request_ids)
        events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._waiting[request_id] = events
        try:
            self.send({**request, "id": request_id})
        except ChatError:
            self._waiting.pop(request_id, None)
            raise
        return request_id, events

    def send(self, request: Mapping[str, Any]) -> None:
        if self._connection is None:
            raise self.readiness.error or EngineError("there is no connection to the engine")
        data = encode_request(request)
        try:
            with self._send_lock:
                self._connection.send_bytes(data)
        except (OSError, ValueError) as error:
            raise self.readiness.error or EngineError("the engine has ended") from error

    def close(self) -> None:
        self._closed = True
        if self._connection is not None:
            with contextlib.suppress(OSError):  # only a shut-down socket wakes the thread that reads from it
                _shut_down(self._connection)

    def _run(self) -> None:
        """Connect, then hand every event to whom it belongs, until the connection ends."""
        try:
            connection, greeting = connect_or_start(self._settings)
        except ChatError as error:
            self.readiness.become("failed", error=error)
            self._gone.set()
            return
        self._connection = connection
        try:
            self._dispatch(json.loads(greeting))
            while not self._closed:
                self._dispatch(json.loads(connection.recv_bytes()))
        except (EOFError, OSError):
            self._lost()
        finally:
            connection.close()
            self._gone.set()

    def _dispatch(self, event: dict[str, Any]) -> None:
        if event["event"] == "status":
            self.readiness.become(
                event["stage"],
                error=from_dict(event["error"]) if event["error"] else None,
                info=ModelInfo(**event["info"]) if event["info"] else None,
            )
        elif waiting := self._waiting.get(event["id"]):
            waiting.put(event)
            if event["event"] != "delta":
                del self._waiting[event["id"]]

    def _lost(self) -> None:
        """The host has gone: everybody who waits hears of it, and so does whoever asks next."""
        if not self._closed and self.readiness.status().stage != "failed":
            error = EngineError(
                "the engine has ended unexpectedly",
                hint=f"The conversation is kept: /reload starts the engine again. Its log: {self.log_file}",
            )
            self.readiness.become("failed", error=error)
        problem = self.readiness.error or EngineError("the connection to the engine was closed")
        for request_id in list(self._waiting):
            self._waiting.pop(request_id).put({"event": "error", "error": problem})


class _HostStream:
    """An answer that a host is giving."""

    def __init__(self, link: _HostLink, request_id: int, events: queue.SimpleQueue[dict[str, Any]]) -> None:
        self._link = link
        self._request_id = request_id
        self._events = events
        self._reply: Reply | None = None

    def __iter__(self) -> Iterator[Delta]:
        while self._reply is None:
            event = _raise_error(self._events.get())
            if event["event"] == "end":
                self._reply = Reply.from_dict(event["reply"])
            else:
                yield Delta(event["kind"], event["text"], event["tool_call"])

    def __enter__(self) -> _HostStream:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reply is None:
            self.abort()

    def abort(self) -> None:
        with contextlib.suppress(ChatError):
            self._link.send({"op": "abort", "id": self._request_id})

    @property
    def reply(self) -> Reply:
        for _ in self:
            pass
        assert self._reply is not None
        return self._reply


def encode_request(request: Mapping[str, Any]) -> bytes:
    """Return a request as it travels to the host.

    Raises:
        InvalidMessageError: it holds what no JSON text can tell.
    """
    try:
        return json.dumps(request, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        half = error.object[error.start : error.end]
        raise InvalidMessageError(f"a text holds half a character, {half!r}, which no model can read") from error
    except (TypeError, ValueError) as error:
        raise InvalidMessageError(f"the messages or options cannot be told as JSON: {error}") from error
    except RecursionError as error:
        raise InvalidMessageError("the messages or options are nested too deep") from error


def _raise_error(event: dict[str, Any]) -> dict[str, Any]:
    if event["event"] == "error":
        error = event["error"]
        raise error if isinstance(error, ChatError) else from_dict(error)
    return event


def connect_or_start(settings: HostSettings) -> tuple[Connection, bytes]:
    """Return a connection to the host of these settings and the first thing it says; start it if none listens.

    Raises:
        EngineError: no host could be started.
    """
    if met := _meet(settings.socket_path):
        return met
    process = _start(settings)
    deadline_s = time.monotonic() + CONNECT_TIMEOUT_S
    while time.monotonic() < deadline_s:
        if met := _meet(settings.socket_path):
            return met
        if process.poll() not in (None, 0):  # 0: another terminal was faster, and its host will listen in a moment
            break
        time.sleep(RETRY_INTERVAL_S)
    raise EngineError("the engine's process did not start", hint=f"See {settings.log_file}.")


def _meet(socket_path: Path) -> tuple[Connection, bytes] | None:
    """Connect to a host and hear its status; None if there is none.

    One that was killed can still be connected to for a moment, while the system takes it apart, but says nothing.
    """
    connection = _connect(socket_path)
    if connection is None:
        return None
    try:
        return connection, connection.recv_bytes()
    except (EOFError, OSError):
        connection.close()
        return None


def _connect(socket_path: Path) -> Connection | None:
    try:
        return Client(str(socket_path), family="AF_UNIX")
    except (FileNotFoundError, ConnectionRefusedError):  # none yet, or a stale socket that a new host will replace
        return None


def _start(settings: HostSettings) -> subprocess.Popen[bytes]:
    """Start a host that outlives this process; what it and vLLM print goes to its log file."""
    # Appended to: where two are started at once, both write behind what is there.
    descriptor = os.open(settings.log_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "chat.backends.engine_host"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
        stdin.write(settings.to_json().encode())
    threading.Thread(target=process.wait, daemon=True).start()  # so that it leaves no zombie if it ends before us
    return process


def _shut_down(connection: Connection) -> None:
    import socket

    with socket.socket(fileno=os.dup(connection.fileno())) as peer:
        peer.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True, slots=True)
class HostDescription:
    """One line of ``ps``."""

    pid: int
    model: str
    stage: str
    age_s: float
    memory_bytes: int
    num_clients: int
    idle_s: float
    keep_alive_s: float | None


def list_hosts() -> list[HostDescription]:
    """Return the engine hosts of this user that run now; stale sockets are removed on the way."""
    return [description for description in (_visit(path, "describe") for path in _sockets()) if description]


def stop_hosts(pids: Sequence[int] = ()) -> list[HostDescription]:
    """Stop these hosts, or all of them; return those that were told to."""
    stopped = []
    for path in _sockets():
        description = _visit(path, "describe")
        if description and (not pids or description.pid in pids):
            _visit(path, "stop")
            stopped.append(description)
    return stopped


def _sockets() -> list[Path]:
    return sorted(runtime_dir().glob("*.sock"))


def _visit(path: Path, op: str) -> HostDescription | None:
    """Ask a host; None if there is none, also if it ends while it is asked."""
    connection = _connect(path)
    if connection is None:
        path.unlink(missing_ok=True)
        return None
    with connection, contextlib.suppress(ConnectionError, EOFError):
        connection.send_bytes(json.dumps({"op": op, "id": 0}).encode())
        deadline_s = time.monotonic() + ASK_TIMEOUT_S
        while op == "describe" and connection.poll(max(0.0, deadline_s - time.monotonic())):
            event = json.loads(connection.recv_bytes())
            if event.pop("event") == "described":
                del event["id"]
                return HostDescription(**event)
    return None
