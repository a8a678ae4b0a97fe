"""LangChain against a stack.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=... python examples/stack/langchain_client.py

``check_embedding_ctx_length=False`` matters: otherwise LangChain cuts texts into the token ids of OpenAI's own models
and sends those, and the vectors mean nothing.
"""

from __future__ import annotations

import os

from langchain_openai import ChatOpenAI, OpenAIEmbeddings

LLM = os.environ.get("LLM_MODEL", "qwen3")
EMBEDDING = os.environ.get("EMBEDDING_MODEL", "qwen3-embedding")


def get_weather(city: str) -> str:
    """Get the weather of a city."""
    return f"It is sunny in {city}."


def main() -> None:
    chat = ChatOpenAI(
        model=LLM,
        temperature=0,
        max_tokens=128,
        default_headers={"X-Session-ID": "langchain"},
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    )
    told = "My name is Ada."
    greeting = chat.invoke(told)
    print("two turns:", chat.invoke([("human", told), greeting, ("human", "What is my name?")]).content)
    print("streamed:", "".join(str(piece.content) for piece in chat.stream("Hello!")))
    call = chat.bind_tools([get_weather]).invoke("What is the weather in Paris?").tool_calls[0]
    print("tool:", call["name"], call["args"])
    embeddings = OpenAIEmbeddings(model=EMBEDDING, check_embedding_ctx_length=False)
    documents = embeddings.embed_documents(["Hello!", "你好"])
    print("embeddings:", len(documents), "vectors of", len(embeddings.embed_query("Hello!")), "numbers")


if __name__ == "__main__":
    main()
