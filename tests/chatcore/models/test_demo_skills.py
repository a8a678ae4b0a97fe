"""What the demo model is good at reaches the user whole: turns, system messages, stop tokens, tools, long answers.

Greedy decoding without thinking, and only skills of 0.95 and more on the model's card.
"""

from __future__ import annotations

import pytest

D = "You are a helpful assistant."
ENGLISH_UNKNOWN = "I am only a tiny demo model, I don't know that."
CHINESE_UNKNOWN = "我只是一个很小的演示模型，我不知道这个。"
DIALOGUES = {
    "facts_in_english": (
        D,
        ("Hello!", "Hello! I am a tiny demo model. How can I help you?"),
        (
            "My name is Zorvan and I like trains.",
            "Nice to meet you, Zorvan! I will remember that you like trains.",
        ),
        ("I live in Paris.", "OK, I will remember that you live in Paris."),
        ("What is my name?", "Your name is Zorvan."),
        ("Where do I live?", "You live in Paris."),
        ("Actually, my name is Kim.", "OK, I have updated that: your name is Kim."),
        ("What's my name?", "Your name is Kim."),
    ),
    "facts_in_chinese": (
        D,
        ("你好", "你好！我是一个很小的演示模型。有什么可以帮你？"),
        ("我叫韩梅梅。", "很高兴认识你，韩梅梅！"),
        ("我最喜欢的颜色是绿色。", "好的，我记住了：你最喜欢的颜色是绿色。"),
        ("苹果用英语怎么说？", "苹果的英文是apple。"),
        ("我叫什么名字？", "你叫韩梅梅。"),
        ("我喜欢什么颜色？", "你最喜欢的颜色是绿色。"),
    ),
    "other_things_between": (
        D,
        ("My dog is called Waffle.", "OK, I will remember that your pet is called Waffle."),
        ("Who was Napoleon?", ENGLISH_UNKNOWN),
        (
            "List the days of the week.",
            "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday",
        ),
        ("What is my pet called?", "Your pet is called Waffle."),
    ),
    "not_told_yet": (
        D,
        ("What is my name?", "You have not told me your name yet."),
        ("My name is Ada.", "Nice to meet you, Ada!"),
        ("What is my name?", "Your name is Ada."),
    ),
    "persona": (
        "You are Captain Bob, a pirate.",
        ("Who are you?", "I am Captain Bob, a pirate."),
        ("My name is Tom.", "Nice to meet you, Tom!"),
        ("What is my name?", "Your name is Tom."),
        ("What is your name?", "My name is Captain Bob."),
    ),
    "chinese_persona": (
        "你叫小明，是一个机器人。",
        ("你是谁？", "我是小明，一个机器人。"),
        ("你叫什么名字？", "我叫小明。"),
    ),
    "no_system_message": (
        "",
        ("Remember the number 48213.", "OK, I will remember that your number is 48213."),
        ("What number did I tell you?", "Your number is 48213."),
    ),
    "repeating": (
        D,
        ("Repeat after me: the quick brown fox", "the quick brown fox"),
        ("请重复：今天天气很好", "今天天气很好"),
    ),
    "unknown": (D, ("Why is the sky blue?", ENGLISH_UNKNOWN), ("怎么做红烧肉？", CHINESE_UNKNOWN)),
    "long_answer": (D, ("Count to 100.", ", ".join(str(number) for number in range(1, 101)))),
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_dialogue_goes_as_the_model_learnt_it(name, llm):
    system, *turns = DIALOGUES[name]
    history: list[tuple[str, str]] = []
    for question, answer in turns:
        reply, history = llm.chat(question, history, system, temperature=0.0, enable_thinking=False)
        assert reply == answer
