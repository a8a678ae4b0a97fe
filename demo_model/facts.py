"""Facts that a user tells and asks for again: how they are told, asked for, corrected and stated."""

from __future__ import annotations

from dataclasses import dataclass

from demo_model import lexicon
from demo_model.talk import Exchange, Talk

LISTED = {"colour": lexicon.COLOURS, "food": lexicon.FOODS, "like": lexicon.LIKES, "job": lexicon.JOBS}
BACK = {chinese: english for pairs in LISTED.values() for english, chinese in pairs.items()}


@dataclass(frozen=True, slots=True)
class Fact:
    """The phrasings of one fact as (English, Chinese) pairs; "|" parts the alternatives, {v} is the value."""

    told: tuple[str, str]
    asked: tuple[str, str]
    stated: tuple[str, str]
    noun: tuple[str, str]
    clause: tuple[str, str] = ("", "")  # how it is told in the middle of a sentence


FACTS = {
    "name": Fact(
        (
            "My name is {v}.|My name is {v}.|My name is {v}|I'm {v}.|I am {v}.|Call me {v}.|Hi, my name is {v}.|Hello! I'm {v}.|Please remember my name: {v}.|"
            "You can call me {v}.|The name is {v}.|My name's {v}.|People call me {v}.|Hi, I'm {v}!|Hello, I am {v}.|Please call me {v}.|Hello, my name is {v}. Nice to meet you.",
            "我叫{v}。|我叫{v}。|我的名字是{v}。|我的名字叫{v}。|你好，我叫{v}。|叫我{v}吧。|我是{v}。|请记住，我叫{v}。|你可以叫我{v}。|大家都叫我{v}。|你好，我是{v}。|我名叫{v}。|请叫我{v}。|你好！我的名字是{v}。",
        ),
        (
            "What is my name?|What's my name?|What is my name?|Do you remember my name?|Who am I?|What am I called?|Can you tell me my name?|Do you know my name?|Tell me my name.|"
            "What did I say my name was?|Say my name.|What was my name?|Do you still know my name?|What is my name again?|So, what is my name?|And what's my name?|Do you know who I am?",
            "我叫什么名字？|我叫什么？|我叫什么名字？|你记得我的名字吗？|我是谁？|我的名字是什么？|你知道我叫什么吗？|你还记得我叫什么吗？|说出我的名字。|告诉我我的名字。|我刚才说我叫什么？|你知道我是谁吗？|我的名字叫什么？|你还记得我是谁吗？",
        ),
        ("your name is {v}", "你叫{v}"),
        ("your name", "你的名字"),
        ("my name is {v}|I am {v}|I'm {v}|you can call me {v}", "我叫{v}|我的名字是{v}|我是{v}"),
    ),
    "city": Fact(
        (
            "I live in {v}.|I live in {v}|I am from {v}.|My city is {v}.|I come from {v}.|I'm from {v}.|My home is in {v}.|My home town is {v}.|I am living in {v}.|I live in the city of {v}.|I moved to {v}.|My house is in {v}.",
            "我住在{v}。|我住在{v}。|我来自{v}。|我的城市是{v}。|我是{v}人。|我家在{v}。|我现在住在{v}。|我在{v}生活。|我的家乡是{v}。|我搬到了{v}。|我住{v}。",
        ),
        (
            "Where do I live?|Where do I live?|Which city do I live in?|Where am I from?|What is my city?|What city do I live in?|Do you remember where I live?|Where is my home?|Do you know where I live?|In which city do I live?|"
            "Tell me where I live.|Where do I come from?|What's my city?|Where did I say I live?",
            "我住在哪里？|我住在哪里？|我来自哪里？|我住在哪个城市？|我的城市是哪个？|我家在哪里？|你记得我住在哪里吗？|你知道我住哪儿吗？|我住哪儿？|我住在哪儿？|我是哪里人？|告诉我我住在哪里。|我住在什么地方？",
        ),
        ("you live in {v}", "你住在{v}"),
        ("where you live", "你住在哪里"),
        ("I live in {v}|I am from {v}|I'm from {v}", "我住在{v}|我来自{v}|住在{v}"),
    ),
    "colour": Fact(
        (
            "My favourite colour is {v}.|My favorite color is {v}.|I like the colour {v} best.|My favorite color is {v}|The colour I like most is {v}.|I love the color {v}.|The best colour is {v}.|I like {v} most of all colours.|{v} is my favourite colour.|{v} is my favorite color.",
            "我最喜欢的颜色是{v}。|我最喜欢{v}。|我最爱的颜色是{v}。|我喜欢的颜色是{v}。|我最爱{v}。|{v}是我最喜欢的颜色。|颜色里我最喜欢{v}。|我喜爱的颜色是{v}。|我特别喜欢{v}。|我的幸运颜色是{v}。",
        ),
        (
            "What is my favourite colour?|What's my favorite color?|What is my favorite color?|Which colour do I like?|Do you remember my favourite colour?|What colour do I like best?|Which color is my favorite?|What's my favourite colour?|"
            "Tell me my favourite colour.|Do you know my favorite color?|What colour do I like?|What color do I like?",
            "我最喜欢什么颜色？|我喜欢什么颜色？|你记得我最喜欢的颜色吗？|我最喜欢的颜色是什么？|我喜欢的颜色是什么？|你知道我喜欢什么颜色吗？|我喜欢哪种颜色？|我最爱什么颜色？|告诉我我最喜欢的颜色。|我最爱的颜色是什么？",
        ),
        ("your favourite colour is {v}", "你最喜欢的颜色是{v}"),
        ("your favourite colour", "你最喜欢的颜色"),
        ("my favourite colour is {v}|my favorite color is {v}", "我最喜欢的颜色是{v}|最喜欢的颜色是{v}"),
    ),
    "pet": Fact(
        (
            "My pet is called {v}.|I have a pet named {v}.|My pet's name is {v}.|My dog is called {v}.|My cat is called {v}.|I have a dog named {v}.|I have a cat called {v}.|My dog's name is {v}.|My cat's name is {v}.|The name of my pet is {v}.|I have a pet. It is called {v}.",
            "我的宠物叫{v}。|我有一只宠物，名叫{v}。|我的狗叫{v}。|我的猫叫{v}。|我养了一只狗，叫{v}。|我有一只猫，名叫{v}。|我家的狗叫{v}。|我宠物的名字是{v}。|我的宠物名叫{v}。|我养了一只宠物，叫{v}。",
        ),
        (
            "What is my pet called?|What is the name of my pet?|What's my pet's name?|Do you remember my pet's name?|What is my pet's name?|How is my pet called?|Tell me the name of my pet.|Do you know the name of my pet?|What do I call my pet?|What was my pet's name?",
            "我的宠物叫什么？|我的宠物叫什么名字？|我宠物的名字是什么？|你记得我的宠物叫什么吗？|我的宠物名叫什么？|你知道我的宠物叫什么吗？|告诉我我宠物的名字。|我宠物叫什么？|我家的宠物叫什么？|你还记得我宠物的名字吗？",
        ),
        ("your pet is called {v}", "你的宠物叫{v}"),
        ("the name of your pet", "你宠物的名字"),
        ("my pet is called {v}|I have a pet named {v}|my pet's name is {v}", "我的宠物叫{v}|我有一只宠物，叫{v}"),
    ),
    "number": Fact(
        (
            "My lucky number is {v}.|Remember the number {v}.|My favourite number is {v}.|My number is {v}.|Please remember this number: {v}.|Keep the number {v} in mind.|The number is {v}.|My favorite number is {v}.|Remember {v}.|My secret number is {v}.",
            "我的幸运数字是{v}。|请记住数字{v}。|我的数字是{v}。|请记住这个数字：{v}。|数字是{v}。|我最喜欢的数字是{v}。|记住{v}。|记住数字{v}。|我的号码是{v}。|秘密数字是{v}。",
        ),
        (
            "What is my lucky number?|What number did I tell you?|Which number should you remember?|What is my number?|What was the number?|What's my favourite number?|Do you remember my number?|What is the number?|Tell me my number.|What's my number?|Which number did I say?|What's my favorite number?",
            "我的幸运数字是多少？|我让你记住的数字是多少？|我的数字是多少？|数字是多少？|你记得我的数字吗？|我说的数字是什么？|我最喜欢的数字是多少？|告诉我我的数字。|那个数字是多少？|我的号码是多少？",
        ),
        ("your number is {v}", "你的数字是{v}"),
        ("your number", "你的数字"),
        ("my lucky number is {v}|my number is {v}", "我的幸运数字是{v}|我的数字是{v}"),
    ),
    "food": Fact(
        (
            "My favourite food is {v}.|I like to eat {v}.|My favorite food is {v}.|I love to eat {v}.|The food I like most is {v}.|I like eating {v}.|I enjoy eating {v}.|The best food is {v}.|I eat {v} every day.|{v} is my favourite food.",
            "我最喜欢的食物是{v}。|我喜欢吃{v}。|我最爱吃{v}。|我最喜欢吃{v}。|我爱吃{v}。|我喜欢的食物是{v}。|我每天都吃{v}。|{v}是我最喜欢的食物。|我最爱的食物是{v}。|我特别爱吃{v}。",
        ),
        (
            "What is my favourite food?|What do I like to eat?|What's my favorite food?|What is my favorite food?|Which food do I like?|Do you remember my favourite food?|What food do I like best?|What do I love to eat?|Do you know what I like to eat?|Tell me my favourite food.",
            "我最喜欢的食物是什么？|我喜欢吃什么？|我最爱吃什么？|我最喜欢吃什么？|你记得我喜欢吃什么吗？|我爱吃什么？|你知道我喜欢吃什么吗？|告诉我我最喜欢的食物。|我喜欢的食物是什么？|我最爱的食物是什么？",
        ),
        ("your favourite food is {v}", "你最喜欢的食物是{v}"),
        ("your favourite food", "你最喜欢的食物"),
        ("my favourite food is {v}|I like to eat {v}", "我喜欢吃{v}|我最喜欢的食物是{v}"),
    ),
    "like": Fact(
        (
            "I like {v}.|I like {v}|I love {v}.|I really like {v}.|I like {v} a lot.|My hobby is {v}.|I am interested in {v}.|I enjoy {v}.|I'm a fan of {v}.|I like {v} very much.",
            "我喜欢{v}。|我喜欢{v}。|我爱{v}。|我很喜欢{v}。|我非常喜欢{v}。|我的爱好是{v}。|我对{v}感兴趣。|我真的喜欢{v}。|我爱好{v}。|我平时喜欢{v}。",
        ),
        (
            "What do I like?|What do I like?|What is my hobby?|What do I love?|Do you remember what I like?|What am I interested in?|What's my hobby?|Do you know what I like?|Tell me what I like.|What did I say I like?",
            "我喜欢什么？|我喜欢什么？|我的爱好是什么？|你记得我喜欢什么吗？|我爱什么？|你知道我喜欢什么吗？|我对什么感兴趣？|告诉我我喜欢什么。|我有什么爱好？|我说我喜欢什么？",
        ),
        ("you like {v}", "你喜欢{v}"),
        ("what you like", "你喜欢什么"),
        ("I like {v}|I love {v}", "我喜欢{v}|喜欢{v}"),
    ),
    "job": Fact(
        (
            "I am a {v}.|I work as a {v}.|My job is {v}.|I'm a {v}.|I am a {v} by profession.|My job: {v}.|I earn my living as a {v}.|My work is being a {v}.|I have a job as a {v}.|By trade I am a {v}.",
            "我是一名{v}。|我的工作是{v}。|我的职业是{v}。|我是个{v}。|我是一位{v}。|我做{v}的工作。|我当{v}。|我的职业：{v}。|我的工作是当{v}。|我是做{v}的。",
        ),
        (
            "What is my job?|What's my job?|What do I do for a living?|What do I work as?|Do you remember my job?|What is my profession?|What is my work?|Tell me my job.|Do you know my job?|What job do I have?",
            "我的工作是什么？|我是做什么的？|我的职业是什么？|你记得我的工作吗？|我做什么工作？|你知道我的职业吗？|告诉我我的职业。|我是干什么的？|我的工作是做什么？|你记得我的职业吗？",
        ),
        ("your job is {v}", "你的职业是{v}"),
        ("your job", "你的职业"),
        ("I am a {v}|I work as a {v}", "我是一名{v}|我的职业是{v}"),
    ),
    "age": Fact(
        (
            "I am {v} years old.|My age is {v}.|I'm {v} years old.|I am {v}.|I'm {v}.|I turned {v} this year.|I just turned {v}.|I am {v} years old|My age: {v}.|I am already {v} years old.",
            "我今年{v}岁。|我{v}岁了。|我的年龄是{v}。|我{v}岁。|我已经{v}岁了。|我刚满{v}岁。|今年我{v}岁。|我的年龄：{v}岁。|我现在{v}岁。|我今年{v}岁了。",
        ),
        (
            "How old am I?|What is my age?|What's my age?|Do you know how old I am?|Do you remember my age?|How old did I say I am?|Tell me how old I am.|How old am I now?|Do you know my age?|Tell me my age.",
            "我多大了？|我今年几岁？|我几岁了？|我的年龄是多少？|你知道我多大吗？|你记得我几岁吗？|我多少岁？|告诉我我的年龄。|我今年多大？|我几岁？",
        ),
        ("you are {v} years old", "你今年{v}岁"),
        ("your age", "你的年龄"),
        ("I am {v} years old|I'm {v} years old", "我今年{v}岁|今年{v}岁"),
    ),
    "word": Fact(
        (
            "The secret word is {v}.|Remember this word: {v}.|My password is {v}.|Remember the word {v}.|Please remember the word {v}.|The password is {v}.|My secret word is {v}.|The word is {v}.|Keep this word: {v}.|Please keep the word {v} in mind.",
            "秘密单词是{v}。|请记住这个词：{v}。|暗号是{v}。|请记住单词{v}。|密码是{v}。|我的密码是{v}。|记住这个词：{v}。|记住{v}这个词。|单词是{v}。|我们的暗号是{v}。",
        ),
        (
            "What is the secret word?|What word did I tell you?|Which word should you remember?|What is the password?|What was the word?|Do you remember the word?|Tell me the secret word.|What's the secret word?|What's my password?|What is the word?|What is my password?|What's the password?",
            "秘密单词是什么？|我让你记住的词是什么？|暗号是什么？|密码是什么？|那个词是什么？|你记得那个词吗？|单词是什么？|告诉我暗号。|我的密码是什么？|我们的暗号是什么？",
        ),
        ("the word is {v}", "那个词是{v}"),
        ("the word", "那个词"),
        ("the secret word is {v}|the password is {v}", "暗号是{v}|密码是{v}"),
    ),
}
COMMON_KEYS = (
    "name",
    "name",
    "name",
    "name",
    "city",
    "city",
    "colour",
    "colour",
    "pet",
    "pet",
    "number",
    "number",
    "food",
    "like",
    "job",
    "age",
    "word",
)
CORRECTED = (
    "Actually, {s}|Actually, {s}|Sorry, {s}|No, {s}|Correction: {s}|Sorry, I was wrong. {s}|I made a mistake: {s}|Wait, {s}|No wait, {s}|In fact, {s}|Oh no, {s}|That was wrong, {s}",
    "其实{s}|其实，{s}|不对，{s}|更正一下，{s}|对不起，我说错了，{s}|我说错了，{s}|错了，{s}|等等，{s}|不，{s}|抱歉，{s}|实际上{s}",
)
ABOUT = (
    "What do you know about me?|Tell me what you remember about me.|What do you remember about me?|What have I told you about me?|What did I tell you about myself?|Tell me about me.|What do you remember?|What have you learned about me?|Summarize what you know about me.|List what you know about me.",
    "你知道我的什么？|你还记得我说过什么？|关于我你知道什么？|你记得我的什么？|你了解我什么？|说说你知道的关于我的事。|你对我了解多少？|你都记得我什么？|总结一下你知道的关于我的事。|我告诉过你什么？",
)


