"""The engine host and its client, in real processes with the real engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import threading
import time
from multiprocessing.connection import Listener
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from chat.backends import engine_host_client
from chat.backends.engine_host import HostSettings, runtime_dir
from chat.backends.engine_host_client import EngineHostBackend, list_hosts, stop_hosts
from chatcore.errors import EngineError, ModelLoadError, PromptTooLongError, SamplingError
from tests.patience import patient, wait_until
from tests.program import ROOT

GREEDY = {"temperature": 0.0, "enable_thinking": False}
LONG = [{"role": "user", "content": "Count from 1 to 100."}]
READY_WITHIN_S = 180.0


def user(text):
    return {"role": "user", "content": text}


@pytest.fixture(scope="module")
def settings():
    yield HostSettings("demo", {}, keep_alive_s=600.0)
    stop_hosts()


@pytest.fixture
def backend(settings):
    backend = EngineHostBackend(settings)
    assert backend.wait_until_ready(READY_WITHIN_S).stage == "ready", backend.status()
    yield backend
    backend.close()


def host_process(backend: EngineHostBackend) -> psutil.Process:
    [pid] = [host.pid for host in list_hosts() if host.model == backend.name]
    return psutil.Process(pid)


def test_an_answer_streams_through_the_host(backend):
    with backend.stream([user("My name is Zorvan."), user("Hello!")], **GREEDY) as stream:
        pieces = [delta.text for delta in stream]
    assert len(pieces) > 1
    assert "".join(pieces) == stream.reply.text
    assert stream.reply.token_ids
    assert stream.reply.usage.num_prompt_tokens > 0


def test_loading_is_told_without_blocking(settings):
    backend = EngineHostBackend(settings)
    started_s = time.perf_counter()
    status = backend.status()
    assert time.perf_counter() - started_s < patient(0.1)
    assert status.stage in ("starting", "import", "load", "ready")
    assert backend.info().is_demo
    assert backend.info().thinks
    assert backend.info().max_model_len == 8192
    backend.close()


def test_two_clients_share_one_engine(settings, backend):
    other = EngineHostBackend(settings)
    replies = {}

    def ask(name, client):
        replies[name] = client.stream([user(f"My name is {name}.")], **GREEDY).reply.text

    threads = [
        threading.Thread(target=ask, args=pair) for pair in (("Kim", backend), ("Tom", other), ("Lena", backend))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert all(name in text for name, text in replies.items()), replies
    assert len(replies) == 3
    assert [host.num_clients for host in list_hosts()][0] >= 2
    assert len(list_hosts()) == 1
    other.close()


def test_abort_ends_the_iteration_at_once_and_keeps_the_partial(backend):
    with backend.stream(LONG, **GREEDY) as stream:
        iterator = iter(stream)
        for _ in range(5):
            next(iterator)
        started_s = time.perf_counter()
        stream.abort()
        for _ in iterator:
            pass
        assert time.perf_counter() - started_s < patient(1.0)
    assert stream.reply.finish_reason == "abort"
    assert stream.reply.text.startswith("1, 2")


def test_a_client_that_leaves_mid_answer_frees_the_engine(settings, backend):
    leaver = EngineHostBackend(settings)
    next(iter(leaver.stream([user("Count from 1 to 100.")], **GREEDY)))
    leaver.close()
    wait_until(lambda: list_hosts()[0].num_clients <= 2, "fewer clients")
    assert backend.stream([user("Hello!")], **GREEDY).reply.finish_reason == "stop"


@pytest.mark.parametrize(
    ("messages", "options", "error"),
    [
        ([user("word " * 20_000)], {}, PromptTooLongError),
        ([user("Hello!")], {"temprature": 1}, SamplingError),
    ],
)
def test_errors_cross_the_socket_as_what_they_are(backend, messages, options, error):
    with pytest.raises(error) as caught:
        backend.stream(messages, **options).reply  # noqa: B018 (reading it waits for the answer)
    assert str(caught.value)
    if error is PromptTooLongError:
        assert caught.value.num_prompt_tokens > caught.value.max_prompt_tokens


def test_fit_tells_what_is_left_out_and_what_each_message_takes(backend):
    fit = backend.fit([user("Hello!")], enable_thinking=False)
    assert 0 < fit.num_prompt_tokens < fit.max_prompt_tokens
    assert fit.dropped == ()
    turns = []
    for number in range(40):
        turns += [user(f"number {number} " + "word " * 300), {"role": "assistant", "content": "OK."}]
    fit = backend.fit([*turns, user("Hello!")], per_message=True)
    assert fit.dropped[:2] == (0, 1)
    assert fit.num_prompt_tokens <= fit.max_prompt_tokens
    assert len(fit.message_tokens) == 81
    assert all(tokens > 0 for tokens in fit.message_tokens)


def test_the_socket_and_its_folder_are_the_users_alone(settings, backend):
    assert stat.S_IMODE(settings.socket_path.stat().st_mode) == 0o600
    assert stat.S_IMODE(runtime_dir().stat().st_mode) == 0o700
    assert stat.S_IMODE(backend.log_file.stat().st_mode) == 0o600


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_another_user_is_turned_away_even_past_the_files_mode(settings, backend):
    settings.socket_path.parent.chmod(0o777)
    settings.socket_path.chmod(0o777)
    pid = os.fork()
    if pid == 0:
        os.setuid(65534)
        try:
            with socket.socket(socket.AF_UNIX) as stranger:
                stranger.settimeout(10)
                stranger.connect(str(settings.socket_path))
                refused = stranger.recv(1) == b""
        except OSError:
            refused = True
        os._exit(0 if refused else 1)
    _, status = os.waitpid(pid, 0)
    settings.socket_path.chmod(0o600)
    settings.socket_path.parent.chmod(0o700)
    assert os.waitstatus_to_exitcode(status) == 0


def test_an_engine_that_is_killed_is_told_and_reload_starts_another(settings, backend):
    stream = backend.stream(LONG, **GREEDY)
    iterator = iter(stream)
    text = "".join(next(iterator).text for _ in range(5))
    host_process(backend).send_signal(signal.SIGKILL)
    with pytest.raises(EngineError, match="ended unexpectedly") as caught:  # noqa: PT012
        for delta in iterator:
            text += delta.text
    assert "/reload" in caught.value.hint
    assert text.startswith("1, 2")
    assert backend.status().stage == "failed"
    with pytest.raises(EngineError):
        backend.stream(LONG)
    assert settings.socket_path.exists()  # stale: the next host takes its place
    backend.reload()
    status = backend.wait_until_ready(READY_WITHIN_S)
    assert status.stage == "ready", status
    assert backend.stream([user("Hello!")], **GREEDY).reply.text


def test_a_model_that_cannot_be_loaded_fails_with_its_reason(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    backend = EngineHostBackend(HostSettings(str(tmp_path)))
    status = backend.wait_until_ready(READY_WITHIN_S)
    assert status.stage == "failed"
    with pytest.raises(ModelLoadError, match="has no weights"):
        backend.info()
    backend.close()


def test_stale_sockets_are_cleared_away():
    stale = runtime_dir() / "0123456789abcdef.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(stale))
    list_hosts()
    assert not stale.exists()


@pytest.mark.parametrize("hears_the_question", [True, False])
def test_a_host_that_ends_while_it_is_asked_is_none(hears_the_question):
    path = runtime_dir() / "fedcba9876543210.sock"

    def hang_up(listener):
        with listener.accept() as connection:
            if hears_the_question:
                connection.recv_bytes()

    with Listener(str(path), family="AF_UNIX") as listener:
        ending = threading.Thread(target=hang_up, args=(listener,))
        ending.start()
        assert str(path) not in str(list_hosts())
        ending.join()


def test_a_host_that_is_being_ended_is_not_taken_for_one(monkeypatch):
    settings = HostSettings("demo", {"max_model_len": 333})

    def accept(listener, greeting):
        with listener, listener.accept() as connection:
            if greeting:
                connection.send_bytes(greeting)

    def listen(greeting=b""):
        listener = Listener(str(settings.socket_path), family="AF_UNIX")
        threading.Thread(target=accept, args=(listener, greeting)).start()

    def start(_):
        wait_until(lambda: not settings.socket_path.exists(), "the end of the old one")
        listen(b"a greeting")
        return SimpleNamespace(poll=lambda: None)

    monkeypatch.setattr(engine_host_client, "_start", start)
    listen()
    connection, greeting = engine_host_client.connect_or_start(settings)
    connection.close()
    assert greeting == b"a greeting"


def test_other_code_other_options_and_other_files_mean_another_host(tmp_path, monkeypatch):
    key = HostSettings("demo").key
    assert HostSettings("demo", {"max_model_len": 512}).key != key
    assert HostSettings("demo", keep_alive_s=None).key == key
    (tmp_path / "config.json").write_text("{}")
    before = HostSettings(str(tmp_path)).key
    (tmp_path / "config.json").write_text('{"new": 1}')
    assert HostSettings(str(tmp_path)).key != before
    monkeypatch.setattr("chat.backends.engine_host.PROTOCOL", 999)
    assert HostSettings("demo").key != key


@pytest.mark.parametrize("file", ["chatcore/prompts/template.py", "chatcore/reply.py", "chat/backends/engine_host.py"])
def test_a_host_is_not_used_after_a_file_of_the_program_changed(tmp_path, monkeypatch, file):
    for package in ("chat", "chatcore"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__", "demo"))
    monkeypatch.setattr("chat.backends.engine_host.ROOT", tmp_path)
    key = HostSettings("demo").key
    assert HostSettings("demo").key == key
    os.utime(tmp_path / file, (1, 1))
    assert HostSettings("demo").key != key


def test_settings_survive_the_way_to_the_host():
    settings = HostSettings("demo", {"max_model_len": 512}, None)
    assert HostSettings.from_json(settings.to_json()) == settings
    assert json.loads(settings.to_json())["options"] == {"max_model_len": 512}


def test_a_host_without_clients_ends_after_its_keep_alive(tmp_path):
    settings = HostSettings("demo", {"max_model_len": 1024}, keep_alive_s=0.0)
    backend = EngineHostBackend(settings)
    assert backend.wait_until_ready(READY_WITHIN_S).stage == "ready"
    assert backend.info().max_model_len == 1024
    [pid] = [host.pid for host in list_hosts() if host.keep_alive_s == 0.0]
    process = psutil.Process(pid)
    backend.close()
    process.wait(timeout=20)
    assert not Path(settings.socket_path).exists()


def test_stop_ends_the_hosts_that_it_names(settings, backend):
    process = host_process(backend)
    assert [host.pid for host in stop_hosts([process.pid])] == [process.pid]
    process.wait(timeout=20)
    assert engine_host_client.list_hosts() == []
