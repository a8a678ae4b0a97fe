"""Search, judge, answer: all three models of a stack, each by its own name.

    OPENAI_BASE_URL=http://127.0.0.1:8000/v1 OPENAI_API_KEY=... python examples/stack/demo.py

The embedding model finds the passages nearest to a question, the reranker puts the best one first, the language model
answers from it.
"""

from __future__ import annotations

import os

import httpx2
from openai import OpenAI

LLM = os.environ.get("LLM_MODEL", "qwen3")
EMBEDDING = os.environ.get("EMBEDDING_MODEL", "qwen3-embedding")
RERANK = os.environ.get("RERANK_MODEL", "qwen3-reranker")

PASSAGES = [
    "The capital of France is Paris.",
    "Water boils at 100 degrees Celsius.",
    "A week has seven days.",
    "The sun rises in the east.",
]


def nearest(client: OpenAI, question: str, num_passages: int) -> list[str]:
    """Return the passages whose vectors point most nearly where the question's does; all have the length 1."""
    rows = client.embeddings.create(model=EMBEDDING, input=[question, *PASSAGES], encoding_format="float").data
    asked, *vectors = (row.embedding for row in rows)
    closeness = [sum(a * b for a, b in zip(asked, vector, strict=True)) for vector in vectors]
    order = sorted(range(len(PASSAGES)), key=closeness.__getitem__, reverse=True)
    return [PASSAGES[index] for index in order[:num_passages]]


def rerank(client: OpenAI, question: str, passages: list[str]) -> list[tuple[float, str]]:
    """Return the passages with their scores, the best first; OpenAI's client has no method for this."""
    answer = client.post(
        "/rerank", cast_to=httpx2.Response, body={"model": RERANK, "query": question, "documents": passages}
    )
    return [(row["relevance_score"], passages[row["index"]]) for row in answer.json()["results"]]


def main() -> None:
    client = OpenAI()
    print("models:", ", ".join(sorted(model.id for model in client.models.list())))
    question = "What is the capital of France?"
    found = rerank(client, question, nearest(client, question, 3))
    for score, passage in found:
        print(f"{score:.4f}  {passage}")
    answer = client.chat.completions.create(
        model=LLM,
        messages=[{"role": "user", "content": f"{found[0][1]}\n{question}"}],
        max_tokens=64,
        temperature=0,
        extra_body={"chat_template_kwargs": {"enable_thinking": False}},
    )
    print("answer:", answer.choices[0].message.content)


if __name__ == "__main__":
    main()
