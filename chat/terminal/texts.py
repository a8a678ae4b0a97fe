"""Every text of the terminal, in English and in Chinese: one table, one row a text."""

from __future__ import annotations

from chat.session.texts import Language, TextTable

__all__ = ["TEXTS", "Texts"]


class Texts(TextTable):
    """The terminal's texts in the language that is set.

    >>> Texts("en")("undone", turns="1 turn")
    '1 turn taken back; /redo brings it again.'
    """

    def __init__(self, language: Language) -> None:
        super().__init__(TEXTS, language)


TEXTS: dict[str, tuple[str, str]] = {
    # -- beginning and end --
    "banner": ("{name} · /help lists the commands, Ctrl-D leaves", "{name} · /help 列出命令，Ctrl-D 退出"),
    "banner.demo": (
        "This is the embedded demo model: tiny, in English and Chinese, often wrong.\n"
        "It shows that everything works. For real answers: --model Qwen/Qwen3-0.6B",
        "这是内置的演示模型：很小，会英语和中文，常常出错。\n"
        "它用来证明一切运行正常。要得到真正的回答：--model Qwen/Qwen3-0.6B",
    ),
    "label.you": ("You: ", "您："),
    "label.model": ("{name}:", "{name}："),
    "goodbye": ("Kept as {id}. Go on with: --resume {id}", "已保存为 {id}。继续：--resume {id}"),
    "goodbye.private": ("Nothing of this conversation is kept.", "没有保存本次对话的任何内容。"),
    "hint.leave": ("Ctrl-C again, or Ctrl-D, leaves.", "再按一次 Ctrl-C 或按 Ctrl-D 退出。"),
    "hint.exit": (
        "(/exit or Ctrl-D leaves; this was sent as a message)",
        "（/exit 或 Ctrl-D 退出；这一行已作为消息发送）",
    ),
    "error": ("error: {message}", "错误：{message}"),
    "hint": ("hint: {hint}", "提示：{hint}"),
    "yes": ("y", "y"),
    "resume.offer": (
        "Cut off last time: {title} ({turns}) · /resume {id}",
        "上次中断：{title}（{turns}）· /resume {id}",
    ),
    "resumed": ("{title} · {turns}", "{title} · {turns}"),
    "resumed.unanswered": (
        "The last message has no answer yet: /retry asks again.",
        "最后一条消息还没有回答：/retry 再问一次。",
    ),
    "resumed.calls": (
        "The last calls were not run: /continue goes on with them, /retry asks again.",
        "最后的工具调用没有运行：/continue 继续，/retry 重问。",
    ),
    "history.trouble": (
        "What you type is kept for this session only: {reason}",
        "您输入的内容只在本次会话中保留：{reason}",
    ),
    "store.trouble": (
        "The conversation cannot be saved: {reason}. It goes on unsaved; /save PATH writes it elsewhere.",
        "对话无法保存：{reason}。对话继续，但不保存；/save 路径 可写到别处。",
    ),
    "store.away": (
        "{reason}. What is said is kept in a file on this machine, and is sent when the server answers again.",
        "{reason}。对话暂存在本机文件中，服务器恢复后会自动发送。",
    ),
    "store.remote": ("Conversations are kept on {name}.", "对话保存在 {name}。"),
    "store.here": (
        "Conversations are kept on this machine ({name}), not on {url}.",
        "对话保存在本机（{name}），不在 {url}。",
    ),
    # -- loading --
    "loading.seconds": ("{s:.0f} s", "{s:.0f} 秒"),
    "queued": ("queued: {text}", "排队：{text}"),
    "queued.note": (
        "Queued: it is sent when the model is ready. Ctrl-C on an empty line takes it back.",
        "已排队：模型就绪后发送。在空行按 Ctrl-C 取回。",
    ),
    "queued.back": ("Taken back into the line.", "已取回到输入行。"),
    "calling": ("writing a call of {name}", "正在写出对 {name} 的调用"),
    "call.running": ("{name} is running · Ctrl-C stops it", "{name} 正在运行 · Ctrl-C 停止"),
    "call.ask": ("Run it? (y/n/always)", "运行吗？(y 是/n 否/always 总是)"),
    "call.unattended": (
        'Not run: nobody is there to be asked. tool_approval = "auto" runs tools without asking.',
        '未运行：没有人可以确认。设置 tool_approval = "auto" 可不经询问运行工具。',
    ),
    "call.stopped": (
        "stopped; what has arrived is kept · /continue lets the model go on",
        "已停止；已有的内容都已保留 · /continue 让模型继续",
    ),
    "call.limit": (
        "{n} rounds of calls in one turn: no more were run. /continue lets the model go on.",
        "一轮中已调用 {n} 次工具，不再运行。/continue 让模型继续。",
    ),
    "waiting": ("waiting {s:.0f} s", "等待 {s:.0f} 秒"),
    "reloading": ("Loading {name} again.", "正在重新载入 {name}。"),
    # -- an answer --
    "thinking": ("thinking… {s:.0f} s, {size}", "思考中… {s:.0f} 秒，{size}"),
    "thought": ("thought for {s:.1f} s, {size} · /think show", "思考了 {s:.1f} 秒，{size} · /think show"),
    "figures.cached": ("({n} cached)", "（缓存 {n}）"),
    "interrupted": (
        "interrupted: {tokens} kept · /undo drops · /continue goes on",
        "已中断：保留 {tokens} · /undo 撤销 · /continue 继续",
    ),
    "interrupted.empty": (
        "interrupted before the first token; your message is back in the line",
        "在第一个词元之前中断；消息已放回输入行",
    ),
    "interrupted.results": (
        "interrupted; /continue lets the model go on from here",
        "已中断；/continue 让模型从这里继续",
    ),
    "nothing": (
        "The model ended its answer without a word. /retry asks again.",
        "模型没有给出任何内容就结束了回答。/retry 再问一次。",
    ),
    "cut": (
        "cut at {tokens} (max_tokens or the window): /continue goes on",
        "在 {tokens} 处截断（max_tokens 或窗口）：/continue 继续",
    ),
    "failed.partial": (
        "What had arrived is kept: {tokens}. /continue goes on, /retry asks again.",
        "已收到的内容已保留：{tokens}。/continue 继续，/retry 重问。",
    ),
    "failed.back": ("Your message is back in the line.", "您的消息已放回输入行。"),
    "dropped": (
        "Left out of the prompt: {which} ({tokens}). The model no longer sees them. /pin N keeps a turn.",
        "未放入提示：{which}（{tokens}）。模型不再看到它们。/pin N 可固定一轮。",
    ),
    "dropped.turns": ("turns {first}–{last}", "第 {first}–{last} 轮"),
    "dropped.turn": ("turn {first}", "第 {first} 轮"),
    "drop.ask": ("{which} would be left out of the prompt. Send? (y/n)", "{which}将不放入提示。发送吗？(y/n)"),
    "drop.refused": (
        "{which} would be left out; not sent (/context roll allows it).",
        "{which}将被舍去；未发送（/context roll 允许）。",
    ),
    "kept.typed": ("Typed before: {text}\n(an empty line sends it)", "先前输入：{text}\n（空行发送）"),
    "pasted": ("pasted {lines}", "粘贴 {lines}"),
    # -- the toolbar --
    "bar.context": ("ctx {used}/{all}", "上下文 {used}/{all}"),
    "bar.too_long": ("does not fit: {used} of {all}", "放不下：{used}/{all}"),
    "bar.think": ("think {mode}", "思考 {mode}"),
    "bar.private": ("private", "私密"),
    "bar.tools": ("tools {n}", "工具 {n}"),
    "bar.attached": ("{n} attached", "附件 {n}"),
    # -- answers of commands --
    "or": (" or ", " 或 "),
    "word.yes": ("yes", "是"),
    "word.no": ("no", "否"),
    "unknown": (
        "There is no command /{name}. Nothing was sent; //{name} sends the line as a message.",
        "没有命令 /{name}。未发送任何内容；//{name} 可作为消息发送。",
    ),
    "unknown.nearest": (
        "There is no command /{name}. Did you mean {nearest}? Nothing was sent; //{name} sends the line as a message.",
        "没有命令 /{name}。您是指 {nearest} 吗？未发送任何内容；//{name} 可作为消息发送。",
    ),
    "path.ask": ("That begins with a slash. Send it as a message? (y/n)", "这一行以斜杠开头。作为消息发送吗？(y/n)"),
    "number.bad": ("{value!r} is not a whole number from 1 on", "{value!r} 不是正整数"),
    "turn.unknown": ("there is no turn {n}; this conversation has {count}", "没有第 {n} 轮；本对话共 {count} 轮"),
    "help.same": ("The same: {names}", "同义：{names}"),
    "help.more": (
        "/help COMMAND tells more, /help keys the keys. Beginnings of names are enough. // sends a leading slash.",
        "/help 命令 查看详情，/help keys 查看按键。命令可只写开头。// 发送以斜杠开头的消息。",
    ),
    "help.keys": ("what the keys do", "按键说明"),
    "help.keys.text": (
        "Enter                      send\n"
        "Alt-Enter, Ctrl-J          new line (Shift-Enter, where the terminal can tell it apart)\n"
        '"""                        begins and ends a text of several lines\n'
        "Ctrl-C                     stop the answer; clear the line (Up brings it back); twice: leave\n"
        "Ctrl-D                     leave, on an empty line\n"
        "Ctrl-Z                     suspend; fg comes back\n"
        "Up, Down, Ctrl-R           what was typed before; search in it\n"
        "Tab                        complete commands, values, ids, paths\n"
        "Ctrl-X Ctrl-E              edit the line in $VISUAL or $EDITOR\n"
        "Ctrl-X Ctrl-P              unfold a long paste\n"
        "@path                      in a message: attach the file",
        "Enter                      发送\n"
        "Alt-Enter、Ctrl-J          换行（终端支持时也可用 Shift-Enter）\n"
        '"""                        开始和结束多行文本\n'
        "Ctrl-C                     停止回答；清空输入行（按上键恢复）；连按两次退出\n"
        "Ctrl-D                     在空行退出\n"
        "Ctrl-Z                     挂起；fg 恢复\n"
        "上、下、Ctrl-R             以前的输入；在其中搜索\n"
        "Tab                        补全命令、取值、编号、路径\n"
        "Ctrl-X Ctrl-E              用 $VISUAL 或 $EDITOR 编辑输入行\n"
        "Ctrl-X Ctrl-P              展开折叠的粘贴\n"
        "@路径                      在消息中：附上该文件",
    ),
    "language.is": ("The texts are in English.", "界面语言为中文。"),
    "language.unknown": ("there are no texts in {name!r}", "没有 {name!r} 的界面文字"),
    "raw.on": ("Answers are shown as the model writes them.", "按模型原文显示回答。"),
    "raw.off": ("Answers are shown as Markdown.", "按 Markdown 显示回答。"),
    "raw.always": (
        "answers are always raw here: this terminal, or an option, wants plain text",
        "此处始终显示原文：终端或选项要求纯文本",
    ),
    "multiline.on": ("Enter makes a new line, Alt-Enter sends.", "Enter 换行，Alt-Enter 发送。"),
    "multiline.off": ("Enter sends, Alt-Enter makes a new line.", "Enter 发送，Alt-Enter 换行。"),
    "new.done": ("A new conversation.", "新对话。"),
    "new.kept": ("{title} is kept: /resume {id}", "{title} 已保存：/resume {id}"),
    "private.done": ("A private conversation: nothing of it is kept.", "私密对话：不保存任何内容。"),
    "history.empty": ("Nothing has been said yet.", "还没有内容。"),
    "history.rule": ("── the model no longer sees what is above ──", "── 模型不再看到以上内容 ──"),
    "turn.head": ("{n}. {marks}", "{n}. {marks}"),
    "turn.pinned": ("pinned", "已固定"),
    "turn.variant": ("answer {variant} of {count}", "回答 {variant}/{count}"),
    "turn.interrupted": ("[interrupted]", "[已中断]"),
    "sessions.none": ("No conversation found.", "没有找到对话。"),
    "title.none": ("(no title yet)", "（还没有标题）"),
    "delete.ask": ("Delete {title} ({id}) for good? (y/n)", "永久删除 {title}（{id}）吗？(y/n)"),
    "delete.done": ("Deleted: {title}", "已删除：{title}"),
    "delete.not": ("Not deleted.", "未删除。"),
    "undone": ("{turns} taken back; /redo brings it again.", "已撤销 {turns}；/redo 恢复。"),
    "undo.nothing": ("there is nothing to take back", "没有可撤销的内容"),
    "redone": ("{turns} brought back.", "已恢复 {turns}。"),
    "redo.nothing": ("there is nothing to bring back", "没有可恢复的内容"),
    "retry.nothing": ("there is no message to answer again", "没有可重新回答的消息"),
    "retry.variant": ("This is answer {n}; /variants lists all of them.", "这是第 {n} 个回答；/variants 列出全部。"),
    "continue.nothing": ("there is no answer to continue", "没有可继续的回答"),
    "edit.begin": (
        "Turn {n} is in the line: change it, and Enter asks again on a new branch. Ctrl-C leaves it as it was.",
        "第 {n} 轮已放入输入行：修改后按 Enter 在新分支上重新提问，Ctrl-C 放弃。",
    ),
    "branch.unknown": ("there is no branch {n}; there are {count}", "没有分支 {n}；共 {count} 个"),
    "variants.unknown": ("there is no answer {n}; there are {count}", "没有回答 {n}；共 {count} 个"),
    "pin.on": ("Turn {n} stays in the prompt.", "第 {n} 轮将保留在提示中。"),
    "pin.off": ("Turn {n} may be left out again.", "第 {n} 轮可以被舍去。"),
    "pin.none": ("No turn is pinned. /pin N keeps turn N in the prompt.", "没有固定的轮次。/pin N 固定第 N 轮。"),
    "system.none": ("(no system message)", "（没有系统消息）"),
    "system.set": ("System message: {text}", "系统消息：{text}"),
    "system.show": ("show it", "显示"),
    "system.reset": ("the one from the configuration again", "恢复为配置中的内容"),
    "set.name": ("name", "名称"),
    "set.value": ("set to", "当前值"),
    "set.default": ("model's own", "模型默认"),
    "set.range": ("range", "范围"),
    "reset.unset": ("{name} has not been set", "{name} 没有设置过"),
    "reset.done": ("Back to the model's own: {names}", "已恢复为模型默认：{names}"),
    "reset.nothing": ("Nothing had been set.", "没有设置过任何参数。"),
    "think.is": ("Thinking: {mode}, shown {view}.", "思考：{mode}，显示方式 {view}。"),
    "think.budget.is": (" At most {n} tokens.", "最多 {n} 词元。"),
    "think.budget.bad": ("a budget is a number of tokens, not {value!r}", "预算是词元数，不能是 {value!r}"),
    "think.unknown": ("/think does not know {value!r}", "/think 不认识 {value!r}"),
    "think.none": ("the last answer has no thinking", "上一个回答没有思考内容"),
    "think.cannot": ("{name} cannot think before it answers.", "{name} 不支持先思考再回答。"),
    "think.on": ("think before answering", "先思考再回答"),
    "think.off": ("answer at once", "直接回答"),
    "think.auto": ("as the model's template has it", "按模型模板的默认"),
    "think.budget": ("at most so many tokens", "限制思考词元数"),
    "think.full": ("show it as it comes", "完整显示"),
    "think.collapsed": ("show one line that counts", "只显示一行计数"),
    "think.hidden": ("do not show it", "不显示"),
    "think.show": ("show the last thinking", "显示上一次的思考"),
    "model.name": ("model", "模型"),
    "model.state": ("state", "状态"),
    "model.window": ("window", "窗口"),
    "model.thinks": ("can think", "支持思考"),
    "model.defaults": ("sampling", "采样默认值"),
    "model.fixed": ("{name} is the only model here", "这里只有 {name} 一个模型"),
    "model.same": ("{name} is in use.", "正在使用 {name}。"),
    "model.stays": ("{name} stays in use.", "仍使用 {name}。"),
    "model.changed": ("{name} goes on with the conversation.", "由 {name} 继续对话。"),
    "model.how": (
        "/model NAME changes it; the conversation goes on. NAME: a folder, an id on a model hub, or one of these.",
        "/model 名称 可更换模型，对话继续。名称：文件夹、模型库中的 id，或上面列出的模型。",
    ),
    "model.loaded": ("loaded", "已载入"),
    "model.recent": ("used before", "用过"),
    "model.embedded": ("embedded", "内置"),
    "model.served": ("on the server", "服务器上"),
    "tools.none": (
        'No tools are configured. They stand in {file}, for example:\n[tools.calculator]\npython = "calculator.py"',
        '没有配置工具。在 {file} 中配置，例如：\n[tools.calculator]\npython = "calculator.py"',
    ),
    "tools.starting": ("starting the tools: {names}", "正在启动工具：{names}"),
    "tools.unknown": ("no tool and no source is named {name!r}", "没有名为 {name!r} 的工具或来源"),
    "tools.what": ("/tools does not know {value!r}", "/tools 不认识 {value!r}"),
    "tools.ask": (
        "You are asked before each call; /tools auto runs them without.",
        "每次调用前会询问；/tools auto 不再询问。",
    ),
    "tools.auto": ("Calls are run without asking; /tools ask asks.", "调用时不询问；/tools ask 恢复询问。"),
    "tools.allowed": ("Not asked about: {names}", "不再询问：{names}"),
    "tools.state.on": ("on", "启用"),
    "tools.state.off": ("off", "停用"),
    "tools.state.starting": ("starting", "正在启动"),
    "tools.state.failed": ("failed", "失败"),
    "tools.word.on": ("switch on: a source, a tool, or all", "启用来源、工具或全部"),
    "tools.word.off": ("switch off", "停用"),
    "tools.word.ask": ("ask before each call", "每次调用前询问"),
    "tools.word.auto": ("run calls without asking", "不询问直接运行"),
    "tokens.tools": ("tools", "工具"),
    "tokens.system": ("system message", "系统消息"),
    "tokens.turn": ("{n}. {text}", "{n}. {text}"),
    "tokens.files": ("files to be sent", "待发送的文件"),
    "tokens.template": ("template", "模板"),
    "tokens.reply": ("kept for the answer", "为回答保留"),
    "tokens.free": ("free", "空闲"),
    "tokens.window": ("window", "窗口"),
    "context.unknown": ("/context does not know {value!r}", "/context 不认识 {value!r}"),
    "context.roll": (
        "When the window is full, the oldest turns are left out, and named.",
        "窗口满时舍去最早的轮次，并逐一说明。",
    ),
    "context.ask": ("When the window is full, you are asked before turns are left out.", "窗口满时先询问再舍去。"),
    "context.error": ("When the window is full, nothing is sent.", "窗口满时不发送。"),
    "stats.answers": ("answers", "回答数"),
    "stats.output": ("tokens written", "生成词元"),
    "stats.prompt": ("tokens read", "读入词元"),
    "stats.cached": ("of them cached", "其中缓存"),
    "stats.ttft": ("TTFT", "首词延迟"),
    "stats.rate": ("tokens per second", "词元/秒"),
    "stats.none": ("No answer yet.", "还没有回答。"),
    "stats.on": ("A line of figures after each answer.", "每次回答后显示一行数据。"),
    "stats.off": ("No line of figures.", "不显示数据行。"),
    "stats.unknown": ("/stats does not know {value!r}", "/stats 不认识 {value!r}"),
    "log.none": ("this backend keeps no log file", "此后端没有日志文件"),
    "file.which": ("which file?", "哪个文件？"),
    "file.attached": (
        "attached: {name}, {bytes}{tokens} ({encoding})",
        "已附上：{name}，{bytes}{tokens}（{encoding}）",
    ),
    "paste.none": ("the clipboard cannot be read from here", "无法读取剪贴板"),
    "paste.hint": (
        "Paste with the terminal's own key instead: it is one message.",
        "请使用终端自带的粘贴键：粘贴内容会是一条消息。",
    ),
    "copy.done": ("Copied: {size}", "已复制：{size}"),
    "copy.cannot": ("the clipboard cannot be set from here", "无法写入剪贴板"),
    "copy.nothing": ("there is no such answer to copy", "没有可复制的回答"),
    "copy.no_code": (
        "there is no block of code {n}; the last answer has {count}",
        "没有代码块 {n}；上一个回答有 {count} 个",
    ),
    "save.ask": ("{path} exists. Overwrite it? (y/n)", "{path} 已存在。覆盖吗？(y/n)"),
    "save.not": ("Not written.", "未写入。"),
    "save.done": ("Written: {path}", "已写入：{path}"),
    "save.cannot": ("{path} cannot be written: {reason}", "无法写入 {path}：{reason}"),
    "save.folder": ("{path} is a folder", "{path} 是文件夹"),
    "save.code.how": ("which block of code, and where to?", "哪个代码块？保存到哪里？"),
    "export.md": ("Markdown, to read", "Markdown，便于阅读"),
    "export.json": ("everything, with all branches", "完整内容，含全部分支"),
    "export.openai": ("OpenAI's messages, one line", "OpenAI messages，一行"),
    "import.done": ("{n} read: {ids}", "已读入 {n} 个：{ids}"),
    "internal": (
        "error: a mistake in this program: {error}\nThe conversation is kept. Details: {file}",
        "错误：程序内部错误：{error}\n对话已保存。详情：{file}",
    ),
    # -- one line for each command --
    "help.help": ("list the commands, or tell about one", "列出命令，或说明某个命令"),
    "help.exit": ("leave (Ctrl-D does, too)", "退出（也可按 Ctrl-D）"),
    "help.new": ("begin a new conversation; this one is kept", "开始新对话；当前对话保留"),
    "help.clear": ("clear the screen and begin a new conversation", "清屏并开始新对话"),
    "help.history": ("print the turns, or the last few", "显示各轮内容，或最近几轮"),
    "help.sessions": ("list the conversations, or find words in them", "列出对话，或按词搜索"),
    "help.resume": ("go on with another conversation", "继续另一个对话"),
    "help.title": ("show or set the title", "显示或设置标题"),
    "help.delete": ("delete a conversation for good, after asking", "永久删除对话（会先询问）"),
    "help.private": ("begin a conversation of which nothing is kept", "开始不保存的私密对话"),
    "help.undo": ("take back the last turn, or several", "撤销最后一轮或多轮"),
    "help.redo": ("bring back what was taken back", "恢复已撤销的内容"),
    "help.retry": ("answer again, keeping the old answer as a variant", "重新回答，旧回答保留为变体"),
    "help.continue": ("go on with an answer that was cut or interrupted", "继续被截断或中断的回答"),
    "help.edit": ("change a message and ask again, on a new branch", "修改消息并在新分支上重新提问"),
    "help.branch": ("list the branches, or go to one", "列出分支，或切换分支"),
    "help.variants": ("list the answers to the last message, or take one", "列出最后一条消息的各个回答，或选用其一"),
    "help.pin": ("keep a turn in the prompt when the window is full", "窗口满时仍保留某一轮"),
    "help.system": ("show or replace the system message", "显示或替换系统消息"),
    "help.set": ("set sampling parameters, or list them", "设置或列出采样参数"),
    "help.reset": ("back to the model's own sampling parameters", "恢复模型默认采样参数"),
    "help.think": ("whether the model thinks first, and how that is shown", "是否先思考，以及如何显示"),
    "help.tools": ("the tools that the model may call", "模型可以调用的工具"),
    "more.tools": (
        "/tools            list them\n"
        "/tools off NAME   switch off a source or a tool; all without a name\n"
        "/tools on NAME    switch it on again\n"
        "/tools ask        ask before each call: y runs it, n tells the model no, always asks no more for this tool,\n"
        "                  Ctrl-C stops and gives the prompt back\n"
        "/tools auto       run calls without asking\n"
        "They stand in the configuration file: [tools.NAME] with command or url (MCP servers) or python (functions).",
        "/tools            列出工具\n"
        "/tools off 名称   停用来源或工具；不写名称则全部停用\n"
        "/tools on 名称    重新启用\n"
        "/tools ask        每次调用前询问：y 运行，n 拒绝，always 此工具不再询问，Ctrl-C 停止并返回输入行\n"
        "/tools auto       不询问直接运行\n"
        "工具写在配置文件中：[tools.名称] 加 command 或 url（MCP 服务器），或 python（函数）。",
    ),
    "help.model": ("tell about the model, or change it", "显示或更换模型"),
    "more.model": (
        "/model            the model in use, and others that can be used at once\n"
        "/model NAME       go on with another one: demo, a folder, an id on a model hub, or a model of the server\n"
        "The conversation goes on. The engine that is left stays warm for its keep-alive. Ctrl-C gives up while the\n"
        "new one loads; then, and if it cannot be loaded, the old one stays in use.",
        "/model            正在使用的模型，以及可以立即使用的其他模型\n"
        "/model 名称       换用另一个：demo、文件夹、模型库中的 id，或服务器上的模型\n"
        "对话继续。原来的引擎在保持时间内仍然可用。载入新模型时可按 Ctrl-C 放弃；放弃或载入失败时仍使用原来的模型。",
    ),
    "help.reload": ("load the model again", "重新载入模型"),
    "help.tokens": ("what the window is used for", "显示窗口的使用情况"),
    "help.context": ("what happens when the window is full", "窗口满时如何处理"),
    "help.stats": ("figures of this session; the line after each answer", "本次会话的数据；回答后的数据行"),
    "help.log": ("where the engine's messages go", "引擎日志的位置"),
    "help.config": ("every setting, and where it comes from", "所有设置及其来源"),
    "help.file": ("attach files to the next message", "为下一条消息附上文件"),
    "help.paste": ("put the clipboard into the line", "把剪贴板内容放入输入行"),
    "help.copy": ("copy the last answer, or a block of its code", "复制上一个回答或其中的代码块"),
    "help.save": ("write this conversation, or a block of code, to a file", "把对话或代码块写入文件"),
    "help.load": ("go on with a conversation from a file", "从文件载入对话并继续"),
    "help.export": (
        "write this conversation as Markdown, JSON or OpenAI messages",
        "导出为 Markdown、JSON 或 OpenAI messages",
    ),
    "help.import": ("read conversations from a file into the store", "从文件导入对话"),
    "help.raw": ("show answers as Markdown, or as they are written", "切换 Markdown 显示与原文显示"),
    "help.multiline": ("swap what Enter and Alt-Enter do", "交换 Enter 与 Alt-Enter"),
    "help.language": ("switch between English and Chinese", "切换中英文界面"),
}
