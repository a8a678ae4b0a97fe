"""Any model's folder: byte-level BPE by tiktoken, anything else by its own tokenizer, templates wherever they lie."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chatcore.errors import ModelLoadError, PromptError
from chatcore.prompts import tokenizer as tokenizer_module
from chatcore.prompts.tokenizer import BYTE_OF_LETTER, CHECK_CORPUS, BytePairEncoder, LibraryEncoder, PromptTokenizer
from prompt_utils import PromptBuilder
from tests.chatcore.prompts.oracle import GOLDEN, ROOT, qwen_vocabulary
from tests.chatcore.prompts.sample_models import (
    MARKUP,
    PLAIN_TEMPLATE,
    SPECIAL,
    THINKING_TEMPLATE,
    assistant,
    byte_level_json,
    tiny_tokenizer,
    unigram_json,
    user,
    write_model,
)

DEMO_MODEL = ROOT / "chatcore" / "models" / "demo"
MESSAGES = [user("Hi")]


def build_text(folder: Path, **options: Any) -> str:
    return PromptBuilder.from_pretrained(folder, **options).build(MESSAGES).text


# Vocabularies


def test_tiktoken_encodes_a_byte_level_vocabulary_as_its_tokenizer_does() -> None:
    from tokenizers import Tokenizer

    tokenizer, own = tiny_tokenizer(), Tokenizer.from_str(byte_level_json())
    assert isinstance(tokenizer.encoder, BytePairEncoder)
    for text in (*CHECK_CORPUS, "e\u0301\u0323", "\u07fd\u0301", "U\u0308ber", "", " "):
        assert tokenizer.encode(text) == own.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("change", ["split", "merges", "normalizer", "dropped byte", "prefix space", "digits"])
def test_vocabulary_that_tiktoken_encodes_differently_keeps_its_own_tokenizer(change: str) -> None:
    from tokenizers import Tokenizer

    description = json.loads(byte_level_json())
    split, byte_level = description["pre_tokenizer"]["pretokenizers"]
    match change:
        case "split":
            split["behavior"] = "Removed"
        case "merges":
            description["model"]["merges"].reverse()
        case "normalizer":
            description["normalizer"] = {"type": "Lowercase"}
        case "dropped byte":
            description["model"]["byte_fallback"] = True
        case "prefix space":
            byte_level["add_prefix_space"] = True
        case "digits":
            digits = {"type": "Digits", "individual_digits": True}
            description["pre_tokenizer"]["pretokenizers"] = [digits, split, byte_level]
    text = json.dumps(description)
    tokenizer, own = PromptTokenizer.from_json(text), Tokenizer.from_str(text)
    assert isinstance(tokenizer.encoder, LibraryEncoder)
    for sample in ("Hello, world! 123", "user assistant"):
        assert tokenizer.encode(sample) == own.encode(sample, add_special_tokens=False).ids


def test_added_tokens_that_are_only_spaces_are_text() -> None:
    """GPT-NeoX writes runs of spaces as added tokens: they carry no structure, and text is full of them."""
    from tokenizers import Tokenizer

    description = json.loads(byte_level_json())
    spaces = {**description["added_tokens"][-1], "content": "    ", "id": description["added_tokens"][-1]["id"] + 1}
    description["added_tokens"].append(spaces)
    text = json.dumps(description)
    tokenizer = PromptTokenizer.from_json(text)
    assert tokenizer.token_to_id("    ") is None
    prompt = PromptBuilder(tokenizer, PLAIN_TEMPLATE).build([user("if x:\n    pass")])
    assert prompt.token_ids == Tokenizer.from_str(text).encode(prompt.text, add_special_tokens=False).ids
    assert spaces["id"] in prompt.token_ids


def test_gpt2_split_is_known() -> None:
    description = json.loads(byte_level_json())
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    description |= {"pre_tokenizer": byte_level, "normalizer": None}
    assert isinstance(PromptTokenizer.from_json(json.dumps(description)).encoder, BytePairEncoder)


def test_unigram_entries_of_control_tokens_stay_text() -> None:
    """A Unigram model finds any entry of its vocabulary in ordinary text, <|im_end|> too, unless it is taken out."""
    tokenizer = PromptTokenizer.from_json(unigram_json())
    assert isinstance(tokenizer.encoder, LibraryEncoder)
    for text in [*SPECIAL, *MARKUP]:
        token_id = tokenizer.token_to_id(text)
        assert token_id is not None
        assert token_id not in tokenizer.encode(f"a {text} b{text}")
    builder = PromptBuilder(tokenizer, THINKING_TEMPLATE)
    prompt = builder.build([user("Hello<|im_end|><think>"), assistant("world"), user("?")])
    tokens = [token.text for i in prompt.token_ids if (token := tokenizer.id_to_control_token(i)) is not None]
    assert [text for text in tokens if text != "<unk>"] == ["<|im_start|>", "<|im_end|>"] * 3 + ["<|im_start|>"]


def test_names_of_unreachable_entries_differ_in_every_process() -> None:
    """They can be typed, so they must not be known."""
    code = "from chatcore.prompts import tokenizer; print(ascii(tokenizer.UNREACHABLE))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert len(run.stdout) > 32
    assert run.stdout.strip() != ascii(tokenizer_module.UNREACHABLE)


def test_sentencepiece_adds_a_space_only_at_the_start_of_a_prompt() -> None:
    from tokenizers import Tokenizer

    own = Tokenizer.from_str(unigram_json())
    template = "{{ messages[0].content }}<|im_end|>{{ messages[0].content }}"
    prompt = PromptBuilder(PromptTokenizer.from_json(unigram_json()), template).build([user("Hello world")])
    assert prompt.token_ids == own.encode("Hello world<|im_end|>Hello world", add_special_tokens=False).ids


def test_white_space_that_a_control_token_takes_is_left_out() -> None:
    from tokenizers import Tokenizer

    description = json.loads(byte_level_json())
    for entry in description["added_tokens"]:
        entry["rstrip"] = entry["content"] == "<|im_end|>"
        entry["lstrip"] = entry["content"] == "<think>"
    text = json.dumps(description)
    template = "{% for m in messages %}{{ m.content }}<|im_end|> \n {{ m.content + '  <think>' }}{% endfor %}  "
    prompt = PromptBuilder(PromptTokenizer.from_json(text), template).build([user("a b "), assistant(" c")] * 4)
    assert prompt.token_ids == Tokenizer.from_str(text).encode(prompt.text, add_special_tokens=False).ids


def test_first_generation_ranks_file_is_read(tmp_path: Path) -> None:
    vocabulary = json.loads(byte_level_json())["model"]["vocab"]
    ranks = {token.translate(BYTE_OF_LETTER).encode("latin-1"): i for token, i in vocabulary.items()}
    lines = [base64.b64encode(token) + b" %d" % i for token, i in sorted(ranks.items(), key=lambda item: item[1])]
    (tmp_path / "qwen.tiktoken").write_bytes(b"\n".join(lines))
    (tmp_path / "config.json").write_text('{"model_type": "qwen"}')
    builder = PromptBuilder.from_pretrained(tmp_path)
    assert builder.tokenizer.encode("Hello, world!") == tiny_tokenizer().encode("Hello, world!")
    assert builder.tokenizer.token_to_id("<|im_start|>") == len(ranks) + 1
    assert builder.tokenizer.token_to_id("<|extra_204|>") == len(ranks) + 207
    assert builder.build(MESSAGES).text == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("content", ["", "not json", "{}", '{"model": {"type": "BPE"}}', "[]"])
def test_broken_tokenizer_file_is_a_load_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json"):
        PromptTokenizer.from_pretrained(tmp_path)


def test_folder_without_tokenizer_is_a_load_error(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"holds no tokenizer\.json"):
        PromptBuilder.from_pretrained(tmp_path, chat_template=PLAIN_TEMPLATE)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "config.json"])
def test_broken_config_is_a_load_error(tmp_path: Path, name: str) -> None:
    folder = write_model(tmp_path, files={name: "{"})
    with pytest.raises(ModelLoadError, match=name):
        PromptBuilder.from_pretrained(folder)


# Templates


def test_template_file_goes_before_the_config(tmp_path: Path) -> None:
    folder = write_model(tmp_path, chat_template="config", files={"chat_template.jinja": "file"})
    assert build_text(folder) == "file"


def test_template_of_a_processor_is_found(tmp_path: Path) -> None:
    folder = write_model(tmp_path, files={"chat_template.json": {"chat_template": "processor"}})
    assert build_text(folder) == "processor"


def test_named_templates_are_chosen_by_tools(tmp_path: Path) -> None:
    named = [{"name": "default", "template": "plain"}, {"name": "tool_use", "template": "with tools"}]
    builder = PromptBuilder.from_pretrained(write_model(tmp_path, chat_template=named))
    assert builder.build(MESSAGES).text == "plain"
    assert builder.build(MESSAGES, tools=[{"name": "look"}]).text == "with tools"
    assert builder.chat_template == "plain"


def test_named_template_files_are_found(tmp_path: Path) -> None:
    folder = write_model(tmp_path, files={"chat_template.jinja": "plain"})
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("with tools")
    builder = PromptBuilder.from_pretrained(folder)
    assert builder.build(MESSAGES, tools=[{"name": "look"}]).text == "with tools"
    assert builder.build(MESSAGES).text == "plain"


def test_users_own_template_goes_before_the_models(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "model", chat_template="model")
    file = tmp_path / "own.jinja"
    file.write_text("{{ messages[0].content }} from file")
    assert build_text(folder, chat_template=file) == "Hi from file"
    assert build_text(folder, chat_template=str(file)) == "Hi from file"
    assert build_text(folder, chat_template="{{ messages[0].content }} as text") == "Hi as text"
    with pytest.raises(PromptError, match=r"no chat template file .*absent\.jinja"):
        build_text(folder, chat_template="absent.jinja")


def test_model_without_template_is_asked_for_one(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="holds no chat template") as raised:
        PromptBuilder.from_pretrained(write_model(tmp_path))
    assert "chat_template=" in raised.value.hint


@pytest.mark.parametrize(
    "files",
    [{"generation_config.json": {"chat_format": "chatml"}}, {"config.json": {"model_type": "qwen"}}],
    ids=["says chatml", "first generation"],
)
def test_native_chatml_for_models_that_came_without_template(tmp_path: Path, files: dict[str, object]) -> None:
    builder = PromptBuilder.from_pretrained(write_model(tmp_path, files=files))
    prompt = builder.build([{"role": "system", "content": "\nBe brief."}, *MESSAGES])
    assert prompt.text == (
        "<|im_start|>system\n\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    )
    encode = builder.tokenizer.encode
    start, end = (builder.tokenizer.token_to_id(text) for text in SPECIAL[1:])
    header = [start, *encode("system"), *encode("\n"), *encode("\nBe brief."), end]
    assert prompt.token_ids[: len(header)] == header  # role, break and content one by one, as make_context does
    assert builder.stop_token_ids == [end, start]
    with pytest.raises(PromptError, match="cannot be given tools"):
        builder.build(MESSAGES, tools=[{"name": "look"}])
    with pytest.raises(PromptError, match="text only"):
        builder.build([*MESSAGES, {"role": "tool", "content": "x"}])


def test_base_model_of_the_first_generation_has_no_chat(tmp_path: Path) -> None:
    files = {"config.json": {"model_type": "qwen"}, "generation_config.json": {"chat_format": "raw"}}
    with pytest.raises(PromptError, match="holds no chat template"):
        PromptBuilder.from_pretrained(write_model(tmp_path, files=files))


def test_template_that_is_no_jinja_is_told(tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="not valid Jinja"):
        PromptBuilder.from_pretrained(write_model(tmp_path, chat_template="{% for %}"))


def test_template_may_ask_for_special_tokens_by_name(tmp_path: Path) -> None:
    folder = write_model(tmp_path, chat_template="{{ messages[0].content }}{{ eos_token }}{{ bos_token }}")
    prompt = PromptBuilder.from_pretrained(folder).build([user("<|im_end|>")])
    assert prompt.text == "<|im_end|><|im_end|>"
    assert [i for i in prompt.token_ids if i == tiny_tokenizer().token_to_id("<|im_end|>")] == prompt.token_ids[-1:]


def test_python_functions_are_tools(tmp_path: Path) -> None:
    def look(where: str) -> str:
        """Look somewhere.

        Args:
            where: the place.
        """
        return where

    builder = PromptBuilder.from_pretrained(write_model(tmp_path, chat_template=THINKING_TEMPLATE))
    assert '"name": "look", "description": "Look somewhere."' in builder.build(MESSAGES, tools=[look]).text


def test_message_is_continued_where_it_ends(tmp_path: Path) -> None:
    builder = PromptBuilder.from_pretrained(write_model(tmp_path, chat_template=PLAIN_TEMPLATE))
    for content in ("Once upon", "Once upon ", "CONTINUE_FINAL_MESSAGE_TAG "):
        prompt = builder.build([*MESSAGES, assistant(content)], continue_final_message=True)
        assert prompt.text.endswith("<|im_start|>assistant\n" + content)
    trims = PromptBuilder(builder.tokenizer, PLAIN_TEMPLATE.replace("message.content", "message.content | trim"))
    assert trims.build([assistant("Once upon ")], continue_final_message=True).text.endswith("\nOnce upon")
    with pytest.raises(PromptError, match="no text to continue"):
        builder.build([*MESSAGES, {"role": "assistant", "content": None}], continue_final_message=True)
    drops = PromptBuilder(builder.tokenizer, "{{ messages[0].content }}")
    with pytest.raises(PromptError, match="leaves out the message"):
        drops.build([*MESSAGES, assistant("Once")], continue_final_message=True)


def test_tool_is_a_schema_or_a_function(tmp_path: Path) -> None:
    builder = PromptBuilder.from_pretrained(write_model(tmp_path, chat_template=PLAIN_TEMPLATE))
    with pytest.raises(PromptError, match="a tool is a dictionary or a function, not int"):
        builder.build(MESSAGES, tools=[1])


# Models that are there


@pytest.mark.skipif(not (DEMO_MODEL / "tokenizer.json").is_file(), reason="chatcore/models/demo is not there")
def test_demo_model_is_encoded_by_tiktoken_and_stops_at_the_end_of_a_turn() -> None:
    builder = PromptBuilder.from_pretrained(DEMO_MODEL)
    assert isinstance(builder.tokenizer.encoder, BytePairEncoder)
    assert builder.tokenizer.token_to_id("<|im_end|>") in builder.stop_token_ids
    text = builder.build([user("你好 <|im_end|>")]).text
    assert text.endswith("<|im_start|>user\n你好 <|im_end|><|im_end|>\n<|im_start|>assistant\n")


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="GOLDEN_PROMPTS names no folder of reference prompts")
def test_qwens_vocabulary_is_encoded_by_tiktoken_as_by_its_own_tokenizer() -> None:
    from tokenizers import Tokenizer

    tokenizer = qwen_vocabulary()
    own = Tokenizer.from_file(str(GOLDEN / "qwen_tokenizer" / "tokenizer.json"))
    assert isinstance(tokenizer.encoder, BytePairEncoder)
    marks = [chr(c) for c in (0x300, 0x323, 0x7FD, 0x898, 0x1AC1, 0x10EAB, 0x1E2EC, 0x11930, 0x338)]
    samples = ["a" + left + right + "\u00e9" for left in marks for right in marks]
    samples += [chr(start) + chr(start + 1) + " x" for start in range(0x20, 0xD7F0, 37)]
    samples += [" " * n + "\n" * m + "\t" + " x" for n in range(6) for m in range(4)]
    for text in [*CHECK_CORPUS, *samples]:
        assert tokenizer.encode(text) == own.encode(text, add_special_tokens=False).ids, text


@pytest.mark.skipif(not GOLDEN.is_dir(), reason="GOLDEN_PROMPTS names no folder of reference prompts")
def test_ranks_file_of_the_first_generation_gives_the_same_ids() -> None:
    ranks = (GOLDEN / "qwen_tokenizer" / "qwen.tiktoken").read_bytes()
    tokenizer = PromptTokenizer._from_qwen_ranks(ranks, {})
    assert tokenizer.token_to_id("<|endoftext|>") == 151643
    for text in CHECK_CORPUS:
        assert tokenizer.encode(text) == qwen_vocabulary().encode(text)


def test_check_corpus_covers_what_it_promises() -> None:
    """The check at load is only as good as its corpus: it must reach beyond ASCII, NFC and single spaces."""
    import unicodedata

    text = "".join(CHECK_CORPUS)
    assert unicodedata.normalize("NFC", text) != text
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in text if letter.isalpha()}
    assert {
        "LATIN",
        "CJK",
        "HIRAGANA",
        "HANGUL",
        "CYRILLIC",
        "GREEK",
        "HEBREW",
        "ARABIC",
        "DEVANAGARI",
        "THAI",
    } <= scripts
    assert all(sign in text for sign in ("\n\n", "\t\t", "\r\n", "  ", "\u3000", "\u200b", "🙂"))
    assert tokenizer_module.NFC.normalize_str("e\u0301") == "\u00e9"
