"""Conversations as files: Markdown to read, JSON to keep everything, OpenAI's ``messages`` for other programs.

==========  =====================================================  ==========
Format      Holds                                                  Read back
==========  =====================================================  ==========
Markdown    the current path                                       no
JSON        the whole tree: variants, branches, pins, token ids    yes
JSONL       the current path, one conversation a line              yes
==========  =====================================================  ==========
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from chat.conversations.conversation import Conversation, Message, from_dicts, make_title
from chat.conversations.validation import is_object, is_objects, is_text, is_text_or_none, is_texts, is_time
from chatcore.errors import InvalidMessageError, StoreError
from chatcore.reply import ROLES

__all__ = ["from_dict", "message_to_dict", "read", "to_dict", "to_json", "to_jsonl", "to_markdown", "write"]

FORMAT = "vllm-deploy conversation"
VERSION = 1
MAX_TITLE_COLUMNS = 200  # a title that somebody typed may be longer than one that was made
MAX_FILE_BYTES = 256 << 20  # 256 MiB: a hundred thousand long messages
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
ENCODINGS = ("utf-8", "gb18030")  # GB18030 covers GBK and GB2312
NO_CHARACTERS = re.compile("[\0\ud800-\udfff]")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
HINT = 'Files that can be read: JSON written by this program, or a line {"messages": [...]} for each conversation.'


# -- conversation -> text ---------------------------------------------------------------------------------------------


def to_markdown(conversation: Conversation) -> str:
    """Return the current path for people to read: a heading for each message, thinking as a quotation."""
    sections = [f"# {conversation.title or 'Conversation'}"]
    if conversation.system:
        sections.append("## System\n\n" + _close_fence(conversation.system))
    for message in conversation.path():
        parts = [f"## {message.role.capitalize()}"]
        if message.reasoning:
            parts.append("\n".join(f"> {line}".rstrip() for line in message.reasoning.strip().split("\n")))
        if message.content:
            parts.append(_close_fence(message.content))
        parts += [_fenced(json.dumps(dict(call), ensure_ascii=False, indent=2)) for call in message.tool_calls]
        if message.status == "partial":
            parts.append("*(unfinished)*")
        sections.append("\n\n".join(parts))
    return "\n\n".join(sections) + "\n"


def to_json(conversation: Conversation) -> str:
    """Return everything about a conversation but its owner; :func:`read` makes it a conversation again."""
    return json.dumps(to_dict(conversation), ensure_ascii=False, indent=1) + "\n"


def to_dict(conversation: Conversation) -> dict[str, Any]:
    """Return what :func:`to_json` writes as a value; :func:`from_dict` makes it the same conversation again."""
    fields = {
        "id": conversation.id,
        "title": conversation.title,
        "system": conversation.system,
        "settings": conversation.settings,
        "tip_id": conversation.tip_id,
        "redo_ids": conversation.redo_ids,
        "pinned_ids": sorted(conversation.pinned_ids),
        "window_start_id": conversation.window_start_id,
        "created_at_utc": conversation.created_at_utc,
        "updated_at_utc": conversation.updated_at_utc,
        "messages": [message_to_dict(message) for message in conversation.messages.values()],
    }
    return {"format": FORMAT, "version": VERSION, "conversation": fields}


def to_jsonl(conversations: Sequence[Conversation]) -> str:
    """Return the current path of each conversation in OpenAI's shape, one a line, as fine-tuning files have it."""
    lines = []
    for conversation in conversations:
        messages = conversation.as_dicts()
        for message in messages:
            message.pop("token_ids", None)  # they mean nothing to another model
        lines.append(json.dumps({"messages": messages}, ensure_ascii=False) + "\n")
    return "".join(lines)


def message_to_dict(message: Message) -> dict[str, Any]:
    """Return all fields of a message by name."""
    fields = {field.name: getattr(message, field.name) for field in dataclasses.fields(message)}
    fields["tool_calls"] = [dict(call) for call in message.tool_calls]
    fields["usage"] = dict(message.usage)
    return fields


def _fenced(text: str) -> str:
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _close_fence(text: str) -> str:
    """Return a text with its last code block ended, so that it does not swallow the messages behind it."""
    opened = ""
    for line in text.split("\n"):
        found = FENCE.fullmatch(line.rstrip())
        if found is None:
            continue
        fence, rest = found.groups()
        if not opened:
            opened = fence
        elif fence.startswith(opened) and not rest:
            opened = ""
    return text.strip("\n") + (f"\n{opened}" if opened else "")


# -- file -> conversations --------------------------------------------------------------------------------------------


