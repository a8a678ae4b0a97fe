"""The commands: one table, from which ``/help``, Tab and the reading of a line all come.

A line that begins with a slash is a command or an error, and is never sent to the model; ``//`` sends a slash.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chat.terminal.commands import conversation, files, model, screen, tools
from chatcore.errors import CommandError, UnknownCommandError

if TYPE_CHECKING:
    from chat.terminal.repl import Repl

__all__ = ["COMMANDS", "Command", "Invocation", "PlainText", "PathLike", "find_command", "parse"]

Handler = Callable[["Repl", str], None]
Values = Callable[["Repl"], Iterable[tuple[str, str]]]  # what may follow a command, each with a remark


@dataclass(frozen=True, slots=True)
class Command:
    """One row of the table.

    Args:
        name: as it is typed, without the slash.
        chinese: its Chinese name.
        handler: does it; gets the program and what stands behind the name.
        arguments: how ``/help`` writes what may stand behind the name; nothing may, if empty.
        aliases: other names.
        values: completes what stands behind the name.
        takes_path: what stands behind the name ends in a path.
        more: key of a text that ``/help`` shows beside the one line.
    """

    name: str
    chinese: str
    handler: Handler
    arguments: str = ""
    aliases: tuple[str, ...] = ()
    values: Values | None = None
    takes_path: bool = False
    more: str = ""


COMMANDS: tuple[Command, ...] = (
    Command("help", "帮助", screen.show_help, "[COMMAND]", ("h", "?"), screen.help_values),
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
        command = find_command(name)
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
    command = _named(words[0]) if words else None
    return Invocation(command, words[1] if len(words) > 1 else "") if command and words else PlainText(line)


def _named(name: str) -> Command | None:
    lowered = name.lower()
    return next((c for c in COMMANDS if lowered in (c.name, c.chinese, *c.aliases)), None)


def find_command(name: str) -> Command:
    """Return the command of a name, an alias, a Chinese name, or the beginning of just one name.

    >>> find_command("multi").name
    'multiline'

    Raises:
        UnknownCommandError: names what may have been meant.
    """
    if command := _named(name):
        return command
    lowered = name.lower()
    begun = [command for command in COMMANDS if lowered and command.name.startswith(lowered)]
    if len(begun) == 1:
        return begun[0]
    names = [known for command in COMMANDS for known in (command.name, *command.aliases)]
    near = [command.name for command in begun] or difflib.get_close_matches(lowered, names, n=2, cutoff=0.6)
    raise UnknownCommandError(
        name,
        tuple(near),
        hint=f"Nothing was sent. /help lists the commands; //{name} sends the line as a message.",
    )
