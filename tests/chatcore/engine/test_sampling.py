"""Sampling parameters that come from a file or from far away: of a wrong kind, they are refused by name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from chatcore.engine.sampling import make_sampling_params
from chatcore.errors import SamplingError

TOKENIZER = SimpleNamespace(decode=lambda ids: "".join(chr(token_id) for token_id in ids))


def made(sampling=(), **options):
    return make_sampling_params(
        dict(sampling), defaults={}, stop_token_ids=[0], tokenizer=TOKENIZER, outputs="each", **options
    )


def test_stop_words_are_ids_or_sequences_of_ids():
    params = made({"stop_token_ids": [5]}, extra_stop_words_ids=[7, [8], (72, 105)])
    assert (sorted(params.stop_token_ids), params.stop) == ([0, 5, 7, 8], ["Hi"])


@pytest.mark.parametrize("words", [5, "ab", {"a": 1}, [{"a": 1}], [["a", "b"]], [-1], [[2**40, 1]], [None], [1.5]])
def test_stop_words_of_another_kind_are_refused(words):
    with pytest.raises(SamplingError, match="extra_stop_words_ids"):
        made(extra_stop_words_ids=words)


@pytest.mark.parametrize("ids", [5, "ab", ["a"], [-1], [2**40]])
def test_stop_token_ids_of_another_kind_are_refused(ids):
    with pytest.raises(SamplingError, match="stop_token_ids"):
        made({"stop_token_ids": ids})
