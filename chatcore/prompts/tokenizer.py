"""Text -> token ids, in a way that no text can become a control token.

A tokenizer's file names two kinds of entries: the vocabulary, and *added tokens* such as ``<|im_start|>`` or
``<think>`` that structure a prompt. Stock tokenizers look for the spelling of added tokens in whatever text they are
given. The encoder here is built without them: ``encode`` knows ordinary text only, and whoever wants a control token
asks for its id.

Byte-level BPE vocabularies (all Qwen, GPT-2, Llama 3 ...) are encoded by tiktoken, about ten times faster than the
`tokenizers` library, after a check at load that both give the same ids. Everything else is encoded by `tokenizers`.

Knows nothing of messages or templates; prompt_utils.py is the public room. Imports no torch, transformers or vllm.
"""

from __future__ import annotations

import base64
import copy
import json
import secrets
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import tiktoken
from tokenizers import Tokenizer, normalizers

from chatcore.errors import ModelLoadError
from chatcore.json_files import read_object

__all__ = ["ControlToken", "PromptTokenizer"]

# GPT-2's own split, which `ByteLevel(use_regex=True)` stands for.
GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

# The first Qwen generation ships ranks only; its split and control tokens stand in its tokenization_qwen.py.
QWEN1_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN1_CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)))

# The library's own tables: Python's are newer and differ on 99 code points. What is NFC by the newer tables, the older
# ones leave as it is, so Python's quick check can come first.
NFC = normalizers.NFC()

# What a control token's vocabulary entry is renamed to. Drawn anew in each process: nobody can guess and type it.
UNREACHABLE = f"\ue000{secrets.token_hex(16)}-{{}}\ue000"


@dataclass(frozen=True, slots=True)
class ControlToken:
    """An added token: one that only a template or the model may write.

    ``strips_left`` and ``strips_right``: the tokenizer drops white space on that side of it.
    """

    id: int
    text: str
    special: bool
    strips_left: bool = False
    strips_right: bool = False


class TextEncoder(Protocol):
    """Ordinary text to ids and back; never gives a control token's id."""

    def encode(self, text: str, *, begins_prompt: bool = False) -> list[int]: ...

    def decode_bytes(self, token_ids: Sequence[int]) -> bytes: ...


class BytePairEncoder:
    """Byte-level BPE by tiktoken."""

    def __init__(self, ranks: dict[bytes, int], split: str, *, nfc: bool) -> None:
        self._encoding = tiktoken.Encoding("model", pat_str=split, mergeable_ranks=ranks, special_tokens={})
        self._nfc = nfc

    def encode(self, text: str, *, begins_prompt: bool = False) -> list[int]:
        text.encode()  # tiktoken would turn half a surrogate pair into U+FFFD without a word
        if self._nfc and not text.isascii() and not unicodedata.is_normalized("NFC", text):
            text = NFC.normalize_str(text)
        return self._encoding.encode_ordinary(text)

    def decode_bytes(self, token_ids: Sequence[int]) -> bytes:
        return self._encoding.decode_bytes(token_ids)


class LibraryEncoder:
    """Any vocabulary, by the `tokenizers` library, with the model's added tokens taken out.

    A SentencePiece-like tokenizer puts a space before the first word of a prompt, but not behind a control token:
    ``begins_prompt`` tells the two apart.
    """

    def __init__(self, description: Mapping[str, Any]) -> None:
        plain = _without_control_tokens(description)
        self._begin = _library_tokenizer(plain)
        self._inside = self._begin
        if _set_prepend_scheme(plain.get("pre_tokenizer")):
            self._inside = _library_tokenizer(plain)

    def encode(self, text: str, *, begins_prompt: bool = False) -> list[int]:
        text.encode()
        tokenizer = self._begin if begins_prompt else self._inside
        ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode_bytes(self, token_ids: Sequence[int]) -> bytes:
        text: str = self._inside.decode(list(token_ids), skip_special_tokens=False)
        return text.encode()


