"""vLLM's detokenizer, told the end of the prompt alone, against the one that is told all of it: the same texts."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest

TEXTS = [
    "Hello, world!",
    "你好，世界！",
    "naïve café",
    "👩🏽‍🚀 to the 🌙",
    "한국어 ไทย हिन्दी",
    "def f(x):\n\treturn x  # ok\n\n",
]


@pytest.fixture(scope="module")
def kinds(llm):
    """The stock class and ours; the fixture of the engine has put ours into vLLM's place."""
    from vllm.v1.engine import detokenizer

    short = detokenizer.FastIncrementalDetokenizer
    return short.__mro__[1], short


def read(kind, llm, prompt_token_ids, token_ids, **options):
    """Return the text that a detokenizer of a kind gives, token by token."""
    from vllm import SamplingParams

    request = SimpleNamespace(
        request_id="1", prompt_token_ids=prompt_token_ids, sampling_params=SamplingParams(**options)
    )
    detokenizer = kind(llm.tokenizer, request)
    pieces = []
    for token_id in token_ids:
        detokenizer.update([token_id], False)
        pieces.append(detokenizer.get_next_output_text(finished=False, delta=True))
    return pieces


def test_vllm_makes_detokenizers_of_this_kind(kinds):
    stock, short = kinds
    assert (stock.__module__, short.__module__) == ("vllm.v1.engine.detokenizer", "chatcore.engine.detokenizer")


@pytest.mark.parametrize("skip_special_tokens", [True, False])
def test_every_token_reads_as_with_the_whole_prompt(llm, kinds, skip_special_tokens):
    rng = random.Random(7)
    encode = llm.tokenizer.encode
    for _ in range(200):
        prompt = llm.prompt_builder.build(
            [{"role": "user", "content": " ".join(rng.choices(TEXTS, k=rng.randint(1, 30)))}]
        ).token_ids
        token_ids = encode("".join(rng.choices(TEXTS, k=3)))
        whole, short = (read(kind, llm, prompt, token_ids, skip_special_tokens=skip_special_tokens) for kind in kinds)
        assert short == whole
