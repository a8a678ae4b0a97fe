"""Train the demo model's tokenizer: a byte-level BPE in the manner of Qwen2, in which every Han character stands alone.

    python -m demo_model.train_tokenizer        # writes demo_model/model/tokenizer.json and tokenizer_config.json

Qwen2's pattern splits text into words before merges are learnt. Here `\\p{Han}|` stands before it, so a Chinese character
is never merged with its neighbours: any name of common characters is then a sequence of tokens that the model has met.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from demo_model import lexicon
from demo_model.generate import TEMPLATE_FILE, Writer

MODEL_FOLDER = Path(__file__).resolve().parent.parent / "chatcore" / "models" / "demo"
VOCABULARY_SIZE = 5504  # 86 * 64: engines pad a vocabulary to a multiple of 64
MAX_LENGTH = 8192  # tokens, the model's context window
QWEN2_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# As Qwen2's, but a Han character is a piece of its own, so a run of letters must not hold one.
PATTERN = r"\p{Han}|" + QWEN2_PATTERN.replace(r"\p{L}+", r"[^\P{L}\p{Han}]+")
CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MARKUP_TOKENS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<think>", "</think>")
NUM_DIALOGUES = 40_000
HAN_COUNT = 3_000  # how often the text holds each common Han character, so that it earns its own token


def corpus(seed: int) -> Iterator[str]:
    """The text that merges are learnt from: dialogues without control tokens, the word lists and the Han characters."""
    writer = Writer(seed)
    for _ in range(NUM_DIALOGUES):
        for text, _ in writer.write().segments():
            for token in CONTROL_TOKENS + MARKUP_TOKENS:
                text = text.replace(token, "\n")
            yield text
    words = " ".join([*lexicon.WORDS, *lexicon.DICTIONARY, *lexicon.FIRST_NAMES, *lexicon.CITIES, *lexicon.ROLES])
    for _ in range(60):
        yield " " + words
        yield words.upper()
    for _ in range(HAN_COUNT):
        yield lexicon.common_han()


def train(seed: int) -> Tokenizer:
    """A tokenizer of VOCABULARY_SIZE tokens, control and markup tokens included, which come last."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE - len(CONTROL_TOKENS) - len(MARKUP_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(seed), trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in MARKUP_TOKENS])
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json, tokenizer_config.json and the chat template as model loaders expect them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": MAX_LENGTH,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE_FILE.read_text(encoding="utf-8"), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the tokenizer of the demo model.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=MODEL_FOLDER)
    options = parser.parse_args()
    tokenizer = train(options.seed)
    save(tokenizer, options.folder)
    split = [character for character in lexicon.common_han() if len(tokenizer.encode(character).ids) > 1]
    print(
        f"{tokenizer.get_vocab_size()} tokens; {len(split)} of {len(lexicon.common_han())} common Han characters are split"
    )


if __name__ == "__main__":
    main()
