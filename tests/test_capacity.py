"""docs/capacity.md: its tables are those that its numbers give."""

from __future__ import annotations

import re

from tests.test_docs import DOCS, load

PAGE = (DOCS / "capacity.md").read_text("utf-8")
made = load(DOCS / "make_capacity.py")


def test_the_tables_are_reckoned_from_the_numbers_as_they_are_now():
    assert made.page(PAGE) == PAGE


def test_every_number_that_goes_in_is_named_on_the_page():
    named = re.search(r"## What goes in\n(.*?)\n## ", PAGE, re.DOTALL)[1]
    for value in (
        made.SECONDS_PER_TURN,
        made.ANSWER_TOKENS,
        made.HISTORY_TOKENS,
        made.BYTES_PER_TOKEN,
        made.EVENT_BYTES,
        made.GPU_TOKENS_PER_S,
        made.SECONDS_PER_TOKEN * 1000,
        made.KV_LAYERS,
        made.KV_HEADS,
        made.HEAD_SIZE,
        made.GPU_GB,
        made.WEIGHTS_GB,
        made.GPU_RESERVED_GB,
        made.PREFILL_TOKENS_PER_S,
        made.POSTGRES_COMMITS_PER_S,
        made.ROUTER_EVENTS_PER_S,
        made.COMMIT_MS,
        made.COMMITS_PER_TURN,
        made.SAVE_INTERVAL_S,
        made.API_MS_PER_REQUEST,
        made.API_MS_PER_TOKEN,
    ):
        said = f"{value:,.0f}" if value == int(value) else f"{value}"
        assert re.search(rf"(?<![\d.,]){re.escape(said)}(?!\d|,\d|\.[1-9])", named), said


def test_the_commits_of_a_turn_come_as_often_as_the_server_saves():
    from chat.server.api.turns import SAVE_INTERVAL_S

    assert made.SAVE_INTERVAL_S == SAVE_INTERVAL_S


def test_a_thousand_people_are_reckoned_as_by_hand():
    row = made.of_people(1000)
    assert row["tokens per second"] == "5,000"  # 1,000 people, 300 tokens a minute each
    assert row["KV cache of all conversations, GB"] == "885"  # 1,000 x 6,000 x 147,456 bytes
    assert row["commits per second"] == "86.2"  # 1,000 people, 5 a minute each, and 2 processes, each 0.7 s
