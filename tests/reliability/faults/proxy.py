"""A TCP proxy in front of a server, which breaks or stalls connections."""

from __future__ import annotations

import contextlib
import random
import select
import socket
import threading

__all__ = ["FaultyProxy"]


class FaultyProxy:
    """Forwards connections to a port of this machine until it is cut.

    Args:
        port: the server's.

    Attributes:
        port: its own.
    """

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._is_up = threading.Event()
        self._is_up.set()
        self._is_silent = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, chance: random.Random) -> None:
        """Let nothing through any more: connections are closed, or bytes are dropped without a word."""
        self._is_silent = chance.random() < 0.3
        self._is_up.clear()
        if not self._is_silent:
            self._close_all()

    def restore(self) -> None:
        """Let new connections through again; what had vanished does not come back."""
        self._close_all()
        self._is_up.set()

    def close(self) -> None:
        self._is_up.clear()
        self._listener.close()
        self._close_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if not self._is_up.is_set() and not self._is_silent:
                client.close()
                continue
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _forward(self, client: socket.socket) -> None:
        with (
            contextlib.suppress(OSError),
            client,
            socket.create_connection(("127.0.0.1", self._server_port)) as server,
        ):
            both = {client: server, server: client}
            with self._lock:
                self._sockets |= both.keys()
            try:
                self._copy(both)
            finally:
                with self._lock:
                    self._sockets -= both.keys()

    def _copy(self, both: dict[socket.socket, socket.socket]) -> None:
        while True:
            for end in select.select(list(both), [], [], 0.2)[0]:
                data = end.recv(65536)
                if not data:
                    return
                if self._is_up.is_set():
                    both[end].sendall(data)

    def _close_all(self) -> None:
        with self._lock:
            for end in self._sockets:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
