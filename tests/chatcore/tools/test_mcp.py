"""MCP servers as tool sources: a real server as a process, and over HTTP."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatcore.errors import InvalidMessageError, ToolError
from chatcore.tools.functions import as_tools, call_tool
from chatcore.tools.mcp import MCPTools
from tests.patience import patient

SERVER = Path(__file__).with_name("mcp_server.py")
COMMAND = [sys.executable, str(SERVER), "stdio"]


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def call(source: MCPTools, tool: str, **arguments: object) -> str:
    return call_tool(as_tools([source]), tool, json.dumps(arguments))


@pytest.fixture(autouse=True)
def whoever_leaves_a_process_is_named() -> Iterator[None]:
    """Python tells of a process that nobody waited for when it forgets it: now, and not in the test after next."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def process() -> Iterator[MCPTools]:
    with MCPTools(COMMAND, name="tests") as source:
        yield source


class Listening:
    """A server that listens on a port of its own."""

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/mcp"

    def start(self) -> None:
        command = [sys.executable, str(SERVER), str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
                return
            except OSError:
                time.sleep(0.05)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def listening() -> Iterator[Listening]:
    server = Listening()
    server.start()
    yield server
    server.kill()


def test_a_servers_tools_stand_beside_functions(process):
    def greet(name: str) -> str:
        return f"Hello {name}!"

    tools = as_tools([greet, process])
    assert [tool.name for tool in tools][:3] == ["greet", "calculator", "fail"]
    function = tools[1].schema["function"]
    assert function["description"] == "Evaluate an arithmetic expression."
    assert function["parameters"]["required"] == ["expression"]
    assert call_tool(tools, "calculator", '{"expression": "12 * 12"}') == "144"
    assert call_tool(tools, "greet", '{"name": "Ada"}') == "Hello Ada!"


def test_a_tool_over_http_is_called(listening):
    with MCPTools(listening.url) as source:
        assert call(source, "calculator", expression="2 + 3") == "5"


def test_what_a_tool_reports_as_an_error_is_read_by_the_model(process):
    assert call(process, "fail", reason="no network").startswith("error: Error executing tool fail")
    assert "Field required" in call(process, "calculator", expr="2 + 3")


def test_a_long_result_is_cut_and_says_so(process):
    result = call(process, "repeat", text="ab", count=100_000)
    assert result.endswith("[cut: 200000 characters, 20000 are shown]")


def test_a_process_sees_nothing_of_our_environment_but_what_it_is_given(monkeypatch):
    monkeypatch.setenv("OUR_SECRET", "xyzzy")
    with MCPTools(COMMAND, env={"ITS_SECRET": "plugh"}) as source:
        assert call(source, "variable", name="OUR_SECRET") == ""
        assert call(source, "variable", name="ITS_SECRET") == "plugh"


def test_a_crash_during_a_call_reports_stderr_and_restarts_the_server():
    with MCPTools(COMMAND, name="kitchen") as source:
        before = int(call(source, "process"))
        assert call(source, "die") == "error: the tool server kitchen has ended; it said: out of coffee"
        after = int(call(source, "process"))
        assert after != before
        assert not is_running(before)
    assert not is_running(after)


def test_a_server_that_goes_away_and_comes_back_is_found_again():
    server = Listening()
    server.start()
    with MCPTools(server.url, name="remote") as source:
        killing = threading.Timer(0.5, server.kill)
        killing.start()
        assert call(source, "sleep", seconds=20) == "error: the tool server remote has ended"
        killing.join()
        with pytest.raises(ToolError, match=r"the tool server remote at http://127\.0\.0\.1:\d+/mcp does not answer"):
            source.tools()
        server.start()
        assert call(source, "calculator", expression="2 + 3") == "5"
    server.kill()


def test_a_call_that_takes_too_long_is_given_up():
    with MCPTools(COMMAND, name="slow", timeout_s=0.3) as source:
        began_s = time.monotonic()
        assert call(source, "sleep", seconds=1) == "error: the tool server slow gave no answer within 0.3 s"
        assert time.monotonic() - began_s < patient(1)


def test_ctrl_c_ends_a_call_and_leaves_the_server(process, tmp_path):
    def interrupt() -> None:
        while not (tmp_path / "running").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run in the background
    try:
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            call(process, "sleep", seconds=1, touch=str(tmp_path / "running"))
    finally:
        signal.signal(signal.SIGINT, before)
    assert call(process, "calculator", expression="2 + 3") == "5"


def test_many_threads_may_call_at_once(process):
    results: list[str] = []

    def work(number: int) -> None:
        results.append(call(process, "calculator", expression=f"{number} + 0"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, results)) == list(range(16))


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("/no/such/program x", "cannot be started: /no/such/program: No such file or directory"),
        ([sys.executable, "-c", "import sys; sys.exit('no key')"], "ended before it answered; it said: no key"),
        ([sys.executable, "-c", "print('hello')"], "ended before it answered"),
        ([sys.executable, "-c", "import time; time.sleep(30)"], "did not answer within 2 s"),
    ],
)
def test_a_server_that_does_not_start_is_a_short_error_and_is_ended(command, said):
    with pytest.raises(ToolError) as caught:
        MCPTools(command, name="broken", start_timeout_s=2).tools()
    assert str(caught.value) == f"the tool server broken {said}"
    assert caught.value.hint


