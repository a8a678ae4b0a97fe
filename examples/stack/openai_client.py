"""OpenAI's own client against a stack: whole, streamed, asynchronous, with a tool, and a conversation that stays put.

OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=... python examples/stack/openai_client.py
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from openai import AsyncOpenAI, OpenAI

LLM = os.environ.get("LLM_MODEL", "qwen3")
EMBEDDING = os.environ.get("EMBEDDING_MODEL", "qwen3-embedding")
# Without thinking the answer is there at once; leave it out to let the model think.
OPTIONS: dict[str, Any] = {
    "model": LLM,
    "temperature": 0,
    "max_tokens": 128,
    "extra_body": {"chat_template_kwargs": {"enable_thinking": False}},
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def two_turns() -> str:
    """One conversation: the header keeps it on the replica whose cache holds its past."""
    client = OpenAI(default_headers={"X-Session-ID": "an example"})
    messages: list[Any] = [{"role": "user", "content": "My name is Ada."}]
    first = client.chat.completions.create(messages=messages, **OPTIONS).choices[0].message
    messages += [{"role": "assistant", "content": first.content}, {"role": "user", "content": "What is my name?"}]
    pieces = client.chat.completions.create(messages=messages, stream=True, **OPTIONS)
    return "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)


def with_a_tool() -> list[str]:
    """The model asks for the tool; this program runs it; the model answers from what it returned."""
    client = OpenAI()
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    asked = client.chat.completions.create(messages=messages, tools=[WEATHER], **OPTIONS).choices[0].message
    (call,) = asked.tool_calls
    result = {"city": json.loads(call.function.arguments)["city"], "temperature": 21, "condition": "sunny"}
    messages += [
        asked.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": json.dumps(result)},
    ]
    answer = client.chat.completions.create(messages=messages, tools=[WEATHER], **OPTIONS).choices[0].message
    return [f"{call.function.name} {call.function.arguments}", answer.content]


async def side_by_side(questions: list[str]) -> list[str]:
    """Requests at once are answered together, on all replicas: without the header they spread."""
    async with AsyncOpenAI() as client:
        answers = await asyncio.gather(
            *(
                client.chat.completions.create(messages=[{"role": "user", "content": text}], **OPTIONS)
                for text in questions
            )
        )
    return [answer.choices[0].message.content for answer in answers]


def main() -> None:
    print("two turns:", two_turns())
    print("tool:", " -> ".join(with_a_tool()))
    print("side by side:", asyncio.run(side_by_side(["Hello!", "你好"])))
    vector = OpenAI().embeddings.create(model=EMBEDDING, input="Hello!").data[0].embedding
    print("embedding:", len(vector), "numbers")


if __name__ == "__main__":
    main()
