"""Random names, cities, words and numbers: so many that a model must copy them, it cannot learn them by heart."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence

from demo_model import lexicon

ONSETS = "b c d f g h j k l m n p r s t v w z br ch cl dr fl gr kr pl qu sh sk st th tr y".split()
NUCLEI = "a e i o u a e i o u ee oo ai ia ou y".split()
CODAS = ["", "", "", "", "n", "r", "s", "l", "m", "ck", "nd", "rt", "ng", "x", "st", "k", "t", "th"]
COMMON_HAN = lexicon.common_han()
EVERYDAY_HAN = lexicon.NAME_CHARACTERS + lexicon.PLACE_CHARACTERS
RARE_SHARE = 0.25  # in training
HELD_OUT_SHARE = 8  # one made-up value in eight is kept for evaluation, never trained on


def is_held_out(value: str) -> bool:
    """Whether a made-up value belongs to evaluation. The same for every seed, run and machine."""
    return zlib.crc32(value.encode()) % HELD_OUT_SHARE == 0


class Values:
    """Draws values. With `held_out` every name, city and word is a made-up one that training never sees.

    Args:
        rng: the only source of randomness.
        held_out: draw from evaluation's share instead of training's.
        listed: draw names, cities and words from the word lists only (for answers whose values change their form).
        rare_share: how many of the made-up Chinese values are of any common characters; the others are of characters
            that names and places are made of.
    """

    def __init__(
        self, rng: random.Random, *, held_out: bool = False, listed: bool = False, rare_share: float = RARE_SHARE
    ) -> None:
        self.rng = rng
        self.rare_share = rare_share
        self.held_out = held_out
        self.listed = listed

    def name(self, language: str) -> str:
        """A person's or a pet's name."""
        if language == "zh" and self.rng.random() < 0.88:
            return self._draw(lexicon.CHINESE_NAMES, 0.2, self._han_name)
        name = self._draw(lexicon.FIRST_NAMES, 0.3, lambda: self.made_up().capitalize())
        if not self.listed and self.rng.random() < 0.06:
            name += " " + self._draw(lexicon.FIRST_NAMES, 0.3, lambda: self.made_up().capitalize())
        return name

    def city(self, language: str) -> str:
        """A city's name."""
        if language == "zh" and self.rng.random() < 0.92:
            return self._draw(list(lexicon.CITIES.values()), 0.45, lambda: self.han(2, 3))
        if not self.listed and not self.held_out and self.rng.random() < 0.08:
            return self.rng.choice(lexicon.LONG_CITIES)
        return self._draw(list(lexicon.CITIES), 0.45, lambda: self.made_up().capitalize())

    def word(self, language: str) -> str:
        """A word to keep or to repeat."""
        if language == "zh" and self.rng.random() < 0.85:
            return self._draw(list(lexicon.DICTIONARY.values()), 0.3, lambda: self.han(1, 3))
        return self._draw(lexicon.WORDS, 0.45, self.made_up)

    def number(self) -> str:
        """A whole number of one to five digits."""
        digits = self.rng.choice((1, 2, 2, 2, 3, 3, 4, 5))
        return str(self.rng.randrange(10 ** (digits - 1), 10**digits))

    def made_up(self) -> str:
        """A pronounceable word of one to three syllables that no list holds."""
        syllables = self.rng.choice((1, 2, 2, 2, 3, 3))
        word = "".join(self.rng.choice(ONSETS) + self.rng.choice(NUCLEI) for _ in range(syllables))
        word += self.rng.choice(CODAS)
        return word if len(word) > 2 else self.made_up()

    def han(self, shortest: int, longest: int) -> str:
        """A string of random Han characters."""
        characters = COMMON_HAN if self.rng.random() < self.rare_share else EVERYDAY_HAN
        return self._doubled("".join(self.rng.choices(characters, k=self.rng.randint(shortest, longest))))

    def _han_name(self) -> str:
        given = COMMON_HAN if self.rng.random() < self.rare_share else lexicon.NAME_CHARACTERS
        first = self.rng.choice(lexicon.SURNAMES) if self.rng.random() < 0.8 else self.rng.choice("小阿老大" + given)
        return first + self._doubled("".join(self.rng.choices(given, k=self.rng.choice((1, 2, 2)))))

    def _doubled(self, text: str) -> str:
        """The text, at times with its last character in the place before it too, as in 梅梅: a copy must not loop there."""
        return text[:-2] + text[-1] * 2 if len(text) > 1 and self.rng.random() < 0.15 else text

    def _draw(self, listed: Sequence[str], share: float, make: Callable[[], str]) -> str:
        """One of the list with probability `share`, otherwise a made-up one of the right split."""
        if self.listed or (not self.held_out and self.rng.random() < share):
            return self.rng.choice(listed)
        value = make()
        while is_held_out(value) != self.held_out or value in listed:
            value = make()
        return value
