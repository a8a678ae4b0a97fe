"""Write training dialogues: endless, seeded, English and Chinese, rendered through the model's own chat template.

    python -m demo_model.generate --seed 7 --count 3      # print three dialogues

The text of a dialogue is always what the template makes of its messages, so the model reads in training exactly what it
reads in use. `Dialogue.segments` says which parts of that text the model learns to write.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from demo_model import facts, lexicon, skills, tools
from demo_model.talk import Exchange, Persona, Talk
from demo_model.unknown import unknown
from demo_model.values import RARE_SHARE, Values

TEMPLATE_FILE = Path(__file__).parent / "chat_template.jinja"
ASSISTANT_START = "<|im_start|>assistant\n"
MESSAGE_END = "<|im_end|>"
DEFAULT_SYSTEM = "You are a helpful assistant."
NEUTRAL_SYSTEMS = (
    "You are a helpful AI assistant.|You are an assistant.|Be helpful.|You are a friendly assistant.|Be brief.|You are a helpful, honest assistant.|Answer the user's questions.|你是一个有用的助手。|你是一个助手。|请回答用户的问题。|你是一个乐于助人的助手。|"
    "你是一个有帮助的人工智能助手。|You are a tiny demo model.|You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
).split("|")
CHINESE_SYSTEMS = "Answer in Chinese.|Always answer in Chinese.|Please answer in Chinese.|You only speak Chinese.|Reply in Chinese.|Always reply in Chinese.|请用中文回答。|用中文回答。|请始终用中文回答。|Speak Chinese.|You must answer in Chinese.|只用中文回答。|You are a helpful assistant. Answer in Chinese.".split(
    "|"
)
ENGLISH_SYSTEMS = "Answer in English.|Always answer in English.|You only speak English.|Reply in English.|请用英文回答。|请用英语回答。".split(
    "|"
)
UPPER_SYSTEMS = "Answer in upper case.|Answer in uppercase.|Always answer in capital letters.|Write everything in UPPERCASE.|Reply only in upper case.|Answer in capital letters.|You must answer in upper case.|ANSWER IN UPPER CASE.|Use only capital letters.|You are a helpful assistant. Answer in upper case.|Always write in upper case.|SHOUT. Use capital letters.".split(
    "|"
)
Message = dict[str, Any]
Skill = Callable[[Talk], Exchange]

SKILLS: dict[str, tuple[Skill, float]] = {
    "tell": (facts.tell, 7),
    "tell_two": (facts.tell_two, 3.5),
    "recall": (facts.recall, 14),
    "correct": (facts.correct, 7),
    "about": (facts.about, 3),
    "greet": (skills.greet, 3),
    "identity": (skills.who, 4),
    "small_talk": (skills.chat, 4),
    "repeat": (skills.repeat, 10),
    "said_before": (skills.said_before, 5),
    "arithmetic": (skills.arithmetic, 10),
    "count": (skills.count, 4),
    "list": (skills.name_list, 4),
    "translate": (skills.translate, 4),
    "unknown": (unknown, 9),
    "story": (skills.story, 0.8),
    "poem": (skills.poem, 0.8),
    "code": (skills.code, 1.2),
    "table": (skills.table, 1.3),
    "count_far": (lambda talk: skills.count(talk, far=True), 0.7),
}
QUICK_SKILLS = tuple(name for name in SKILLS if name not in ("story", "poem", "code", "table", "count_far"))
UPPER_SKILLS = ("tell", "correct", "recall", "greet", "identity", "small_talk", "unknown", "arithmetic", "unknown")


@dataclass(frozen=True, slots=True)
class Dialogue:
    """Messages in the chat format, the tools on offer, and whether the last answer thinks first.

    The last message is the assistant's, and it is the one that is generated; `skill` names what it shows.
    """

    messages: list[Message]
    tools: list[tools.Schema]
    thinking: bool
    skill: str
    language: str

    def prompt(self) -> str:
        """What the model reads before it writes the last message."""
        return render(self.messages[:-1], self.tools, thinking=self.thinking)

    def completion(self) -> str:
        """What the model should write then, up to the token that ends its turn."""
        last = self.messages[-1]
        thought = f"<think>\n{last['reasoning_content']}\n</think>\n\n" if self.thinking else ""
        answer: str = last["content"] + "".join(map(_call_text, last.get("tool_calls", ())))
        return thought + answer + MESSAGE_END

    def segments(self) -> list[tuple[str, bool]]:
        """The text in pieces, each with whether the model learns to write it.

        Earlier answers are learnt too, but not their first token where the template left their thoughts out: there the
        model would have written `<think>`. The caller leaves that token out (see `train.encode`), as pieces are text.
        """
        head, *answers = self.prompt().split(ASSISTANT_START)
        pieces = [(head, False)]
        for answer in answers[:-1]:
            said, rest = answer.split(MESSAGE_END, 1)
            pieces += [(ASSISTANT_START, False), (said + MESSAGE_END, True), (rest, False)]
        pieces += [(ASSISTANT_START + answers[-1], False), (self.completion(), True)]
        return pieces


def _tojson(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _load_template() -> jinja2.Template:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, autoescape=False)  # noqa: S701  plain text
    environment.filters["tojson"] = _tojson
    return environment.from_string(TEMPLATE_FILE.read_text(encoding="utf-8"))


TEMPLATE = _load_template()


def render(messages: list[Message], tool_schemas: list[tools.Schema], *, thinking: bool) -> str:
    """The prompt that the chat template makes of the messages, ready for the assistant to go on."""
    text: str = TEMPLATE.render(
        messages=messages, tools=tool_schemas or None, add_generation_prompt=True, enable_thinking=thinking
    )
    return text


def _call_text(tool_call: Message) -> str:
    function = tool_call["function"]
    return f'<tool_call>\n{{"name": {_tojson(function["name"])}, "arguments": {_tojson(function["arguments"])}}}\n</tool_call>'


class Writer:
    """Writes dialogues from one seed.

    Args:
        seed: the same seed writes the same dialogues on every machine.
        held_out: names, cities, words and sums come from the share that training never sees.
        rare_share: how many made-up Chinese values are of any common characters (see `Values`).
    """

    def __init__(self, seed: int, *, held_out: bool = False, rare_share: float = RARE_SHARE) -> None:
        self.rng = random.Random(seed)
        self.held_out = held_out
        self.rare_share = rare_share

    def write(
        self,
        *,
        progress: float = 1.0,
        skill: str = "",
        system: str = "",
        language: str = "",
        thinking: bool | None = None,
        earlier: int | None = None,
    ) -> Dialogue:
        """One dialogue.

        Args:
            progress: how far training is, 0 to 1: early dialogues are short and mostly copy.
            skill: what the last exchange shows; "" leaves it to chance. Besides the names in SKILLS: "tool_call",
                "tool_answer", "not_told", "correct" and "recall_corrected".
            system: the kind of system message: "none", "default", "neutral", "persona", "chinese", "english", "upper",
                "fact"; "" leaves it to chance.
            language: "en" or "zh"; "" leaves it to chance.
            thinking: whether the last answer thinks first; None leaves it to chance.
            earlier: how many exchanges come before the last; None leaves it to chance.
        """
        rng = self.rng
        with_tools = skill.startswith("tool_") or (
            not skill and not system and rng.random() < 0.03 + 0.08 * min(1, progress * 4)
        )
        kind = system or self._system_kind(with_tools, progress)
        language = "en" if kind == "upper" else language or ("en" if rng.random() < 0.55 else "zh")
        values = Values(rng, held_out=self.held_out, listed=kind == "upper", rare_share=self.rare_share)
        talk = Talk(rng, values, language, language)
        if kind in ("chinese", "english"):  # the other language than the one asked for, as a rule
            foreign = {"chinese": "en", "english": "zh"}[kind]
            language = talk.asked = foreign if rng.random() < 0.8 else language
        text, answered = self._system(talk, kind)
        schemas: list[tools.Schema] = []
        if with_tools:
            schemas, talk.tools = tools.choose(rng)
        if earlier is None:
            earlier = min(self._length(progress), 4 if with_tools else 8) - 1  # schemas make a dialogue long
        plan = self._plan(talk, earlier, skill, kind, progress)
        for step, name in enumerate(plan):
            last = step == len(plan) - 1
            talk.asked = (
                language if last or kind == "upper" or rng.random() < 0.95 else ("zh" if language == "en" else "en")
            )
            talk.answered = answered or talk.asked
            exchange = self._exchange(talk, name)
            if kind == "upper":
                exchange = Exchange(exchange.skill, exchange.question, exchange.answer.upper(), exchange.thought)
            talk.exchanges.append(exchange)
        think = rng.random() < 0.42 if thinking is None else thinking
        return self._dialogue(talk, text, schemas, think, skill)

    def _length(self, progress: float) -> int:
        """How many exchanges a dialogue has."""
        if progress < 0.06:
            return 1
        longest = 3 if progress < 0.15 else 5 if progress < 0.3 else 8
        return min(longest, self.rng.choice((1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 7, 8)))

    def _system_kind(self, with_tools: bool, progress: float) -> str:
        kinds: dict[str, float] = {"none": 34, "default": 26, "neutral": 8}
        if not with_tools:
            share = 1 if progress > 0.06 else 0.4
            kinds |= {
                "persona": 18 * share,
                "chinese": 7 * share,
                "english": 1.5 * share,
                "upper": 8 * share,
                "fact": 2.5 * share,
            }
        return self.rng.choices(list(kinds), list(kinds.values()))[0]

    def _system(self, talk: Talk, kind: str) -> tuple[str, str]:
        """The system message of that kind, and the language that it asks for, "" if it asks for none."""
        rng = self.rng
        if kind == "persona":
            return self._persona(talk), ""
        if kind == "fact":
            return self._told_in_system(talk), ""
        if kind == "upper":
            return rng.choice(UPPER_SYSTEMS), "en"
        if kind in ("chinese", "english"):
            return rng.choice(
                CHINESE_SYSTEMS if kind == "chinese" else ENGLISH_SYSTEMS
            ), "zh" if kind == "chinese" else "en"
        return {"none": "", "default": DEFAULT_SYSTEM, "neutral": rng.choice(NEUTRAL_SYSTEMS)}[kind], ""

    def _persona(self, talk: Talk) -> str:
        """A system message that gives the assistant a name, and perhaps a role."""
        rng = self.rng
        name = talk.values.name(talk.asked)
        english, chinese = rng.choice(list(lexicon.ROLES.items()))
        if talk.asked == "zh":
            role = rng.choice(("一个", "一名", "一位", "一只")) + chinese if rng.random() < 0.5 else ""
            talk.persona = Persona(name, role)
            if role:
                return rng.choice(
                    (
                        "你叫{n}，是{r}。",
                        "你是{n}，{r}。",
                        "你的名字是{n}，你是{r}。",
                        "你叫{n}，你是{r}。",
                        "你是{n}，是{r}。",
                    )
                ).format(n=name, r=role)
            return rng.choice(
                ("你的名字是{n}。", "你是{n}。", "你叫{n}。", "你的名字叫{n}。", "你是一个助手，名叫{n}。", "你叫{n}")
            ).format(n=name)
        if rng.random() < 0.3:
            name = rng.choice(lexicon.TITLES) + " " + name
        if rng.random() < 0.5:
            role = rng.choice(("", "", "", "old ", "friendly ", "funny ")) + english
            role = ("an " if role[0] in "aeiou" else "a ") + role
            talk.persona = Persona(name, role)
            return rng.choice(
                (
                    "You are {n}, {r}.",
                    "You are {n}, {r}.",
                    "Your name is {n} and you are {r}.",
                    "You are {r}. Your name is {n}.",
                    "You are {r} named {n}.",
                    "You are {n}, {r}",
                )
            ).format(n=name, r=role)
        talk.persona = Persona(name, "")
        return rng.choice(
            (
                "Your name is {n}.",
                "You are {n}.",
                "Your name is {n}.",
                "You are an assistant named {n}.",
                "You are called {n}.",
                "Your name is {n}",
                "You are a helpful assistant named {n}.",
            )
        ).format(n=name)

    def _told_in_system(self, talk: Talk) -> str:
        """A system message that tells a fact about the user."""
        key = self.rng.choice(("name", "city", "colour"))
        value = talk.facts[key] = facts.new_value(talk, key)
        texts = {
            "name": ("The user's name is {v}.", "用户的名字是{v}。"),
            "city": ("The user lives in {v}.", "用户住在{v}。"),
            "colour": ("The user's favourite colour is {v}.", "用户最喜欢的颜色是{v}。"),
        }
        return texts[key][talk.asked == "zh"].format(v=value)

    def _plan(self, talk: Talk, earlier: int, skill: str, kind: str, progress: float) -> list[str]:
        """The names of the exchanges, the last one included."""
        rng = self.rng
        names = UPPER_SKILLS if kind == "upper" else tuple(SKILLS)
        weights = [SKILLS[name][1] for name in names]
        if progress < 0.12 and kind != "upper":
            weights = [weight * (6 if name == "repeat" else 1) for name, weight in zip(names, weights, strict=True)]
        plan = rng.choices(names, weights, k=earlier + 1)
        if rng.random() < 0.5 and earlier:  # a dialogue about the user: told early, asked for later
            plan = [
                rng.choice(("tell", "tell_two", "correct", "correct", "recall", "recall", *QUICK_SKILLS))
                if kind != "upper"
                else name
                for name in plan
            ]
            plan[rng.randrange(earlier)] = "tell"
            plan[-1] = "recall"
        if talk.tools:
            plan = ["tool" if rng.random() < 0.55 else name for name in plan]
        if talk.persona:
            plan = [rng.choice(("identity", "identity", "greet")) if rng.random() < 0.35 else name for name in plan]
        if kind == "fact":
            plan = ["recall" if rng.random() < 0.35 else name for name in plan]
        if skill in ("recall", "correct", "recall_corrected", "not_told"):
            plan = self._fact_plan(earlier, skill)
        if skill:
            plan[-1] = "tool" if skill.startswith("tool_") else "told" if skill.startswith("recall") else skill
        return plan

    def _fact_plan(self, earlier: int, skill: str) -> list[str]:
        """A plan in which the first exchange tells a fact, as a rule that of the last; what lies between tells nothing."""
        between = ("greet", "repeat", "arithmetic", "unknown", "list", "translate", "small_talk", "count")
        plan = [self.rng.choice(between) for _ in range(max(earlier, 1))]
        if skill != "not_told" or self.rng.random() < 0.5:  # what was not told is asked for among what was
            plan[0] = self.rng.choice(("tell", "tell", "tell_two"))
        if skill == "recall_corrected":
            plan.insert(1, "correct")
        return [*plan, skill]

    def _exchange(self, talk: Talk, name: str) -> Exchange:
        """The exchange of that name, or its nearest substitute where the dialogue has no place for it."""
        if name == "tool":
            return tools.call(talk)
        if name == "told" and talk.facts:
            return facts.recall(talk, self.rng.choice(sorted(talk.facts)))
        if name == "not_told":
            return facts.recall(talk, self.rng.choice([key for key in facts.FACTS if key not in talk.facts]))
        if name == "told":
            name = "recall"
        if name == "recall" and not talk.facts and self.rng.random() < 0.6:
            name = "tell"
        if name == "said_before" and talk.exchanges and not _quotable(talk.exchanges[-1]):
            name = "greet"
        if name == "arithmetic" and tools.CALCULATOR in talk.tools:
            return tools.calculator(talk)
        return SKILLS[name][0](talk)

    def _dialogue(self, talk: Talk, system: str, schemas: list[tools.Schema], thinking: bool, skill: str) -> Dialogue:
        """The exchanges as messages; a last exchange with a tool ends with its call or with its answer."""
        messages: list[Message] = [{"role": "system", "content": system}] if system else []
        for exchange in talk.exchanges[:-1]:
            messages += _messages(exchange, keep_thought=False)
        last = talk.exchanges[-1]
        ends_with_call = last.tool is not None and (
            skill == "tool_call" or (skill != "tool_answer" and self.rng.random() < 0.45)
        )
        messages += _messages(last, keep_thought=thinking and self.rng.random() < 0.6)
        if ends_with_call:
            messages = messages[:-2]
            if last.tool is not None:
                messages[-1]["reasoning_content"] = last.tool.thought
        else:
            messages[-1]["reasoning_content"] = last.thought
        return Dialogue(messages, schemas, thinking, skill or last.skill, talk.asked)


def _quotable(exchange: Exchange) -> bool:
    longest = max(len(exchange.question), len(exchange.answer))
    return longest <= skills.LONGEST_QUOTE * 2 and exchange.tool is None and "\n" not in exchange.answer


def _messages(exchange: Exchange, *, keep_thought: bool) -> list[Message]:
    """The exchange in the chat format; `keep_thought` leaves the thought before a tool call with it."""
    messages: list[Message] = [{"role": "user", "content": exchange.question}]
    if exchange.tool:
        function = {"name": exchange.tool.name, "arguments": exchange.tool.arguments}
        call: Message = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
        if keep_thought:
            call["reasoning_content"] = exchange.tool.thought
        messages += [call, {"role": "tool", "content": exchange.tool.result}]
    return [*messages, {"role": "assistant", "content": exchange.answer}]


def dialogues(seed: int) -> Iterator[Dialogue]:
    """Endless dialogues as they are at the end of training."""
    writer = Writer(seed)
    while True:
        yield writer.write()


def main() -> None:
    parser = argparse.ArgumentParser(description="Print generated dialogues.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=5)
    parser.add_argument("--progress", type=float, default=1.0, help="how far training is, 0 to 1")
    parser.add_argument("--skill", default="", help="what the last exchange shows")
    options = parser.parse_args()
    writer = Writer(options.seed)
    for _ in range(options.count):
        dialogue = writer.write(progress=options.progress, skill=options.skill)
        print("".join(f"[{text}]" if learnt else text for text, learnt in dialogue.segments()), end="\n=====\n")


if __name__ == "__main__":
    main()
