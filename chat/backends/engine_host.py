"""The process that holds a :class:`VLLMWrapper` for terminal, ask and batch, and stays warm.

Clients talk to it over a Unix socket (0600, in a folder of the user's own), one per model and engine settings, in JSON
messages framed by the standard library's ``multiprocessing.connection`` (bytes only: nothing is unpickled). So typing
does not lag while vLLM is imported, an engine that dies does not take the terminal with it, several terminals share one
engine and its batch, and the next command finds the model loaded.

Requests (``id`` is the client's own)::

    {"op": "stream", "id": 1, "messages": [...], "options": {...}}    -> delta ..., then end or error
    {"op": "abort", "id": 1}                                          -> the stream's end comes at once
    {"op": "fit", "id": 2, "messages": [...], "options": {...}}       -> fit or error
    {"op": "describe", "id": 3}                                       -> described
    {"op": "stop"}

Events: ``status`` (pushed when it changes), ``delta``, ``end``, ``fit``, ``described``, ``error``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import socket
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Any

from chat.environment import read_variable
from chatcore.engine.loading import import_vllm
from chatcore.engine.streams import Stream
from chatcore.engine.wrapper import VLLMWrapper
from chatcore.errors import ChatError, EngineError, ModelLoadError, to_dict
from chatcore.models.hub import DEMO_MODEL_DIR, resolve_model

__all__ = ["EngineHost", "HostSettings", "log_dir", "runtime_dir"]

APP_NAME = "vllm-deploy"
PROTOCOL = 1  # part of the socket's name: a client that speaks another protocol starts a host of its own
MAX_SOCKET_PATH = 100  # bytes; the kernel's limit is 108
CHECK_INTERVAL_S = 1.0
FAILED_STAY_S = 2.0  # a host that could not load stays so long, for whoever started it to connect and read why
ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("chat", "chatcore")  # a host whose code has changed since it started is not used any more


@dataclass(frozen=True, slots=True)
class HostSettings:
    """Which engine a host holds, and how long it stays.

    Args:
        model: what :func:`chatcore.models.hub.resolve_model` takes.
        options: keyword arguments of :class:`VLLMWrapper`.
        keep_alive_s: how long to stay after the last client has left; None for ever.
    """

    model: str = "demo"
    options: Mapping[str, Any] = field(default_factory=dict)
    keep_alive_s: float | None = 300.0

    @property
    def key(self) -> str:
        """A short name for this engine: the same model, options, code and files give the same."""
        identity = [PROTOCOL, self.model, dict(self.options), _fingerprint(self.model), sys.executable]
        return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def socket_path(self) -> Path:
        """Where this host listens."""
        return runtime_dir() / f"{self.key}.sock"

    @property
    def log_file(self) -> Path:
        """Where this host and vLLM in it write what they have to say."""
        return log_dir() / f"engine-{self.key}.log"

    def to_json(self) -> str:
        """Return the settings as the new process gets them."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> HostSettings:
        """Return the settings that :meth:`to_json` wrote."""
        return cls(**json.loads(text))


