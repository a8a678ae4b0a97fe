"""Reference prompts, and a second opinion on every prompt: which control tokens may stand where.

The second opinion does not share a line with the code under test. A conversation gets a *twin* in which every
character that control tokens are made of is replaced by a look-alike, one for one, in all that people wrote. The stock
Jinja template renders the twin. What spells a control token there was put there by the template; and as the
look-alikes are as long as what they replace, it must stand at the same place in the prompt under test, and nowhere
else.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import normalizers

from chatcore.prompts.builder import NATIVE_CHATML
from chatcore.prompts.tokenizer import ControlToken, PromptTokenizer
from prompt_utils import Prompt, PromptBuilder

GOLDEN = Path(os.environ.get("GOLDEN_PROMPTS") or "no folder")
ROOT = Path(__file__).resolve().parents[3]
LOOK_ALIKES = str.maketrans("<>|_/｜▁", "‹›¦‗⁄¬—")
MARKUP = re.compile(r"</?[a-z_]+>")
NFC = normalizers.NFC()


@functools.cache
def golden_records() -> list[dict[str, Any]]:
    lines = (GOLDEN / "public.jsonl").read_text("utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    return [record for record in records if record["template"] != "qwen1-openai-api"]  # ReAct: out of scope


@functools.cache
def golden_templates() -> dict[str, Any]:
    index = json.loads((GOLDEN / "index.json").read_text("utf-8"))["templates"]
    return {name: entry for name, entry in index.items() if (GOLDEN / "templates" / f"{name}.jinja").is_file()}


@functools.cache
def qwen_vocabulary() -> PromptTokenizer:
    return PromptTokenizer.from_pretrained(GOLDEN / "qwen_tokenizer")


@functools.cache
def golden_tokenizer(table: str) -> PromptTokenizer:
    tables = json.loads((GOLDEN / "special_tokens.json").read_text("utf-8"))
    tokens = [ControlToken(entry["id"], entry["content"], entry["special"]) for entry in tables[table]["tokens"]]
    names = {"eos_token": "<|im_end|>"}
    if table.startswith("deepseek"):
        names = {"bos_token": "<｜begin▁of▁sentence｜>", "eos_token": "<｜end▁of▁sentence｜>"}
    return PromptTokenizer(qwen_vocabulary().encoder, tokens, names)


@functools.cache
def golden_builder(template: str) -> PromptBuilder:
    if template == "qwen1-chat":
        return PromptBuilder(golden_tokenizer("qwen1"), NATIVE_CHATML)
    table = golden_templates()[template]["tokenizer"] or "qwen3"  # newer vocabularies are not there: text is compared
    return PromptBuilder(golden_tokenizer(table), (GOLDEN / "templates" / f"{template}.jinja").read_text("utf-8"))


def twin(value: Any) -> Any:
    """Return a JSON value in which no text can be part of a control token."""
    if isinstance(value, str):
        return value.replace("think", "thimk").translate(LOOK_ALIKES)
    if isinstance(value, Mapping):
        return {twin(key): twin(inner) for key, inner in value.items()}
    return [twin(inner) for inner in value] if isinstance(value, list) else value


def stock_render(builder: PromptBuilder, messages: list[Any], **options: Any) -> str:
    from transformers.utils.chat_template_utils import render_jinja_template

    options = {"add_generation_prompt": True, **builder.tokenizer.names, **options}
    return render_jinja_template([messages], chat_template=builder.chat_template, **options)[0][0]


def spelled(text: str, builder: PromptBuilder) -> Iterator[tuple[int, int]]:
    """Yield where in a text a stock tokenizer would see control tokens: position and id."""
    ids = {token.text: token.id for token in builder.tokenizer.control_tokens}
    pattern = "|".join(re.escape(text) for text in sorted(ids, key=len, reverse=True))
    for match in re.finditer(pattern, text):
        yield match.start(), ids[match[0]]


def assert_only_template_tokens(builder: PromptBuilder, prompt: Prompt, twin_text: str, *, markup: bool) -> None:
    """Assert that a prompt's control tokens are the template's, and that its ids say what its text says.

    ``markup``: an assistant wrote real ``<think>`` into the twin too; then that may, but need not, be a token there.
    """
    control = builder.control_token_ids
    expected = list(spelled(twin_text, builder))
    if markup:
        tokens = builder.tokenizer
        structure = {token.id for token in tokens.control_tokens if not MARKUP.fullmatch(token.text)}
        found = [i for i in prompt.token_ids if i in structure]
        assert found == [i for _, i in expected if i in structure]
        assert is_subsequence([i for i in prompt.token_ids if i in control], [i for _, i in expected])
        assert len(prompt.text) == len(twin_text)
        return
    assert [i for i in prompt.token_ids if i in control] == [i for _, i in expected]
    assert len(prompt.text) == len(twin_text)
    ids = iter([*prompt.token_ids, None])
    start = 0
    for position, control_id in [*expected, (len(prompt.text), None)]:
        run = []
        while (token_id := next(ids)) is not None and token_id not in control:
            run.append(token_id)
        text = prompt.text[start:position]
        assert builder.tokenizer.decode(run) in (text, NFC.normalize_str(text))
        if control_id is not None:
            spelling = builder.tokenizer.id_to_control_token(control_id).text
            assert prompt.text.startswith(spelling, position)
            start = position + len(spelling)


def is_subsequence(short: list[int], long: list[int]) -> bool:
    rest = iter(long)
    return all(item in rest for item in short)


def twin_messages(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the twin of a conversation. Markup in an assistant's content stays: templates take it out."""
    return [
        {
            field: value if field == "role" else twin_field(message["role"], field, value)
            for field, value in message.items()
        }
        for message in messages
    ]


def twin_field(role: str, field: str, value: Any) -> Any:
    if role == "assistant" and field == "content" and isinstance(value, str):
        return "".join(part if MARKUP.fullmatch(part) else twin(part) for part in re.split(r"(</?[a-z_]+>)", value))
    if field == "tool_calls" and value:
        return [{**call, "function": twin_function(call["function"])} for call in value]
    if field == "content" and isinstance(value, list):
        return [{**part, "text": twin(part["text"])} for part in value]
    return twin(value)


def twin_function(function: Mapping[str, Any]) -> dict[str, Any]:
    """Return the twin of a called tool or a tool's schema: names that templates look up stay."""
    return {key: twin_schema(value) if key == "parameters" else twin(value) for key, value in function.items()}


def twin_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties", {})
    known = {key: value for key, value in schema.items() if key in ("type", "required")}
    others = {twin(k): twin(v) for k, v in schema.items() if k not in ("type", "required", "properties")}
    twins = {twin(name): {twin(k): twin(v) for k, v in fields.items()} for name, fields in properties.items()}
    return {**known, **others, **({"properties": twins} if "properties" in schema else {})}
