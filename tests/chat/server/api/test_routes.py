"""The plugin: the store that it opens, and the settings that reach it."""

from __future__ import annotations

import os

import pytest

from chat.server.api.routes import open_store
from chat.server.settings.retention import STORE_VARIABLE, ServedSettings
from chatcore.errors import ConfigError, StoreError
from tests import program
from tests.serving import free_port


def test_the_store_is_the_one_that_the_environment_names(tmp_path, monkeypatch):
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "data" / "store.sqlite"))
    store = open_store()
    assert store.file == tmp_path / "data" / "store.sqlite"
    store.close()


def test_a_store_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv(STORE_VARIABLE, str(tmp_path / "file" / "store.sqlite"))
    with pytest.raises(StoreError, match="cannot be written"):
        open_store()


def test_a_server_that_could_keep_nothing_does_not_start(tmp_path):
    (tmp_path / "file").touch()
    environment = {**os.environ, "VLLMDEPLOY_STORE": str(tmp_path / "file" / "store.sqlite")}
    done = program.run("serve", "--port", str(free_port()), env=environment)
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_settings_travel_in_the_environment(monkeypatch):
    settings = ServedSettings(retention_days=7, retention_days_of={"bob": 1}, max_turns=3)
    monkeypatch.setenv(ServedSettings.variable, settings.to_json())
    assert ServedSettings.from_environment() == settings
    monkeypatch.delenv(ServedSettings.variable)
    assert ServedSettings.from_environment() == ServedSettings()


@pytest.mark.parametrize(
    "text", ["[]", "{", '{"max_turns": "3"}', '{"unknown": 1}', '{"retention_days": -1}', '{"retention_days": "x"}']
)
def test_settings_that_are_none_are_said(monkeypatch, text):
    monkeypatch.setenv(ServedSettings.variable, text)
    with pytest.raises(ConfigError, match=ServedSettings.variable):
        ServedSettings.from_environment()
