"""A Python function as a tool: the model asks for it, the library calls it, the model answers from what it returned."""

from vllm_wrapper import VLLMWrapper


def get_weather(city: str) -> dict[str, object]:
    """Get the weather of a city.

    Args:
        city: name of the city
    """
    return {"city": city, "temperature": 21, "condition": "sunny"}


def main(llm: VLLMWrapper) -> None:
    question = {"role": "user", "content": "What is the weather in Paris?"}
    run = llm.run_tools([question], [get_weather], temperature=0)
    for message in run.messages[1:]:
        calls = [call["function"] for call in message.get("tool_calls", [])]
        print(f"{message['role']}: {message['content'] or calls}")


if __name__ == "__main__":
    with VLLMWrapper("demo") as llm:
        main(llm)
