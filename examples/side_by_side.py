"""Many conversations at once: as a batch, and as tasks of asyncio. Both share the engine's batch."""

import asyncio

from vllm_wrapper import Reply, VLLMWrapper

QUESTIONS = ["Hello!", "你好", "What is 12 + 30?"]


def main(llm: VLLMWrapper) -> None:
    conversations = [[{"role": "user", "content": question}] for question in QUESTIONS]
    for question, reply in zip(QUESTIONS, llm.reply_batch(conversations, progress=False), strict=True):
        print(f"{question} -> {reply.text if isinstance(reply, Reply) else reply}")
    asyncio.run(ask_side_by_side(llm))


async def ask_side_by_side(llm: VLLMWrapper) -> None:
    tasks = [llm.areply([{"role": "user", "content": question}]) for question in QUESTIONS]
    for reply in await asyncio.gather(*tasks):
        print(f"{reply.usage.num_output_tokens} tokens, {reply.usage.e2el_ms:.0f} ms")


if __name__ == "__main__":
    with VLLMWrapper("demo") as llm:
        main(llm)
