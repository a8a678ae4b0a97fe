"""Every reference prompt, text and ids, for every chat template in the folder that GOLDEN_PROMPTS names."""

from __future__ import annotations

import unicodedata
from collections import Counter

import pytest

from chatcore.errors import PromptError
from prompt_utils import PromptBuilder
from tests.chatcore.prompts.oracle import (
    GOLDEN,
    MARKUP,
    golden_builder,
    golden_records,
    golden_templates,
    golden_tokenizer,
    is_subsequence,
)

if not GOLDEN.is_dir():
    pytest.skip("GOLDEN_PROMPTS names no folder of reference prompts", allow_module_level=True)

TEMPLATES = ["qwen1-chat", *golden_templates()]

# Where exact and safe differ, safe wins. In these records a user's text spells <tool_response>, by which the template
# tells a tool's result from a question. Here it stays a question, so the answers before it lose their thoughts.
SAFE_TEXT_DIFFERS = {("qwen3.5", "calls/tool_response_as_user"), ("qwen3.6", "calls/tool_response_as_user")}

# make_context drops old turns that do not fit its window; here `fit` does, when it is asked to.
WINDOW = {("qwen1-chat", "text/very_long")}


def reference(template: str) -> list[dict]:
    return [record for record in golden_records() if record["template"] == template]


def build(builder: PromptBuilder, record: dict):
    return builder.build(record["messages"], tools=record["tools"], **record["kwargs"])


@pytest.mark.parametrize("template", TEMPLATES)
def test_text_and_ids_equal_the_reference(template: str) -> None:
    builder = golden_builder(template)
    compared = 0
    for record in reference(template):
        name = (template, record["case"])
        if "error" in record or name in SAFE_TEXT_DIFFERS | WINDOW:
            continue
        prompt = build(builder, record)
        assert prompt.text == record["rendered"], name
        if record["token_ids"] is not None and not record.get("literals"):
            assert prompt.token_ids == record["token_ids"], name
            compared += 1
    assert compared or golden_templates()[template]["tokenizer"] is None


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_the_template_refuses_is_a_prompt_error_in_its_own_words(template: str) -> None:
    builder = golden_builder(template)
    for record in reference(template):
        refusal = record.get("error", "")
        if refusal and not refusal.startswith("NotRepresentable"):
            with pytest.raises(PromptError) as raised:
                build(builder, record)
            kind, _, words = refusal.partition(": ")
            assert kind != "TemplateError" or words in str(raised.value)


@pytest.mark.parametrize("template", TEMPLATES)
def test_quoted_control_tokens_stay_text(template: str) -> None:
    """Records that spell control tokens: ids are a stock tokenizer's, less those that the template did not write."""
    builder = golden_builder(template)
    for record in reference(template):
        if "rendered" not in record or (template, record["case"]) in SAFE_TEXT_DIFFERS:
            continue
        if not (record.get("injection") or record.get("literals")):
            continue
        prompt = build(builder, record)
        assert builder.tokenizer.decode(prompt.token_ids) == unicodedata.normalize("NFC", record["rendered"])
        if record.get("injection") and record["token_ids"] is not None:
            assert prompt.token_ids == record["token_ids"]  # the first generation's own code was safe
        unsafe = record.get("token_ids_hf_unsafe") or record["token_ids"]
        if unsafe is not None:
            found, stock = control_ids(builder, prompt.token_ids), control_ids(builder, unsafe)
            assert is_subsequence(found, stock)
            quoted = quoted_tokens(builder, record)
            assert not (Counter(stock) - Counter(found) - quoted), record["case"]
            if record.get("token_ids_hf_unsafe") and +quoted:
                assert Counter(stock) - Counter(found), record["case"]


def control_ids(builder: PromptBuilder, token_ids: list[int]) -> list[int]:
    return [token_id for token_id in token_ids if token_id in builder.control_token_ids]


def quoted_tokens(builder: PromptBuilder, record: dict) -> Counter[int]:
    """Return which control tokens are spelled in what people wrote, and how often."""
    texts: list[str] = []

    def collect(value: object) -> None:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            collect([*value.keys(), *value.values()])
        elif isinstance(value, list):
            for inner in value:
                collect(inner)

    collect([record["messages"], record["tools"]])
    spelled = {token.id: sum(text.count(token.text) for text in texts) for token in builder.tokenizer.control_tokens}
    return Counter(spelled)


def test_thoughts_that_an_assistant_wrote_are_read_by_the_template() -> None:
    """An old answer loses its <think> block also where it stands inside the content."""
    prompt = golden_builder("qwen3").build(
        [
            {"role": "user", "content": "1+1?"},
            {"role": "assistant", "content": "<think>\nsecret\n</think>\n\n2"},
            {"role": "user", "content": "2+2?"},
        ]
    )
    assert "secret" not in prompt.text
    assert "2<|im_end|>" in prompt.text


@pytest.mark.parametrize("template", list(golden_templates()))
def test_template_is_followed_through_its_own_literals(template: str) -> None:
    """No published template needs the fallback that finds its tokens by their spelling."""
    traced = golden_builder(template)._templates["default"]
    assert not traced.shield.spelled
    assert traced.refers


@pytest.mark.parametrize("template", list(golden_templates()))
def test_growing_conversation_gives_the_prompts_of_one_built_at_once(template: str) -> None:
    """Turn by turn, going on from the past; against a builder that remembers nothing."""
    grows = PromptBuilder(golden_builder(template).tokenizer, golden_builder(template).chat_template)
    texts = ["Hi", " a ", "", "<think>", "a\n", "</think>b", "<tool_response>x</tool_response>", "\n\nc", "<|im_end|>"]
    call = {"type": "function", "function": {"name": "f", "arguments": {"n": 1, "s": "<|im_end|>"}}}
    messages: list[dict] = [{"role": "system", "content": "Be brief."}] if len(template) % 2 else []
    for turn in range(14):
        text = texts[turn % len(texts)]
        messages.append({"role": "user", "content": text})
        if turn > 7 and turn % 3 == 0:
            messages += [
                {"role": "assistant", "content": text, "tool_calls": [call], "reasoning_content": "why"},
                {"role": "tool", "content": text},
                {"role": "assistant", "content": f"<think>\nso\n</think>\n\n{text}"},
                {"role": "user", "content": "and?"},
            ]
        once = PromptBuilder(grows.tokenizer, grows.chat_template, max_cache_bytes=0) if turn in (3, 7, 13) else None
        prompt = grows.build(messages, enable_thinking=False)
        if once is not None:
            assert prompt == once.build(messages, enable_thinking=False)
            assert once._num_continued == 0
        messages.append({"role": "assistant", "content": f"<think>\nhm\n</think>\n\n{text}!"})
    assert grows._num_continued >= 4


def test_markup_tokens_are_those_that_models_write() -> None:
    markup = {token.text for token in golden_tokenizer("qwen3").control_tokens if MARKUP.fullmatch(token.text)}
    assert markup == {"<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"}