def read(path: str | Path) -> list[Conversation]:
    """Return the conversations of a file: what :func:`to_json` or :func:`to_jsonl` wrote, or OpenAI's messages.

    The content tells the format, not the name. The conversations are whole and checked, so that a file is imported
    altogether or not at all; keep them with ``store.insert_all``.

    Raises:
        StoreError: the file cannot be read, is something else, or is damaged; says where.
    """
    path = Path(path)
    text = _read_text(path)
    if not text.strip():
        raise StoreError(f"{path} is empty", hint=HINT)
    data, error = _parse(text)
    if error is None:
        items = [data] if not isinstance(data, list) or _is_messages(data) else data
        numbered = [("" if len(items) == 1 else f"item {number}", item) for number, item in enumerate(items, start=1)]
    else:
        numbered = _parse_lines(path, text, error)
    found = [_conversation(item, f"{path}, {place}" if place else str(path)) for place, item in numbered]
    if not found:
        raise StoreError(f"{path} holds no conversation", hint=HINT)
    return found


def _read_text(path: Path) -> str:
    try:
        with Path(os.path.expanduser(path)).open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise StoreError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > MAX_FILE_BYTES:
        raise StoreError(f"{path} is larger than {MAX_FILE_BYTES:,} bytes", hint="Split the file.")
    mark = next((encoding for mark, encoding in BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    for encoding in (mark,) if mark else ENCODINGS:
        with contextlib.suppress(UnicodeDecodeError):
            return data.decode(encoding)
    raise StoreError(f"{path} is no text in UTF-8, UTF-16 or GB18030", hint=HINT)


def _parse(text: str) -> tuple[Any, str | None]:
    """Return the value of a JSON text, or why it is none."""
    try:
        return _clean(json.loads(text, parse_constant=_refuse_constant)), None
    except RecursionError:
        return None, "it is nested too deep"
    except ValueError as error:
        return None, str(error)


def _clean(value: Any) -> Any:
    """Return a parsed value with U+FFFD for what JSON can spell but no store keeps: NUL and halves of characters."""
    if isinstance(value, str):
        return NO_CHARACTERS.sub("\ufffd", value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {_clean(name): _clean(item) for name, item in value.items()}
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _parse_lines(path: Path, text: str, whole_error: str) -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    # Not splitlines: JSON may hold U+2028, which ends no line here.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        data, error = _parse(line)
        if error is not None:
            if not items:  # the first line is no JSON: judge the file as a whole
                raise StoreError(f"{path} is not JSON: {whole_error}", hint=HINT)
            raise StoreError(f"{path}, line {number} is not JSON: {error}", hint="The file may be cut off.")
        items.append((f"line {number}", data))
    return items


def _is_messages(data: list[Any]) -> bool:
    return bool(data) and all(isinstance(item, Mapping) and "role" in item for item in data)


def _conversation(data: Any, place: str) -> Conversation:
    """Return the conversation that a parsed value is, in whichever format."""
    try:
        if isinstance(data, Mapping) and data.get("format") == FORMAT:
            conversation = _own(data)
        elif isinstance(data, Mapping) and isinstance(data.get("messages"), list):
            conversation = _foreign(data["messages"])
        elif isinstance(data, list) and _is_messages(data):
            conversation = _foreign(data)
        else:
            raise _BrokenError("it is no conversation")
        _check_messages(conversation)
    except (_BrokenError, InvalidMessageError) as error:
        raise StoreError(f"{place}: {error}", hint=HINT) from error
    return conversation


def _foreign(messages: list[Any]) -> Conversation:
    """Return a conversation of OpenAI's messages, whose kinds are checked first."""
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise InvalidMessageError("it is no object", index=index)
        for name, is_right in FOREIGN_FIELDS.items():
            if message.get(name) is not None and not is_right(message[name]):
                raise InvalidMessageError(f"{name} is of a wrong kind", index=index)
    return from_dicts(messages)


# -- our own format ---------------------------------------------------------------------------------------------------


class _BrokenError(Exception):
    """What is wrong with a value; :func:`_conversation` adds where it stands."""


def from_dict(data: Any) -> Conversation:
    """Return the conversation that :func:`to_dict` described, with its id.

    Raises:
        StoreError: it is something else, or damaged; says where.
    """
    try:
        if not isinstance(data, Mapping) or data.get("format") != FORMAT:
            raise _BrokenError("it is no conversation")
        conversation = _own(data)
        conversation.id = _take(data["conversation"], "id", is_text)
        conversation.title = _take(data["conversation"], "title", is_text, "")
    except _BrokenError as error:
        raise StoreError(str(error)) from error
    return conversation


def _own(data: Mapping[str, Any]) -> Conversation:
    version = data.get("version")
    if type(version) is not int or version < 1:
        raise _BrokenError("its version is no number")
    if version > VERSION:
        raise _BrokenError(f"it was written by a newer version of this program (format {version} of {VERSION})")
    fields = data.get("conversation")
    if not isinstance(fields, Mapping):
        raise _BrokenError("the conversation is missing")
    messages: dict[str, Message] = {}
    for index, item in enumerate(_take(fields, "messages", _is_list)):
        message = _own_message(item, index)
        if message.id in messages:
            raise _BrokenError(f"messages[{index}] has the id of another message")
        # Parents come first, so the tree has no circle.
        if message.parent_id is not None and message.parent_id not in messages:
            raise _BrokenError(f"messages[{index}] follows a message that is not there")
        messages[message.id] = message
    conversation = Conversation(
        title=make_title(_take(fields, "title", is_text, ""), max_columns=MAX_TITLE_COLUMNS),
        system=_take(fields, "system", is_text, ""),
        settings=dict(_take(fields, "settings", is_object, {})),
        messages=messages,
        tip_id=_take(fields, "tip_id", is_text_or_none, None),
        redo_ids=list(_take(fields, "redo_ids", _is_list, [])),
        pinned_ids=set(_take(fields, "pinned_ids", is_texts, [])),
        window_start_id=_take(fields, "window_start_id", is_text_or_none, None),
    )
    conversation.created_at_utc = _take(fields, "created_at_utc", is_time, conversation.created_at_utc)
    conversation.updated_at_utc = _take(fields, "updated_at_utc", is_time, conversation.updated_at_utc)
    named = [conversation.tip_id, *conversation.redo_ids, *conversation.pinned_ids, conversation.window_start_id]
    if any(name is not None and (not isinstance(name, str) or name not in messages) for name in named):
        raise _BrokenError("it names a message that is not there")
    return conversation


def _own_message(data: Any, index: int) -> Message:
    if not isinstance(data, Mapping):
        raise _BrokenError(f"messages[{index}] is no object")
    try:
        message = Message(
            role=_take(data, "role", is_text),
            content=_take(data, "content", is_text),
            id=_take(data, "id", is_text),
            parent_id=_take(data, "parent_id", is_text_or_none),
            reasoning=_take(data, "reasoning", is_text, ""),
            tool_calls=tuple(_take(data, "tool_calls", is_objects, [])),
            tool_call_id=_take(data, "tool_call_id", is_text_or_none, None),
            token_ids=tuple(_take(data, "token_ids", _is_token_ids, [])),
            finish_reason=_take(data, "finish_reason", is_text_or_none, None),
            usage=dict(_take(data, "usage", is_object, {})),
            status=_take(data, "status", lambda value: value in ("complete", "partial"), "complete"),
        )
        return dataclasses.replace(message, created_at_utc=_take(data, "created_at_utc", is_time))
    except _BrokenError as error:
        raise _BrokenError(f"messages[{index}]: {error}") from None


def _check_messages(conversation: Conversation) -> None:
    if not conversation.messages and not conversation.system:
        raise _BrokenError("it has no messages")
    for message in conversation.messages.values():
        if message.role not in ROLES:
            raise _BrokenError(f"the role {message.role!r} is none of {', '.join(ROLES)}")


_REQUIRED = object()


def _take(data: Mapping[str, Any], name: str, is_right: Callable[[Any], bool], default: Any = _REQUIRED) -> Any:
    """Return a field, or the default if it is not there."""
    value = data.get(name, default)
    if value is _REQUIRED:
        raise _BrokenError(f"{name} is missing")
    if not is_right(value):
        raise _BrokenError(f"{name} is of a wrong kind")
    return value


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_token_ids(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 1 << 32 for item in value)


FOREIGN_FIELDS: dict[str, Callable[[Any], bool]] = {
    "role": is_text,
    "content": is_text,
    "reasoning_content": is_text,
    "tool_calls": is_objects,
    "tool_call_id": is_text,
    "token_ids": _is_token_ids,
}


# -- writing ----------------------------------------------------------------------------------------------------------


def write(path: str | Path, text: str, *, overwrite: bool = False) -> None:
    """Write a file that is either there as a whole or not at all, readable for its owner only (0600).

    Folders on the way are made. A power cut leaves the old file or the new one.

    Args:
        overwrite: replace a file that is there already.
    Raises:
        StoreError: the file is there already, or cannot be written.
    """
    path = Path(os.path.expanduser(path))
    data = NO_CHARACTERS.sub("\ufffd", text).encode()
    try:
        if path.is_dir():
            raise StoreError(f"{path} is a folder", hint="Name a file in it.")
        path = Path(os.path.realpath(path))  # a link keeps being one
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".export-", dir=path.parent)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            _put_in_place(temporary, path, overwrite=overwrite)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
        _sync_folder(path.parent)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise StoreError(f"{path} cannot be written: {getattr(error, 'strerror', None) or error}") from error


def _put_in_place(temporary: str, path: Path, *, overwrite: bool) -> None:
    if not overwrite:
        try:
            os.link(temporary, path)  # refuses, in one step, to replace a file
        except FileExistsError:
            raise _is_there(path) from None
        except OSError:  # a file system without links
            if path.exists():
                raise _is_there(path) from None
        else:
            return
    os.replace(temporary, path)


def _is_there(path: Path) -> StoreError:
    return StoreError(f"{path} is there already", hint="Choose another name, or have it replaced.")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