def test_a_server_that_is_starting_can_be_closed(tmp_path):
    """A program that is left must not wait until a server has started that nobody needs any more."""
    code = "import os, sys, time; open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(60)"
    source = MCPTools([sys.executable, "-c", code, str(tmp_path / "pid")], name="slow")
    starting = threading.Thread(target=lambda: pytest.raises(ToolError, source.tools))
    starting.start()
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        time.sleep(0.01)
    began_s = time.monotonic()
    source.close()
    starting.join()
    assert time.monotonic() - began_s < patient(8)
    assert not is_running(int((tmp_path / "pid").read_text()))


def test_a_folder_that_is_not_there_is_named():
    with pytest.raises(ToolError, match="there is no folder /no/such/folder"):
        MCPTools(COMMAND, cwd="/no/such/folder").tools()


def test_a_url_is_told_without_its_secrets():
    with pytest.raises(ToolError) as caught:
        MCPTools("http://user:xyzzy@127.0.0.1:9/mcp?key=plugh").tools()
    assert str(caught.value).startswith("the tool server 127.0.0.1 at http://127.0.0.1:9/mcp does not answer: ")
    assert not {"xyzzy", "plugh"} & set(str(caught.value).replace("?", " ").split())


def test_two_servers_with_tools_of_one_name_need_a_prefix(process):
    with MCPTools(COMMAND, prefix="other_") as other, MCPTools(COMMAND) as same:
        assert call_tool(as_tools([process, other]), "other_calculator", '{"expression": "2 + 3"}') == "5"
        with pytest.raises(InvalidMessageError, match="several tools are named calculator, ") as caught:
            as_tools([process, same])
    assert "prefix" in caught.value.hint


def test_no_server_outlives_the_program_that_forgot_to_close_it():
    code = (
        "import sys\nfrom vllm_wrapper import MCPTools\n"
        "print({tool.name: tool for tool in MCPTools(sys.argv[1:]).tools()}['process'].function())"
    )
    ended = subprocess.run([sys.executable, "-c", code, *COMMAND], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    assert not is_running(int(ended.stdout))


def test_importing_tools_imports_no_mcp():
    modules = "chatcore.tools.mcp, chatcore.tools.functions"
    code = f"import sys, {modules}; print({{'mcp', 'httpx2', 'pydantic'}} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "set()"


QUESTION = [{"role": "user", "content": "What is 12 * 12?"}]


def test_the_model_calls_a_servers_tool_and_answers_from_its_result(llm, process):
    calculator = [tool for tool in process.tools() if tool.name == "calculator"]
    run = llm.run_tools(QUESTION, calculator, temperature=0, enable_thinking=False)
    assert [message["role"] for message in run.messages] == ["user", "assistant", "tool", "assistant"]
    assert run.messages[2]["content"] == "144"
    assert "144" in run.reply.text


def test_the_same_in_asyncio(llm, process):
    calculator = [tool for tool in process.tools() if tool.name == "calculator"]
    run = asyncio.run(llm.arun_tools(QUESTION, calculator, temperature=0, enable_thinking=False))
    assert run.messages[2]["content"] == "144"
    assert "144" in run.reply.text
