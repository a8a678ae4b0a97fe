"""How a server ends: in good order, at once, or because its engine has died; and how it fails to start."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import time
import urllib.error
import urllib.request

import httpx2
import psutil
import pytest

from tests.patience import wait_until
from tests.program import run, start
from tests.serving import free_port, running_server

COUNT = [{"role": "user", "content": "Count from 1 to 100."}]
ENDS_WITHIN_S = 60


@contextlib.contextmanager
def long_answer(server, *, num_tokens, owner=None):
    """Give the lines of an answer that has begun to stream."""
    body = {"model": "demo", "messages": COUNT, "stream": True, "max_tokens": num_tokens, "min_tokens": num_tokens}
    headers = server.headers(owner) if owner else {}
    client = httpx2.Client(timeout=120)
    with client, client.stream("POST", f"{server.url}/v1/chat/completions", json=body, headers=headers) as reply:
        assert reply.status_code == 200
        lines = (line for line in reply.iter_lines() if line)
        for _ in range(3):
            next(lines)
        yield lines


def below(process):
    return psutil.Process(process.pid).children(recursive=True)


def gone(processes):
    return not psutil.wait_procs(processes, timeout=20)[1]


def test_sigterm_finishes_running_answers_and_leaves_nothing_behind(tmp_path):
    with running_server(tmp_path, "--shutdown-timeout", "60") as server:
        processes = below(server.process)
        with long_answer(server, num_tokens=300, owner="alice") as lines:
            server.process.send_signal(signal.SIGTERM)
            rest = list(lines)
        assert rest[-1] == "data: [DONE]"
        assert '"finish_reason":"length"' in rest[-2].replace(" ", "")
        assert server.process.wait(ENDS_WITHIN_S) == 0
        assert gone(processes)
        printed = server.output.read_text()
        assert "Traceback" not in printed
        assert "error" not in printed


def test_an_engine_that_dies_ends_the_server_and_is_said_in_one_line(tmp_path):
    with running_server(tmp_path) as server:
        processes = below(server.process)
        engine = next(process for process in processes if process.cmdline()[0].startswith("VLLM::EngineCore"))
        seen = set()
        with long_answer(server, num_tokens=1500, owner="alice") as lines:
            engine.send_signal(signal.SIGKILL)
            with contextlib.suppress(httpx2.HTTPError):
                assert "data: [DONE]" not in list(lines)[-2:-1]
        with contextlib.suppress(OSError):
            while server.process.poll() is None:
                try:
                    urllib.request.urlopen(f"{server.url}/health", timeout=5).close()
                except urllib.error.HTTPError as error:
                    with error:
                        seen.add(error.code)
                time.sleep(0.1)
        assert seen <= {503}
        assert server.process.wait(ENDS_WITHIN_S) == 1
        assert gone(processes)
        last = server.output.read_text().splitlines()[-2:]
        assert last[0] == "error: the engine has died"
        assert "Traceback" not in server.output.read_text()


def test_a_second_signal_ends_at_once_what_was_to_be_finished(tmp_path):
    with running_server(tmp_path, "--allow-unauthenticated", "--shutdown-timeout", "600") as server:
        processes = below(server.process)
        with urllib.request.urlopen(f"{server.url}/v1/models", timeout=20) as models:
            assert json.load(models)["data"][0]["id"] == "demo"
        with long_answer(server, num_tokens=1900) as lines:
            server.process.send_signal(signal.SIGINT)
            time.sleep(0.5)
            assert server.process.poll() is None
            server.process.send_signal(signal.SIGINT)
            assert server.process.wait(10) == 130
            with contextlib.suppress(httpx2.HTTPError):
                list(lines)
        assert gone(processes)
        assert "Traceback" not in server.output.read_text()


def test_ctrl_c_while_the_model_loads_is_quiet(tmp_path):
    output = tmp_path / "output"
    with output.open("wb") as sink:
        process = start("serve", "--port", str(free_port()), stdout=sink, stderr=sink)
    wait_until(lambda: "  log " in output.read_text(), "the name of the log")
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    assert process.wait(ENDS_WITHIN_S) == 130
    assert re.sub(r"starting .*\n  log .*\n", "", output.read_text()) == ""


def test_the_engine_does_not_outlive_a_killed_command(tmp_path):
    output = tmp_path / "output"
    with output.open("wb") as sink:
        process = start("serve", "--port", str(free_port()), stdout=sink, stderr=sink)
    processes = wait_until(lambda: below(process), "processes")
    assert processes
    process.kill()
    process.wait()
    assert gone(processes)


# -- starts that fail --------------------------------------------------------------------------------------------------


def serve(*options, **environment):
    port = str(free_port())
    return run("serve", "--port", port, *options, env={**os.environ, "OMP_NUM_THREADS": "1", **environment})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--model", "./no/such/folder"], "there is no folder ./no/such/folder"),
        (["--host", "0.0.0.0", "--allow-unauthenticated"], "everybody who reaches 0.0.0.0"),
        (["--host", "192.0.2.1"], "cannot be listened on"),
        (["--host", "no.such.host.invalid"], "cannot be listened on"),
        (["--api-key-file", "no/such/file"], "the key file no/such/file cannot be read"),
        (["--config", "no/such/file"], "no/such/file cannot be read"),
        (["--port", "99999"], "--port: port: input should be less than or equal to 65535"),
        (["--dtype", "float13"], "there is no dtype 'float13'"),
    ],
)
def test_what_cannot_work_is_said_before_anything_is_loaded(options, said):
    started_s = time.monotonic()
    result = serve(*options)
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert time.monotonic() - started_s < 60


def test_a_port_that_is_taken_is_said_before_anything_is_loaded():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("serve", "--port", str(port))
    assert result.returncode == 1
    assert f"error: port {port} is taken by another program\nhint: Choose another one with --port" in result.stderr


def test_the_first_start_makes_a_key_that_nobody_else_can_read(tmp_path):
    result = serve("--dtype", "float13", XDG_CONFIG_HOME=str(tmp_path))
    file = tmp_path / "vllm-deploy" / "api-keys"
    assert re.fullmatch(r"local: [\w-]{43}\n", file.read_text())
    assert file.stat().st_mode & 0o777 == 0o600
    before = file.read_text()
    serve("--dtype", "float13", XDG_CONFIG_HOME=str(tmp_path))
    assert file.read_text() == before
    assert before.split()[1] not in result.stdout + result.stderr
    file.chmod(0o644)
    assert "others can read the keys" in serve("--dtype", "float13", XDG_CONFIG_HOME=str(tmp_path)).stderr


def test_what_only_vllm_finds_wrong_is_one_line_as_well():
    unknown = serve("--max-modle-len", "5")
    assert unknown.returncode == 1
    assert "error: vLLM's server does not know --max-modle-len" in unknown.stderr
    window = serve("--max-model-len", "9999999")
    assert window.returncode == 1
    assert window.stderr.startswith("error: the model's window is ")
    assert "--max-model-len" in window.stderr
    assert "Traceback" not in unknown.stderr + window.stderr
