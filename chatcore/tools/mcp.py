"""The tools of an MCP server (Model Context Protocol), through the official ``mcp`` package.

A server is a program that is started and talked to over its standard streams, or one that listens at a URL (streamable
HTTP). Its tools stand beside Python functions::

    with MCPTools("npx -y @modelcontextprotocol/server-everything") as everything:
        run = llm.run_tools(messages, [everything, get_weather])

Nothing of ``mcp`` is imported before a server is started.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import json
import logging
import os
import re
import shlex
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from chatcore.errors import ToolError
from chatcore.tools.functions import Tool

if TYPE_CHECKING:
    from mcp import Client
    from mcp.client._transport import TransportStreams
    from mcp.types import CallToolResult
    from mcp.types import Tool as ServerTool

__all__ = ["MCPTools"]

START_TIMEOUT_S = 60.0  # a package runner may have to fetch the server first
CALL_TIMEOUT_S = 60.0
CLOSE_TIMEOUT_S = 8.0  # the mcp package asks a process to leave, then kills it, within six seconds
MAX_PAGES = 100  # of a server's list of tools
NUM_LAST_LINES = 20  # of what a server prints on standard error
MAX_LINE_CHARACTERS = 300
NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_-]")  # of functions, as OpenAI has them

# The package logs what it also raises; without any handler Python would print it into the middle of a conversation.
logging.getLogger("mcp").addHandler(logging.NullHandler())


class MCPTools:
    """The tools of one MCP server. Safe to use from several threads.

    The server is started, or connected to, when its tools are first asked for, and again for the next call after it has
    ended. Leaving the ``with`` block ends it; so does the end of the program.

    Args:
        server: a command, as one text (split as a shell would split it; no shell runs) or as a list; or a URL.
        name: what to call it in errors; the program's name or the URL's host if left out.
        prefix: stands before the name of each tool, where two servers have tools of one name.
        env: variables for a command's environment, beside the few that every program needs; nothing else of this
            process's environment reaches the server.
        cwd: the folder that a command runs in.
        headers: sent with each request to a URL.
        timeout_s: the most that one call may take.
        start_timeout_s: the most that the start may take.
    Raises:
        ToolError: the server cannot be started or reached; raised by :meth:`tools`.

    Source: https://modelcontextprotocol.io/specification (the package speaks 2024-11-05 to 2026-07-28).
    """

    def __init__(
        self,
        server: str | Sequence[str],
        *,
        name: str = "",
        prefix: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = CALL_TIMEOUT_S,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self.url = server if isinstance(server, str) and server.startswith(("http://", "https://")) else ""
        self.command = [] if self.url else shlex.split(server) if isinstance(server, str) else list(server)
        if not self.url and not self.command:
            raise ToolError("no server is named", hint='Name a command or a URL: MCPTools("npx -y PACKAGE").')
        self.name = name or (urlsplit(self.url).hostname or self.url if self.url else Path(self.command[0]).name)
        self.prefix = prefix
        self._env = dict(env or {})
        self._cwd = cwd
        self._headers = dict(headers or {})
        self._timeout_s = timeout_s
        self._start_timeout_s = start_timeout_s
        self._lock = threading.Lock()  # guards _connection and _tools; held while the server starts
        self._starting: _Connection | None = None
        self._connection: _Connection | None = None
        self._tools: list[Tool] = []
        _instances.add(self)

    def tools(self) -> list[Tool]:
        """Return the server's tools; starts it if it does not run.

        Raises:
            ToolError: it cannot be started or reached; the message says why.
        """
        self._connect()
        return list(self._tools)

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """Call a tool by the server's own name for it; return its result as text.

        Raises:
            ToolError: the tool reports an error, gives no result in time, or the server has ended.
        """
        connection = self._connect()
        try:
            result = connection.call(name, dict(arguments), self._timeout_s)
        except _Ended as error:
            self._leave(connection)
            raise ToolError(
                f"the tool server {self.name} has ended{connection.last_words()}",
                hint="The next call starts it again.",
            ) from error
        except Exception as error:
            raise self._explained(error) from error
        text = _as_text(result)
        if result.is_error:
            raise ToolError(text or f"{name} failed and does not say why")
        return text

    def close(self) -> None:
        """End the server's process, or the connection to it, also while it starts; the next call starts anew."""
        if (starting := self._starting) is not None:
            starting.close()
        with self._lock:
            connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def __enter__(self) -> MCPTools:
        self.tools()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self) -> _Connection:
        with self._lock:
            if self._connection is None:
                connection = self._starting = _Connection(self._transport, self._start_timeout_s)
                try:
                    found = connection.start()
                except BaseException as error:
                    connection.close()
                    if not isinstance(error, Exception):
                        raise
                    raise self._not_started(error, connection) from error
                finally:
                    self._starting = None
                self._connection, self._tools = connection, [self._as_tool(tool) for tool in found]
            return self._connection

    def _leave(self, connection: _Connection) -> None:
        with self._lock:
            if self._connection is connection:
                self._connection = None
        connection.close()

    def _transport(self, errors: int) -> Any:
        """Return the package's transport; what a process prints on standard error goes to ``errors``."""
        if self.url:
            return _over_http(self.url, self._headers, self._start_timeout_s, self._timeout_s)
        from mcp import StdioServerParameters, stdio_client

        program, *arguments = self.command
        parameters = StdioServerParameters(
            command=program,
            args=arguments,
            env=self._env,
            cwd=None if self._cwd is None else os.fspath(self._cwd),
            encoding_error_handler="replace",
        )
        return stdio_client(parameters, errlog=os.fdopen(errors, "w", closefd=False))

    def _as_tool(self, tool: ServerTool) -> Tool:
        def call(**arguments: Any) -> str:
            return self.call(tool.name, arguments)

        name = self.prefix + NOT_IN_NAMES.sub("_", tool.name)
        function = {"name": name, "description": tool.description or "", "parameters": tool.input_schema}
        return Tool(name, {"type": "function", "function": function}, call)

    def _not_started(self, error: Exception, connection: _Connection) -> ToolError:
        if self.url:
            return self._explained(error)
        program = self.command[0]
        if isinstance(error, FileNotFoundError) and error.filename != program and self._cwd is not None:
            return ToolError(f"the tool server {self.name} cannot be started: there is no folder {self._cwd}")
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            reason = error.strerror or str(error)
            return ToolError(
                f"the tool server {self.name} cannot be started: {program}: {reason}",
                hint="Is the program installed, and its name spelled so?",
            )
        if isinstance(error, TimeoutError):
            what = f"did not answer within {self._start_timeout_s:g} s"
        else:
            what = "ended before it answered" if isinstance(error, _Ended) else f"cannot be used: {_first_line(error)}"
        return ToolError(
            f"the tool server {self.name} {what}{connection.last_words()}",
            hint=f"Try its command by itself: {shlex.join(self.command[:1])} ...",
        )

    def _explained(self, error: Exception) -> ToolError:
        """Return the one sentence for what the package raised."""
        if isinstance(error, TimeoutError):
            return ToolError(f"the tool server {self.name} gave no answer within {self._timeout_s:g} s")
        reason = _first_line(error)
        if self.url:
            reason = reason.replace(self.url, _shown(self.url))
            return ToolError(f"the tool server {self.name} at {_shown(self.url)} does not answer: {reason}")
        return ToolError(f"the tool server {self.name} refuses: {reason}")


