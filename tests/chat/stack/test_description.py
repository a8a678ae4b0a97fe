"""stack.yaml: what it may say, and the line of what it may not."""

from __future__ import annotations

import pytest

from chat.stack.description import read_description
from chat.stack.presets import PRESETS
from chatcore.errors import ConfigError


@pytest.fixture
def read(tmp_path):
    """Write a stack's file and read it back."""

    def read(text):
        file = tmp_path / "stack.yaml"
        file.write_text(text, "utf-8")
        return read_description(file)

    return read


def test_the_shortest_stack_is_two_lines(read):
    description = read("llm:\n  model: demo\n")
    assert [(kind, service.model) for kind, service in description.services()] == [("llm", "demo")]
    assert (description.host, description.port) == ("127.0.0.1", 8000)


def test_a_service_without_values_takes_its_preset(read):
    description = read(
        "llm: {preset: qwen3}\nembedding: {preset: bge-embedding}\nrerank: {preset: gte-reranker}\nweb:\n"
    )
    assert [kind for kind, _ in description.services()] == ["llm", "embedding", "rerank"]
    assert description.web is not None


@pytest.mark.parametrize(
    ("text", "line", "said", "hint"),
    [
        ("llm:\n  model: demo\n  replica: 2\n", 3, "unknown key llm.replica", "Did you mean replicas?"),
        ("llm:\n  model: demo\nport: eighty\n", 3, "port is 'eighty'; it should be a valid integer", ""),
        ("port: 99999\nllm: {model: demo}\n", 1, "port is 99999; it should be less than or equal to 65535", ""),
        (
            "llm:\n  model: demo\n  gpus:\n    - 0\n    - one\n",
            5,
            "llm.gpus.1 is 'one'; it should be a valid integer",
            "",
        ),
        ("llm:\n  model: demo\n  model: other\n", 3, "model stands here a second time", ""),
        ("llm:\n  preset: bge-reranker\n", 2, "bge-reranker is a preset for rerank", "For llm: qwen3."),
        ("rerank:\n  preset: bge\n", 2, "there is no preset 'bge'", "For rerank: qwen3-reranker"),
        ("port: 1\nembedding:\n  name: e\n", 2, "embedding names neither a model nor a preset", "qwen3-embedding"),
        ("llm:\n  model: demo\n  replicas: 3\n  gpus: [0, 1]\n", 4, "2 GPUs cannot be shared out among 3", ""),
        ("llm:\n  model: demo\n  gpus: [1, 1]\n", 3, "a GPU is named twice", ""),
        ("embedding:\n  preset: bge-embedding\nweb: {}\n", 3, "the web page needs a language model", "Add llm:."),
        ("llm: {model: demo}\nrerank:\n  model: demo\n", 2, "two services have the same name", ""),
        ("llm:\n  model: demo\n  arguments:\n    port: 1\n", 3, "port is set by the key port", ""),
        ("llm:\n  model: demo\n  arguments: {--eager: 1}\n", 3, "'--eager' is no option", ""),
        ("port: 8000\nhost: ''\n", 1, "there is no service", "llm, embedding, rerank"),
        ("llm:\n  model: [demo\n", 3, "expected ',' or ']'", ""),
    ],
)
def test_what_is_wrong_is_told_with_its_line(read, text, line, said, hint):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert f"stack.yaml, line {line}: " in str(caught.value)
    assert said in str(caught.value)
    assert hint in caught.value.hint


@pytest.mark.parametrize("text", ["", "- llm\n", "llm\n"])
def test_a_file_without_services_shows_the_shortest_that_has_one(read, text):
    with pytest.raises(ConfigError, match="names no service") as caught:
        read(text)
    assert "model: demo" in caught.value.hint


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no file .*nothing\.yaml"):
        read_description(tmp_path / "nothing.yaml")


def test_every_preset_is_a_stack_by_itself(read):
    for name, preset in PRESETS.items():
        description = read(f"{preset.kind}:\n  preset: {name}\n")
        assert [kind for kind, _ in description.services()] == [preset.kind]


def test_paths_are_relative_to_the_file_and_addresses_stay_as_they_are(read, tmp_path):
    description = read("api_key_file: keys\nstore: chats.sqlite\nllm: {model: demo}\n")
    assert (description.api_key_file, description.store) == (str(tmp_path / "keys"), str(tmp_path / "chats.sqlite"))
    assert read("store: postgresql://host/chats\nllm: {model: demo}\n").store == "postgresql://host/chats"


@pytest.mark.parametrize("text", ["llm: " + "[" * 2000, "- " * 600, "port: 2020-13-01", "port: " + "9" * 5000])
def test_a_file_that_no_yaml_can_be_is_refused_in_a_sentence(read, text):
    with pytest.raises(ConfigError) as caught:
        read(text)
    assert len(str(caught.value)) < 2000
