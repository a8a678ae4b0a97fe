"""The embedded model's files and the programs that made them. What it answers is tested on the engine, elsewhere."""

from __future__ import annotations

import json
import random
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import tiktoken
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo_model import lexicon
from demo_model.checks import CHECKED_KINDS, check_dialogue
from demo_model.evaluate import answer_of, trials
from demo_model.generate import TEMPLATE_FILE, Dialogue, Writer, dialogues
from demo_model.network import Network, Shape
from demo_model.train import collate, encode, export, length_batches
from demo_model.train_tokenizer import CONTROL_TOKENS, MARKUP_TOKENS, MODEL_FOLDER, PATTERN, QWEN2_PATTERN
from demo_model.values import Values, is_held_out

MAX_MODEL_BYTES = 12_000_000
ODD_TEXTS = (
    "Hello, Zorvan! 你好，佐凡。",
    "  two  spaces\n\n\nand lines \r\n",
    "naïve Ünïcode ñandú ß",
    "日本語とかな 한국어 русский עברית",
    "😀👩‍👩‍👧 1,234.50€ don't I'LL",
    "䶮𠮷 rare characters",
    "",
)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(MODEL_FOLDER / "tokenizer.json"))


@pytest.fixture(scope="module")
def auto_tokenizer() -> Any:
    return AutoTokenizer.from_pretrained(MODEL_FOLDER)


@pytest.fixture(scope="module")
def samples() -> list[Dialogue]:
    """Dialogues of every kind, from the early and the late parts of training."""
    writer = Writer(11)
    early = [writer.write(progress=0.1) for _ in range(50)]
    kinds = [check_dialogue(writer, kind, thinking=True, language="zh") for kind in CHECKED_KINDS]
    return [*islice(dialogues(7), 250), *early, *kinds]


def read_json(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((MODEL_FOLDER / name).read_text(encoding="utf-8"))
    return content


# the generator


def test_the_same_seed_writes_the_same_dialogues() -> None:
    assert list(islice(dialogues(3), 40)) == list(islice(dialogues(3), 40))


def test_another_seed_writes_other_dialogues() -> None:
    assert list(islice(dialogues(3), 40)) != list(islice(dialogues(4), 40))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("held_out", [False, True])
def test_training_and_evaluation_never_share_a_made_up_name(language: str, held_out: bool) -> None:
    values = Values(random.Random(1), held_out=held_out)
    names = [part for _ in range(2000) for part in values.name(language).split()]
    listed = {*lexicon.FIRST_NAMES, *lexicon.CHINESE_NAMES}
    assert all(is_held_out(name) == held_out for name in names if name not in listed)
    assert not held_out or not listed.intersection(names)


def test_a_dialogue_without_tools_never_calls_one() -> None:
    without = [dialogue for dialogue in islice(dialogues(5), 1500) if not dialogue.tools]
    assert len(without) > 1000
    assert not any("tool_call" in dialogue.prompt() + dialogue.completion() for dialogue in without)


def test_half_of_the_dialogues_have_the_default_system_message_or_none() -> None:
    firsts = [dialogue.messages[0] for dialogue in islice(dialogues(6), 2000)]
    plain = sum(m["role"] != "system" or m["content"] == "You are a helpful assistant." for m in firsts)
    assert 0.45 < plain / len(firsts) < 0.75


def test_evaluation_covers_every_kind_language_and_thinking_mode() -> None:
    made = trials(1)
    assert len({(trial.kind, trial.column) for trial in made}) == len(CHECKED_KINDS) * 4 - 2 == len(made)
    assert all(trial.dialogue.thinking == trial.column.endswith("think") for trial in made)


def test_an_answer_is_compared_without_its_thought() -> None:
    assert answer_of("<think>\nI add.\n</think>\n\n2 + 3 = 5<|im_end|>") == "2 + 3 = 5"
    assert answer_of("2 + 3 = 5") == "2 + 3 = 5"


# what the model reads in training is what it reads in use


def test_prompts_are_what_the_shipped_template_makes(samples: list[Dialogue], auto_tokenizer: Any) -> None:
    for dialogue in samples:
        prompt = auto_tokenizer.apply_chat_template(
            dialogue.messages[:-1],
            tools=dialogue.tools or None,
            tokenize=False,
            add_generation_prompt=True,
            enable_thinking=dialogue.thinking,
        )
        assert prompt == dialogue.prompt()


def test_an_answer_is_written_as_the_template_writes_it(samples: list[Dialogue], auto_tokenizer: Any) -> None:
    for dialogue in samples:
        if not dialogue.thinking:
            continue
        whole = auto_tokenizer.apply_chat_template(
            dialogue.messages, tools=dialogue.tools or None, tokenize=False, add_generation_prompt=False
        )
        assert whole == dialogue.prompt() + dialogue.completion() + "\n"


def test_pieces_encode_to_the_ids_of_the_whole_text(samples: list[Dialogue], tokenizer: Tokenizer) -> None:
    for dialogue in samples:
        whole = tokenizer.encode(dialogue.prompt() + dialogue.completion(), add_special_tokens=False).ids
        assert encode(tokenizer, dialogue).token_ids == whole


def test_only_what_the_assistant_says_is_learnt(tokenizer: Tokenizer) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hello blue green"},
        {"role": "user", "content": "Again"},
        {"role": "assistant", "content": "one two", "reasoning_content": "three"},
    ]
    example = encode(tokenizer, Dialogue(messages, [], True, "repeat", "en"))
    pairs = zip(example.token_ids, example.learnt, strict=True)
    learnt = tokenizer.decode([token for token, is_learnt in pairs if is_learnt], skip_special_tokens=False)
    assert learnt == " blue green<|im_end|><think>\nthree\n</think>\n\none two<|im_end|>"
    last = encode(tokenizer, Dialogue(messages, [], True, "repeat", "en"), last_only=True)
    assert sum(last.learnt) < sum(example.learnt)


