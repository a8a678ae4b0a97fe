"""One question, one answer: ``ask``. The answer goes to standard output, everything else to standard error."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from chat.backends.base import Backend, BackendStream
from chat.cli.options import add_engine_options, add_reply_options
from chat.conversations.conversation import Conversation, Message
from chat.session.answer import PartialAnswer, kept_meanwhile
from chat.session.setup import make_backend, open_store, read_settings, reply_options
from chatcore.errors import ChatError, EngineError, HubUnreachableError, PromptTooLongError, StoreError, describe
from chatcore.reply import Reply, ToolCall
from chatcore.tools.functions import Tool, call_tool
from chatcore.tools.rounds import (
    MAX_ROUNDS,
    REFUSED,
    TOO_MANY,
    AskAgain,
    KeepResult,
    RunCall,
    Sent,
    Step,
    drive,
    tool_rounds,
)

if TYPE_CHECKING:
    from chat.config import Settings
    from chat.store.base import Store

__all__ = [
    "EXIT_ERROR",
    "EXIT_INTERRUPTED",
    "EXIT_OK",
    "EXIT_TOO_LONG",
    "EXIT_UNREACHABLE",
    "Tools",
    "add_options",
    "ask",
    "ask_a_person",
    "ask_in_conversation",
    "open_tools",
    "run",
]

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_TOO_LONG = 3  # the question does not fit the window
EXIT_UNREACHABLE = 4  # no hub, no engine, no server
EXIT_INTERRUPTED = 130  # Ctrl-C, as shells count it


@dataclass(frozen=True, slots=True)
class Tools:
    """What the model may call while a question is answered.

    Args:
        tools: its tools.
        may_run: asked before each call, with the tool's name and the arguments as JSON text.
    """

    tools: Sequence[Tool]
    may_run: Callable[[str, str], bool]


def ask(
    backend: Backend,
    messages: Sequence[Mapping[str, Any]],
    *,
    as_json: bool = False,
    options: Mapping[str, Any] | None = None,
    tools: Tools | None = None,
    keep: Callable[[Message], object] = lambda message: None,
    keep_partial: Callable[[Message], object] = lambda message: None,
    output: TextIO | None = None,
    errors: TextIO | None = None,
) -> int:
    """Answer messages; print the answer as it comes, or one JSON object at the end; return the exit code.

    Args:
        backend: what gives the reply.
        messages: OpenAI's shape.
        as_json: print one object with text, reasoning, tool calls, finish reason and usage; with tools, also all
            messages behind the question.
        options: what :meth:`vllm_wrapper.VLLMWrapper.stream` takes.
        tools: what the model may call.
        keep: called with each message as soon as it is whole: the answer, and before it calls and their results.
            What there is of an answer that fails is kept as well.
        keep_partial: called every second with what there is of an answer, under the id that it keeps; in a thread.
        output, errors: standard output and standard error, if left out.
    """
    output, errors = output or sys.stdout, errors or sys.stderr
    options = dict(options or {})
    if tools is not None:
        options["tools"] = [dict(tool.schema) for tool in tools.tools]
    added: list[Message] = []

    def add(message: Message) -> None:
        added.append(message)
        keep(message)

    reply: Reply | None = None
    is_stopped = False

    def answer() -> Sequence[ToolCall]:
        nonlocal reply
        asked = [*messages, *(message.as_dict() for message in added)]
        with backend.stream(asked, **options) as stream:
            reply, message = _receive(stream, None if as_json else output, keep, keep_partial)
        add(message)
        return reply.tool_calls if message.tool_calls else ()

    def act(step: Step) -> Sent:
        nonlocal is_stopped
        match step:
            case RunCall(call):
                assert tools is not None
                result = _run(call, tools, errors)
                is_stopped = result is None
                return result
            case KeepResult(call, kept):
                add(Message("tool", kept, tool_call_id=call.id))
                return None
            case AskAgain():
                return answer()

    try:
        calls = answer()
        if tools is not None:
            for call in drive(tool_rounds(calls), act):
                add(Message("tool", TOO_MANY, tool_call_id=call.id))
    except ChatError as error:
        print(describe(error), file=errors)
        return exit_code(error)
    assert reply is not None
    if as_json:
        data = as_dict(reply) | ({"messages": [_shown(message) for message in added]} if tools is not None else {})
        print(json.dumps(data, ensure_ascii=False), file=output, flush=True)
    return _exit_code_of(reply, added, errors, is_stopped=is_stopped, as_json=as_json)


def _run(call: ToolCall, tools: Tools, errors: TextIO) -> str | None:
    """Run a call, unless it is refused; return what the model is to read, or None if Ctrl-C has stopped it."""
    is_known = any(tool.name == call.name for tool in tools.tools)
    try:
        if is_known and not tools.may_run(call.name, call.arguments):
            return REFUSED
        with contextlib.redirect_stdout(errors):  # what a function prints is not the answer
            return call_tool(tools.tools, call.name, call.arguments)
    except KeyboardInterrupt:
        return None


def _exit_code_of(reply: Reply, added: Sequence[Message], errors: TextIO, *, is_stopped: bool, as_json: bool) -> int:
    """Return the exit code of an answer, and say what is wrong with it."""
    if reply.finish_reason == "abort" or is_stopped:
        return EXIT_INTERRUPTED
    if added[-1].role == "tool":
        print(f"no answer: the model asked for more than {MAX_ROUNDS} rounds of tool calls", file=errors)
        return EXIT_ERROR
    if reply.finish_reason == "length" and not as_json:
        print(f"cut off after {reply.usage.num_output_tokens} tokens (max_tokens or the window)", file=errors)
    return EXIT_OK


@contextlib.contextmanager
def open_tools(settings: Settings, *, is_wanted: bool, is_asking: bool) -> Iterator[Tools | None]:
    """Give the configured tools, if they are wanted; a person is asked before each call unless told not to.

    Raises:
        ChatError: there are none, or nobody is there to be asked, or a source of them cannot be had.
    """
    if is_asking and not is_wanted:
        yield None
        return
    from chat.config import default_file
    from chatcore.tools.configured import opened

    if not settings.tools:
        raise ChatError("no tools are configured", hint=f"They stand in {default_file()}: [tools.NAME]")
    if is_asking and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise ChatError("nobody is there to be asked before a tool is run", hint="--auto-tools runs them unasked.")
    with opened(settings.tools, default_file().parent) as tools:
        yield Tools(tools, ask_a_person if is_asking else lambda name, arguments: True)


def ask_a_person(name: str, arguments: str) -> bool:
    """Ask at the terminal whether a call may be run."""
    shown = f"{name}({arguments})"
    print("".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in shown), file=sys.stderr)
    print("Run it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


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
    tools: Tools | None = None,
) -> int:
    """Ask behind what was said before, and keep question and answer; return the exit code.

    The question is on disk before the engine sees it, so it is kept also if the answer fails; the answer is kept while
    it comes.
    """

    def keep_partial(message: Message) -> None:
        with contextlib.suppress(StoreError):  # the whole answer tries it again, and says so
            store.add(conversation, message)

    store.add(conversation, Message("user", question))
    return ask(
        backend,
        conversation.as_dicts(),
        as_json=as_json,
        options=options,
        tools=tools,
        keep=lambda message: store.add(conversation, message),
        keep_partial=keep_partial,
    )


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
    unasked = {name for name in ("logprobs", "prompt_logprobs") if data[name] is None}
    return {name: value for name, value in data.items() if name not in unasked | {"token_ids"}}


def _shown(message: Message) -> dict[str, Any]:
    data = message.as_dict()
    data.pop("token_ids", None)
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


def _receive(
    stream: BackendStream,
    output: TextIO | None,
    keep: Callable[[Message], object],
    keep_partial: Callable[[Message], object],
) -> tuple[Reply, Message]:
    """Receive an answer, print it if there is an output, keep it as it grows; return it, and the message that it is."""
    answer, begun = PartialAnswer(), Message("assistant", "", status="partial")

    def so_far(answer: PartialAnswer) -> Message:
        return dataclasses.replace(begun, content=answer.text, reasoning=answer.reasoning)

    try:
        with kept_meanwhile(answer, lambda answer: keep_partial(so_far(answer))):
            reply = _print_answer(stream, answer, output)
    except ChatError:
        if not answer.is_empty:
            keep(dataclasses.replace(so_far(answer), status="complete", finish_reason="abort"))
        raise
    return reply, dataclasses.replace(Message.from_reply(reply), id=begun.id)


def _print_answer(stream: BackendStream, answer: PartialAnswer, output: TextIO | None) -> Reply:
    """Print the text of an answer as it comes; Ctrl-C ends it and keeps what there is."""
    printed = ""
    try:
        for delta in stream:
            answer.add(delta)
            if delta.kind == "text" and output is not None:
                output.write(delta.text)
                output.flush()
                printed = delta.text
    except KeyboardInterrupt:
        stream.abort()
    reply = stream.reply
    if output is not None and printed and not printed.endswith("\n"):
        output.write("\n")
        output.flush()
    return reply


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``ask`` takes."""
    command.add_argument("question", nargs="*", help="standard input is added if it is not a terminal")
    command.add_argument("-f", "--file", type=Path, help="add this file's text to the question")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    command.add_argument("-c", "--continue", dest="continue_last", action="store_true", help="the last conversation")
    command.add_argument("--tools", action="store_true", help="the model may call the configured tools; asks each time")
    command.add_argument("--auto-tools", action="store_true", help="the same, without asking")
    command.add_argument("--conversation", metavar="ID", help="ask in this conversation, and keep the answer there")
    add_engine_options(command)
    add_reply_options(command)


def run(options: argparse.Namespace) -> int:
    """Answer one question."""
    settings = read_settings(options)
    question = read_question(options.question, options.file, sys.stdin)
    backend = make_backend(settings)
    how: dict[str, Any] = {"as_json": options.json, "options": reply_options(settings)}
    try:
        with open_tools(settings, is_wanted=options.tools, is_asking=not options.auto_tools) as tools:
            if options.continue_last or options.conversation:
                store = open_store(settings)
                conversation = find_conversation(store, options.conversation, settings.system)
                return ask_in_conversation(backend, store, conversation, question, tools=tools, **how)
            messages = [{"role": "system", "content": settings.system}] if settings.system else []
            messages.append({"role": "user", "content": question})
            return ask(backend, messages, tools=tools, **how)
    finally:
        backend.close()
