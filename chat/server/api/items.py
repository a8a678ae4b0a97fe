"""OpenAI's items <-> messages. One message can be several items: what was thought, what was said, what is to be called.

An item's id is made of its message's: ``msg_ID`` for text, ``rs_ID`` for thinking, ``fc_ID_0`` for the first call,
``fco_ID`` for what a call gave.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from chat.conversations.conversation import Conversation, Message, from_dicts
from chat.server.api.problems import RequestError

__all__ = ["ItemIds", "find_item", "has_media", "messages_of", "path_items", "read_items", "to_items", "without_item"]

ITEM_ID = re.compile(r"(msg|rs|fc|fco)_([0-9a-f]{24})(?:_(\d{1,4}))?")
TEXT_PARTS = ("input_text", "output_text", "text", "refusal")
PREFIXES = {"message": "msg", "reasoning": "rs", "function_call": "fc", "custom_tool_call": "ctc"}


def read_items(value: str | Sequence[Any]) -> list[Any]:
    """Return items as vLLM reads them.

    Raises:
        RequestError: one is none.
    """
    from pydantic import ValidationError

    from chat.server.vllm_plugin.compatibility import ResponsesRequest

    try:
        parsed = ResponsesRequest(input=value).input
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"][:2])
        raise RequestError(f"{place} is no item", param="items") from error
    return [{"role": "user", "content": parsed}] if isinstance(parsed, str) else list(parsed)


def messages_of(items: str | Sequence[Any]) -> Conversation:
    """Return what items say as a conversation of its own; a leading system message is its system message.

    Raises:
        RequestError: an item holds something else than text, or is of a kind that is not kept.
    """
    from chat.server.vllm_plugin.compatibility import construct_chat_messages_with_tool_call

    if isinstance(items, str):
        return from_dicts([{"role": "user", "content": items}])
    try:
        messages = construct_chat_messages_with_tool_call(list(items))
    except (LookupError, TypeError, ValueError, AttributeError) as error:  # vLLM takes items for whole: empty content
        raise RequestError("an item lacks what it is made of", param="input") from error
    return from_dicts([_with_text(message) for message in messages])


def _with_text(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return a chat message whose content is one text."""
    role = message.get("role")
    if role not in ("system", "developer", "user", "assistant", "tool"):
        raise RequestError(f"a message of the role {role!r} cannot be kept", param="input")
    return {
        "role": role,
        "content": _text(message.get("content")),
        "reasoning_content": message.get("reasoning") or message.get("reasoning_content") or "",
        "tool_calls": [_plain_call(call) for call in message.get("tool_calls") or ()],
        "tool_call_id": message.get("tool_call_id"),
    }


def _plain_call(call: Mapping[str, Any]) -> dict[str, Any]:
    function = call["function"]
    return {
        "id": call["id"],
        "type": "function",
        "function": {"name": function["name"], "arguments": function["arguments"]},
    }


def _text(content: Any) -> str:
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content:
        part = part if isinstance(part, Mapping) else part.model_dump()
        if part.get("type") not in TEXT_PARTS:
            raise RequestError(
                f"conversations that are kept hold text, and this is {part.get('type')}",
                param="input",
                hint="Send it with store=false, and without a conversation.",
            )
        texts.append(str(part.get("text") or part.get("refusal") or ""))
    return "\n".join(texts)


