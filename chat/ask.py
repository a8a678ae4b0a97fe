"""One question, one answer: ``ask``. The answer goes to standard output, everything else to standard error."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from chat.backend import Backend, BackendStream
from chat.conversation import Conversation, Message
from errors import ChatError, EngineError, HubUnreachableError, PromptTooLongError, describe
from vllm_wrapper import Reply

if TYPE_CHECKING:
    from chat.store_interface import Store

__all__ = [
    "EXIT_ERROR",
    "EXIT_INTERRUPTED",
    "EXIT_OK",
    "EXIT_TOO_LONG",
    "EXIT_UNREACHABLE",
    "ask",
    "ask_in_conversation",
]

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_TOO_LONG = 3  # the question does not fit the window
EXIT_UNREACHABLE = 4  # no hub, no engine, no server
EXIT_INTERRUPTED = 130  # Ctrl-C, as shells count it


def ask(
    backend: Backend,
    messages: Sequence[Mapping[str, Any]],
    *,
    as_json: bool = False,
    options: Mapping[str, Any] | None = None,
    output: TextIO | None = None,
    errors: TextIO | None = None,
) -> tuple[int, Reply | None]:
    """Answer messages; print the answer as it comes, or one JSON object at the end.

    Args:
        backend: what gives the reply.
        messages: OpenAI's shape.
        as_json: print one object with text, reasoning, tool calls, finish reason and usage.
        options: what :meth:`vllm_wrapper.VLLMWrapper.stream` takes.
        output, errors: standard output and standard error, if left out.
    Returns:
        (exit code, the reply if there is one)
    """
    output, errors = output or sys.stdout, errors or sys.stderr
    try:
        with backend.stream(messages, **(options or {})) as stream:
            reply = _print_answer(stream, output, quiet=as_json)
    except ChatError as error:
        print(describe(error), file=errors)
        return exit_code(error), None
    if as_json:
        print(json.dumps(as_dict(reply), ensure_ascii=False), file=output, flush=True)
    elif reply.finish_reason == "length":
        print(f"cut off after {reply.usage.num_output_tokens} tokens (max_tokens or the window)", file=errors)
    return (EXIT_INTERRUPTED if reply.finish_reason == "abort" else EXIT_OK), reply


def find_conversation(store: Store, conversation_id: str | None, system: str) -> Conversation:
    """Return the conversation that is named, else the last one, else a new one with this system message."""
    if conversation_id:
        return store.load(conversation_id)
    if recent := store.recent(limit=1):
        return store.load(recent[0].id)
    return store.create(system=system)


def ask_in_conversation(
    backend: Backend,
    store: Store,
    conversation: Conversation,
    question: str,
    *,
    as_json: bool = False,
    options: Mapping[str, Any] | None = None,
) -> int:
    """Ask behind what was said before, and keep question and answer; return the exit code.

    The question is on disk before the engine sees it, so it is kept also if the answer fails.
    """
    store.add(conversation, Message("user", question))
    code, reply = ask(backend, conversation.as_dicts(), as_json=as_json, options=options)
    if reply is not None:
        store.add(conversation, Message.from_reply(reply))
    return code


def exit_code(error: ChatError) -> int:
    """Return the exit code that stands for an error."""
    if isinstance(error, PromptTooLongError):
        return EXIT_TOO_LONG
    if isinstance(error, (EngineError, HubUnreachableError)):
        return EXIT_UNREACHABLE
    return EXIT_ERROR


def as_dict(reply: Reply) -> dict[str, Any]:
    """Return a reply as the object that ``--json`` prints."""
    data = dataclasses.asdict(reply)
    del data["token_ids"]
    return data


def read_question(words: Sequence[str], file: Path | None, stdin: TextIO) -> str:
    """Put the question together: the words, then the file's text, or standard input if it is no terminal.

    Raises:
        ChatError: there is no question, or the file cannot be read as text.
    """
    parts = [" ".join(words)] if words else []
    if file is not None:
        try:
            parts.append(file.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise ChatError(f"{file} cannot be read: {error}", hint="Name a text file in UTF-8.") from error
    elif not stdin.isatty():
        try:
            parts.append(stdin.read())
        except UnicodeDecodeError as error:
            raise ChatError(f"standard input is not UTF-8 text: {error}") from error
    question = "\n\n".join(part.strip("\n") for part in parts if part.strip())
    if not question:
        raise ChatError("there is no question", hint='Try: ask "Who are you?", or pipe text in, or -f FILE.')
    return question


def _print_answer(stream: BackendStream, output: TextIO, *, quiet: bool) -> Reply:
    """Print the text of an answer as it comes; Ctrl-C ends it and keeps what there is."""
    printed = ""
    try:
        for delta in stream:
            if delta.kind == "text" and not quiet:
                output.write(delta.text)
                output.flush()
                printed = delta.text
    except KeyboardInterrupt:
        stream.abort()
    reply = stream.reply
    if not quiet and printed and not printed.endswith("\n"):
        output.write("\n")
        output.flush()
    return reply