_instances: weakref.WeakSet[MCPTools] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Leave no server behind when the program ends."""
    for instance in list(_instances):
        instance.close()


class _Ended(Exception):
    """The server has closed the connection."""


class _Connection:
    """One connection to a server, from its opening to its end, with an event loop in a thread of its own.

    Args:
        transport: opens the package's transport; given where a process's standard error goes.
        start_timeout_s: the most that the start may take.
    """

    def __init__(self, transport: Callable[[int], Any], start_timeout_s: float) -> None:
        self._transport = transport
        self._start_timeout_s = start_timeout_s
        self._tail = _Tail()
        self._started: concurrent.futures.Future[list[ServerTool]] = concurrent.futures.Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None
        self._leave: Callable[[], None] = lambda: None
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="mcp", daemon=True)

    def start(self) -> list[ServerTool]:
        """Connect; return the server's tools."""
        self._thread.start()
        return self._started.result(self._start_timeout_s)

    def call(self, name: str, arguments: dict[str, Any], timeout_s: float) -> CallToolResult:
        """Call a tool; give up when it takes too long, or when this thread is interrupted."""
        assert self._loop is not None
        assert self._client is not None
        try:
            calling = self._client.call_tool(name, arguments, read_timeout_seconds=timeout_s)
            future = asyncio.run_coroutine_threadsafe(calling, self._loop)
        except RuntimeError as error:  # the loop is closed
            calling.close()
            raise _Ended from error
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise _Ended from error
        except Exception as error:
            raise _cause(error) from error
        except BaseException:  # Ctrl-C: the server is told that nobody waits any more
            future.cancel()
            raise

    def close(self) -> None:
        """Leave the server, and wait until its process has gone."""
        self._closed = True
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # closed already
                loop.call_soon_threadsafe(self._leave)
        if self._thread.ident is not None:
            self._thread.join(CLOSE_TIMEOUT_S)
        self._tail.close()

    def last_words(self) -> str:
        """Return what the server printed last, as the end of a sentence."""
        line = self._tail.last_line()
        return f"; it said: {line}" if line else ""

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(_cause(error))
        finally:
            if not self._started.done():
                self._started.set_exception(_Ended())

    async def _serve(self) -> None:
        import anyio
        from mcp import Client

        with anyio.CancelScope() as scope:
            self._leave = scope.cancel
            self._loop = asyncio.get_running_loop()
            if self._closed:  # before there was a loop to be told
                return
            async with Client(self._transport(self._tail.fd)) as client:
                tools = await _list_tools(client)
                self._client = client
                self._started.set_result(tools)
                await anyio.sleep_forever()


