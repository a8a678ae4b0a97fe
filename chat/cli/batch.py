"""A file of conversations in, a file of replies out.

Each line of the input is one conversation as JSON: ``{"messages": [...]}``, or a line of OpenAI's batch format
(``{"custom_id", "method", "url", "body"}``). Replies are written as they finish, each on disk before the next; a second
run with the same files goes on where the first one stopped. A line that cannot be answered has its error in its place.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chat.backends.base import Backend, BackendStream
from chat.cli.options import add_engine_options, add_reply_options
from chat.session.setup import make_backend, read_settings, reply_options
from chatcore.errors import ChatError, InvalidMessageError, to_dict
from chatcore.reply import Reply, TokenLogprob

__all__ = ["BatchResult", "add_options", "run", "run_batch"]

MAX_OPEN_REQUESTS = 128  # at once; the engine batches them, and more would only wait there
NOT_SAMPLING = {"messages", "model", "stream", "stream_options", "id", "user", "metadata"}


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How a run went. ``num_before``: lines that an earlier run had answered."""

    num_done: int
    num_failed: int
    num_before: int
    interrupted: bool = False


@dataclass(frozen=True, slots=True)
class _Line:
    """One line of the input. ``error`` tells why it cannot even be asked."""

    id: str
    is_openai: bool
    messages: list[dict[str, Any]]
    options: dict[str, Any]
    error: ChatError | None = None


def run_batch(
    backend: Backend,
    source: Path,
    target: Path,
    *,
    options: Mapping[str, Any] | None = None,
    limit: int | None = None,
    progress: bool = True,
) -> BatchResult:
    """Answer the conversations of a file.

    Args:
        backend: what gives the replies.
        source, target: JSON Lines files; the target is added to.
        options: sampling parameters; a line's own hold against them.
        limit: answer at most so many lines in this run.
        progress: show a bar with rate and time left on standard error.
    Raises:
        ChatError: a file cannot be read or written, an id occurs twice, or the backend is not there.
    """
    lines = _read_lines(source)
    done = _read_done(target)
    unanswered = [line for line in lines if line.id not in done]
    backend.info()  # a model that cannot be loaded is one error and not one for each line
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    except OSError as error:
        raise ChatError(f"{target} cannot be written: {error.strerror}") from error
    try:
        run = _Run(backend, options or {}, target, descriptor)
        num_done, num_failed, interrupted = run.answer(unanswered[:limit], progress=progress)
    finally:
        os.close(descriptor)
    return BatchResult(num_done, num_failed, len(lines) - len(unanswered), interrupted)


class _Run:
    """The answers under way, and the file that they go to."""

    def __init__(self, backend: Backend, options: Mapping[str, Any], target: Path, descriptor: int) -> None:
        self._backend = backend
        self._options = options
        self._target = target
        self._descriptor = descriptor
        self._streams: set[BackendStream] = set()
        self._lock = threading.Lock()  # guards _streams and _stopped
        self._stopped = False

    def answer(self, lines: list[_Line], *, progress: bool) -> tuple[int, int, bool]:
        """Answer lines, so many at once; return (answered, failed, whether Ctrl-C ended it)."""
        from tqdm import tqdm

        num_done = num_failed = 0
        bar = tqdm(total=len(lines), unit="conversation", disable=not progress)
        pool = ThreadPoolExecutor(MAX_OPEN_REQUESTS)
        pending: set[Future[dict[str, Any]]] = set()
        remaining: Iterator[_Line] = iter(lines)
        try:
            while True:
                while len(pending) < MAX_OPEN_REQUESTS and (line := next(remaining, None)) is not None:
                    pending.add(pool.submit(self._answer_line, line))
                if not pending:
                    return num_done, num_failed, False
                finished, pending = wait(pending, return_when=FIRST_COMPLETED)
                for future in finished:
                    record = future.result()
                    self._write(record)
                    failed = record.get("error") is not None
                    num_failed += failed
                    num_done += not failed
                    bar.update()
        except KeyboardInterrupt:
            return num_done, num_failed, True
        finally:
            self._stop()
            pool.shutdown(wait=True, cancel_futures=True)
            bar.close()

    def _answer_line(self, line: _Line) -> dict[str, Any]:
        if line.error is not None:
            return _record(line, None, line.error)
        try:
            with self._backend.stream(line.messages, **{**self._options, **line.options}) as stream:
                with self._lock:
                    self._streams.add(stream)
                    if self._stopped:
                        stream.abort()
                try:
                    return _record(line, stream.reply, None)
                finally:
                    with self._lock:
                        self._streams.discard(stream)
        except ChatError as error:
            return _record(line, None, error)
        except TypeError as error:
            return _record(line, None, InvalidMessageError(str(error)))

    def _write(self, record: Mapping[str, Any]) -> None:
        # Half a character, which an id may hold, is written as JSON spells it.
        line = json.dumps(record, ensure_ascii=False).encode(errors="backslashreplace") + b"\n"
        try:
            while line:  # a disk that is nearly full takes a part
                line = line[os.write(self._descriptor, line) :]
            os.fsync(self._descriptor)
        except OSError as error:
            raise ChatError(
                f"{self._target} cannot be written: {error.strerror}",
                hint="What was written is safe: the same command goes on once there is room.",
            ) from error

    def _stop(self) -> None:
        with self._lock:
            self._stopped = True
            for stream in self._streams:
                stream.abort()