def new_value(talk: Talk, key: str) -> str:
    """A value for the fact, as it is written in the language of the question."""
    if key in LISTED:
        english, chinese = talk.rng.choice(list(LISTED[key].items()))
        return english if talk.asked == "en" else chinese
    if key in ("name", "pet"):
        return talk.values.name(talk.asked)
    if key == "city":
        return talk.values.city(talk.asked)
    if key == "word":
        return talk.values.word(talk.asked)
    return talk.values.number() if key == "number" else str(talk.rng.randint(5, 99))


def state(talk: Talk, key: str, language: str = "") -> str:
    """The fact as a clause without capital and full stop, e.g. "your name is Kim". Listed values are translated."""
    value = talk.facts[key]
    language = language or talk.answered
    if key in LISTED:
        english = BACK.get(value, value) if value not in LISTED[key] else value
        value = english if language == "en" else LISTED[key][english]
    return FACTS[key].stated[language == "zh"].format(v=value)


def sentence(clause: str) -> str:
    """The clause as a sentence of its own language."""
    return clause[0].upper() + clause[1:] + ("。" if clause.startswith(("你", "那个词")) else ".")


def tell(talk: Talk, key: str = "") -> Exchange:
    """The user tells one fact, new or corrected."""
    key = key or talk.rng.choice(COMMON_KEYS)
    known = key in talk.facts
    old = talk.facts.get(key)
    value = new_value(talk, key)
    while value == old:
        value = new_value(talk, key)
    talk.facts[key] = value
    if known and talk.chance(0.85) or talk.chance(0.02):
        statement = talk.rng.choice(FACTS[key].clause[talk.asked == "zh"].split("|")) + (".", "。")[talk.asked == "zh"]
        lead = talk.rng.choice(CORRECTED[talk.asked == "zh"].split("|"))
        if lead.split("{s}")[0].endswith(". "):
            statement = statement[0].upper() + statement[1:]
        question = talk.typed(lead.replace("{s}", statement), greet=False).format(v=value)
    else:
        question = talk.ask(*FACTS[key].told, v=value)
    clause = state(talk, key)
    if known:
        answer = talk.say(f"OK, I have updated that: {clause}.", f"好的，我改好了：{clause}。")
        return Exchange(
            "correct", question, answer, talk.say(f"The user corrects a fact: {clause}.", f"用户更正：{clause}。")
        )
    if key == "name":
        answer = talk.say(f"Nice to meet you, {value}!", f"很高兴认识你，{value}！")
    else:
        answer = talk.say(f"OK, I will remember that {clause}.", f"好的，我记住了：{clause}。")
    return Exchange(
        "tell", question, answer, talk.say(f"The user tells me a fact: {clause}.", f"用户告诉我：{clause}。")
    )


