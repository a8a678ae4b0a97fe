"""The file of keys: what stands in it, how it is made, and which key a client sends."""

from __future__ import annotations

import stat
import threading

import pytest

from chat.net.api_keys import default_key_file, find_api_key, make_key_file, parse_keys, read_key_file
from chatcore.errors import ConfigError


@pytest.fixture(autouse=True)
def own_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def test_a_file_holds_keys_of_several_owners(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# ours\n\nalice: alice-key-1\nalice:alice-key-2\n  bob@home:\tbob-key-1  \nbare-key-1\n")
    assert read_key_file(file) == {
        "alice-key-1": "alice",
        "alice-key-2": "alice",
        "bob-key-1": "bob@home",
        "bare-key-1": "local",
    }


@pytest.mark.parametrize(
    "line", ["alice key secret-1", "alice: short", "al ice: secret-key", "alice:", "\x00" * 20, "é" * 20]
)
def test_what_is_no_key_is_told_by_its_line_and_not_quoted(tmp_path, line):
    file = tmp_path / "keys"
    file.write_text(f"alice: alice-key-1\n{line}\n")
    with pytest.raises(ConfigError, match="line 2: this is no key") as raised:
        parse_keys(file)
    assert "secret" not in str(raised.value)


def test_one_key_cannot_have_two_owners(tmp_path):
    file = tmp_path / "keys"
    file.write_text("alice: the-same-key\nbob: the-same-key\n")
    with pytest.raises(ConfigError, match="line 2: this key has another owner above"):
        parse_keys(file)


def test_a_file_without_keys_is_an_error_for_those_who_need_one(tmp_path):
    file = tmp_path / "keys"
    file.write_text("# nobody\n")
    assert parse_keys(file) == {}
    with pytest.raises(ConfigError, match="holds no key"):
        read_key_file(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_key_file(file)


def test_the_first_start_makes_one_key_for_local_alone():
    file = default_key_file()
    assert make_key_file(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (key,) = read_key_file(file)
    assert len(key) == 43
    assert not make_key_file(file)
    assert list(read_key_file(file)) == [key]
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_servers_that_start_together_make_one_file():
    made = []
    threads = [threading.Thread(target=lambda: made.append(make_key_file(default_key_file()))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made.count(True) == 1


def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        make_key_file(tmp_path / "file" / "keys")


def test_a_client_finds_the_key_of_a_server_on_this_machine_only(monkeypatch, tmp_path):
    assert find_api_key("http://127.0.0.1:8000/v1") == ""
    make_key_file(default_key_file())
    (key,) = read_key_file(default_key_file())
    for url in ("http://127.0.0.1:8000/v1", "http://localhost:8000", "http://[::1]:8000/v1"):
        assert find_api_key(url) == key
    for url in ("http://192.0.2.1:8000/v1", "https://localhost.example.org/v1", "http://127.0.0.1.example.org"):
        assert find_api_key(url) == ""
    monkeypatch.setenv("OPENAI_API_KEY", "from-the-environment")
    assert find_api_key("http://127.0.0.1:8000/v1") == "from-the-environment"
    file = tmp_path / "keys"
    file.write_text("bob: bob-secret-1\nlocal: local-secret-1\n")
    assert find_api_key("http://192.0.2.1", str(file)) == "local-secret-1"
