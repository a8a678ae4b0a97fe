"""Answers that have a form: one of several words, or an object of a pydantic model."""

from typing import Literal

from pydantic import BaseModel

from vllm_wrapper import VLLMWrapper


class Mood(BaseModel):
    mood: Literal["good", "bad"]
    energy: Literal["low", "high"]


def main(llm: VLLMWrapper) -> None:
    question = [{"role": "user", "content": "How are you?"}]
    options = {"enable_thinking": False, "temperature": 0, "max_tokens": 100}
    print(llm.reply(question, response_format=["yes", "no"], **options).parsed)
    print(llm.reply(question, response_format=Mood, **options).parsed)


if __name__ == "__main__":
    with VLLMWrapper("demo") as llm:
        main(llm)
