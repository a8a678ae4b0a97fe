"""Several answers to one question, and how sure the model was of each of them."""

import math

from vllm_wrapper import VLLMWrapper


def main(llm: VLLMWrapper) -> None:
    question = [{"role": "user", "content": "Tell me a joke."}]
    options = {"enable_thinking": False, "max_tokens": 40, "logprobs": 0}
    for reply in llm.replies(question, n=3, seed=1, temperature=1.0, **options):
        likelihood = math.exp(sum(place.chosen.logprob for place in reply.logprobs) / len(reply.logprobs))
        print(f"{likelihood:.0%} sure of each token: {reply.text}")


if __name__ == "__main__":
    with VLLMWrapper("demo") as llm:
        main(llm)