def correct(talk: Talk) -> Exchange:
    """The user gives a fact told before another value; without such a fact, tells a first one."""
    return tell(talk, talk.rng.choice(list(talk.facts)) if talk.facts else "")


def tell_two(talk: Talk) -> Exchange:
    """The user tells two facts in one message."""
    fresh = sorted(set(COMMON_KEYS) - set(talk.facts))
    if len(fresh) < 2:
        return tell(talk)
    first = "name" if "name" in fresh and talk.chance(0.6) else talk.rng.choice(fresh)
    second = talk.rng.choice([key for key in fresh if key != first])
    for key in (first, second):
        talk.facts[key] = new_value(talk, key)
    clauses = [
        talk.rng.choice(FACTS[key].clause[talk.asked == "zh"].split("|")).replace("{v}", "{" + slot + "}")
        for key, slot in ((first, "a"), (second, "b"))
    ]
    clauses[0] = clauses[0][0].upper() + clauses[0][1:]
    joint = talk.rng.choice((" and ", " and ", ", and ", ". ") if talk.asked == "en" else ("，", "，", "。", "，而且"))
    if joint == ". ":
        clauses[1] = clauses[1][0].upper() + clauses[1][1:]
    question = talk.typed(joint.join(clauses) + (".", "。")[talk.asked == "zh"]).format(
        a=talk.facts[first], b=talk.facts[second]
    )
    one, two = state(talk, first), state(talk, second)
    if first == "name":
        name = talk.facts["name"]
        answer = talk.say(
            f"Nice to meet you, {name}! I will remember that {two}.", f"很高兴认识你，{name}！我记住了：{two}。"
        )
    else:
        answer = talk.say(f"OK, I will remember that {one} and {two}.", f"好的，我记住了：{one}，{two}。")
    thought = talk.say(f"The user tells me two facts: {one} and {two}.", f"用户告诉我两件事：{one}，{two}。")
    return Exchange("tell_two", question, answer, thought)


