"""What a skill needs to write one exchange: who speaks which language, what was said, and how people type."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from demo_model.values import Values

GREETED = {
    "en": ("Hi! ", "Hello, ", "Hi, ", "Hello! ", "Hey, ", "Thanks! ", "OK. ", "Well, ", "Please tell me: "),
    "zh": ("你好，", "你好！", "嗨，", "请问，", "请问", "谢谢。", "好的。", "那"),
}
ASCII_MARKS = str.maketrans({"。": ".", "？": "?", "，": ",", "！": "!"})


@dataclass(frozen=True, slots=True)
class ToolUse:
    """One call of a tool: what is called, what came back, and what the model thought before the call."""

    name: str
    arguments: dict[str, str]
    result: str
    thought: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """A user's message and the answer to it, with the thought that leads to the answer."""

    skill: str
    question: str
    answer: str
    thought: str
    tool: ToolUse | None = None


@dataclass(frozen=True, slots=True)
class Persona:
    """Who the system message says the assistant is. `role` is the rest of its description, "" if there is none."""

    name: str
    role: str


@dataclass(slots=True)
class Talk:
    """The state of one dialogue while it is written.

    `asked` is the language of the question at hand and `answered` that of its answer, "en" or "zh".
    """

    rng: random.Random
    values: Values
    asked: str = "en"
    answered: str = "en"
    persona: Persona | None = None
    tools: tuple[str, ...] = ()
    facts: dict[str, str] = field(default_factory=dict)
    exchanges: list[Exchange] = field(default_factory=list)

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def say(self, english: str, chinese: str) -> str:
        """The text in the language of the answer."""
        return english if self.answered == "en" else chinese

    def ask(self, english: str, chinese: str, **slots: str) -> str:
        """One of the phrasings (parted by "|") in the language of the question, typed as people type."""
        phrasing = self.rng.choice((english if self.asked == "en" else chinese).split("|"))
        return self.typed(phrasing, greet="{v}" not in phrasing or self.chance(0.3)).format(**slots)

    def typed(self, text: str, *, greet: bool = True) -> str:
        """The text with a greeting before it, without capitals, or with fewer or other marks, now and then.

        It is called before values are put in, so they stay as they are.
        """
        if greet and self.chance(0.06):
            text = self.rng.choice(GREETED[self.asked]) + text
        if self.asked == "en" and self.chance(0.12):
            text = text.lower()
        if self.asked == "zh" and self.chance(0.08):
            text = text.translate(ASCII_MARKS)
        if self.chance(0.2) and text[-1] in ".?!。？！" and len(text) > 3:
            text = text[:-1]
        elif self.chance(0.03) and text[-1] in "?!？！":
            text += text[-1]
        return text