def runtime_dir() -> Path:
    """Return the folder of this user's sockets, made with mode 0700.

    Raises:
        EngineError: the folder belongs to somebody else.
    """
    chosen = read_variable("VLLMDEPLOY_RUNTIME_DIR")
    shared = os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir()
    folder = Path(chosen or f"{shared}/{APP_NAME}-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid() or folder.is_symlink():
        raise EngineError(f"{folder} belongs to another user", hint="Set VLLMDEPLOY_RUNTIME_DIR to a folder of yours.")
    folder.chmod(0o700)
    if len(bytes(folder)) > MAX_SOCKET_PATH - 22:
        raise EngineError(f"{folder} is too long for a socket", hint="Set VLLMDEPLOY_RUNTIME_DIR to a shorter path.")
    return folder


def log_dir() -> Path:
    """Return the folder of the log files, made with mode 0700."""
    import platformdirs

    folder = Path(read_variable("VLLMDEPLOY_LOG_DIR") or platformdirs.user_log_path(APP_NAME))
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _fingerprint(model: str) -> list[Any]:
    """Return what changes when the code or the model's files change."""
    files = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
    folder = DEMO_MODEL_DIR if model == "demo" else Path(os.path.expanduser(model))
    if folder.is_dir():
        files += sorted(folder.glob("*.json")) + sorted(folder.glob("*.safetensors"))
    stats = [(file, file.stat()) for file in files if file.is_file()]
    return [[str(file), stat.st_mtime_ns, stat.st_size] for file, stat in stats]


class EngineHost:
    """One engine behind one socket. :meth:`serve` returns when the host is stopped or has been idle long enough."""

    def __init__(self, settings: HostSettings) -> None:
        self.settings = settings
        self._key = settings.key
        self._socket_path = settings.socket_path
        self._started_s = time.monotonic()
        self._stage = "starting"
        self._error: ChatError | None = None
        self._wrapper: VLLMWrapper | None = None
        self._clients: set[_Client] = set()
        self._lock = threading.Lock()  # guards _clients and _stage
        self._idle_since_s = time.monotonic()
        self._done = threading.Event()

    def serve(self) -> None:
        """Listen, load the model, answer clients, until told to stop."""
        self._socket_path.unlink(missing_ok=True)
        old_mask = os.umask(0o177)  # the socket is 0600 from its first moment
        try:
            listener = Listener(str(self._socket_path), family="AF_UNIX", backlog=32)
        finally:
            os.umask(old_mask)
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()
        threading.Thread(target=self._load, daemon=True).start()
        while not self._done.wait(CHECK_INTERVAL_S):
            if self._is_idle_too_long() or self._is_outdated():
                break
        self._socket_path.unlink(missing_ok=True)
        if self._wrapper is not None:
            self._wrapper.close()

    def stop(self) -> None:
        """End the process soon."""
        self._done.set()

    def status(self) -> dict[str, Any]:
        """Return what the ``status`` event carries."""
        wrapper = self._wrapper
        info = None
        if self._stage == "ready" and wrapper is not None:
            info = {
                "name": "demo" if wrapper.is_demo else wrapper.model_dir.name,
                "max_model_len": wrapper.max_model_len,
                "is_demo": wrapper.is_demo,
                "thinks": wrapper.thinks,
                "sampling_defaults": wrapper.sampling_defaults,
            }
        return {
            "event": "status",
            "stage": self._stage,
            "elapsed_s": time.monotonic() - self._started_s,
            "error": to_dict(self._error) if self._error else None,
            "info": info,
        }

    def describe(self) -> dict[str, Any]:
        """Return what ``ps`` shows."""
        import psutil

        return {
            "pid": os.getpid(),
            "model": self.settings.model,
            "stage": self._stage,
            "age_s": time.monotonic() - self._started_s,
            "memory_bytes": psutil.Process().memory_info().rss,
            "num_clients": len(self._clients),
            "idle_s": 0.0 if self._clients else time.monotonic() - self._idle_since_s,
            "keep_alive_s": self.settings.keep_alive_s,
        }

    @property
    def wrapper(self) -> VLLMWrapper:
        """The loaded model; raises what is wrong if there is none."""
        if self._wrapper is None:
            raise self._error or EngineError("the model is not loaded yet", hint="Wait for the status to be ready.")
        return self._wrapper

    def leave_if_dead(self) -> None:
        """End if the engine has failed: it stays failed, and a new host can be started in its place."""
        if self._wrapper is not None and not self._wrapper.is_alive:
            self._stage = "failed"
            self.stop()

    def leave(self, client: _Client) -> None:
        """Forget a client that has gone."""
        with self._lock:
            self._clients.discard(client)
            self._idle_since_s = time.monotonic()

    def _accept(self, listener: Listener) -> None:
        while not self._done.is_set():
            try:
                connection = listener.accept()
            except OSError:
                continue
            if not _is_same_user(connection):
                connection.close()
                continue
            client = _Client(self, connection)
            with self._lock:
                self._clients.add(client)
            client.start()

    def _load(self) -> None:
        try:
            model_dir = resolve_model(self.settings.model)
            self._advance("import")
            import_vllm(model_dir)
            self._advance("load")
            self._wrapper = VLLMWrapper(self.settings.model, **self.settings.options)
            self._warm_up(self._wrapper)
            self._advance("ready")
        except ChatError as error:
            self._fail(error)
        except Exception as error:  # an import that fails, or a bug: the client must hear of it
            self._fail(ModelLoadError(f"{type(error).__name__}: {error}", hint=f"See {self.settings.log_file}."))

    def _warm_up(self, wrapper: VLLMWrapper) -> None:
        """Answer once, so that the first user does not pay for what an engine does at its first step."""
        wrapper.reply([{"role": "user", "content": "Hello"}], max_tokens=2)

    def _fail(self, error: ChatError) -> None:
        self._error = error
        self._advance("failed")
        threading.Timer(FAILED_STAY_S, self.stop).start()

    def _advance(self, stage: str) -> None:
        with self._lock:
            self._stage = stage
            clients = list(self._clients)
        for client in clients:
            client.send(self.status())

    def _is_idle_too_long(self) -> bool:
        keep_alive_s = self.settings.keep_alive_s
        with self._lock:
            if keep_alive_s is None or self._clients or self._stage not in ("ready", "failed"):
                return False
            return time.monotonic() - self._idle_since_s > keep_alive_s

    def _is_outdated(self) -> bool:
        """Tell whether code or model files have changed and nobody is connected any more."""
        return not self._clients and self.settings.key != self._key


class _Client:
    """One connection: reads requests, and runs each answer in a thread of its own."""

    def __init__(self, host: EngineHost, connection: Connection) -> None:
        self._host = host
        self._connection = connection
        self._send_lock = threading.Lock()
        self._streams: dict[Any, Stream] = {}

    def start(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()

    def send(self, event: Mapping[str, Any]) -> None:
        """Send one event; a client that has gone is noticed where its requests are read."""
        data = json.dumps(event, ensure_ascii=False).encode()
        with self._send_lock, contextlib.suppress(OSError):
            self._connection.send_bytes(data)

    def _read(self) -> None:
        self.send(self._host.status())
        try:
            while True:
                self._obey(json.loads(self._connection.recv_bytes()))
        except (EOFError, OSError):
            pass
        finally:
            for stream in list(self._streams.values()):
                stream.abort()
            self._host.leave(self)
            self._connection.close()

    def _obey(self, request: Mapping[str, Any]) -> None:
        match request["op"]:
            case "stream" | "fit":
                threading.Thread(target=self._answer, args=(request,), daemon=True).start()
            case "abort":
                if stream := self._streams.get(request["id"]):
                    stream.abort()
            case "describe":
                self.send({"event": "described", "id": request["id"], **self._host.describe()})
            case "stop":
                self._host.stop()

    def _answer(self, request: Mapping[str, Any]) -> None:
        request_id = request["id"]
        try:
            if request["op"] == "fit":
                self._fit(request)
            else:
                self._stream(request)
        except ChatError as error:
            self.send({"event": "error", "id": request_id, "error": to_dict(error)})
            self._host.leave_if_dead()
        except Exception as error:  # a bug of ours: the client must not wait for ever
            problem = ChatError(f"{type(error).__name__}: {error}", hint=f"See {self._host.settings.log_file}.")
            self.send({"event": "error", "id": request_id, "error": to_dict(problem)})
            raise
        finally:
            self._streams.pop(request_id, None)

    def _stream(self, request: Mapping[str, Any]) -> None:
        with self._host.wrapper.stream(request["messages"], **request["options"]) as stream:
            self._streams[request["id"]] = stream
            for delta in stream:
                self.send({"event": "delta", "id": request["id"], **dataclasses.asdict(delta)})
            self.send({"event": "end", "id": request["id"], "reply": dataclasses.asdict(stream.reply)})

    def _fit(self, request: Mapping[str, Any]) -> None:
        wrapper, messages, options = self._host.wrapper, request["messages"], request["options"]
        per_message = options.pop("per_message", False)
        fitted = wrapper.fit(messages, **options)
        self.send(
            {
                "event": "fit",
                "id": request["id"],
                "num_prompt_tokens": len(fitted.prompt.token_ids),
                "max_prompt_tokens": wrapper.max_prompt_tokens(options.get("max_tokens")),
                "dropped": list(fitted.dropped),
                "message_tokens": wrapper.message_tokens(messages, tools=options.get("tools")) if per_message else [],
            }
        )


def _is_same_user(connection: Connection) -> bool:
    """Ask the kernel who is at the other end; the folder's mode keeps others out already, this makes sure."""
    with socket.socket(fileno=os.dup(connection.fileno())) as peer:
        if not hasattr(socket, "SO_PEERCRED"):  # macOS: the folder's mode must do
            return True
        credentials = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        _, uid, _ = struct.unpack("3i", credentials)
        return bool(uid == os.getuid())


def main() -> None:
    """Run a host; its settings come as JSON on standard input. A second host for the same engine leaves at once."""
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "INFO")  # standard output is the log file
    settings = HostSettings.from_json(sys.stdin.read())
    lock_path = settings.socket_path.with_suffix(".lock")
    with lock_path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        EngineHost(settings).serve()
    os._exit(0)  # vLLM's threads and atexit hooks take seconds, and nothing is left to save


if __name__ == "__main__":
    main()