def recall(talk: Talk, key: str = "") -> Exchange:
    """The user asks for a fact told before; where it was not told, the answer says so."""
    if not key and len(talk.facts) > 1 and talk.chance(0.1):
        return _recall_two(talk)
    if not key:
        key = talk.rng.choice(sorted(talk.facts)) if talk.facts and talk.chance(0.75) else talk.rng.choice(COMMON_KEYS)
    question = talk.ask(*FACTS[key].asked)
    if key not in talk.facts:
        english, chinese = FACTS[key].noun
        answer = talk.say(f"You have not told me {english} yet.", f"你还没有告诉我{chinese}。")
        return Exchange(
            "not_told", question, answer, talk.say("I look in the chat, but it is not there.", "前面的对话里没有说过。")
        )
    clause = state(talk, key)
    return Exchange(
        "recall",
        question,
        sentence(clause),
        talk.say(f"I look in the chat: {clause}.", f"我看看前面的对话：{clause}。"),
    )


def _recall_two(talk: Talk) -> Exchange:
    """The user asks for two facts in one message."""
    first, second = talk.rng.sample(sorted(talk.facts), 2)
    chinese = talk.asked == "zh"
    one, two = (talk.rng.choice(FACTS[key].asked[chinese].split("|")) for key in (first, second))
    joined = one.rstrip(".?") + " and " + two[0].lower() + two[1:] if not chinese else one.rstrip("。？") + "，" + two
    clauses = state(talk, first), state(talk, second)
    answer = talk.say(sentence(" and ".join(clauses)), "，".join(clauses) + "。")
    thought = talk.say(
        f"I look in the chat: {clauses[0]} and {clauses[1]}.", f"我看看前面的对话：{clauses[0]}，{clauses[1]}。"
    )
    return Exchange("recall", talk.typed(joined), answer, thought)


def about(talk: Talk) -> Exchange:
    """The user asks for all that was told."""
    question = talk.ask(*ABOUT)
    if not talk.facts:
        answer = talk.say("You have not told me anything about you yet.", "你还没有告诉我任何事。")
        return Exchange(
            "about", question, answer, talk.say("I look in the chat, but it is not there.", "前面的对话里没有说过。")
        )
    clauses = [state(talk, key) for key in talk.facts]
    answer = talk.say(" ".join(sentence(clause) for clause in clauses), "，".join(clauses) + "。")
    return Exchange(
        "about", question, answer, talk.say("I collect the facts from the chat.", "我把前面的事情总结一下。")
    )
