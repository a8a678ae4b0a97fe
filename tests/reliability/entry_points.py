"""Request bodies for each entry point of the server: an attempt as chat completions, responses, messages and others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from tests.reliability.red_team import Attempt

__all__ = ["ENTRY_POINTS", "Reply", "chat_body", "send_in_conversation"]

Body = dict[str, Any]
Reply = httpx.Response


def chat_body(attempt: Attempt) -> Body:
    body = {"model": "demo", "messages": attempt.messages, "max_tokens": 1}
    return body | _options(attempt) | ({"tools": attempt.tools} if attempt.tools else {})


def _options(attempt: Attempt) -> Body:
    return {"chat_template_kwargs": dict(attempt.options)} if attempt.options else {}


def _batch(attempt: Attempt) -> Body:
    return {**chat_body(attempt), "messages": [attempt.messages]}


def _tokens(attempt: Attempt) -> Body:
    return {name: value for name, value in chat_body(attempt).items() if name != "max_tokens"}


# -- OpenAI's responses --------------------------------------------------------------------------------------------


def _items(message: Mapping[str, Any]) -> list[Body]:
    content = message["content"]
    if message["role"] == "tool":
        text = (
            content if isinstance(content, str) else [{"type": "input_text", "text": part["text"]} for part in content]
        )
        return [{"type": "function_call_output", "call_id": message["tool_call_id"], "output": text}]
    found: list[Body] = []
    if text := message.get("reasoning_content"):
        part = {"type": "reasoning_text", "text": text}
        found.append({"type": "reasoning", "id": "rs_1", "summary": [], "content": [part]})
    for call in message.get("tool_calls") or ():
        found.append({"type": "function_call", "call_id": call["id"], **call["function"]})
    if isinstance(content, list):
        content = [{"type": "input_text", "text": part["text"]} for part in content]
    elif message["role"] == "assistant" and content:
        content = [{"type": "output_text", "text": content, "annotations": []}]
    named = {"name": message["name"]} if "name" in message else {}
    return [*found, *([{"type": "message", "role": message["role"], "content": content, **named}] if content else ())]


def _response(attempt: Attempt) -> Body:
    items = [item for message in attempt.messages for item in _items(message)]
    tools = [{"type": "function", **tool["function"]} for tool in attempt.tools or ()]
    return {
        "model": "demo",
        "input": items,
        "max_output_tokens": 1,
        **({"tools": tools} if tools else {}),
        **_options(attempt),
    }


# -- Anthropic's messages ------------------------------------------------------------------------------------------


def _anthropic(attempt: Attempt) -> Body:
    system = [one["content"] for one in attempt.messages if one["role"] in ("system", "developer")]
    others = [one for one in attempt.messages if one["role"] not in ("system", "developer")]
    tools = [_anthropic_tool(tool["function"]) for tool in attempt.tools or ()]
    body: Body = {"model": "demo", "max_tokens": 1, "messages": [_anthropic_message(one) for one in others]}
    return (
        body
        | ({"system": "\n".join(system)} if system else {})
        | ({"tools": tools} if tools else {})
        | _options(attempt)
    )


def _anthropic_tool(function: Mapping[str, Any]) -> Body:
    return {"name": function["name"], "description": function["description"], "input_schema": function["parameters"]}


def _anthropic_message(message: Mapping[str, Any]) -> Body:
    content = message["content"]
    parts = [{"type": "text", "text": content}] if isinstance(content, str) and content else content or []
    if message["role"] == "tool":
        result = {"type": "tool_result", "tool_use_id": message["tool_call_id"], "content": parts}
        return {"role": "user", "content": [result]}
    if text := message.get("reasoning_content"):
        parts = [{"type": "thinking", "thinking": text, "signature": "x"}, *parts]
    for call in message.get("tool_calls") or ():
        function = call["function"]
        use = {"type": "tool_use", "id": call["id"], "name": function["name"]}
        parts = [*parts, use | {"input": json.loads(function["arguments"])}]
    return {"role": message["role"], "content": parts}


# -- LMDeploy's sessions -------------------------------------------------------------------------------------------


def _interactive(attempt: Attempt) -> Body:
    fields = ("role", "content", "reasoning_content", "tool_calls", "tool_call_id")
    said = [{name: one[name] for name in fields if name in one} for one in attempt.messages]
    return {"prompt": said, "request_output_len": 1, "interactive_mode": True}


def _without_tools(attempt: Attempt) -> bool:
    return not attempt.tools and not attempt.options and not any("name" in one for one in attempt.messages)


def _any_attempt(_: Attempt) -> bool:
    return True


# The path, the function that makes the body, and a filter: an attempt whose fields have no place there is left out.
ENTRY_POINTS: dict[str, tuple[str, Callable[[Attempt], Body], Callable[[Attempt], bool]]] = {
    "chat completions": ("/v1/chat/completions", chat_body, _any_attempt),
    "chat completions in a batch": ("/v1/chat/completions/batch", _batch, _any_attempt),
    "invocations": ("/invocations", chat_body, _any_attempt),
    "responses": ("/v1/responses", _response, _any_attempt),
    "messages": ("/v1/messages", _anthropic, _any_attempt),
    "interactive": ("/v1/chat/interactive", _interactive, _without_tools),
    "tokenize": ("/tokenize", _tokens, _any_attempt),
}


def send_in_conversation(http: httpx.Client, attempt: Attempt) -> Reply:
    """Store all but the last message as a conversation, then send the last one to it."""
    body = _response(attempt)
    *before, last = body["input"]
    made = http.post("/v1/conversations", json={"items": before} if before else {})
    if made.status_code != 200:
        return made
    return http.post("/v1/responses", json={**body, "input": [last], "conversation": made.json()["id"]})
