"""Marked text -> token ids, piece by piece, each piece once.

A piece is a control token and the ordinary text up to the next one. What a piece was encoded as is remembered in
bounded memory. An answer that brings the ids it was generated as keeps them, so that the next prompt holds exactly the
ids that are in the engine's KV cache, also where its text, encoded afresh, would give others.

prompt_utils.py is the public room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chatcore.prompts.template import (
    CUT,
    MARK,
    REFER,
    REFER_END,
    REFERENCE,
    WRITTEN_BY_MODELS,
    Alphabet,
    referred_number,
)
from chatcore.prompts.tokenizer import PromptTokenizer

__all__ = ["GeneratedRuns", "EncodedPiece", "PieceEncoder", "read_answer"]

EncodedPiece = tuple[list[int], str]  # token ids, and the text that people read

MAX_TRIMMED_TOKENS = 4  # white space that a template cuts off a generated answer, in tokens at either end


@dataclass(frozen=True, slots=True)
class Run:
    """Ordinary ids as they were generated, behind a control token (None: at the start of the answer)."""

    control_id: int | None
    token_ids: list[int]
    text: str


GeneratedRuns = list[Run]


def read_answer(token_ids: Sequence[int], tokenizer: PromptTokenizer) -> GeneratedRuns | None:
    """Split the ids of a generated answer at the markup in it; None if they are not an answer's.

    The token that ended the answer may be among them. A token that structures turns may stand nowhere else: such ids
    are not used, whoever brings them. Nor are ids that this vocabulary has no text for.
    """
    try:
        return _split_at_markup(list(token_ids), tokenizer)
    except (KeyError, OverflowError):
        return None


def _split_at_markup(ids: list[int], tokenizer: PromptTokenizer) -> GeneratedRuns | None:
    while ids and _structures_turns(ids[-1], tokenizer):
        ids.pop()
    if not tokenizer.has_control_token(ids):
        return [Run(None, ids, tokenizer.decode(ids))]
    runs: GeneratedRuns = []
    control_id: int | None = None
    run: list[int] = []
    for token_id in ids:
        if tokenizer.id_to_control_token(token_id) is None:
            run.append(token_id)
            continue
        if _structures_turns(token_id, tokenizer):
            return None
        runs.append(Run(control_id, run, tokenizer.decode(run)))
        control_id, run = token_id, []
    return [*runs, Run(control_id, run, tokenizer.decode(run))]


def _structures_turns(token_id: int, tokenizer: PromptTokenizer) -> bool:
    token = tokenizer.id_to_control_token(token_id)
    return token is not None and not WRITTEN_BY_MODELS.fullmatch(token.text)


class PieceCache:
    """Encoded pieces in bounded memory: what was not asked for lately goes.

    Two dictionaries instead of a linked list: new entries go into the young one; when it holds half of the bytes, it
    becomes the old one, and what the old one held is forgotten. Reads and writes are single dictionary operations, so
    threads need no lock.

    Args:
        max_bytes: upper bound of what the entries occupy, in bytes.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_young_bytes = max_bytes // 2
        self._young: dict[str, EncodedPiece] = {}
        self._old: dict[str, EncodedPiece] = {}
        self._young_bytes = 0

    @property
    def num_bytes(self) -> int:
        """What the entries occupy, in bytes."""
        return sum(piece_bytes(piece, encoded) for part in (self._young, self._old) for piece, encoded in part.items())

    def get(self, piece: str) -> EncodedPiece | None:
        found = self._young.get(piece)
        if found is None and (found := self._old.get(piece)) is not None:
            self.put(piece, found)
        return found

    def put(self, piece: str, encoded: EncodedPiece) -> None:
        num_bytes = piece_bytes(piece, encoded)
        if num_bytes > self._max_young_bytes:
            return
        if self._young_bytes + num_bytes > self._max_young_bytes:
            self._old, self._young, self._young_bytes = self._young, {}, 0
        self._young[piece] = encoded
        self._young_bytes += num_bytes


def piece_bytes(piece: str, encoded: EncodedPiece) -> int:
    """Return about what a cache entry occupies: containers, two strings, one integer object for each id."""
    return 300 + 4 * len(piece) + 40 * len(encoded[0])


