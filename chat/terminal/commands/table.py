"""The commands: one table, from which ``/help``, Tab and the reading of a line all come.

A line that begins with a slash is a command or an error, and is never sent to the model; ``//`` sends a slash.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from chat.terminal.app import TerminalApp
from chat.terminal.commands import conversation, files, model, screen, tools
from chat.terminal.commands.command import Command, command_named, find_command
from chatcore.errors import CommandError, UnknownCommandError

__all__ = ["COMMANDS", "Invocation", "PathLike", "PlainText", "parse"]


# Help describes this table, and the module that holds it stands below: it gets the table as an argument.
def _show_help(app: TerminalApp, argument: str) -> None:
    screen.show_help(app, argument, COMMANDS)


def _help_values(app: TerminalApp) -> Iterable[tuple[str, str]]:
    return screen.help_values(app, COMMANDS)


COMMANDS: tuple[Command, ...] = (
    Command("help", "帮助", _show_help, "[COMMAND]", ("h", "?"), _help_values),
    Command("exit", "退出", screen.leave, aliases=("quit", "q", "bye")),
    Command("new", "新建", conversation.begin_new, "[TITLE]"),
    Command("clear", "清空", conversation.clear),
    Command("history", "历史", conversation.show_history, "[NUMBER]"),
    Command("sessions", "会话", conversation.list_conversations, "[WORDS]", ("search",)),
    Command("resume", "恢复", conversation.resume, "[ID]", values=conversation.id_values),
    Command("title", "标题", conversation.set_title, "[TITLE]"),
    Command("delete", "删除", conversation.delete, "[ID]", values=conversation.id_values),
    Command("private", "私密", conversation.begin_private),
    Command("undo", "撤销", conversation.undo, "[NUMBER]"),
    Command("redo", "重做", conversation.redo, "[NUMBER]"),
    Command("retry", "重试", conversation.retry, "[NAME=VALUE ...]", ("regen",), model.setting_values),
    Command("continue", "继续", conversation.go_on, aliases=("cont",)),
    Command("edit", "编辑", conversation.edit, "[TURN [TEXT]]"),
    Command("branch", "分支", conversation.branch, "[NUMBER]"),
    Command("variants", "变体", conversation.variants, "[NUMBER]"),
    Command("pin", "固定", conversation.pin, "[TURN]"),
    Command("system", "系统", model.system, "[TEXT | @FILE | show | reset]", values=model.system_values),
    Command("set", "设置", model.set_values, "[NAME=VALUE ...]", values=model.setting_values),
    Command("reset", "重置", model.reset_values, "[NAME ...]", values=model.set_names),
    Command(
        "think",
        "思考",
        model.think,
        "[on|off|auto|budget N|full|collapsed|hidden|show]",
        values=model.think_values,
    ),
    Command("model", "模型", model.model, "[NAME]", values=model.model_values, takes_path=True, more="more.model"),
    Command(
        "tools",
        "工具",
        tools.tools,
        "[on|off [NAME] | ask | auto]",
        values=tools.tool_values,
        more="more.tools",
    ),
    Command("reload", "重载", model.reload),
    Command("tokens", "词元", model.tokens),
    Command("context", "上下文", model.context, "[roll|ask|error]", values=model.context_values),
    Command("stats", "统计", model.stats, "[on|off]", values=model.switch_values),
    Command("log", "日志", model.log),
    Command("config", "配置", model.config),
    Command("file", "文件", files.attach, "PATH ...", takes_path=True),
    Command("paste", "粘贴", files.paste),
    Command("copy", "复制", files.copy, "[TURN | code NUMBER]"),
    Command("save", "保存", files.save, "[PATH | code NUMBER PATH]", takes_path=True),
    Command("load", "载入", files.load, "PATH", takes_path=True),
    Command("export", "导出", files.export, "[md|json|openai] [PATH]", values=files.format_values, takes_path=True),
    Command("import", "导入", files.import_file, "PATH", takes_path=True),
    Command("raw", "原文", screen.raw),
    Command("multiline", "多行", screen.multiline),
    Command("language", "语言", screen.language, "[en|zh]", values=screen.language_values),
)


@dataclass(frozen=True, slots=True)
class PlainText:
    """A line that is to be sent to the model."""

    text: str


@dataclass(frozen=True, slots=True)
class Invocation:
    """A line that is a command."""

    command: Command
    argument: str


@dataclass(frozen=True, slots=True)
class PathLike:
    """A line that begins like a path, such as ``/etc/hosts: what is this``: the person is asked what is meant."""

    text: str


def parse(line: str) -> PlainText | Invocation | PathLike:
    """Return what a line means.

    Raises:
        UnknownCommandError: it begins with a slash, and no command is meant.

    >>> parse("//etc is a folder"), parse("half/half \\\\")
    (PlainText(text='/etc is a folder'), PlainText(text='half/half \\\\'))
    >>> parse("/regen temperature=1").command.name
    'retry'
    """
    start = line.lstrip()
    if start.startswith(("//", "／／")):
        return PlainText(start[1:])
    if start.startswith(("。", "、")):  # what the slash key types while a Chinese input method is on
        return _invocation_or_message(line, start[1:])
    if not start.startswith(("/", "／")):
        return PlainText(line)
    words = start[1:].split(maxsplit=1)
    name = words[0] if words else ""
    if "/" in name or name.endswith((":", "：", ",")):
        return PathLike(line)
    try:
        command = find_command(name, COMMANDS)
    except UnknownCommandError:
        if name and os.path.exists(f"/{name}"):
            return PathLike(line)
        raise
    argument = start[1:].lstrip()[len(name) :].strip()
    if argument and not command.arguments:
        raise CommandError(f"/{command.name} takes nothing behind it", hint=f"//{name} sends the line as a message.")
    return Invocation(command, argument)


def _invocation_or_message(line: str, rest: str) -> PlainText | Invocation:
    words = rest.split(maxsplit=1)
    command = command_named(words[0], COMMANDS) if words else None
    return Invocation(command, words[1] if len(words) > 1 else "") if command and words else PlainText(line)
