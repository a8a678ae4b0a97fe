"""Whatever bytes arrive: a body is refused in words, or what is forwarded means the same to every reader."""

from __future__ import annotations

import asyncio
import json
import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from chat.server.guard.body import MAX_DEPTH, drain, encode, parse, read_body
from chat.server.guard.keys import Caller
from chat.server.guard.policy import CLOSED_FIELDS, LISTS, MEDIA, TOKEN_LIMITS, Policy
from chat.server.limits.refusal import Refusal
from chat.server.settings.guard import GuardSettings

NAMES = st.sampled_from(
    sorted({*CLOSED_FIELDS, *LISTS, *MEDIA, *TOKEN_LIMITS, "n", "cache_salt", "type", "url", "content"})
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["http://x", "data:,x"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | st.text(), inner, max_size=4),
    max_leaves=20,
)
BODIES = st.dictionaries(NAMES | st.text(), VALUES, max_size=6)
POLICY = Policy(GuardSettings(max_messages=3, max_tokens=100))
PATHS = st.sampled_from(
    ["/v1/chat/completions", "/v1/responses", "/v1/completions", "/invocations", "/v1/store/changes"]
)


def outcome(act):
    """Return (result, None), or (None, the refusal)."""
    try:
        return act(), None
    except Refusal as refusal:
        return None, refusal


@settings(max_examples=500, deadline=None)
@given(st.binary() | st.text().map(str.encode) | BODIES.map(lambda body: json.dumps(body).encode()))
@example(b'{"a": ' + b"[" * 10_000)
@example(b'{"a": "\\ud800"}')
@example(b'{"a": 1' + b"0" * 5000 + b"}")
@example(b'{"\\u0061": 1, "a": 2}')
def test_bytes_are_refused_or_mean_the_same_to_every_reader(body):
    forwarded, refusal = outcome(lambda: encode(parse(body)))
    if refusal is not None:
        assert (refusal.status, len(refusal.message) < 500) == (400, True)
        return
    assert json.loads(forwarded) == json.loads(body)


@settings(max_examples=500, deadline=None)
@given(PATHS, BODIES)
def test_any_object_is_refused_in_words_or_within_all_limits(path, body):
    _, refusal = outcome(lambda: POLICY.check_body(path, body, Caller("alice", b"secret")))
    if refusal is not None:
        assert refusal.status in (400, 403)
        return
    if path == "/v1/store/changes":
        return
    assert body.get("n") is None or (type(body["n"]) is int and body["n"] <= 16)
    assert all(body.get(name) is None for name in CLOSED_FIELDS)
    assert all(body.get(name) is None or body[name] <= 100 for name in TOKEN_LIMITS)
    if path != "/invocations":
        assert len(body["cache_salt"]) == 64


@pytest.mark.parametrize("wrap", [lambda inner: {"a": inner}, lambda inner: [inner]])
def test_the_depth_is_counted_through_lists_and_objects(wrap):
    inner = wrap(1)
    for _ in range(MAX_DEPTH - 2):
        inner = wrap(inner)
    POLICY.check_body("/v1/chat/completions", {"a": inner}, Caller("alice"))
    with pytest.raises(Refusal, match="nested more deeply"):
        POLICY.check_body("/v1/chat/completions", {"a": wrap(inner)}, Caller("alice"))


def test_infinity_by_another_name_is_refused():
    assert math.isinf(json.loads("1e400"))
    with pytest.raises(Refusal, match="too large"):
        parse(b'{"temperature": 1e400}')


def test_a_body_is_read_to_its_limit_and_no_further():
    async def receive():
        pieces.append(b"x" * 100)
        return {"type": "http.request", "body": pieces[-1], "more_body": True}

    pieces: list[bytes] = []
    with pytest.raises(Refusal) as refused:
        asyncio.run(read_body(receive, {}, max_bytes=1000, max_s=5.0))
    assert (refused.value.status, len(pieces)) == (413, 11)


def test_what_is_left_of_a_refused_body_is_thrown_away_within_limits(monkeypatch):
    monkeypatch.setattr("chat.server.guard.body.DRAIN_BYTES", 1000)
    num_asked = 0

    async def receive():
        nonlocal num_asked
        num_asked += 1
        return {"type": "http.request", "body": b"x" * 100, "more_body": True}

    asyncio.run(drain(receive))
    assert num_asked == 10
