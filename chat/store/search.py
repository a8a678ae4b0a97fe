"""Full-text search in the store: the words of a message, and the conditions of a query, for SQLite and for Postgres.

Scripts that are written without spaces are cut into pairs of neighbouring characters: a pair is the shortest that
people search for, and neither database finds one inside a longer run by itself. Both databases get the same words,
made here; Postgres gets them as ready lexemes, since its own parser drops Chinese where the locale does not know it.

Titles have no index: there are far fewer of them. A regular expression finds the same words in them.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import sqlalchemy as sa

from chat.store.schema import conversations, message_search, messages

__all__ = ["add_to_index", "in_title", "make_excerpt", "matching", "newest_hits", "remove_from_index", "search_words"]

# Han with its extensions, kana and hangul.
DENSE = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
RUNS = re.compile(rf"([{DENSE}]+)|[^\W_{DENSE}]+")
ANYWHERE = re.compile(f"[{DENSE}]")
ACCENTS = re.compile("[\u0300-\u036f]")
MAX_WORD = 64  # characters; longer ones are base64 and the like, and Postgres refuses those beyond 2,046 bytes
MAX_TITLE_WORDS = 500  # no title has more different ones; SQLite takes up to 1,000 conditions
MAX_POSTGRES_BYTES = 500_000  # of one message's words; Postgres refuses beyond 1 MiB with its own overhead
EXCERPT_CHARACTERS = 30  # before and after what was searched for


def search_words(text: str) -> list[str]:
    """Return what a text is found by: its words, and each pair of neighbouring Chinese characters.

    The last character of a run stands alone as well, so that every single character is the beginning of something.

    >>> search_words("Hello, 韩梅梅!")
    ['hello', '韩梅', '梅梅', '梅']
    """
    found: list[str] = []
    for match in RUNS.finditer(_fold(text)):
        run = match[0]
        found += [run[index : index + 2] for index in range(len(run))] if match[1] else [run[:MAX_WORD]]
    return found


def _fold(text: str) -> str:
    """Return a text without the differences that nobody searches for: case, width, accents."""
    if text.isascii():
        return text.lower()
    bare = ACCENTS.sub("", unicodedata.normalize("NFKD", text))
    return unicodedata.normalize("NFKC", bare).casefold()


class _Part(NamedTuple):
    """Something that must occur: words that follow one another, the last of which may go on."""

    words: list[str]
    may_go_on: bool


def _parse(question: str) -> list[_Part]:
    """Return what must occur.

    >>> _parse("vLLM部署了 好")
    [_Part(words=['vllm'], may_go_on=True), _Part(words=['部署', '署了'], may_go_on=False), \
_Part(words=['好'], may_go_on=True)]
    """
    parts: list[_Part] = []
    for match in RUNS.finditer(_fold(question)):
        run = match[0]
        if match[1] and len(run) > 1:
            parts.append(_Part([run[index : index + 2] for index in range(len(run) - 1)], False))
        else:
            parts.append(_Part([run[:MAX_WORD]], True))
    return parts


def matching(question: str, dialect: str) -> sa.ColumnElement[bool] | None:
    """Return the condition on :data:`message_search` that a question stands for; None if it holds no word."""
    parts = _parse(question)
    if not parts:
        return None
    # Words hold nothing but letters and digits, so none of them can end the quotes around it.
    if dialect == "sqlite":
        query = " ".join(f'"{" ".join(part.words)}"{"*" * part.may_go_on}' for part in parts)
        return sa.literal_column("message_search").op("MATCH", is_comparison=True)(query)
    query = " & ".join(f"'{word}'{':*' * part.may_go_on}" for part in parts for word in part.words)
    # The words of a message are kept without their places there, so that pairs are looked at once more in the text.
    runs = [part.words[0] + "".join(pair[1] for pair in part.words[1:]) for part in parts if len(part.words) > 1]
    return sa.and_(
        message_search.c.words.op("@@", is_comparison=True)(sa.cast(query, _TsQuery)),
        *(messages.c.content.contains(run, autoescape=True) for run in runs),
    )


def newest_hits(question: str, dialect: str) -> sa.CTE | None:
    """Return the conversations of all owners in which a message matches, with the newest such message's position.

    None if the question has no word.
    """
    condition = matching(question, dialect)
    if condition is None:
        return None
    return (
        sa.select(messages.c.conversation_id, sa.func.max(messages.c.position).label("position"))
        .join_from(message_search, messages, message_search.c.rowid == messages.c.position)
        .where(condition)
        .group_by(messages.c.conversation_id)
        .cte("newest_hits")
    )


def in_title(question: str) -> sa.ColumnElement[bool]:
    """Return the condition that a conversation's title has all words of a question, as :func:`matching` finds them."""
    patterns = dict.fromkeys(map(_pattern, _parse(question)))
    if len(patterns) > MAX_TITLE_WORDS:
        return sa.false()
    title = sa.cast(conversations.c.title, sa.Text)  # a damaged SQLite file may hold a number there
    return sa.and_(*(title.regexp_match(pattern) for pattern in patterns))


