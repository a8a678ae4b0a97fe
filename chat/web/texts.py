"""Every text of the page, in English and in Chinese: one table, one row a text."""

from __future__ import annotations

from chat.session.texts import Language, TextTable

__all__ = ["TEXTS", "Texts"]


class Texts(TextTable):
    """The page's texts in the language that is set.

    >>> Texts("en").count("turn", 3)
    '3 turns'
    """

    def __init__(self, language: Language) -> None:
        super().__init__(TEXTS, language)


TEXTS: dict[str, tuple[str, str]] = {
    # -- the frame --
    "new": ("New chat", "新对话"),
    "search": ("Search", "搜索"),
    "search.hint": ("Words in any conversation", "搜索任意对话中的文字"),
    "list": ("Conversations", "对话列表"),
    "list.empty": ("No conversations yet.", "还没有对话。"),
    "list.none": ("Nothing found.", "没有找到。"),
    "list.unfinished": ("cut off", "已中断"),
    "title.none": ("New chat", "新对话"),
    "menu": ("This conversation", "当前对话"),
    "rename": ("Rename", "重命名"),
    "rename.label": ("Title", "标题"),
    "delete": ("Delete", "删除"),
    "delete.ask": ("Delete this conversation for good?", "永久删除这个对话吗？"),
    "export.md": ("Export as Markdown", "导出为 Markdown"),
    "export.json": ("Export as JSON", "导出为 JSON"),
    "ok": ("OK", "确定"),
    "cancel": ("Cancel", "取消"),
    "theme": ("Light or dark", "浅色或深色"),
    "logout": ("Log out", "退出登录"),
    "panel.list": ("Show or hide the conversations", "显示或隐藏对话列表"),
    "panel.settings": ("Show or hide the settings", "显示或隐藏设置"),
    # -- the box --
    "box": ("Message", "消息"),
    "box.hint": ("Message…  Enter sends, Shift-Enter begins a new line", "输入消息…  Enter 发送，Shift-Enter 换行"),
    "send": ("Send", "发送"),
    "stop": ("Stop", "停止"),
    "attach": ("Attach files", "添加文件"),
    "attached": ("{name} · {size} · {tokens} · {encoding}", "{name} · {size} · {tokens} · {encoding}"),
    "attached.uncounted": (
        "{name} · {size} · {encoding} · counted once the model is loaded",
        "{name} · {size} · {encoding} · 模型载入后统计词元",
    ),
    "detach": ("Remove {name}", "移除 {name}"),
    "editing": (
        "Turn {n} is in the box: change it and send, on a new branch. Esc leaves it as it was.",
        "第 {n} 轮已放入输入框：修改后发送，将开启新分支。按 Esc 放弃。",
    ),
    # -- what has been said --
    "log": ("What has been said", "对话内容"),
    "welcome": ("What shall we talk about?", "想聊点什么？"),
    "welcome.demo": (
        "This is the embedded demo model: tiny, in English and Chinese, often wrong. It shows that everything works. "
        "For real answers: --model Qwen/Qwen3-0.6B",
        "这是内置的演示模型：很小，会英语和中文，常常出错。它用来证明一切运行正常。"
        "要得到真正的回答：--model Qwen/Qwen3-0.6B",
    ),
    "copy": ("Copy", "复制"),
    "edit": ("Edit", "编辑"),
    "retry": ("Answer again", "重新回答"),
    "continue": ("Continue", "继续"),
    "undo": ("Undo", "撤销"),
    "redo": ("Redo", "恢复"),
    "variant": ("{n} of {all}", "{n}/{all}"),
    "variant.before": ("Previous version", "上一个版本"),
    "variant.after": ("Next version", "下一个版本"),
    "earlier": ("Show what was said before ({turns})", "显示更早的内容（{turns}）"),
    "unseen": ("The model no longer sees what is above.", "模型不再看到以上内容。"),
    "waiting": ("Waiting… {s:.0f} s", "等待中… {s:.0f} 秒"),
    "thinking": ("Thinking… {s:.0f} s", "思考中… {s:.0f} 秒"),
    "thought": ("Thought · {size}", "思考内容 · {size}"),
    "tool": ("Tool: {name}", "工具：{name}"),
    "tool.arguments": ("Arguments", "参数"),
    "tool.result": ("Result", "结果"),
    "stopped": ("stopped", "已停止"),
    "cut": ("cut off at the limit", "达到上限被截断"),
    "unfinished": ("unfinished", "未完成"),
    "figures.cached": ("{n} cached", "缓存 {n}"),
    # -- what happened --
    "error": ("{message}. {hint}", "{message}。{hint}"),
    "dropped": (
        "Left out of the prompt: {which}. The model no longer sees them.",
        "未放入提示：{which}。模型不再看到它们。",
    ),
    "dropped.turns": ("turns {first} to {last}", "第 {first} 至 {last} 轮"),
    "dropped.turn": ("turn {first}", "第 {first} 轮"),
    "failed.back": ("Your message is back in the box.", "您的消息已放回输入框。"),
    "nothing": ("The model ended its answer without a word.", "模型没有给出任何内容就结束了回答。"),
    "undone": ("Taken back; Redo brings it again.", "已撤销；“恢复”可找回。"),
    "redo.nothing": ("There is nothing to bring back.", "没有可恢复的内容。"),
    "undo.nothing": ("There is nothing to take back.", "没有可撤销的内容。"),
    "continue.nothing": ("There is no answer to continue.", "没有可继续的回答。"),
    "store.trouble": ("This conversation cannot be saved: {reason}", "对话无法保存：{reason}"),
    # -- the model --
    "loading": ("{stage} · {s:.0f} s", "{stage} · {s:.0f} 秒"),
    "reload": ("Load again", "重新载入"),
    "context": ("Context", "上下文"),
    "context.used": ("{used} of {all} tokens", "{used} / {all} 词元"),
    "context.dropped": ("{turns} left out", "已舍去 {turns}"),
    # -- the settings --
    "settings": ("Settings", "设置"),
    "system": ("System prompt", "系统提示"),
    "system.hint": ("What the model is told first; empty for nothing", "首先告诉模型的内容；留空则没有"),
    "think": ("Thinking", "思考"),
    "think.auto": ("As the model has it", "按模型默认"),
    "think.on": ("Think first", "先思考"),
    "think.off": ("Answer at once", "直接回答"),
    "think.cannot": ("This model cannot think first.", "此模型不支持先思考。"),
    "sampling": ("Sampling", "采样"),
    "sampling.own": ("{range} · the model's own: {value}", "{range} · 模型默认：{value}"),
    "sampling.range": ("{range} · not set by the model", "{range} · 模型未设置"),
    "sampling.reset": ("Back to the model's own", "恢复模型默认"),
    "sampling.reset.changed": ("Back to the model's own ({n} changed)", "恢复模型默认（已改 {n} 项）"),
    "language": ("Language", "语言"),
    # -- logging in --
    "login": ("Log in", "登录"),
    "login.key": ("Key", "密钥"),
    "login.hint": ("The key that you were given for this server.", "管理员给您的服务器密钥。"),
    "login.wrong": ("This key is not known here.", "此处没有这个密钥。"),
}
