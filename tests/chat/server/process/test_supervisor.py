"""The process above the server: real processes and signals, with a few lines of Python in vLLM's place."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time

import psutil
import pytest

from chat.server.process import supervisor
from chat.server.process.supervisor import ServerProcess, supervise
from chatcore.errors import ServerError
from tests.patience import patient, wait_until

# Ends in good order a moment after SIGTERM, and has a process of its own below it, as vLLM has its engine.
POLITE = """
import signal, subprocess, sys, time
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
def leave(*_):
    time.sleep({delay})
    print("left", flush=True)
    below.kill()
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("begun", flush=True)
time.sleep(600)
"""


def start(code, log_file=None):
    return ServerProcess([sys.executable, "-c", code], os.environ, log_file)


def watch(server, *signals, is_healthy=lambda: True, when_ready=lambda: None, timeout_s=30.0):
    """Supervise a server; send the signals to this process, one after the other, once it has begun."""

    def send():
        wait_until(lambda: "begun" in server.last_lines)
        for number in signals:
            time.sleep(0.3)
            os.kill(os.getpid(), number)

    sender = threading.Thread(target=send if signals else lambda: None)
    sender.start()
    try:
        return supervise(server, is_healthy=is_healthy, when_ready=when_ready, shutdown_timeout_s=timeout_s)
    finally:
        sender.join()


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(supervisor, "HEALTH_INTERVAL_S", 0.1)
    monkeypatch.setattr(supervisor, "DEAD_ENGINE_S", 0.5)
    monkeypatch.setattr(supervisor, "END_S", 0.5)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_the_first_signal_lets_the_server_finish(tmp_path, number, code):
    server = start(POLITE.format(delay=0.5), tmp_path / "log")
    assert watch(server, number) == code
    assert (tmp_path / "log").read_text().splitlines() == ["begun", "left"]
    assert server.poll() == 0


def test_the_second_signal_ends_all_at_once(tmp_path):
    server = start(POLITE.format(delay=60), tmp_path / "log")
    wait_until(lambda: "begun" in server.last_lines)
    below = psutil.Process(server.pid).children(recursive=True)
    assert below
    began_s = time.monotonic()
    assert watch(server, signal.SIGTERM, signal.SIGINT) == 0
    assert time.monotonic() - began_s < patient(10)
    assert server.poll() == -signal.SIGKILL
    assert not psutil.wait_procs(below, timeout=10)[1]


def test_a_server_that_does_not_finish_in_time_is_ended():
    server = start(POLITE.format(delay=60))
    assert watch(server, signal.SIGTERM, timeout_s=0.5) == 0
    assert server.poll() == -signal.SIGKILL


def test_a_server_that_ends_by_itself_is_told_apart(tmp_path):
    server = start("print('begun', flush=True); raise SystemExit(3)", tmp_path / "log")
    assert watch(server) is None
    assert (server.poll(), list(server.last_lines)) == (3, ["begun"])


WRITES = """
import os, time
def write(*pieces):
    for piece in pieces:
        os.write(1, piece)
        time.sleep(0.1)
write(b"begun\\n", b"cut ", b"in two\\n", b"\\n", b"not \\xff UTF-8\\n", b"all of it " * 20000 + b"\\n")
write(b"".join(b"%d\\n" % number for number in range(5000)), b"no end")
raise SystemExit(1)
"""


def test_no_line_of_the_log_is_lost_or_torn(tmp_path):
    server = start(WRITES, tmp_path / "log")
    assert watch(server) is None
    lines = (tmp_path / "log").read_text().split("\n")
    assert lines[:5] == ["begun", "cut in two", "", "not \ufffd UTF-8", "all of it " * 20000]
    assert lines[5:] == [*map(str, range(5000)), "no end", ""]
    assert list(server.last_lines) == lines[:-1][-supervisor.NUM_LAST_LINES :]


def test_a_server_whose_engine_is_dead_and_that_does_not_leave_is_ended():
    answers = iter([True, True])
    server = start(POLITE.format(delay=60))
    assert watch(server, is_healthy=lambda: next(answers, False)) is None
    assert server.poll() == -signal.SIGKILL


def test_a_busy_server_that_does_not_answer_in_time_is_left_alone():
    answers = iter([True])
    server = start(POLITE.format(delay=0))
    threading.Timer(2.0, lambda: os.kill(os.getpid(), signal.SIGTERM)).start()
    assert watch(server, is_healthy=lambda: next(answers, None)) == 0


def test_what_is_found_wrong_when_it_is_ready_ends_it():
    def when_ready():
        raise ServerError("it runs without the guard")

    server = start(POLITE.format(delay=60))
    with pytest.raises(ServerError, match="without the guard"):
        watch(server, when_ready=when_ready)
    assert server.poll() is not None


def test_the_log_is_for_this_user_alone_and_does_not_grow_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "MAX_LOG_BYTES", 2000)
    monkeypatch.setattr(supervisor, "MAX_PIPE_BYTES", 500)  # of lines that are written together
    monkeypatch.setattr(supervisor, "NUM_LOGS", 2)
    code = "print('begun', flush=True)\nfor n in range(300): print('100% of line', n, flush=True)"
    assert watch(start(code, tmp_path / "log")) is None
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["log", "log.1", "log.2"]
    assert all(path.stat().st_size <= 2000 for path in tmp_path.iterdir())
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert (tmp_path / "log").read_text().endswith("100% of line 299\n")


def test_a_full_disk_does_not_stop_the_server():
    server = start("print('begun', flush=True)\nfor n in range(5000): print('x' * 100, flush=True)", "/dev/full")
    assert watch(server) is None
    assert server.poll() == 0


def test_without_a_file_the_log_goes_to_standard_error(capfd):
    assert watch(start("print('begun', flush=True)")) is None
    assert capfd.readouterr().err == "begun\n"