@contextlib.asynccontextmanager
async def _over_http(
    url: str, headers: Mapping[str, str], connect_timeout_s: float, call_timeout_s: float
) -> AsyncIterator[TransportStreams]:
    """Open the package's transport for a URL, with headers of ours."""
    import httpx2
    from mcp.client.streamable_http import streamable_http_client

    timeout = httpx2.Timeout(
        connect_timeout_s, read=call_timeout_s + connect_timeout_s
    )  # a call's own limit is tighter
    async with (
        httpx2.AsyncClient(headers=dict(headers), timeout=timeout) as client,
        streamable_http_client(url, http_client=client) as streams,
    ):
        yield streams


async def _list_tools(client: Client) -> list[ServerTool]:
    tools: list[ServerTool] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await client.list_tools(cursor=cursor)
        tools += page.tools
        cursor = page.next_cursor
        if cursor is None:
            break
    return tools


class _Tail:
    """The last lines of what is written to ``fd``: a server may print without end, and nobody else reads it."""

    def __init__(self) -> None:
        read_fd, self.fd = os.pipe()
        self._to_close = [self.fd]
        self._lines: deque[str] = deque(maxlen=NUM_LAST_LINES)
        self._thread = threading.Thread(target=self._read, args=(read_fd,), name="mcp-stderr", daemon=True)
        self._thread.start()

    def last_line(self) -> str:
        """Return the last line that is not empty; waits a moment for what is on its way."""
        self._thread.join(0.2)
        return next((line.strip() for line in reversed(self._lines) if line.strip()), "")

    def close(self) -> None:
        with contextlib.suppress(IndexError):  # closed already; the number may be somebody else's by now
            os.close(self._to_close.pop())

    def _read(self, fd: int) -> None:
        with os.fdopen(fd, encoding="utf-8", errors="replace") as stream:
            while line := stream.readline(MAX_LINE_CHARACTERS):
                self._lines.append(line)


def _cause(error: BaseException) -> BaseException:
    """Return what lies behind groups of errors; :class:`_Ended` for a connection that was closed."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    from mcp import MCPError
    from mcp.types import CONNECTION_CLOSED, REQUEST_TIMEOUT

    if isinstance(error, MCPError):
        if error.code == CONNECTION_CLOSED:
            return _Ended()
        if error.code == REQUEST_TIMEOUT:
            return TimeoutError()
    return error


def _as_text(result: CallToolResult) -> str:
    """Return a result as a text for the model; what is no text is named."""
    parts = [_part_as_text(part) for part in result.content]
    if not parts and result.structured_content is not None:
        return json.dumps(result.structured_content, ensure_ascii=False)
    return "\n".join(parts)


def _part_as_text(part: Any) -> str:
    match part.type:
        case "text":
            return str(part.text)
        case "resource":
            text = getattr(part.resource, "text", None)
            return str(text) if text is not None else f"[{part.resource.uri}: not text]"
        case "resource_link":
            return f"[{part.name}: {part.uri}]"
        case kind:  # image, audio
            return f"[{kind}: {getattr(part, 'mime_type', '')}, not shown]"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _shown(url: str) -> str:
    """Return a URL without what may be a secret: the user's name and password, and what follows a question mark."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