def has_media(items: str | Sequence[Any]) -> bool:
    """Tell whether an input holds an image or a file."""
    if isinstance(items, str):
        return False
    contents = [item.get("content") or item.get("output") for item in items if isinstance(item, Mapping)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return any(isinstance(part, Mapping) and part.get("type") not in TEXT_PARTS for part in parts)


# -- messages -> items ------------------------------------------------------------------------------------------------


def path_items(conversation: Conversation) -> list[dict[str, Any]]:
    """Return the items of the current path, the conversation's system message first if there is one."""
    items = [_system_item(conversation)] if conversation.system else []
    return items + [item for message in conversation.path() for item in to_items(message)]


def _system_item(conversation: Conversation) -> dict[str, Any]:
    return to_items(Message("system", conversation.system, id=conversation.id))[0]


def to_items(message: Message) -> list[dict[str, Any]]:
    """Return the items that a message is."""
    status = "completed" if message.status == "complete" else "incomplete"
    if message.role == "tool":
        output = {"type": "function_call_output", "call_id": message.tool_call_id or "", "output": message.content}
        return [{"id": f"fco_{message.id}", **output, "status": status}]
    kind = "output_text" if message.role == "assistant" else "input_text"
    part: dict[str, Any] = {"type": kind, "text": message.content}
    if message.role == "assistant":
        part |= {"annotations": [], "logprobs": []}
    items: list[dict[str, Any]] = []
    if message.reasoning:
        thought = {"type": "reasoning_text", "text": message.reasoning}
        items.append({"id": f"rs_{message.id}", "type": "reasoning", "summary": [], "content": [thought]})
    if message.content or not (message.reasoning or message.tool_calls):
        said = {"id": f"msg_{message.id}", "type": "message", "role": message.role, "status": status}
        items.append({**said, "content": [part]})
    for number, call in enumerate(message.tool_calls):
        items.append(_call_item(message, number, call, status))
    return items


def _call_item(message: Message, number: int, call: Mapping[str, Any], status: str) -> dict[str, Any]:
    function = call.get("function") or {}
    return {
        "id": f"fc_{message.id}_{number}",
        "type": "function_call",
        "call_id": call.get("id") or "",
        "name": function.get("name") or "",
        "arguments": function.get("arguments") or "",
        "status": status,
    }


def find_item(conversation: Conversation, item_id: str) -> tuple[Message, dict[str, Any]]:
    """Return an item of the current path, and the message that it belongs to.

    Raises:
        RequestError: there is none of this id (404).
    """
    match = ITEM_ID.fullmatch(item_id)
    if match is not None and match[2] == conversation.id and conversation.system:
        found = Message("system", conversation.system, id=conversation.id)
        return found, _system_item(conversation)
    for message in conversation.path():
        if match is not None and message.id == match[2]:
            for item in to_items(message):
                if item["id"] == item_id:
                    return message, item
    raise RequestError(f"there is no item {item_id}", param="item_id", status=404)


def without_item(message: Message, item_id: str) -> Message | None:
    """Return a message without one of its items; None if nothing is left of it."""
    prefix, _, rest = item_id.partition("_")
    if prefix == "rs":
        left = replace(message, reasoning="", token_ids=())
    elif prefix == "fc":
        number = int(rest.partition("_")[2])
        calls = tuple(call for index, call in enumerate(message.tool_calls) if index != number)
        left = replace(message, tool_calls=calls, token_ids=())
    else:
        left = replace(message, content="", token_ids=())
    return left if left.content or left.reasoning or left.tool_calls else None


class ItemIds:
    """Gives the items of an answer the ids that they will have in the conversation.

    Args:
        message_id: of the answer.
    """

    def __init__(self, message_id: str) -> None:
        self._message_id = message_id
        self._ids: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def rename(self, event: dict[str, Any]) -> dict[str, Any]:
        """Change the ids in an event of vLLM's, in place; return it."""
        if isinstance(item := event.get("item"), dict):
            item["id"] = self._rename_item(item)
        if isinstance(event.get("item_id"), str):
            event["item_id"] = self._ids.get(event["item_id"], event["item_id"])
        if isinstance(response := event.get("response"), dict):
            for item in response.get("output") or ():
                item["id"] = self._rename_item(item)
        return event

    def _rename_item(self, item: Mapping[str, Any]) -> str:
        old, kind = str(item.get("id")), str(item.get("type"))
        if old not in self._ids:
            number = self._counts.get(kind, 0)
            self._counts[kind] = number + 1
            base = f"{PREFIXES.get(kind, kind)}_{self._message_id}"
            self._ids[old] = base if number == 0 and kind in ("message", "reasoning") else f"{base}_{number}"
        return self._ids[old]