def _read_lines(source: Path) -> list[_Line]:
    try:
        texts = source.read_text("utf-8-sig").split("\n")  # not splitlines: JSON may hold U+2028, which ends no line
    except (OSError, UnicodeDecodeError) as error:
        raise ChatError(f"{source} cannot be read: {error}", hint="Name a file of JSON lines in UTF-8.") from error
    lines = [_read_line(text, number) for number, text in enumerate(texts, start=1) if text.strip()]
    ids = [line.id for line in lines]
    if doubled := [line_id for line_id, count in Counter(ids).items() if count > 1]:
        raise ChatError(f"{source}: the id {doubled[0]} occurs twice", hint="Give every line an id of its own.")
    return lines


def _read_line(text: str, number: int) -> _Line:
    """Read one line; what is wrong with it is kept for its place in the output."""
    line_id = f"line-{number}"
    try:
        data = json.loads(text)
        if not isinstance(data, dict):
            raise ValueError("not a JSON object")
        is_openai = "body" in data
        line_id = str(data.get("custom_id") or data.get("id") or line_id)
        body = data["body"] if is_openai else data
        messages = body["messages"]
        if not isinstance(messages, list):
            raise ValueError("messages is not a list")
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        said = f"{error.args[0]} is missing" if isinstance(error, KeyError) else str(error)
        return _Line(line_id, False, [], {}, InvalidMessageError(f"line {number}: {said}"))
    options = {name: value for name, value in body.items() if name not in NOT_SAMPLING | {"custom_id"}}
    return _Line(line_id, is_openai, messages, _under_our_names(options))


def _under_our_names(options: dict[str, Any]) -> dict[str, Any]:
    """Return a line's options; those that OpenAI calls otherwise under the names of vLLM's ``SamplingParams``.

    >>> _under_our_names({"max_completion_tokens": 5, "logprobs": True, "top_logprobs": 2, "seed": 1})
    {'logprobs': 2, 'seed': 1, 'max_tokens': 5}
    """
    options = dict(options)
    if "max_completion_tokens" in options:
        options["max_tokens"] = options.pop("max_completion_tokens")
    top_logprobs = options.pop("top_logprobs", 0)
    if isinstance(options.get("logprobs"), bool):
        options["logprobs"] = top_logprobs if options["logprobs"] else None
    if options.get("response_format") == {"type": "text"}:
        del options["response_format"]
    return options


def _read_done(target: Path) -> set[str]:
    """Return the ids that are answered; a last line that a crash tore is cut off."""
    if not target.exists():
        return set()
    try:
        data = target.read_bytes()
        end = data.rfind(b"\n") + 1
        records = [json.loads(line) for line in data[:end].splitlines() if line.strip()]
        done = {str(record.get("custom_id") or record["id"]) for record in records}
        if data and not done and not _is_torn(data):
            raise ValueError("not one complete line of a batch")
        if end < len(data):
            os.truncate(target, end)
        return done
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise ChatError(
            f"{target} is there and holds no replies of a batch: {error}", hint="Name another file for the replies."
        ) from error


def _is_torn(data: bytes) -> bool:
    """Tell whether data may be the beginning of a record, whose end a full disk or a crash has kept from it.

    >>> _is_torn(b'{"id": "line-1", "te'), _is_torn(b'{"i'), _is_torn(b"notes")
    (True, True, False)
    """
    beginning = b'{"id": "'
    return data.startswith(beginning) or beginning.startswith(data)


def _record(line: _Line, reply: Reply | None, error: ChatError | None) -> dict[str, Any]:
    """Return what is written for a line, in the format that the line came in."""
    problem = to_dict(error) if error is not None else None
    if line.is_openai:
        response = {"status_code": 200, "body": _completion(reply)} if reply is not None else None
        return {"id": f"batch-{line.id}", "custom_id": line.id, "response": response, "error": problem}
    if reply is None:
        return {"id": line.id, "error": problem}
    data = {name: value for name, value in dataclasses.asdict(reply).items() if name not in ("token_ids", "parsed")}
    likelihoods = ("logprobs", "prompt_logprobs")
    return {"id": line.id} | {name: data[name] for name in data if name not in likelihoods or data[name] is not None}


def _completion(reply: Reply) -> dict[str, Any]:
    """Return a reply in the shape of OpenAI's chat completions."""
    message = {name: value for name, value in reply.message.items() if name != "token_ids"}
    usage = reply.usage
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    if reply.logprobs is not None:
        places = [
            _as_openai(place.chosen) | {"top_logprobs": [*map(_as_openai, place.top)]} for place in reply.logprobs
        ]
        choice["logprobs"] = {"content": places}
    return {
        "object": "chat.completion",
        "choices": [choice],
        "usage": {
            "prompt_tokens": usage.num_prompt_tokens,
            "completion_tokens": usage.num_output_tokens,
            "total_tokens": usage.num_prompt_tokens + usage.num_output_tokens,
        },
    }


def _as_openai(candidate: TokenLogprob) -> dict[str, Any]:
    return {"token": candidate.text, "logprob": candidate.logprob, "bytes": list(candidate.text.encode())}


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``batch`` takes."""
    command.add_argument("input", type=Path, help='JSON lines: {"messages": [...]}, or OpenAI\'s batch format')
    command.add_argument("output", type=Path, help="where replies go; run again, and it goes on where it stopped")
    command.add_argument("--limit", type=int, help="answer at most so many lines in this run")
    add_engine_options(command)
    add_reply_options(command)


def run(options: argparse.Namespace) -> int:
    """Answer a file of conversations."""
    settings = read_settings(options)
    backend = make_backend(settings)
    try:
        result = run_batch(backend, options.input, options.output, options=reply_options(settings), limit=options.limit)
    finally:
        backend.close()
    print(
        f"{result.num_done} answered, {result.num_failed} failed, {result.num_before} before: {options.output}",
        file=sys.stderr,
    )
    if result.interrupted:
        print("interrupted: the same command goes on where this one stopped", file=sys.stderr)
        return 130
    return 0
