"""Questions that the demo model cannot answer: topics times phrasings, places and people that do not exist, and noise."""

from __future__ import annotations

from demo_model import lexicon
from demo_model.skills import unknown_answer
from demo_model.talk import Exchange, Talk
from demo_model.tools import WEATHER_ASKED, calculation_asked

ABOUT_TOPIC = (
    "What is {x}?|Explain {x}.|Tell me about {x}.|Who invented {x}?|Why is {x} important?|What do you think about {x}?|Give me a summary of {x}.|Can you help me with {x}?|How does {x} work?|"
    "Write an essay about {x}.|When was {x} discovered?|What is the history of {x}?|Compare {x} and {y}.|I want to learn about {x}.|Where can I find {x}?|Is {x} good or bad?|What is the best way to learn {x}?|"
    "Give me three facts about {x}.|Do you know {x}?|Who was {x}?|Do you like {x}?|Should I worry about {x}?|Explain {x} in simple words.|What are the types of {x}?|Why is {x} so popular?|Is {x} real?|How old is {x}?|"
    "Why does {x} exist?|What happened to {x}?|Write a letter about {x}.|Talk about {x}.|Which is better, {x} or {y}?|Let's talk about {x}.|Describe {x}.|How much does {x} cost?|When does {x} start?|Are {x} and {y} the same?",
    "什么是{x}？|解释一下{x}。|介绍一下{x}。|谁发明了{x}？|{x}为什么重要？|你怎么看{x}？|总结一下{x}。|你能帮我了解{x}吗？|{x}是怎么工作的？|写一篇关于{x}的文章。|{x}的历史是什么？|比较{x}和{y}。|我想学习{x}。|哪里可以找到{x}？|{x}好不好？|"
    "说三个关于{x}的事实。|你知道{x}吗？|{x}是谁？|给我讲讲{x}。|{x}是什么？|为什么会有{x}？|{x}多少钱？|怎么学{x}？|{x}和{y}有什么区别？|{x}什么时候开始？|你对{x}有什么看法？|谈谈{x}。|用简单的话解释{x}。|{x}真的存在吗？|聊聊{x}吧。|{x}有哪些种类？|描述一下{x}。",
)
ABOUT_WORK = (
    "How do I {v} {n}?|Can you {v} {n} for me?|What do I need to {v} {n}?|How long does it take to {v} {n}?|Should I {v} {n}?|I want to {v} {n}.|Help me to {v} {n}.|Is it hard to {v} {n}?|How can I {v} {n}?|Teach me to {v} {n}.|"
    "Write me {n}.|Recommend {n}.|Where can I {v} {n}?|Who can {v} {n}?|Show me how to {v} {n}.|Give me tips to {v} {n}.|What is the price of {n}?",
    "怎么{v}{n}？|你能帮我{v}{n}吗？|{v}{n}需要什么？|{v}{n}要多久？|我应该{v}{n}吗？|我想{v}{n}。|教我{v}{n}。|{v}{n}难吗？|如何{v}{n}？|推荐一个{n}。|哪里可以{v}{n}？|谁会{v}{n}？|帮我写{n}。|{n}多少钱？|给我一些{v}{n}的建议。",
)
ABOUT_WORLD = (
    "What is the capital of {p}?|Who is {p}?|Who is the president of {p}?|What will happen in {n}?|Who won the game in {n}?|How far is {p} from {q}?|Where is {p}?|What is the population of {p}?|What is the square root of {n}?|"
    "What time is it?|What is the date today?|What day is it?|Why is the sky blue?|Tell me a joke.|What is the weather in {p}?|How is the weather today?|What is the weather like in {p}?|Sing a song.|What is {n} + {n}?|What is {n} * {n}?|What is {n} divided by 7?|What is {n} - 12?|{n} + 5|"
    "Solve x + {n} = 9.|Play a game with me.|Book a flight to {p}.|Open the file {q}.|Search the web for {q}.|What's the meaning of {q}?|Is {p} bigger than {q}?|Translate {q} into Chinese.|Who is {p} {q}?|What is {q}?|What does {q} mean?|Send an email to {p}.|What is my phone number?|What is my mother called?|What did I eat yesterday?",
    "{p}的首都是哪里？|{p}是谁？|{p}的总统是谁？|{n}年会发生什么？|{n}年谁赢了比赛？|{p}离{q}多远？|{p}在哪里？|{p}有多少人口？|{n}的平方根是多少？|现在几点？|今天几号？|今天星期几？|天空为什么是蓝色的？|讲个笑话。|{p}天气怎么样？|今天天气怎么样？|{p}的天气如何？|"
    "唱首歌。|{n}+{n}等于多少？|{n}*{n}等于多少？|{n}除以7是多少？|{n}-12等于多少？|{n}加5等于几？|陪我玩游戏。|订一张去{p}的机票。|打开文件{q}。|上网搜索{q}。|{q}是什么意思？|{p}比{q}大吗？|把{q}翻译成英文。|{q}是什么？|给{p}发邮件。|我的电话号码是多少？|我妈妈叫什么？|我昨天吃了什么？",
)


def unknown(talk: Talk) -> Exchange:
    """A question, a request or noise that no skill answers."""
    kind = talk.rng.random() * (0.6 if talk.tools else 1)  # with tools, some of the rest could be answered
    if not talk.tools and talk.chance(0.15):
        question = _asked_of_a_tool(talk)
    elif kind < 0.4:
        topics = lexicon.TOPICS if talk.asked == "en" else lexicon.CHINESE_TOPICS
        subject = talk.rng.choice(topics) if talk.chance(0.75) else _noise(talk)
        question = talk.ask(*ABOUT_TOPIC, x=subject, y=talk.rng.choice(topics))
    elif kind < 0.6:
        verbs = lexicon.VERBS if talk.asked == "en" else lexicon.CHINESE_VERBS
        things = lexicon.THINGS if talk.asked == "en" else lexicon.CHINESE_THINGS
        question = talk.ask(*ABOUT_WORK, v=talk.rng.choice(verbs), n=talk.rng.choice(things))
    elif kind < 0.9:
        number = str(
            talk.rng.choice((talk.rng.randint(1000, 99999), talk.rng.randint(1800, 2100), talk.rng.randint(200, 999)))
        )
        question = talk.ask(*ABOUT_WORLD, p=talk.values.city(talk.asked), q=_noise(talk), n=number)
    else:
        question = talk.typed("{q}" + talk.rng.choice(("", "", "?", ".", "!")), greet=False).format(q=_noise(talk))
    return Exchange("unknown", question, unknown_answer(talk), talk.say("I do not know this.", "这个我不懂。"))


def _asked_of_a_tool(talk: Talk) -> str:
    """What only a tool could answer, so that without one the model says so instead of calling."""
    if talk.chance(0.7):
        return talk.ask(*WEATHER_ASKED, c=talk.values.city(talk.asked))
    question, numbers = calculation_asked(talk)
    return question if max(numbers[0], numbers[2]) > 999 else _asked_of_a_tool(talk)


def _noise(talk: Talk) -> str:
    """Words or characters that mean nothing together."""
    if talk.asked == "zh":
        return talk.values.han(2, 8)
    if talk.chance(0.25):
        return "".join(talk.rng.choices("asdfghjklqwertyuiopzxcvbnm", k=talk.rng.randint(3, 9)))
    return " ".join(talk.values.made_up() for _ in range(talk.rng.choice((1, 1, 2, 3, 5))))
