"""The tools of an MCP server, which the model calls as it calls functions. The server is this file, with --serve."""

import sys

from chatcore.tools.mcp import MCPTools
from vllm_wrapper import VLLMWrapper


def serve() -> None:
    """Be the server; usually that is somebody else's program, such as ``npx -y PACKAGE``, or a URL."""
    from mcp.server import MCPServer

    server = MCPServer("arithmetic", log_level="ERROR")

    @server.tool()
    def calculator(expression: str) -> str:
        """Evaluate an arithmetic expression"""
        left, right = expression.split("*")
        return str(int(left) * int(right))

    server.run("stdio")


def main(llm: VLLMWrapper) -> None:
    with MCPTools([sys.executable, __file__, "--serve"]) as arithmetic:
        run = llm.run_tools([{"role": "user", "content": "What is 12 * 12?"}], [arithmetic], temperature=0)
    for message in run.messages[1:]:
        calls = [call["function"] for call in message.get("tool_calls", [])]
        print(f"{message['role']}: {message['content'] or calls}")


if __name__ == "__main__":
    if "--serve" in sys.argv:
        serve()
    else:
        with VLLMWrapper("demo") as llm:
            main(llm)
