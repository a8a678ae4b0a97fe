"""Every error of this project, in one tree.

An error's text says what was met and what the limit is; its ``hint`` says what to do about it. Facts are attributes, so
that a caller never parses text. A surface (terminal, command line, server) turns an error into words once, with
:func:`describe`.

::

    ChatError
    ├── PromptError (ValueError)           messages that cannot become a prompt
    │   ├── InvalidMessageError            a message that is not OpenAI's shape
    │   └── PromptTooLongError             more tokens than the window holds
    ├── ModelError                         a model that cannot be had or used
    │   ├── ModelNotFoundError (LookupError)   no such folder, no such name on the hub
    │   ├── HubUnreachableError            the hub did not answer
    │   └── ModelLoadError                 the files are there, but the engine cannot load them
    ├── SamplingError (ValueError)         a sampling parameter that is unknown or out of range
    ├── EngineError                        the engine failed while answering
    │   └── ServerRequestError             a server refuses a request, fails or does not answer
    ├── StoreError                         the store of conversations cannot be read or written
    │   ├── StoreBusyError                 another program holds the store for too long
    │   ├── StoreUnreachableError          the server that keeps the conversations does not answer
    │   ├── ConversationBusyError          an answer is being given in the conversation
    │   ├── ConversationNotFoundError (LookupError)   no such conversation, or somebody else's
    │   └── ResponseNotFoundError (LookupError)   no such response, or somebody else's
    ├── QuotaExceededError                 more than one owner may have
    │   └── TooManyTurnsError              more answers at once than one owner may have
    ├── ConfigError (ValueError)           a setting that is unknown or of a wrong kind
    ├── StackError                         services that cannot be started, reached or stopped
    ├── ToolError                          tools that cannot be had, or a call that failed
    ├── ServerError                        the server cannot be started, or has ended by itself
    └── CommandError                       a command of the terminal that cannot be done
        └── UnknownCommandError            there is no such command
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "ChatError",
    "CommandError",
    "ConfigError",
    "ConversationBusyError",
    "ConversationNotFoundError",
    "EngineError",
    "HubUnreachableError",
    "InvalidMessageError",
    "ModelError",
    "ModelLoadError",
    "ModelNotFoundError",
    "PromptError",
    "PromptTooLongError",
    "QuotaExceededError",
    "ResponseNotFoundError",
    "SamplingError",
    "ServerError",
    "ServerRequestError",
    "StackError",
    "StoreBusyError",
    "StoreError",
    "StoreUnreachableError",
    "TooManyTurnsError",
    "ToolError",
    "UnknownCommandError",
    "describe",
    "first_line",
    "from_dict",
    "to_dict",
]


MAX_SAID = 200  # characters of vLLM's own words in an error
MAX_MESSAGE = 1500  # characters; what was met may be a whole file


class ChatError(Exception):
    """Base of every error that this project raises on purpose.

    Args:
        message: what was met, in one sentence.
        hint: what to do about it; the class's own hint if left out.
    """

    hint: str = ""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message if len(message) <= MAX_MESSAGE else f"{message[:MAX_MESSAGE]}…")
        if hint is not None:
            self.hint = hint


class PromptError(ChatError, ValueError):
    """Messages that cannot become a prompt, for example because the chat template refuses them."""


class InvalidMessageError(PromptError):
    """A message is not OpenAI's shape: an unknown role, a missing field, content of a wrong type.

    Args:
        message: what is wrong.
        index: position of the message in the list, counted from 0, if it is one message's fault.
    """

    hint = 'A message is a dictionary such as {"role": "user", "content": "Hello"}.'

    def __init__(self, message: str, *, index: int | None = None, hint: str | None = None) -> None:
        self.index = index
        super().__init__(message if index is None else f"messages[{index}]: {message}", hint=hint)


class PromptTooLongError(PromptError):
    """The part of the prompt that must stay is longer than the window.

    Args:
        num_prompt_tokens: length of the prompt, in tokens.
        max_prompt_tokens: the most that fits.
    """

    hint = "Shorten the message, start a new conversation, or load the model with a larger max_model_len."

    def __init__(self, num_prompt_tokens: int, max_prompt_tokens: int, *, hint: str | None = None) -> None:
        self.num_prompt_tokens = num_prompt_tokens
        self.max_prompt_tokens = max_prompt_tokens
        super().__init__(f"the prompt needs {num_prompt_tokens} tokens; {max_prompt_tokens} fit", hint=hint)


class ModelError(ChatError):
    """A model that cannot be had or cannot be used."""


class ModelNotFoundError(ModelError, LookupError):
    """No such folder on this machine, or no such model on the hub."""

    hint = "Check the spelling, or use the embedded model: demo."


class HubUnreachableError(ModelError):
    """The model hub did not answer, and the model is not in its cache."""

    hint = (
        "Check the network, name a folder that holds the model, or use the embedded model: demo. "
        "Mirrors: HF_ENDPOINT, MODELSCOPE_ENDPOINT."
    )


class ModelLoadError(ModelError):
    """The model's files are there, but they are incomplete or the engine cannot load them."""