def _pattern(part: _Part) -> str:
    """Return a regular expression that SQLite (Python's own) and Postgres read alike, whatever the locale."""
    text = part.words[0] + "".join(pair[-1] for pair in part.words[1:])
    letters = [f"[{''.join(sorted(_spellings().get(letter, {letter})))}]{ACCENTS.pattern}*" for letter in text]
    return ("" if ANYWHERE.match(text) else rf"(^|\W|_|[{DENSE}])") + "".join(letters)


@functools.cache
def _spellings() -> Mapping[str, set[str]]:
    """Return what is searched for as the same letter, by letter: upper case, accents, width."""
    spellings: dict[str, set[str]] = {}
    for code in chain(range(0x2000), range(0xFF00, 0xFFF0)):  # scripts with case or accents, and full width
        if (folded := _fold(chr(code))).isalnum() and len(folded) == 1:
            spellings.setdefault(folded, {folded}).add(chr(code))
    return spellings


class _TsQuery(sa.types.UserDefinedType[str]):
    """Postgres' type of a question; its own module would be loaded for SQLite's sake too."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "TSQUERY"


def add_to_index(connection: sa.Connection, position: int, content: str) -> None:
    """Have a message found by its words."""
    words = search_words(content)
    if not words:
        return
    if connection.dialect.name == "sqlite":
        connection.execute(sa.insert(message_search), {"rowid": position, "words": " ".join(words)})
        return
    connection.execute(
        sa.text("INSERT INTO message_search (rowid, words) VALUES (:position, array_to_tsvector(:words))"),
        {"position": position, "words": _first(words)},
    )


def _first(words: Sequence[str]) -> list[str]:
    """Return the different words, as many as Postgres takes."""
    kept, num_bytes = [], 0
    for word in dict.fromkeys(words):
        num_bytes += len(word.encode())
        if num_bytes > MAX_POSTGRES_BYTES:
            break
        kept.append(word)
    return kept


def remove_from_index(connection: sa.Connection, positions: sa.Select[tuple[int]] | Sequence[int]) -> None:
    """Have messages found no longer."""
    connection.execute(sa.delete(message_search).where(message_search.c.rowid.in_(positions)))


def make_excerpt(content: str, question: str) -> str:
    """Return the text around the first thing that was searched for, in one line.

    >>> make_excerpt("one two three", "TWO")
    'one two three'
    """
    lowered = content.lower()
    places = [place for match in RUNS.finditer(question.lower()) if (place := lowered.find(match[0])) >= 0]
    first = min(places, default=0)
    start, end = max(0, first - EXCERPT_CHARACTERS), first + len(question) + EXCERPT_CHARACTERS
    excerpt = " ".join(content[start:end].split())
    return ("…" if start else "") + excerpt + ("…" if end < len(content) else "")
