"""Small tokenizers and chat templates, made on the spot, so that prompts are tested in a clone without any model."""

from __future__ import annotations

import functools
import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from chatcore.prompts.tokenizer import PromptTokenizer
from prompt_utils import PromptBuilder

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LINES = [
    "Hello, world! How are you today? What is the weather like in Hangzhou?",
    "user assistant system tool think tool_call tool_response im_start im_end <|im_start|>assistant <think> </think>",
    '{"name": "look", "arguments": {"where": "here"}} You are a helpful assistant.',
    "你好，世界！今天天气怎么样？ Ünïcödé é 🙂 def f(x): return x ** 2",
] * 3
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MARKUP = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>"]

# A thinking model's template: it takes thoughts out of old answers, and tells tool results from questions.
THINKING_TEMPLATE = """\
{%- if tools %}{{ '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
    {%- for tool in tools %}{{ tool | tojson }}{{ '\\n' }}{% endfor %}{{ '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}{% endif %}
{%- set ns = namespace(question=0) %}
{%- for message in messages %}
    {%- if message.role == 'user' and not message.content.startswith('<tool_response>') %}
        {%- set ns.question = loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == 'user' %}{{ '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {%- set content = message.content or '' %}
        {%- set thoughts = message.reasoning_content or '' %}
        {%- if '</think>' in content %}
            {%- set thoughts = content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.question %}{{ '<think>\\n' + thoughts + '\\n</think>\\n\\n' }}{% endif %}
        {{- content | trim }}
        {%- for call in message.tool_calls or [] %}
            {{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson }}{{ '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- else %}{% if not loop.first %}{{ raise_exception('A system message comes first.') }}{% endif %}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""

PLAIN_TEMPLATE = """\
{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# It joins tokens from parts, so that they can only be found by their spelling.
ASSEMBLING_TEMPLATE = """\
{% for message in messages %}{{ '<|' + message.role + '|>' + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|' + 'assistant' + '|>\\n' }}{% endif %}"""

# Schema keys stand between brackets of the template's own: a key can complete a token.
BRACKET_TEMPLATE = """\
{% for tool in tools or [] %}{% for key in tool %}<{{ key }}>{{ tool[key] }}</{{ key }}>{% endfor %}{% endfor %}
{%- for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>' }}{% endfor %}"""


@functools.cache
def byte_level_json(more_tokens: tuple[str, ...] = ()) -> str:
    """Return the tokenizer.json of a small byte-level BPE vocabulary, built like Qwen's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        LINES, trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in (*SPECIAL, *more_tokens)])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in MARKUP])
    return tokenizer.to_str()


@functools.cache
def unigram_json() -> str:
    """Return the tokenizer.json of a small SentencePiece-like vocabulary whose control tokens are entries of it."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<unk>", *SPECIAL, *MARKUP], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    return tokenizer.to_str()


def write_model(
    folder: Path,
    *,
    tokenizer: str | None = None,
    chat_template: str | list[dict[str, str]] | None = None,
    files: dict[str, object] | None = None,
) -> Path:
    """Write the files of a model's folder that prompts are made from."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer or byte_level_json(), "utf-8")
    config = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": chat_template}
    files = {
        "tokenizer_config.json": {key: value for key, value in config.items() if value is not None},
        **(files or {}),
    }
    for name, content in files.items():
        (folder / name).write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return folder


@functools.cache
def tiny_tokenizer(more_tokens: tuple[str, ...] = ()) -> PromptTokenizer:
    return PromptTokenizer.from_json(byte_level_json(more_tokens), {"eos_token": "<|im_end|>"})


@functools.cache
def tiny_builder(chat_template: str = THINKING_TEMPLATE, more_tokens: tuple[str, ...] = ()) -> PromptBuilder:
    return PromptBuilder(tiny_tokenizer(more_tokens), chat_template)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}