class SamplingError(ChatError, ValueError):
    """A sampling parameter is unknown or out of range."""


class EngineError(ChatError):
    """The engine failed while it was answering."""

    hint = "The conversation is kept. Load the model again and retry."


class ServerRequestError(EngineError):
    """A server refuses a request, fails, or does not answer.

    Args:
        status: the HTTP status; 0 if there was no answer.
    """

    hint = ""

    def __init__(self, message: str, *, status: int = 0, hint: str | None = None) -> None:
        self.status = status
        super().__init__(message, hint=hint)


class StoreError(ChatError):
    """The store of conversations cannot be opened, read or written."""


class StoreBusyError(StoreError):
    """Another program holds the store for longer than can be waited for."""

    hint = "Try again in a moment."


class StoreUnreachableError(StoreError):
    """The server that keeps the conversations does not answer."""

    hint = "What it does not know yet is in a file on this machine, and is sent when it answers again."


class ConversationBusyError(StoreError):
    """An answer is being given in the conversation, and there is one at a time.

    Args:
        conversation_id: which.
    """

    hint = "Wait until the answer is complete, or cancel it."

    def __init__(self, conversation_id: str, *, hint: str | None = None) -> None:
        self.conversation_id = conversation_id
        super().__init__("an answer is being given in this conversation", hint=hint)


class ConversationNotFoundError(StoreError, LookupError):
    """There is no such conversation, or it belongs to somebody else: nobody is told which."""

    hint = "See the list: conversations list."


class ResponseNotFoundError(StoreError, LookupError):
    """There is no such response, or it belongs to somebody else: nobody is told which.

    Args:
        response_id: what was asked for.
    """

    def __init__(self, response_id: str, *, hint: str | None = None) -> None:
        self.response_id = response_id
        super().__init__(f"there is no response {response_id}", hint=hint)


class QuotaExceededError(ChatError):
    """One owner would have more on this server than it allows."""


class TooManyTurnsError(QuotaExceededError):
    """One owner is being given as many answers at once as this server allows: later there is room again."""


class ConfigError(ChatError, ValueError):
    """A setting is unknown, or its value is of a wrong kind."""


class ServerError(ChatError):
    """The server cannot be started, or has ended by itself."""


class StackError(ChatError):
    """The services of a stack cannot be started, reached or stopped."""


class ToolError(ChatError):
    """Tools cannot be had, or a call of one failed: a server that does not start, a file that cannot be loaded."""


class CommandError(ChatError):
    """A command of the terminal that cannot be done as it was typed."""


class UnknownCommandError(CommandError):
    """There is no such command.

    Args:
        name: what was typed behind the slash.
        nearest: names of commands that may have been meant.
    """

    def __init__(self, name: str, nearest: tuple[str, ...] = (), *, hint: str | None = None) -> None:
        self.name = name
        self.nearest = nearest
        meant = " or ".join(f"/{command}" for command in nearest)
        super().__init__(f"there is no command /{name}" + (f"; nearest: {meant}" if meant else ""), hint=hint)


def describe(error: ChatError) -> str:
    """Return the lines that tell a person about an error: what was met, then what to do.

    >>> print(describe(PromptTooLongError(9000, 8192, hint="Shorten the message.")))
    error: the prompt needs 9000 tokens; 8192 fit
    hint: Shorten the message.
    """
    lines = [f"error: {error}"]
    if error.hint:
        lines.append(f"hint: {error.hint}")
    return "\n".join(lines)


def first_line(error: BaseException) -> str:
    """Return what an exception says, in one line; of a failed validation, what the first check says.

    >>> first_line(ValueError("no such device\\nat line 3"))
    'no such device'
    """
    text = str(error)
    if hasattr(error, "errors") and callable(error.errors):  # pydantic's ValidationError
        text = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
    line = (text.strip() or type(error).__name__).splitlines()[0]
    return line if len(line) <= MAX_SAID else f"{line[:MAX_SAID]}..."


def to_dict(error: ChatError) -> dict[str, Any]:
    """Return an error as plain data, to be sent to another process; :func:`from_dict` makes it an error again."""
    return {"type": type(error).__name__, "message": str(error), "hint": error.hint, "facts": _facts(error)}


def _facts(error: ChatError) -> dict[str, Any]:
    return {name: value for name, value in vars(error).items() if name != "hint"}


def from_dict(data: Mapping[str, Any]) -> ChatError:
    """Return the error that :func:`to_dict` described.

    >>> error = from_dict(to_dict(PromptTooLongError(9000, 8192)))
    >>> type(error).__name__, error.num_prompt_tokens
    ('PromptTooLongError', 9000)
    """
    cls = globals().get(str(data["type"]), ChatError)
    if not (isinstance(cls, type) and issubclass(cls, ChatError)):
        cls = ChatError
    error = cls.__new__(cls)
    Exception.__init__(error, data["message"])
    vars(error).update(data.get("facts") or {})
    error.hint = data.get("hint") or ""
    return error
