"""A real supervisor over small programs: it starts, restarts, gives up and stops them."""

from __future__ import annotations

import os
import signal
import sys

import pytest

from chat.cli.stack import print_logs
from chat.stack.description import StackDescription
from chat.stack.files import StackFiles, make_folders, write_private
from chat.stack.lifecycle import _waves, is_healthy
from chat.stack.plan import FRONT, Plan, Process
from chat.stack.supervision import Supervisor, supervisor_config
from chatcore.errors import StackError
from tests.patience import wait_until
from tests.serving import free_port

pytest.importorskip("supervisor", reason='make install EXTRAS="stack"')


def web_server(name, port, **more):
    arguments = (sys.executable, "-u", "-m", "http.server", str(port), "--bind", "127.0.0.1")
    return Process(name, arguments, port, health="/", **more)


@pytest.fixture
def plan(tmp_path, own_folders):
    """A stack of two small web servers, one in the place of nginx, and a program that cannot start."""
    files = StackFiles(tmp_path / "state", own_folders / "run" / "small.sock")
    make_folders(files)
    broken = Process("broken", (sys.executable, "-c", "raise SystemExit('it cannot start')"), free_port())
    servers = (web_server("small", free_port(), environment={"SAID": "100% 'of it'"}), broken)
    plan = Plan(StackDescription(), files, tmp_path / "keys", servers, web_server(FRONT, free_port()))
    write_private(files.supervisor_config, supervisor_config(plan))
    return plan


@pytest.fixture
def supervisor(plan, tmp_path, monkeypatch):
    """The supervisor, started where somebody keeps a Python file of its name."""
    (tmp_path / "supervisor.py").write_text("raise RuntimeError('another supervisor')")
    monkeypatch.chdir(tmp_path)
    supervisor = Supervisor(plan.files)
    supervisor.start()
    yield supervisor
    if supervisor.is_up():
        supervisor.stop()


def test_nothing_runs_before_it_is_told_to(supervisor, plan):
    assert {state.state for state in supervisor.states().values()} == {"STOPPED"}
    assert not is_healthy(plan.servers[0])


def test_a_process_that_dies_is_started_again(supervisor, plan):
    supervisor.start_process("small")
    wait_until(lambda: is_healthy(plan.servers[0]) and supervisor.states()["small"].state == "RUNNING")
    before = supervisor.states()["small"].pid
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: supervisor.states()["small"].pid not in (0, before))
    wait_until(lambda: is_healthy(plan.servers[0]))


def test_a_process_that_cannot_start_is_tried_ever_later(supervisor, plan):
    supervisor.start_process("broken")
    wait_until(lambda: supervisor.states()["broken"].state == "BACKOFF")
    wait_until(lambda: plan.files.log_of("broken").read_text().count("it cannot start") >= 2)


def test_stopping_ends_everything_and_leaves_no_socket(supervisor, plan):
    for name in ("small", FRONT):
        supervisor.start_process(name)
    wait_until(lambda: is_healthy(plan.servers[0]) and is_healthy(plan.front))
    supervisor.stop()
    assert not supervisor.is_up()
    assert not is_healthy(plan.servers[0])
    assert not is_healthy(plan.front)
    with pytest.raises(StackError, match="the stack is not up"):
        supervisor.states()


def test_everything_that_is_written_is_for_this_user_alone(supervisor, plan):
    supervisor.start_process("small")
    wait_until(lambda: is_healthy(plan.servers[0]))
    for file in [*plan.files.folder.rglob("*"), plan.files.socket]:
        assert file.stat().st_mode & 0o077 == 0, file


def test_logs_show_the_last_lines_and_name_whose_they_are(plan, capsys):
    plan.files.log_of("small").write_text("".join(f"line {number}\n" for number in range(30)))
    plan.files.log_of("nginx").write_text("ready\n")
    print_logs(plan.files, [], 2, follow=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [["nginx", "ready"], ["small", "line", "28"], ["small", "line", "29"]]


def test_followed_logs_go_on_after_they_were_rotated(plan, capsys, monkeypatch):
    log = plan.files.log_of("small")
    log.write_text("one\n" * 5)

    def grow():
        with log.open("a") as stream:
            stream.write("two\n")

    def rotate():
        log.rename(f"{log}.1")
        log.write_text("three\n")

    steps = iter([grow, rotate])

    def do_next(_seconds):
        step = next(steps, None)
        if step is None:
            raise KeyboardInterrupt
        step()

    monkeypatch.setattr("chat.cli.stack.time.sleep", do_next)
    with pytest.raises(KeyboardInterrupt):
        print_logs(plan.files, ["small"], 1, follow=True)
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == ["one", "two", "three"]


def test_servers_on_one_gpu_start_one_after_another(plan):
    def server(name, *gpus):
        return web_server(name, 1, gpus=gpus)

    servers = (server("a", 0), server("b", 1), server("c", 0), server("d", 1))
    made = Plan(plan.description, plan.files, plan.keys_file, servers, plan.front)
    waves = [[process.name for process in wave] for wave in _waves(made)]
    assert waves == [["a", "b"], ["c", "d"], [FRONT]]