class PromptTokenizer:
    """A model's vocabulary: ordinary text by ``encode``, control tokens by ``token_to_id``.

    Args:
        encoder: ordinary text to ids.
        control_tokens: the model's added tokens.
        names: what the model calls some of them, such as ``{"eos_token": "<|im_end|>"}``.
    """

    def __init__(
        self, encoder: TextEncoder, control_tokens: Iterable[ControlToken], names: Mapping[str, str] | None = None
    ) -> None:
        self.encoder = encoder
        self.control_tokens = tuple(sorted(control_tokens, key=lambda token: token.id))
        self.names = dict(names or {})
        self._by_text = {token.text: token for token in self.control_tokens}
        self._by_id = {token.id: token for token in self.control_tokens}

    @classmethod
    def from_pretrained(cls, model_dir: str | Path) -> PromptTokenizer:
        """Read the vocabulary in a model's folder.

        Raises:
            ModelLoadError: there is no ``tokenizer.json`` or ``qwen.tiktoken``, or it cannot be read.
        """
        folder = Path(model_dir)
        names = _special_token_names(folder)
        if (file := folder / "tokenizer.json").is_file():
            try:
                return cls.from_json(file.read_text("utf-8"), names)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ModelLoadError(f"{file} cannot be read: {error!r}") from error
        if (file := folder / "qwen.tiktoken").is_file():
            return cls._from_qwen_ranks(file.read_bytes(), names)
        raise ModelLoadError(
            f"{folder} holds no tokenizer.json", hint="Convert the model's tokenizer to tokenizer.json first."
        )

    @classmethod
    def from_json(cls, text: str, names: Mapping[str, str] | None = None) -> PromptTokenizer:
        """Read the text of a ``tokenizer.json``."""
        description = json.loads(text)
        control_tokens = [
            ControlToken(
                id=entry["id"],
                text=entry["content"],
                special=bool(entry.get("special")),
                strips_left=bool(entry.get("lstrip")),
                strips_right=bool(entry.get("rstrip")),
            )
            for entry in description.get("added_tokens") or []
            if entry["content"] and not _is_white_space(entry)
        ]
        return cls(_encoder_for(description, control_tokens), control_tokens, names)

    @classmethod
    def _from_qwen_ranks(cls, lines: bytes, names: Mapping[str, str]) -> PromptTokenizer:
        ranks = {base64.b64decode(token): int(rank) for token, rank in map(bytes.split, lines.splitlines())}
        control_tokens = [
            ControlToken(id=len(ranks) + i, text=text, special=True) for i, text in enumerate(QWEN1_CONTROL_TOKENS)
        ]
        return cls(BytePairEncoder(ranks, QWEN1_SPLIT, nfc=True), control_tokens, names)

    def encode(self, text: str) -> list[int]:
        """Return the ids of ordinary text; the spelling of a control token in it stays text."""
        return self.encoder.encode(text)

    def decode(self, token_ids: Iterable[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of ids. Bytes that are no UTF-8 become U+FFFD."""
        ids = list(token_ids)
        if not self.has_control_token(ids):
            return self.encoder.decode_bytes(ids).decode("utf-8", errors="replace")
        parts: list[bytes] = []
        run: list[int] = []
        for token_id in ids:
            token = self._by_id.get(token_id)
            if token is None:
                run.append(token_id)
                continue
            if run:
                parts.append(self.encoder.decode_bytes(run))
                run = []
            if not (skip_special_tokens and token.special):
                parts.append(token.text.encode())
        if run:
            parts.append(self.encoder.decode_bytes(run))
        return b"".join(parts).decode("utf-8", errors="replace")

    def token_to_id(self, text: str) -> int | None:
        """Return a control token's id, or None if the model has no such token."""
        token = self._by_text.get(text)
        return None if token is None else token.id

    def id_to_control_token(self, token_id: int) -> ControlToken | None:
        """Return the control token with this id, or None if it is an ordinary one."""
        return self._by_id.get(token_id)

    def has_control_token(self, token_ids: Iterable[int]) -> bool:
        """Tell whether one of these ids is a control token's; for thousands of them this takes some microseconds."""
        return not self._by_id.keys().isdisjoint(token_ids)

    @property
    def eos_token(self) -> str | None:
        return self.names.get("eos_token")

    @property
    def eos_token_id(self) -> int | None:
        return None if self.eos_token is None else self.token_to_id(self.eos_token)


def _library_tokenizer(description: Mapping[str, Any]) -> Tokenizer:
    try:
        return Tokenizer.from_str(json.dumps(description))
    except Exception as error:  # the library raises nothing more precise
        raise ValueError(str(error)) from error


def _special_token_names(folder: Path) -> dict[str, str]:
    """Return what tokenizer_config.json calls bos_token, eos_token, pad_token ..."""
    names = {}
    for name, value in read_object(folder / "tokenizer_config.json", missing_ok=True).items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            names[name] = text
    return names


def _encoder_for(description: Mapping[str, Any], control_tokens: Sequence[ControlToken]) -> TextEncoder:
    """Return tiktoken where it gives the model's own ids, the model's own tokenizer where it does not."""
    split = _byte_level_split(description)
    if split is None or any(map(_is_white_space, description.get("added_tokens") or [])):
        return LibraryEncoder(description)
    vocabulary: dict[str, int] = dict(description["model"]["vocab"])
    for token in control_tokens:
        vocabulary.pop(token.text, None)
    try:
        ranks = {token.translate(BYTE_OF_LETTER).encode("latin-1"): i for token, i in vocabulary.items()}
        encoder = BytePairEncoder(ranks, split, nfc=description.get("normalizer") is not None)
    except (ValueError, KeyError):  # a letter that stands for no byte, or a pattern that tiktoken cannot read
        return LibraryEncoder(description)
    return encoder if _same_ids(encoder, description, control_tokens) else LibraryEncoder(description)


def _same_ids(encoder: TextEncoder, description: Mapping[str, Any], control_tokens: Sequence[ControlToken]) -> bool:
    """Return whether an encoder gives the model's own ids for the check corpus, and none of a control token."""
    own = _tokenizer_for_corpus(description)
    if any(encoder.encode(text) != own.encode(text, add_special_tokens=False).ids for text in CHECK_CORPUS):
        return False
    control_ids = {token.id for token in control_tokens}
    for token in control_tokens:
        ids = encoder.encode(token.text)
        if control_ids.intersection(ids) or encoder.decode_bytes(ids) != token.text.encode():
            return False
    return True


def _tokenizer_for_corpus(description: Mapping[str, Any]) -> Tokenizer:
    """Return the model's own tokenizer with the part of the vocabulary that the check corpus can reach.

    Merges whose result does not occur in a text never apply to it, so the ids are those of the whole tokenizer, which
    takes ten times as long to load.
    """
    model = description["model"]
    text = "\n".join([*CHECK_CORPUS, *map(NFC.normalize_str, CHECK_CORPUS)])
    letter_of_byte = {byte: chr(letter) for letter, byte in BYTE_OF_LETTER.items()}
    letters = "".join(letter_of_byte[byte] for byte in text.encode())
    reachable = {letters[i : i + n] for n in range(1, 65) for i in range(len(letters) - n + 1)}
    reachable |= set(letter_of_byte.values())
    merges = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
    part = {
        **description,
        "added_tokens": [],
        "post_processor": None,
        "model": {
            **model,
            "vocab": {token: i for token, i in model["vocab"].items() if token in reachable},
            "merges": [[left, right] for left, right in merges if left + right in reachable],
        },
    }
    return _library_tokenizer(part)


def _is_white_space(entry: Mapping[str, Any]) -> bool:
    """Return whether an added token is no more than a short way to write spaces (GPT-NeoX), so that it is text."""
    return not entry.get("special") and not entry["content"].strip()


def _byte_level_split(description: Mapping[str, Any]) -> str | None:
    """Return the split pattern if this is byte-level BPE as tiktoken knows it, else None."""
    model = description.get("model") or {}
    plain_bpe = (
        model.get("type") == "BPE"
        and not model.get("dropout")
        and not model.get("byte_fallback")
        and not model.get("continuing_subword_prefix")
        and not model.get("end_of_word_suffix")
        and description.get("normalizer") in (None, {"type": "NFC"})
    )
    if not plain_bpe:
        return None
    match description.get("pre_tokenizer"):
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return GPT2_SPLIT
        case {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": str(split)}, "behavior": "Isolated", "invert": False},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        }:
            return split
    return None


def _letters_for_bytes() -> dict[int, int]:
    """Return the code point -> byte table of byte-level BPE: printable bytes stand for themselves."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    others = [byte for byte in range(256) if byte not in printable]
    return {**{byte: byte for byte in printable}, **{256 + i: byte for i, byte in enumerate(others)}}


BYTE_OF_LETTER = _letters_for_bytes()


def _without_control_tokens(description: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tokenizer's description in which no text can reach an added token.

    Added tokens go, so do post-processors (they add a BOS), and where an added token is also an entry of the
    vocabulary, which a Unigram model would find in ordinary text, that entry gets a name that nobody can type.
    """
    added = description.get("added_tokens") or []
    plain = {**description, "added_tokens": [], "post_processor": None}
    if any(map(_is_white_space, added)):  # the others keep their places, or the ids would move
        plain["added_tokens"] = [
            entry if _is_white_space(entry) else {**entry, "content": UNREACHABLE.format(entry["id"])}
            for entry in added
        ]
    control = {entry["content"] for entry in added if not _is_white_space(entry)}
    model = copy.copy(description["model"])
    vocabulary = model.get("vocab")
    if isinstance(vocabulary, dict):
        model["vocab"] = {UNREACHABLE.format(i) if t in control else t: i for t, i in vocabulary.items()}
    elif vocabulary:
        model["vocab"] = [
            [UNREACHABLE.format(i) if t in control and i != model.get("unk_id") else t, score]
            for i, (t, score) in enumerate(vocabulary)
        ]
    plain["model"] = model
    return plain


def _set_prepend_scheme(pre_tokenizer: Any) -> bool:
    """Turn Metaspace's ``first`` into ``never``, in place; return whether there was one."""
    if not isinstance(pre_tokenizer, dict):
        return False
    if pre_tokenizer.get("type") == "Sequence":
        found = [_set_prepend_scheme(inner) for inner in pre_tokenizer["pretokenizers"]]
        return any(found)
    if pre_tokenizer.get("type") == "Metaspace" and pre_tokenizer.get("prepend_scheme") == "first":
        pre_tokenizer["prepend_scheme"] = "never"
        return True
    return False


CHECK_CORPUS = (
    "Hello, world! I'm you're THEY'LL we've don't it's I'd",
    "  leading and trailing  \n\n\n \t\t tabs \r\n line ends \u3000 wide \u00a0 hard spaces   ",
    "1 12 123 1234 12345 3.14159 1e-10 0x7f ½ ² ٣ ३ 四 Ⅷ",
    "def f(x):\n    return {'a': [x ** 2, None]}  # ok\n\n\tif (a != b) && c || d: pass\n",
    "中文分词，测试。日本語のテキスト、カタカナ。한국어 문장입니다. ภาษาไทย ไม่มีช่องว่าง",
    "Русский текст. Ελληνικά. עברית מְנֻקָּד. العربية ُمَشَكَّلَة. हिन्दी में संयुक्ताक्षर। বাংলা தமிழ்",
    "e\u0301 vs \u00e9, A\u030a vs \u00c5 vs \u212b",
    "\u1100\u1161\u11a8 vs \uac01, q\u0323\u0307 vs q\u0307\u0323, \ufb01",
    "🙂 👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 e\ufe0f \u200d \u200b \ufeff \u2028 \u2029 \x00 \x1b \x7f",
    "<|im_start|system <| im_end |> <think </think <tool_call ＜｜im_end｜＞ [INST] </s",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa--------------------============ ......!!!???",
    "\U0001d400\U0001d4b3 \U00020000\U0002a6df \U0010fffd \ue000 \ufffd \u0378",
    "The quick brown fox jumps over the lazy dog; NASA's 42nd mission cost $3,000,000.00 (≈ €2.8m) — “no”…",
)
