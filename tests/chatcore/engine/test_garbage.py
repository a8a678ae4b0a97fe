"""Garbage in the processes that have an engine: collected soon, though vLLM freezes what was there when they began."""

from __future__ import annotations

import pytest

from tests.program import results_of

BELOW_SERVE = """
import os, sys
os.environ["VLLM_PLUGINS"] = "chatml"
from chat.server.vllm_plugin.tokenizer_mode import register
register()
register()
started_with = [[number] for number in range(800_000)]
from vllm.utils.gc_utils import freeze_gc_heap
freeze_gc_heap()
"""
IN_THE_LIBRARY = """
from vllm_wrapper import VLLMWrapper
llm = VLLMWrapper("demo")
"""
CHURN = """
import collections, gc, json

class Cycle:
    num_alive = most_alive = 0

    def __init__(self):
        self.me = self
        Cycle.num_alive += 1
        Cycle.most_alive = max(Cycle.most_alive, Cycle.num_alive)

    def __del__(self):
        Cycle.num_alive -= 1

in_use = collections.deque(maxlen=10_000)
for _ in range(250_000):
    in_use.append(Cycle())
print("result", json.dumps([gc.get_freeze_count(), Cycle.most_alive]))
"""


@pytest.mark.parametrize("start", [BELOW_SERVE, IN_THE_LIBRARY], ids=["below serve", "in the library"])
def test_what_vllm_froze_does_not_put_off_the_collection_of_garbage(start):
    [(num_frozen, most_alive)] = results_of(start + CHURN)
    assert num_frozen > 500_000
    assert most_alive < 130_000  # it would be 200,000: a quarter of what was frozen
