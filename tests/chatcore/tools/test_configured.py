"""Tools that the configuration names: what may stand there, and what comes of it."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from chat.config import load_settings
from chatcore.errors import ConfigError, InvalidMessageError, ToolError
from chatcore.tools.configured import KEYS, PythonTools, open_source, opened
from chatcore.tools.functions import call_tool
from tests.chatcore.tools.test_mcp import COMMAND, is_running

FILE = '''
from __future__ import annotations
import json
from dataclasses import dataclass

@dataclass
class Place:
    name: str

def weather(place: Place) -> str:
    """Get the weather of a place."""
    return f"sunny in {place.name}"

def add(a: int, b: int = 1) -> int:
    return a + b

def _hidden() -> None: ...
'''


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "own.py").write_text(FILE, "utf-8")
    return tmp_path / "own.py"


def load(text: str, folder: Path):
    """Load a configuration file with these lines."""
    (folder / "config.toml").write_text(text, "utf-8")
    return load_settings(file=folder / "config.toml", environment={})


# -- what may stand in the file ---------------------------------------------------------------------------------------


def test_sources_of_all_kinds_are_read(tmp_path):
    settings = load(
        '[tools.own]\npython = "own.py"\n'
        '[tools.notes]\ncommand = ["npx", "-y", "server"]\nenv = { TOKEN = "${file:~/token}" }\ncwd = "~"\n'
        '[tools.search]\nurl = "https://search.example/mcp"\nheaders = { Authorization = "Bearer ${env:KEY}" }\n'
        'prefix = "search_"\ntimeout_s = 5\nenabled = false\n',
        tmp_path,
    )
    assert list(settings.tools) == ["own", "notes", "search"]
    assert settings.tool_approval == "ask"


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('[tools.x]\npyton = "own.py"', "unknown setting 'pyton' in tools.x"),
        ("[tools.x]\nenabled = true", "tools.x has no source; it needs one of command, url, python"),
        ('[tools.x]\npython = "a.py"\nurl = "http://a"', "tools.x has url and python; it needs one of"),
        ('[tools.x]\ncommand = "npx server"', "command in tools.x is of a wrong kind; it is a list of texts"),
        ("[tools.x]\ncommand = [1]", "command in tools.x is of a wrong kind"),
        ('[tools.x]\npython = "a.py"\ntimeout_s = true', "timeout_s in tools.x is of a wrong kind; it is a number"),
        ('[tools.x]\npython = "a.py"\ntimeout_s = 1', "timeout_s in tools.x goes with command or url only"),
        ('[tools.x]\nurl = "http://a"\nenv = { A = "b" }', "env in tools.x goes with command only"),
        ('[tools]\nx = "own.py"', "tools.x is not a table"),
        ('tools = "own.py"', "tools is not a table"),
        ('tool_approval = "never"', "it is one of 'ask', 'auto'"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_place(tmp_path, lines, said):
    with pytest.raises(ConfigError) as caught:
        load(lines, tmp_path)
    assert said in str(caught.value)
    assert "config.toml" in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        'url = "http://a"\nheaders = { Authorization = "Bearer xyzzy" }',
        'url = "http://a"\nheaders = { X-API-Key = "xyzzy" }',
        'command = ["a"]\nenv = { GITHUB_TOKEN = "xyzzy" }',
    ],
)
def test_a_secret_in_the_file_itself_is_refused_and_not_shown(tmp_path, line):
    with pytest.raises(ConfigError, match="stands in the file itself") as caught:
        load(f"[tools.x]\n{line}", tmp_path)
    assert "xyzzy" not in str(caught.value)
    assert "${env:VARIABLE}" in caught.value.hint


def test_the_nearest_name_is_named(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load('[tools.x]\npyton = "own.py"', tmp_path)
    assert caught.value.hint == "Did you mean python?"


def test_every_key_has_a_kind_that_toml_can_say():
    assert all(isinstance(tomllib.loads("x = 1")["x"], int) for kinds in KEYS.values() if int in kinds)


# -- Python functions -------------------------------------------------------------------------------------------------


def test_public_functions_of_a_file_are_tools(file):
    tools = PythonTools("own.py", file.parent).tools()
    assert [tool.name for tool in tools] == ["weather", "add"]
    assert call_tool(tools, "weather", '{"place": {"name": "Paris"}}') == "sunny in Paris"


def test_one_function_can_be_named_and_given_a_prefix(file):
    (tool,) = PythonTools(f"{file}:add", Path("/nowhere"), prefix="my_").tools()
    assert (tool.name, tool.schema["function"]["name"]) == ("my_add", "my_add")
    assert call_tool([tool], "my_add", '{"a": 1}') == "2"


def test_a_module_names_its_tools_in_all(tmp_path, monkeypatch):
    (tmp_path / "some_tools.py").write_text("__all__ = ['two']\ndef one(): ...\ndef two(): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert [tool.name for tool in PythonTools("some_tools", tmp_path).tools()] == ["two"]
    del sys.modules["some_tools"]


@pytest.mark.parametrize(
    ("target", "text", "said"),
    [
        ("none.py", "", "there is no file"),
        ("bad.py", "def f(:", r"the tools in bad\.py cannot be loaded: SyntaxError"),
        ("bad.py", "raise SystemExit('no')", "the tools in bad.py cannot be loaded: SystemExit: no"),
        ("bad.py", "import no_such_module", "cannot be loaded: ModuleNotFoundError"),
        ("bad.py", "x = 1", "bad.py has no functions"),
        ("bad.py:f", "x = 1", "bad.py has no function f"),
        ("no_such_module", "", "the tools in no_such_module cannot be loaded"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path, target, text, said):
    if text:
        (tmp_path / "bad.py").write_text(text)
    with pytest.raises(ToolError, match=said):
        PythonTools(target, tmp_path).tools()


# -- servers ----------------------------------------------------------------------------------------------------------


def test_a_secret_is_read_where_the_file_names_it(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("plugh\n")
    monkeypatch.setenv("OUR_KEY", "xyzzy")
    table = {"command": [*COMMAND, "variable"], "env": {"A_KEY": f"${{env:OUR_KEY}}-${{file:{tmp_path}/key}}"}}
    source = open_source("x", table, tmp_path)
    try:
        assert call_tool(source.tools(), "variable", '{"name": "A_KEY"}') == "xyzzy-plugh"
    finally:
        source.close()


@pytest.mark.parametrize("reference", ["${env:NOT_SET}", "${file:/no/such/file}"])
def test_a_secret_that_is_not_there_is_told_with_its_place(tmp_path, reference, monkeypatch):
    monkeypatch.delenv("NOT_SET", raising=False)
    with pytest.raises(ToolError, match="which tools.x names, (is not set|cannot be read)"):
        open_source("x", {"url": "http://a", "headers": {"Key": reference}}, tmp_path)


def test_sources_end_with_the_block_also_when_one_of_them_fails(file):
    tables = {
        "tests": {"command": [*COMMAND, "process"]},
        "own": {"python": "own.py"},
        "off": {"url": "http://127.0.0.1:9", "enabled": False},
    }
    with opened(tables, file.parent) as tools:
        assert [tool.name for tool in tools] == ["process", "weather", "add"]
        pid = int(call_tool(tools, "process", "{}"))
    assert not is_running(pid)
    with (
        pytest.raises(InvalidMessageError, match="several tools are named add"),
        opened({"a": tables["own"], "b": {"python": "own.py:add"}}, file.parent),
    ):
        pass
