"""docs/terminal.md names everything that there is."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

from chat.cli import ask
from chat.config import NOT_SETTINGS, Settings
from chat.terminal.commands.command import Command
from chat.terminal.commands.table import COMMANDS
from chatcore.tools.configured import KEYS
from tests.chat.terminal.driver import ROOT

PAGE = (ROOT / "docs" / "terminal.md").read_text("utf-8")
TABLES = "\n".join(line for line in PAGE.splitlines() if line.startswith("|"))
SETTINGS = [field for field in dataclasses.fields(Settings) if field.name != "origins"]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_named_with_what_it_takes(command: Command) -> None:
    arguments = command.arguments.replace("|", "\\|")
    assert f"`/{command.name} {arguments}".rstrip() + "`" in TABLES
    assert all(f"`/{alias}`" in TABLES for alias in command.aliases)


def test_no_command_is_named_that_is_not_there() -> None:
    named = set(re.findall(r"`/([a-z?]+)", TABLES))
    assert named == {name for command in COMMANDS for name in (command.name, *command.aliases)}


def cells(name: str) -> list[str]:
    """Return the cells of the row that a name begins."""
    return next(
        [cell.strip() for cell in line.split("|")[1:-1]] for line in TABLES.splitlines() if f"| `{name}` |" in line
    )


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_every_setting_is_named_with_its_default(setting: dataclasses.Field) -> None:
    default = cells(setting.name)[1]
    if setting.default_factory is dict:
        assert default == "`{}`"
    elif setting.default not in ("", None):
        assert json.loads(default.strip("`")) == setting.default
    else:
        assert "`" not in default


@pytest.mark.parametrize("key", KEYS)
def test_every_key_of_a_source_of_tools_is_named(key: str) -> None:
    assert cells(key)


def test_every_variable_and_every_exit_code_is_named() -> None:
    assert all(f"`VLLMDEPLOY_{name}`" in TABLES for name in NOT_SETTINGS)
    codes = [value for name, value in vars(ask).items() if name.startswith("EXIT_")]
    assert all(f"| {code} |" in TABLES for code in codes)
