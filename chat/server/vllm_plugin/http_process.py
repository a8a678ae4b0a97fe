"""What each of vLLM's processes that serve HTTP gets: a log of who asked for what, limits on heads, open doors.

vLLM's server uses uvicorn's protocol on httptools, which reads a head of any length for any time, from anybody. The
limits here come before the guard, which sees a request only when its head is complete.

Its loop, uvloop, takes one new connection in each of its rounds. Under load a round lasts a tenth of a second, and who
came new waited half a minute to be told that there was no room. So each socket is listened at several times.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import logging
import socket
import sys
from typing import Any

import uvicorn.config
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

__all__ = ["ApiProcess", "LimitedProtocol", "take_many_at_once", "without_queries"]

NUM_DOORS = 16  # connections taken in a round of the loop
MAX_HEAD_BYTES = 64 << 10
MAX_HEAD_S = 10.0
# Of Python's lock. A thread that writes into the store waits for it after each statement, and all other writers wait
# for that thread: at Python's own 5 ms, behind a busy loop, a turn took ten times as long as other answers.
SWITCH_INTERVAL_S = 0.0005


class ApiProcess:
    """The plugin, through the entry point group ``vllm.endpoint_plugins``; it has no routes."""

    name = "api_process"
    required_tasks = None

    def attach_router(self, app: FastAPI) -> None:
        """Prepare this process; called by vLLM before uvicorn is set up."""
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        uvicorn.config.HTTP_PROTOCOLS["auto"] = f"{__name__}:LimitedProtocol"
        take_many_at_once()
        logger = logging.getLogger("chat")
        if not logger.handlers:
            handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
            logger.addHandler(handler)
            logger.setLevel(logging.INFO)
            logger.propagate = False
        logging.getLogger("uvicorn.error").addFilter(without_queries)

    async def init_state(self, engine_client: Any, state: Any, args: argparse.Namespace) -> None:
        """Nothing is kept."""


def take_many_at_once() -> None:
    """Let uvicorn's servers listen at each of their sockets :data:`NUM_DOORS` times; once for a process."""
    startup = uvicorn.Server.startup
    if hasattr(startup, "__wrapped__"):
        return

    @functools.wraps(startup)
    async def listen(self: uvicorn.Server, sockets: list[socket.socket] | None = None) -> None:
        doors = [door for sock in sockets or () for door in (sock, *(sock.dup() for _ in range(NUM_DOORS - 1)))]
        await startup(self, doors if sockets is not None else None)

    uvicorn.Server.startup = listen  # type: ignore[method-assign]


def without_queries(record: logging.LogRecord) -> bool:
    """Take the query off the address of a websocket, which uvicorn logs also where it logs no requests: some clients
    put their key there."""
    if isinstance(record.args, tuple) and "WebSocket" in str(record.msg):
        record.args = tuple(one.partition("?")[0] if isinstance(one, str) else one for one in record.args)
    return True


class LimitedProtocol(HttpToolsProtocol):
    """uvicorn's own protocol, with limits on how long a request's head may be and may take."""

    _in_head = True
    _num_head_bytes = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._num_head_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._num_head_bytes > MAX_HEAD_BYTES:
            self._give_up("The head of the request is too long.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        if self._deadline is None:
            self._await_head()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._in_head = True
        self._num_head_bytes = 0

    def _await_head(self) -> None:
        self._deadline = self.loop.call_later(MAX_HEAD_S, self._give_up, "The head of the request took too long.")

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self, said: str) -> None:
        self._stop_waiting()
        if not self.transport.is_closing():
            self.send_400_response(said)
