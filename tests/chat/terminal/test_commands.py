"""A line is a command or a message, and every command is one that there is."""

from __future__ import annotations

import pytest

from chat.config import Settings
from chat.terminal.commands.command import find_command
from chat.terminal.commands.table import COMMANDS, Invocation, PathLike, PlainText, parse
from chatcore.errors import CommandError, EngineError, UnknownCommandError
from tests.chat.terminal.conftest import Talk
from tests.chat.terminal.scripted import ScriptedBackend

# -- reading a line ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "name", "argument"),
    [
        ("/help", "help", ""),
        ("/HELP", "help", ""),
        ("／帮助", "help", ""),
        ("／帮助　retry", "help", "retry"),
        ("。help", "help", ""),
        ("、退出", "exit", ""),
        ("/regen temperature=1.1", "retry", "temperature=1.1"),
        ("/multi", "multiline", ""),
        ("/系统 你是诗人", "system", "你是诗人"),
        ("/system one\n\ntwo", "system", "one\n\ntwo"),
        ("  /title A  B", "title", "A  B"),
    ],
)
def test_a_command_is_found_by_name_alias_beginning_and_chinese_name(line: str, name: str, argument: str) -> None:
    parsed = parse(line)
    assert isinstance(parsed, Invocation)
    assert (parsed.command.name, parsed.argument) == (name, argument)


@pytest.mark.parametrize(
    "line", ["hello", "half/half", "a", "exit", "。。。", "、你好", "C:\\temp\\", "ends with /", " x\n\ny "]
)
def test_everything_else_is_a_message_letter_by_letter(line: str) -> None:
    """Also one letter (mlx took it for a command), and a slash or backslash at the end (llama-cli ate it)."""
    assert parse(line) == PlainText(line)


def test_two_slashes_send_one() -> None:
    assert parse("//etc/hosts") == PlainText("/etc/hosts")
    assert parse("／／帮助") == PlainText("／帮助")


@pytest.mark.parametrize("line", ["/etc/hosts: what is this", "/tmp", "/usr/bin/env", "/hello: you"])
def test_what_looks_like_a_path_is_asked_back(line: str) -> None:
    assert parse(line) == PathLike(line)


def test_an_unknown_command_names_the_nearest() -> None:
    with pytest.raises(UnknownCommandError) as caught:
        parse("/retyr")
    assert "retry" in caught.value.nearest
    with pytest.raises(UnknownCommandError) as caught:
        parse("/ex")
    assert caught.value.nearest == ("exit", "export")


def test_no_name_is_taken_twice() -> None:
    names = [name for command in COMMANDS for name in (command.name, command.chinese, *command.aliases)]
    assert len(names) == len(set(names))
    assert all(find_command(name, COMMANDS) for name in names)


# -- the rest ------------------------------------------------------------------------------------------------------


def test_help_has_a_line_for_every_command(talk: Talk) -> None:
    shown = talk(ScriptedBackend(), "/help", "/help keys", "/help regen")
    for command in COMMANDS:
        assert f"\n/{command.name}" in shown
    assert "Ctrl-X Ctrl-E" in shown
    assert "/retry [NAME=VALUE ...]" in shown


def test_texts_are_chinese_where_the_locale_is(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    shown = talk(ScriptedBackend(), "/帮助", "/hlep", "/language en", "/hlep")
    assert "列出命令" in shown
    assert "您是指 /help 吗" in shown
    assert "Did you mean /help?" in shown


def test_errors_are_chinese_with_the_cause_as_it_was_said(talk: Talk) -> None:
    backend = ScriptedBackend([EngineError("out of memory")])
    shown = talk(backend, "一", settings=Settings(system="", language="zh"))
    assert "错误：引擎出错：out of memory\n提示：对话已保存。" in shown


def test_config_tells_where_each_value_comes_from(talk: Talk) -> None:
    settings = Settings(system="", origins={"system": "command line"})
    shown = talk(ScriptedBackend(), "/config", settings=settings)
    assert "command line" in shown
    assert "thinking_view" in shown


def test_stats_adds_up(talk: Talk) -> None:
    shown = talk(ScriptedBackend(["abcd"], ["ab"]), "/stats", "one", "two", "/stats", "/stats off", "three")
    assert "No answer yet." in shown
    assert "tokens written     6" in shown
    assert shown.count("TTFT 0.01 s") == 2


def test_a_command_without_arguments_refuses_some(talk: Talk) -> None:
    with pytest.raises(CommandError):
        parse("/raw on")


def test_an_empty_answer_is_said_to_be_one(talk: Talk) -> None:
    shown = talk(ScriptedBackend([]), "one")
    assert "without a word" in shown