class PieceEncoder:
    """Encode rendered text in which control tokens are marked.

    Args:
        tokenizer: for ordinary text.
        alphabet: what the letters in the rendered text stand for.
        max_cache_bytes: memory for encoded pieces, in bytes.
    """

    def __init__(self, tokenizer: PromptTokenizer, alphabet: Alphabet, max_cache_bytes: int) -> None:
        self._tokenizer = tokenizer
        self._alphabet = alphabet
        self.cache = PieceCache(max_cache_bytes)
        self.strips_left = any(token.strips_left for token in tokenizer.control_tokens)

    def encode(self, rendered: str, answers: Mapping[int, GeneratedRuns]) -> list[EncodedPiece]:
        """Return the pieces of a rendered text, in order.

        Args:
            rendered: marked text; answers are bracketed by `refer`.
            answers: generated ids by the number in their brackets.
        """
        pieces = rendered.split(MARK)
        kept = self._generated_ids(pieces, answers) if answers and REFER in rendered else {}
        if REFER_END in rendered:
            pieces = [REFERENCE.sub("", piece) if REFER in piece or REFER_END in piece else piece for piece in pieces]
        if self.strips_left:
            return [self._encode_before(pieces, i) for i in range(len(pieces))]
        cache = self.cache
        encoded = [self._encode_first(pieces[0])]
        for i, piece in enumerate(pieces[1:], start=1):
            found = cache.get(piece)
            if i in kept:
                found = kept[i], self._encode_piece(piece)[1] if found is None else found[1]
            elif found is None:
                found = self._encode_piece(piece)
                cache.put(piece, found)
            encoded.append(found)
        return encoded

    def starts(self, rendered: str) -> dict[int, int]:
        """Return where the pieces begin that hold the texts bracketed by `refer`: number -> tokens before it."""
        found: dict[int, int] = {}
        num_tokens = 0
        for piece, (ids, _) in zip(rendered.split(MARK), self.encode(rendered, {}), strict=True):
            for match in REFERENCE.finditer(piece):
                if match[1] is not None:
                    found.setdefault(referred_number(match[1]), num_tokens)
            num_tokens += len(ids)
        return found

    def _encode_first(self, text: str) -> EncodedPiece:
        """Encode what stands before the first control token."""
        text = self._alphabet.plain(text.replace(CUT, ""))
        return (self._tokenizer.encoder.encode(text, begins_prompt=True) if text else []), text

    def _encode_piece(self, piece: str, *, before_strip: bool = False) -> EncodedPiece:
        """Encode a control token and the text behind it."""
        token = self._alphabet.token(piece[0])
        ids, texts = [token.id], [token.text]
        for part in piece[1:].split(CUT):
            text = self._alphabet.plain(part)
            texts.append(text)
            if token.strips_right:
                text = text.lstrip()
            if before_strip:
                text = text.rstrip()
            if text:
                ids += self._tokenizer.encode(text)
        return ids, "".join(texts)

    def _encode_before(self, pieces: list[str], i: int) -> EncodedPiece:
        """Encode a piece whose white space the next control token may take."""
        following = pieces[i + 1] if i + 1 < len(pieces) else ""
        before_strip = bool(following) and self._alphabet.token(following[0]).strips_left
        if i > 0:
            return self._encode_piece(pieces[i], before_strip=before_strip)
        text = self._alphabet.plain(pieces[0])
        stripped = text.rstrip() if before_strip else text
        return (self._tokenizer.encoder.encode(stripped, begins_prompt=True) if stripped else []), text

    def _generated_ids(self, pieces: list[str], answers: Mapping[int, GeneratedRuns]) -> dict[int, list[int]]:
        """Return the ids of those pieces that a generated answer covers, by position."""
        kept: dict[int, list[int]] = {}
        for i, piece in enumerate(pieces):
            if i == 0 or REFER not in piece:
                continue
            begin = piece.index(REFER)
            end = piece.find(REFER_END)
            answer = answers.get(referred_number(piece[begin + 1]))
            if answer is None or end < begin:
                continue
            self._place(answer, pieces, i, kept, (piece[1:begin], piece[begin + 2 : end], piece[end + 1 :]))
        return kept

    def _place(
        self, answer: GeneratedRuns, pieces: list[str], i: int, kept: dict[int, list[int]], parts: tuple[str, str, str]
    ) -> None:
        """Lay an answer's runs over the pieces around its text, as far as they say the same."""
        before, core, after = (self._alphabet.plain(REFERENCE.sub("", part)) for part in parts)
        head = self._alphabet.token(pieces[i][0]).id
        for k in reversed(range(len(answer))):
            if answer[k].control_id == head and answer[k].text == before + core + after:
                placed: Placed | None = Placed(answer[k].token_ids, 0, len(after))
            else:
                placed = self._place_core(answer[k], before, core, after)
            if placed is not None:
                break
        else:
            return
        kept[i] = [head, *self._encode(before[: placed.start]), *placed.token_ids, *self._encode(after[placed.end :])]
        if placed.end == len(after):
            for j, run in zip(range(i + 1, len(pieces)), answer[k + 1 :], strict=False):
                if not self._same(pieces[j], run):
                    break
                kept[j] = [self._alphabet.token(pieces[j][0]).id, *run.token_ids]
        if placed.start == 0 and head == answer[k].control_id:
            self._place_before(answer[:k], pieces, i, kept)

    def _place_before(self, runs: GeneratedRuns, pieces: list[str], i: int, kept: dict[int, list[int]]) -> None:
        """Lay the runs before an answer's text over the pieces before it: what it thought."""
        for j, run in zip(reversed(range(1, i)), reversed(runs), strict=False):
            text = self._alphabet.plain(pieces[j][1:])
            head = self._alphabet.token(pieces[j][0]).id
            if run.control_id is None and text.endswith(run.text):
                kept[j] = [head, *self._encode(text[: len(text) - len(run.text)]), *run.token_ids]
            elif self._same(pieces[j], run):
                kept[j] = [head, *run.token_ids]
                continue
            return

    def _same(self, piece: str, run: Run) -> bool:
        same_head = self._alphabet.token(piece[0]).id == run.control_id
        return same_head and REFER not in piece and self._alphabet.plain(piece[1:]) == run.text

    def _place_core(self, run: Run, before: str, core: str, after: str) -> Placed | None:
        """Find the part of a run that says ``core``, with as much of the white space around it as was generated."""
        if core not in run.text or run.text.strip() != core.strip():
            return None
        for first in range(MAX_TRIMMED_TOKENS + 1):
            for last in range(len(run.token_ids), max(first, len(run.token_ids) - MAX_TRIMMED_TOKENS - 1), -1):
                token_ids = run.token_ids[first:last]
                lead, found, trail = self._tokenizer.decode(token_ids).partition(core)
                if found and before.endswith(lead) and after.startswith(trail):
                    return Placed(token_ids, len(before) - len(lead), len(trail))
        return None

    def _encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text) if text else []


@dataclass(frozen=True, slots=True)
class Placed:
    """Generated ids, where their text starts in what stands before an answer, and where it ends behind it."""

    token_ids: list[int]
    start: int
    end: int
