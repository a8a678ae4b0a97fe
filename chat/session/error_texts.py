"""What errors are called in Chinese.

What kind of error it is, and what to do, is said in Chinese; the cause in the words of whoever met it: an engine, a
hub, a database. The English text is the error's own.
"""

from __future__ import annotations

from collections.abc import Mapping

from chat.session.texts import Language
from chatcore.errors import (
    ChatError,
    ConfigError,
    ConversationNotFoundError,
    EngineError,
    HubUnreachableError,
    InvalidMessageError,
    ModelLoadError,
    ModelNotFoundError,
    PromptError,
    PromptTooLongError,
    SamplingError,
    StoreBusyError,
    StoreError,
    StoreUnreachableError,
    ToolError,
)

__all__ = ["error_words"]

# By class: what is said, with the error's own facts and its ``message``; and what to do.
CHINESE: Mapping[type[ChatError], tuple[str, str]] = {
    PromptTooLongError: (
        "提示需要 {num_prompt_tokens:,} 词元，最多 {max_prompt_tokens:,} 词元",
        "请缩短消息、开始新对话，或用更大的 max_model_len 载入模型。",
    ),
    InvalidMessageError: ("消息格式不对：{message}", ""),
    PromptError: ("消息无法组成提示：{message}", ""),
    ModelNotFoundError: ("找不到模型：{message}", "请检查名称，或使用内置模型 demo。"),
    HubUnreachableError: (
        "无法连接模型库：{message}",
        "请检查网络，或指定本机的模型文件夹，或使用内置模型 demo。镜像：HF_ENDPOINT、MODELSCOPE_ENDPOINT。",
    ),
    ModelLoadError: ("模型无法载入：{message}", ""),
    SamplingError: ("采样参数不对：{message}", ""),
    EngineError: ("引擎出错：{message}", "对话已保存。请重新载入模型，然后重试。"),
    ConversationNotFoundError: ("找不到对话：{message}", ""),
    StoreBusyError: ("对话存储正忙：{message}", "请稍后再试。"),
    StoreUnreachableError: (
        "保存对话的服务器没有应答：{message}",
        "未送达的内容暂存在本机文件中，服务器恢复后自动发送。",
    ),
    StoreError: ("对话存储出错：{message}", ""),
    ConfigError: ("设置有误：{message}", ""),
    ToolError: ("工具出错：{message}", ""),
}


def error_words(error: ChatError, language: Language) -> tuple[str, str]:
    """Return what was met and what to do about it, in a language; nothing to do is an empty text.

    >>> error_words(PromptTooLongError(9000, 8192), "zh")[0]
    '提示需要 9,000 词元，最多 8,192 词元'
    >>> error_words(ModelLoadError("the weights are cut off", hint="Fetch them again."), "zh")
    ('模型无法载入：the weights are cut off', 'Fetch them again.')
    """
    kind = next((cls for cls in type(error).__mro__ if cls in CHINESE), None)
    if language == "en" or kind is None:
        return str(error), error.hint
    words, hint = CHINESE[kind]
    try:
        said = words.format(**{**vars(error), "message": error})
    except (KeyError, ValueError):  # an error from another process may come without its facts
        said = str(error)
    is_usual = error.hint == type(error).hint
    if not hint or (error.hint and not is_usual):
        hint = f"{hint}（{error.hint}）" if hint else error.hint
    return said, hint
