"""Two turns that remember each other, the second one streamed."""

from vllm_wrapper import VLLMWrapper


def main(llm: VLLMWrapper) -> None:
    reply, history = llm.chat("My name is Ada.", temperature=0)
    print(reply)
    for delta in llm.stream_chat("What is my name?", history, temperature=0):
        if delta.kind == "text":
            print(delta.text, end="", flush=True)
    print()


if __name__ == "__main__":
    with VLLMWrapper("demo") as llm:
        main(llm)
