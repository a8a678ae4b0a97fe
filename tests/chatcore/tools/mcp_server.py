"""A small MCP server for tests, written with the ``mcp`` package: ``mcp_server.py stdio|PORT [TOOL ...]``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from mcp.server import MCPServer

server = MCPServer("tests", log_level="ERROR")


@server.tool()
def calculator(expression: str) -> str:
    """Evaluate an arithmetic expression."""
    left, sign, right = expression.split()
    return str({"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}[sign])


@server.tool()
def fail(reason: str) -> str:
    """Fail."""
    raise ValueError(reason)


@server.tool()
def repeat(text: str, count: int) -> str:
    """Repeat a text."""
    return text * count


@server.tool()
def variable(name: str) -> str:
    """Return a variable of the server's environment."""
    return os.environ.get(name, "")


@server.tool()
def process() -> int:
    """Return the process's id."""
    return os.getpid()


@server.tool()
def sleep(seconds: float, touch: str = "") -> str:
    """Wait; touch a file first."""
    if touch:
        Path(touch).touch()
    time.sleep(seconds)
    return "awake"


@server.tool()
def die() -> str:
    """End the server in the middle of a call."""
    print("out of coffee", file=sys.stderr, flush=True)
    os._exit(3)


if __name__ == "__main__":
    for tool in (calculator, fail, repeat, variable, process, sleep, die):
        if sys.argv[2:] and tool.__name__ not in sys.argv[2:]:
            server.remove_tool(tool.__name__)
    if sys.argv[1] == "stdio":
        server.run("stdio")
    else:
        server.run("streamable-http", port=int(sys.argv[1]))