def test_each_learnt_token_is_predicted_from_the_place_before_it(samples: list[Dialogue], tokenizer: Tokenizer) -> None:
    examples = [encode(tokenizer, dialogue) for dialogue in samples[:40]]
    for group in length_batches(examples, 2048):
        batch, places, targets = collate(group)
        rows, columns = (places // batch.shape[1]).tolist(), (places % batch.shape[1]).tolist()
        assert len(rows) == sum(sum(example.learnt) for example in group)
        for row, column, target in zip(rows, columns, targets.tolist(), strict=True):
            assert group[row].learnt[column + 1]
            assert group[row].token_ids[column + 1] == target
            assert group[row].token_ids[column] == batch[row, column]


# the template


def test_the_template_keeps_thoughts_only_after_the_last_question(auto_tokenizer: Any) -> None:
    messages = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two", "reasoning_content": "old thought"},
        {"role": "user", "content": "three"},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "new thought",
            "tool_calls": [{"type": "function", "function": {"name": "add", "arguments": {"a": "你"}}}],
        },
        {"role": "tool", "content": "4"},
        {"role": "tool", "content": "5"},
    ]
    text = auto_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert text == (
        "<|im_start|>user\none<|im_end|>\n<|im_start|>assistant\ntwo<|im_end|>\n<|im_start|>user\nthree<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nnew thought\n</think>\n\n"
        '<tool_call>\n{"name": "add", "arguments": {"a": "你"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\n4\n</tool_response>\n<tool_response>\n5\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_the_template_turns_thinking_off_with_an_empty_thought(auto_tokenizer: Any) -> None:
    messages = [{"role": "user", "content": "one"}]
    on = auto_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    off = auto_tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    assert off == on + "<think>\n\n</think>\n\n"


def test_the_template_reads_a_thought_inside_the_content(auto_tokenizer: Any) -> None:
    answer = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nyes"}
    old = [{"role": "user", "content": "a"}, answer, {"role": "user", "content": "b"}]
    text = auto_tokenizer.apply_chat_template(old, tokenize=False)
    assert "hm" not in text
    assert "assistant\nyes<|im_end|>" in text


def test_the_template_shows_tools_after_the_system_message(auto_tokenizer: Any) -> None:
    tool = {"type": "function", "function": {"name": "天气", "parameters": {"type": "object", "properties": {}}}}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    text = auto_tokenizer.apply_chat_template(messages, tools=[tool], tokenize=False)
    assert text.startswith("<|im_start|>system\nBe brief.\n\n# Tools\n")
    assert "<tools>\n" + json.dumps(tool, ensure_ascii=False) + "\n</tools>" in text


def test_the_shipped_template_is_the_source_that_training_used() -> None:
    shipped = (MODEL_FOLDER / "chat_template.jinja").read_text(encoding="utf-8")
    assert shipped == TEMPLATE_FILE.read_text(encoding="utf-8")


# the tokenizer


def test_every_common_han_character_is_one_token_beside_any_other(tokenizer: Tokenizer) -> None:
    common = lexicon.common_han()
    assert len(common) == 3755
    assert len(tokenizer.encode(common, add_special_tokens=False).ids) == len(common)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_text_survives_encoding_and_decoding(text: str, tokenizer: Tokenizer, auto_tokenizer: Any) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert auto_tokenizer.encode(text, add_special_tokens=False) == ids


def test_added_tokens_come_last_and_only_control_tokens_are_special() -> None:
    added = read_json("tokenizer.json")["added_tokens"]
    assert [token["content"] for token in added] == [*CONTROL_TOKENS, *MARKUP_TOKENS]
    assert [token["special"] for token in added] == [True] * len(CONTROL_TOKENS) + [False] * len(MARKUP_TOKENS)
    size = read_json("config.json")["vocab_size"]
    assert [token["id"] for token in added] == list(range(size - len(added), size))


def test_text_is_split_by_one_pattern_that_is_qwen2s_apart_from_han() -> None:
    split, byte_level = read_json("tokenizer.json")["pre_tokenizer"]["pretokenizers"]
    assert split["pattern"]["Regex"] == PATTERN
    assert PATTERN.removeprefix(r"\p{Han}|").replace(r"[^\P{L}\p{Han}]+", r"\p{L}+") == QWEN2_PATTERN
    assert byte_level == {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    assert read_json("tokenizer.json")["normalizer"] == {"type": "NFC"}


def test_tiktoken_built_from_the_file_gives_the_same_ids(tokenizer: Tokenizer, samples: list[Dialogue]) -> None:
    spec = read_json("tokenizer.json")
    added = {token["content"]: token["id"] for token in spec["added_tokens"]}
    ranks = {as_bytes(token): rank for token, rank in spec["model"]["vocab"].items() if token not in added}
    pattern = spec["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    encoding = tiktoken.Encoding("demo", pat_str=pattern, mergeable_ranks=ranks, special_tokens=added)
    texts = [*ODD_TEXTS, *(dialogue.prompt() for dialogue in samples)]
    for text in texts:
        assert encoding.encode(text, allowed_special="all") == tokenizer.encode(text, add_special_tokens=False).ids


def as_bytes(token: str) -> bytes:
    """The bytes that a byte-level BPE token stands for: printable ones are themselves, the others lie from 256 on."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}
    return bytes(table[character] for character in token)


# the model's files


def test_the_model_is_at_most_12_megabytes() -> None:
    assert sum(path.stat().st_size for path in MODEL_FOLDER.iterdir()) <= MAX_MODEL_BYTES


def test_the_configuration_is_qwen3s_with_a_window_of_8192(tokenizer: Tokenizer) -> None:
    config = read_json("config.json")
    assert config["architectures"] == ["Qwen3ForCausalLM"]
    assert config["max_position_embeddings"] == read_json("tokenizer_config.json")["model_max_length"] == 8192
    assert config["tie_word_embeddings"]
    assert config["vocab_size"] == tokenizer.get_vocab_size()
    assert config["eos_token_id"] == tokenizer.token_to_id("<|im_end|>")


def test_generation_stops_at_both_end_tokens(tokenizer: Tokenizer) -> None:
    ends = [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    assert read_json("generation_config.json")["eos_token_id"] == ends


def test_the_shipped_weights_load_and_answer_a_greeting(auto_tokenizer: Any) -> None:
    model: Any = AutoModelForCausalLM.from_pretrained(MODEL_FOLDER)
    assert model.dtype == torch.bfloat16
    ids = auto_tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hello!"}], add_generation_prompt=True, enable_thinking=False, return_tensors="pt"
    )["input_ids"]
    output = model.generate(ids, max_new_tokens=40, do_sample=False, temperature=None, top_p=None, top_k=None)
    text = auto_tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
    assert text == "Hello! I am a tiny demo model. How can I help you?"


def test_an_exported_network_computes_what_it_computed_in_training(tmp_path: Path, tokenizer: Tokenizer) -> None:
    torch.manual_seed(0)
    network = Network(Shape(tokenizer.get_vocab_size(), num_hidden_layers=2))
    for weight in network.parameters():
        weight.data = weight.data.bfloat16().float()  # files hold bf16
    export(network, tokenizer, tmp_path)
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = torch.randint(0, tokenizer.get_vocab_size(), (2, 37))
    with torch.no_grad():
        assert torch.allclose(model(ids).logits, network.logits(network(ids)), atol=2e-4)
