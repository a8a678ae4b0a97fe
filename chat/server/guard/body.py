"""The body of a request: read up to a limit, parsed once, forwarded as what was parsed.

Two programs may read the same JSON in two ways: one takes the first of two equal keys, the other the last. So what the
guard has checked is written again, and vLLM sees only that.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import orjson
from starlette.types import Receive

from chat.server.limits.refusal import Refusal

__all__ = ["MAX_DEPTH", "Disconnected", "containers", "drain", "encode", "parse", "read_body"]

MAX_DEPTH = 64  # of JSON; tools' schemas have ten or so, and what walks through messages later is recursive
DRAIN_BYTES = 64 << 20  # so much of a refused body is read and thrown away, so that the client reads the refusal
DRAIN_S = 5.0


class Disconnected(Exception):
    """The client left before its request was complete."""


async def read_body(receive: Receive, headers: Mapping[bytes, bytes], *, max_bytes: int, max_s: float) -> bytes:
    """Return the body, having held no more than ``max_bytes`` of it.

    Raises:
        Refusal: it is longer than the limit, says that it is, or takes too long to arrive.
        Disconnected: the client left.
    """
    announced = headers.get(b"content-length", b"")
    if announced.isdigit() and int(announced[:20]) > max_bytes:
        raise _too_long(max_bytes)
    pieces: list[bytes] = []
    num_bytes = 0
    try:
        async with asyncio.timeout(max_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                piece = message.get("body", b"")
                num_bytes += len(piece)
                if num_bytes > max_bytes:
                    raise _too_long(max_bytes)
                pieces.append(piece)
                if not message.get("more_body", False):
                    return b"".join(pieces)
    except TimeoutError:
        said = f"the body took longer than {max_s:g} s to arrive"
        raise Refusal(408, "body_slow", said, code="request_timeout") from None


def _too_long(max_bytes: int) -> Refusal:
    message = f"the body is longer than {max_bytes} bytes, the limit of this server"
    return Refusal(413, "body_size", message, code="request_too_large")


async def drain(receive: Receive) -> None:
    """Throw away what still arrives of a refused body, within limits.

    A connection that is closed while the client still sends is reset, and the client may never read why.
    """
    num_bytes = 0
    try:
        async with asyncio.timeout(DRAIN_S):
            while num_bytes < DRAIN_BYTES:
                message = await receive()
                num_bytes += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def parse(body: bytes) -> dict[str, Any]:
    """Return the object that a body holds.

    >>> parse(b'{"n": 1}')
    {'n': 1}

    Raises:
        Refusal: it is not UTF-8, not JSON, holds a key twice, NaN, or is nested more deeply than ``MAX_DEPTH``.
    """
    try:
        value = _decode(body.decode("utf-8"))
    except UnicodeDecodeError:
        raise _bad("the body is not UTF-8") from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:
        raise _bad(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise _bad("the body is not a JSON object")
    return value


def encode(value: dict[str, Any]) -> bytes:
    """Return the body that is forwarded.

    Raises:
        Refusal: an integer has more than 64 bits, or a text holds half a surrogate pair, which no encoding can carry.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise _bad(f"the body cannot be forwarded: {error}") from None


def containers(value: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Go through every object in a body.

    Raises:
        Refusal: they are nested more deeply than ``MAX_DEPTH``.
    """
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Any] = []
        for holder in level:
            if type(holder) is dict:
                yield holder
                inner += [child for child in holder.values() if type(child) in CONTAINERS]
            else:
                inner += [child for child in holder if type(child) in CONTAINERS]
        if not inner:
            return
        level = inner
    raise _too_deep()


CONTAINERS = (dict, list)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:64]!r} stands twice in one object")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError("a number is too large")
    return value


_decode = json.JSONDecoder(object_pairs_hook=_once, parse_constant=_no_constant, parse_float=_finite).decode


def _bad(message: str) -> Refusal:
    return Refusal(400, "body_json", message, code="invalid_json")


def _too_deep() -> Refusal:
    return _bad(f"the body is nested more deeply than {MAX_DEPTH} levels")
