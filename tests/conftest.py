"""What several test files share: one real engine with the demo model for the whole run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from chat.backends.engine_host_client import stop_hosts
from vllm_wrapper import VLLMWrapper

ROOT = Path(__file__).resolve().parent.parent

settings.register_profile("busy machines", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machines")


@pytest.fixture(scope="session", autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep sockets, logs, data and configuration of the tests apart from the user's own, in short paths."""
    folder = tmp_path_factory.mktemp("home", numbered=True)
    names = {
        "VLLMDEPLOY_RUNTIME_DIR": folder / "run",
        "VLLMDEPLOY_LOG_DIR": folder / "log",
        "XDG_DATA_HOME": folder / "data",
        "XDG_CONFIG_HOME": folder / "config",
        "XDG_STATE_HOME": folder / "state",
    }
    before = {name: os.environ.get(name) for name in names}
    os.environ.update({name: str(path) for name, path in names.items()})
    yield folder
    for name, value in before.items():
        os.environ.pop(name) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def llm() -> Iterator[VLLMWrapper]:
    """The demo model on the real engine, in this process."""
    with VLLMWrapper("demo") as wrapper:
        yield wrapper


@pytest.fixture(scope="module")
def no_host_is_left() -> Iterator[None]:
    """End the engine hosts that the tests of a module have started."""
    yield
    stop_hosts()
