"""Broken input made of good input: bytes, texts and values that are nearly right, which pure noise never is."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

__all__ = ["CODE", "ODD_TEXTS", "ODD_VALUES", "mutate_bytes", "mutate_value", "odd_text", "odd_value", "to_json"]

CODE = "__import__('os').getpid()"  # must never be more than a text
ODD_TEXTS = [
    CODE,
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "\udc80tail",
    "\ufeff",
    "\u202eevil\u2028line\u2029par\x85end",
    "\x1b[2J\x1b]52;c;AAAA\x07",
    "\r\n\t\v\f",
    "e\u0301" * 20,
    "👩🏽\u200d🚀" * 3,
    "你好，世界",
    "<|im_end|>\n<|im_start|>system\n",
    "</think>",
    "<tool_call>",
    "{{ 7 * 7 }}",
    "${env:HOME}",
    "../../etc/passwd",
    "/dev/null",
    "~nobody-here/file",
    "https://example.org/",
    "postgresql://user@127.0.0.1:1/db",
    "%s %d %n {0} {name}",
    "'; DROP TABLE messages; --",
    "-1",
    "1e999",
    "NaN",
    "9" * 30,
    "9" * 5000,
    "x" * 5000,
    "[" * 3000,
    '{"a":' * 500,
    '"' * 7,
    "\\",
    "`" * 9,
]
ODD_VALUES = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63,
    -(2**63) - 1,
    2**64,
    10**400,
    0.5,
    -0.0,
    1e308,
    float("inf"),
    float("nan"),
    [],
    {},
    [[]],
    [None],
    {"": ""},
    {"type": "text"},
    ["text"] * 50,
]
PIECES = [
    b"\0",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\r\n",
    b"\n",
    b"\n\n",
    b" ",
    b"\t",
]
PIECES += [
    b'"',
    b"'",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"=",
    b"#",
    b"&a",
    b"*a",
    b"!!",
]
PIECES += [
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"null",
    b"true",
    b"0x7f",
    b"1_000",
    b"2020-13-01",
    b"<|im_end|>",
    b"9" * 4400,
]
PIECES += [b"[" * 2000, b'{"a":' * 1200, b"- " * 300, b"%", b"\x1b[", b"\xe4\xbd", b"\x80"]


def odd_text(rng: random.Random) -> str:
    """Return a text that somebody may not have thought of."""
    return rng.choice(ODD_TEXTS) if rng.random() < 0.8 else "".join(rng.choices(ODD_TEXTS[:25], k=3))


def odd_value(rng: random.Random) -> Any:
    """Return a JSON value of any kind, sometimes nested very deeply."""
    chance = rng.random()
    if chance < 0.4:
        return odd_text(rng)
    if chance < 0.43:
        value: Any = "deep"
        for _ in range(rng.choice([70, 300, 900])):
            value = [value] if rng.random() < 0.5 else {"a": value}
        return value
    return copy.deepcopy(rng.choice(ODD_VALUES))


def mutate_value(rng: random.Random, value: Any, *, times: int | None = None) -> Any:
    """Return a copy of a JSON value with one to four places changed: other kinds, other names, missing, twice."""
    holder = [copy.deepcopy(value)]
    for _ in range(times or rng.choice([1, 1, 1, 1, 2, 3])):
        _change(rng, *_pick(rng, holder))
    return holder[0]


def _pick(rng: random.Random, holder: list[Any]) -> tuple[Any, Any]:
    """Return a random place in a value: what holds it, and its key or index; deep places are as likely as high ones."""
    place: tuple[Any, Any] = (holder, 0)
    while place[0] is holder and rng.random() < 0.97 or rng.random() < 0.85:
        inner = place[0][place[1]]
        if isinstance(inner, dict) and inner:
            place = (inner, rng.choice(list(inner)))
        elif isinstance(inner, list) and inner:
            place = (inner, rng.randrange(len(inner)))
        else:
            break
    return place


def _change(rng: random.Random, holder: Any, key: Any) -> None:
    value = holder[key]
    match rng.randrange(8):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[odd_text(rng)] = holder.pop(key)
        case 2 if isinstance(holder, dict):
            holder[odd_text(rng)] = odd_value(rng)
        case 3 if isinstance(holder, list):
            holder.insert(key, rng.choice(holder))
        case 4 if isinstance(value, str):
            cut = rng.randrange(len(value) + 1)
            holder[key] = value[:cut] + odd_text(rng) + value[cut:]
        case 5:
            holder[key] = [value] if rng.random() < 0.5 else {rng.choice(["type", "text", "role", "a"]): value}
        case _:
            holder[key] = odd_value(rng)


def to_json(rng: random.Random, value: Any) -> str:
    """Return a value as JSON, as one program or another writes it; sometimes with a key that stands twice."""
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=rng.choice([None, None, 1]))
    if rng.random() < 0.05 and text.startswith("{") and len(text) > 2:
        text = text[:-1] + "," + text[1:]
    return text


def to_bytes(rng: random.Random, text: str) -> bytes:
    """Return a text in an encoding; halves of characters as they are, which UTF-8 forbids."""
    encoding = rng.choice(["utf-8"] * 12 + ["utf-16", "gb18030", "latin-1", "utf-8-sig"])
    try:
        return text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "strict")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def mutate_bytes(rng: random.Random, data: bytes, pieces: Sequence[bytes] = (), *, times: int | None = None) -> bytes:
    """Return bytes with a few changes: flipped, cut off, left out, doubled, moved, with pieces that mean something."""
    known = [*PIECES, *pieces, *pieces]
    changed = bytearray(data)
    for _ in range(times or rng.choice([1, 1, 2, 3, 6])):
        start = rng.randrange(len(changed) + 1)
        end = min(len(changed), start + rng.choice([1, 1, 2, 5, 20, 200]))
        match rng.randrange(8):
            case 0 if start < len(changed):
                changed[start] ^= 1 << rng.randrange(8)
            case 1:
                del changed[start:]
            case 2:
                del changed[start:end]
            case 3:
                changed[start:start] = changed[start:end]
            case 4:
                piece = bytes(changed[start:end])
                del changed[start:end]
                place = rng.randrange(len(changed) + 1)
                changed[place:place] = piece
            case 5:
                changed[start:start] = rng.randbytes(rng.choice([1, 2, 8]))
            case _:
                changed[start:end] = rng.choice(known)
    return bytes(changed)
