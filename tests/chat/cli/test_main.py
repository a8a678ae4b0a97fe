"""The command line, as the program that people start."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chat.cli.main import COMMANDS
from chat.cli.options import parse_duration
from tests.patience import patient, wait_until
from tests.program import GREEDY, ROOT, run, start

pytestmark = pytest.mark.usefixtures("no_host_is_left")
MORE_ARGUMENTS = {
    "ask": ["Hello!"],
    "batch": ["in.jsonl", "out.jsonl"],
    "conversations": ["list"],
    "download": ["no-such-model"],
    "stack": ["status"],
    "store": ["info"],
}
HEAVY = {"torch", "transformers", "vllm"}


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["chat", "--help"], ["ask", "--help"], ["ps"]])
def test_nothing_heavy_is_imported_before_it_is_needed(arguments):
    code = (
        "import sys, vllm_deploy\n"
        "try:\n    vllm_deploy.main(sys.argv[1:])\nexcept SystemExit:\n    pass\n"
        f"print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stderr.strip() == "[]"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory):
    """A Python that has no packages, as before make install."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / "bin" / "python"


@pytest.mark.parametrize(
    "arguments",
    [[name, *MORE_ARGUMENTS.get(name, ())] for name in COMMANDS if name != "completion"],
    ids=" ".join,
)
def test_without_its_packages_the_program_says_how_to_get_them(bare_python, arguments):
    result = subprocess.run(
        [bare_python, ROOT / "vllm_deploy.py", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode == 1
    assert result.stderr.startswith("error: ")
    assert "hint: " in result.stderr
    assert "make install" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    "module", ["prompt_utils", "vllm_wrapper", "chat.backends.engine_host_client", "chat.terminal.repl"]
)
def test_importing_a_room_imports_no_engine(module):
    code = f"import sys, {module}\nprint(sorted({HEAVY} & set(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "[]"


def test_ask_prints_the_answer_alone():
    result = run("ask", "你好", *GREEDY)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("你好")
    assert result.stdout.endswith("\n")
    assert result.stdout.count("\n") == 1
    assert result.stderr == ""


def test_ask_takes_standard_input_and_a_file(tmp_path):
    piped = run("ask", *GREEDY, stdin=None, input="Hello!\n")
    file = tmp_path / "question.txt"
    file.write_text("Hello!\n")
    named = run("ask", "-f", str(file), *GREEDY)
    assert piped.stdout == named.stdout == run("ask", "Hello!", *GREEDY).stdout
    assert piped.stdout.startswith("Hello!")


def test_ask_json_is_one_object():
    result = run("ask", "Count from 1 to 100.", "--json", "--max-tokens", "5", *GREEDY)
    reply = json.loads(result.stdout)
    assert reply["finish_reason"] == "length"
    assert reply["usage"]["num_output_tokens"] == 5


def test_ask_answers_from_a_tool_of_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("VLLMDEPLOY_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").write_text('[tools.own]\npython = "own.py"\n')
    (tmp_path / "own.py").write_text(
        "def calculator(expression: str) -> int:\n"
        "    'Evaluate an arithmetic expression'\n"
        "    left, right = expression.split('*')\n"
        "    return int(left) * int(right)\n"
    )
    result = run("ask", "What is 12 * 12?", "--auto-tools", *GREEDY)
    assert (result.returncode, result.stdout, result.stderr) == (0, "12 * 12 = 144\n", "")
    result = run("ask", "What is 12 * 12?", "--tools", *GREEDY)
    assert result.returncode == 1
    assert "nobody is there to be asked" in result.stderr


def test_a_cut_answer_says_so_on_standard_error():
    result = run("ask", "Count from 1 to 100.", "--max-tokens", "5", *GREEDY)
    assert result.returncode == 0
    assert "cut off after 5 tokens" in result.stderr


def test_ctrl_c_keeps_what_was_printed_and_ends_with_130():
    command = ["ask", "Count from 1 to 100.", *GREEDY, "--set", "min_tokens=3000"]
    process = start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(6) == b"1, 2, "
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"Traceback" not in errors


def test_a_reader_that_leaves_is_no_error():
    command = ["ask", "Count from 1 to 100.", *GREEDY, "--set", "min_tokens=300", "--max-tokens", "300"]
    process = start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(4)
    process.stdout.close()
    assert process.stderr is not None
    errors = process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()
    assert b"Traceback" not in errors
    assert process.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["ask"], 1, "there is no question"),
        (["ask", "-f", "no/such/file"], 1, "cannot be read"),
        (["ask", "Hello!", "--model", "./no/such/folder"], 1, "there is no folder ./no/such/folder"),
        (["ask", "Hello!", "--set", "temperature"], 1, "there is no ="),
        (["ask", "Hello!", "--set", "temprature=1"], 1, "unknown sampling parameter 'temprature'"),
        (["ask", "Hello!", "--temperature", "hot"], 2, "invalid float value"),
        (["ask", "Hello!", "--keep-alive", "soon"], 2, "is no time"),
        (["stop", "999999999"], 1, "no engine host has pid 999999999"),
        (["nonsense", "--flag"], 2, "unrecognized arguments"),
    ],
)
def test_bad_input_is_one_clear_line_and_its_own_exit_code(arguments, code, message):
    result = run(*arguments)
    assert result.returncode == code, result
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_question_that_does_not_fit_ends_with_3():
    result = run("ask", stdin=None, input="word " * 20_000)
    assert result.returncode == 3
    assert "tokens" in result.stderr


def test_an_engine_that_is_warm_answers_sooner_than_it_loads():
    run("ask", "Hello!", *GREEDY)
    started_s = time.monotonic()
    assert run("ask", "Hello!", *GREEDY).returncode == 0
    assert time.monotonic() - started_s < patient(8)  # a fast machine without load loads for longer than this


def test_ps_lists_the_engine_and_stop_ends_it():
    run("ask", "Hello!", *GREEDY)
    listing = run("ps").stdout
    assert "demo" in listing
    assert "ready" in listing
    assert "stopped" in run("stop").stdout
    wait_until(lambda: "ready" not in run("ps").stdout, "the end of the engine")
    assert "no engine host is running" in run("stop").stderr


def test_durations_are_read():
    assert [parse_duration(text) for text in ("0", "90s", "2h", "forever")] == [0.0, 90.0, 7200.0, -1.0]


def test_the_environment_of_the_tests_is_their_own(own_folders):
    assert os.environ["VLLMDEPLOY_RUNTIME_DIR"].startswith(str(own_folders))


def test_the_program_is_named_as_it_was_started():
    installed = Path(sys.executable).with_name("vllm-deploy")
    assert run("--help").stdout.startswith("usage: vllm_deploy.py ")
    named = subprocess.run([installed, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert named.stdout.startswith("usage: vllm-deploy ")
