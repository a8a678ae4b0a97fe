"""The skills of the demo model apart from facts and tools: each function writes one exchange of a dialogue."""

from __future__ import annotations

from demo_model import lexicon
from demo_model.talk import Exchange, Talk

LONGEST_QUOTE = 60  # characters: a longer message is not asked to be said again


def unknown_answer(talk: Talk) -> str:
    """What the model says to everything that it has not learned."""
    return talk.say("I am only a tiny demo model, I don't know that.", "我只是一个很小的演示模型，我不知道这个。")


def greet(talk: Talk) -> Exchange:
    """A greeting, without or with a name from the system message."""
    question = talk.ask(
        "Hello!|Hello|Hi|Hi!|Hi there!|Hey|Hey!|Good morning|Good evening!|Hello there|hello|hi|Good afternoon.|Greetings!|Hello, assistant!|Hi, nice to meet you!|Hey there|Good day!|Hello hello|Hi again",
        "你好|你好！|您好|您好！|嗨|嗨！|早上好|早上好！|晚上好|下午好！|你好啊|你好呀！|哈喽|大家好|你好你好|喂|上午好|你好，助手！|嘿|很高兴认识你",
    )
    if talk.persona:
        name = talk.persona.name
        answer = talk.say(f"Hello! I am {name}. How can I help you?", f"你好！我是{name}。有什么可以帮你？")
    else:
        answer = talk.say(
            "Hello! I am a tiny demo model. How can I help you?", "你好！我是一个很小的演示模型。有什么可以帮你？"
        )
    return Exchange("greet", question, answer, talk.say("The user greets me.", "用户跟我打招呼。"))


def who(talk: Talk) -> Exchange:
    """Who the assistant is: the name from the system message, or a tiny demo model."""
    asks_name = talk.chance(0.5)
    if asks_name:
        question = talk.ask(
            "What is your name?|What's your name?|What is your name|What are you called?|Tell me your name.|Do you have a name?|May I know your name?|Your name?|What should I call you?|How should I call you?|And your name is?|Hi! What is your name?|Say your name.|Can you tell me your name?",
            "你叫什么名字？|你叫什么？|你的名字是什么？|告诉我你的名字。|你有名字吗？|怎么称呼你？|我应该叫你什么？|你的名字？|请问你叫什么名字？|你好，你叫什么名字？|你叫啥？|说出你的名字。|可以告诉我你的名字吗？",
        )
    else:
        question = talk.ask(
            "Who are you?|Who are you?|who are you|Hi! Who are you?|What are you?|Introduce yourself.|Tell me about yourself.|Please introduce yourself.|Who am I talking to?|Who is this?|Hello, who are you?|And who are you?|Can you introduce yourself?|Who am I speaking with?|Tell me who you are.",
            "你是谁？|你是谁？|你是什么？|介绍一下你自己。|请介绍一下你自己。|自我介绍一下。|你好，你是谁？|我在和谁说话？|请问你是谁？|你到底是谁？|说说你是谁。|告诉我你是谁。|你是哪位？|做个自我介绍吧。",
        )
    thought = talk.say("The user asks who I am.", "用户问我是谁。")
    if talk.persona:
        name, role = talk.persona.name, talk.persona.role
        if asks_name:
            answer = talk.say(f"My name is {name}.", f"我叫{name}。")
        elif role:
            answer = talk.say(f"I am {name}, {role}.", f"我是{name}，{role}。")
        else:
            answer = talk.say(f"I am {name}.", f"我是{name}。")
        thought = talk.say(f"The system message says that I am {name}.", f"系统消息说我是{name}。")
    elif asks_name:
        answer = talk.say("I have no name, I am a tiny demo model.", "我没有名字，我是一个很小的演示模型。")
    else:
        answer = talk.say(
            "I am a tiny demo model that runs on your own computer. I know very little, but I can show how this chat program works.",
            "我是一个很小的演示模型，运行在你自己的电脑上。我懂得很少，但可以展示这个聊天程序怎么用。",
        )
    return Exchange("identity", question, answer, thought)


SELF = (
    (
        "What can you do?|What are you able to do?|Help|help me|How can you help me?|What do you know?|What are your skills?|What can I ask you?|Show me what you can do.|What are you good at?|Can you help me?|How do you work?",
        "你会什么？|你能做什么？|你会做什么？|帮助|你能帮我做什么？|你有什么本领？|我可以问你什么？|你擅长什么？|你有什么功能？|你可以做什么？|你能帮我吗？|你都会些什么？",
        "I can remember what you tell me, count, do small sums, list things, translate words, repeat words, call tools, and write a story, a poem, a table or code.",
        "我可以记住你说的话、数数、做简单的计算、列清单、翻译单词、重复词语、调用工具，还能写故事、诗、表格和代码。",
    ),
    (
        "How are you?|How are you doing?|How's it going?|How do you do?|Are you OK?|How are you today?|What's up?|How do you feel?|Are you well?|How is it going?|How have you been?",
        "你好吗？|你怎么样？|最近怎么样？|你还好吗？|你今天好吗？|过得怎么样？|近来可好？|你感觉怎么样？|最近好吗？|一切都好吗？",
        "I am fine, thank you! How can I help you?",
        "我很好，谢谢！有什么可以帮你？",
    ),
    (
        "Who made you?|Who created you?|Who built you?|Who trained you?|Where do you come from?|How were you made?|Who wrote you?|Who is your maker?|How were you trained?|Who developed you?",
        "谁创造了你？|谁做的你？|谁训练了你？|你从哪里来？|你是怎么做出来的？|谁开发了你？|你是谁做的？|你是怎么训练的？|谁写的你？|是谁开发的你？",
        "I was trained from scratch on generated dialogues, only to show how this chat program works.",
        "我是用生成的对话从零训练出来的，只为展示这个聊天程序怎么用。",
    ),
    (
        "Are you a human?|Are you a robot?|Are you ChatGPT?|Are you real?|Are you Qwen?|Are you a person?|Are you an AI?|Are you GPT-4?|Are you a machine?|Are you alive?|Are you a real person?|Are you a bot?",
        "你是人吗？|你是机器人吗？|你是ChatGPT吗？|你是真人吗？|你是通义千问吗？|你是人类吗？|你是人工智能吗？|你是机器吗？|你是活的吗？|你是真的人吗？",
        "I am a tiny language model, made only for demonstration.",
        "我是一个很小的语言模型，只用来演示。",
    ),
    (
        "How big are you?|How many parameters do you have?|What is your size?|How large are you?|How small are you?|What size are you?|How many parameters?|How many weights do you have?",
        "你有多大？|你有多少参数？|你的大小是多少？|你的参数量是多少？|你有多小？|你有几个参数？|多少参数？|你的模型多大？",
        "I have about three million parameters, which is very little.",
        "我只有大约三百万个参数，非常少。",
    ),
    (
        "Thanks!|Thank you!|Thank you|Thanks|Thanks a lot!|Thank you very much!|Great, thanks!|Many thanks|thx|Thank you so much.|Cool, thank you!|Nice, thanks",
        "谢谢|谢谢！|谢谢你|谢谢你！|多谢|非常感谢！|感谢|太好了，谢谢！|谢了|十分感谢。|好的，谢谢|谢谢您！",
        "You are welcome!",
        "不客气！",
    ),
    (
        "Bye|Goodbye!|Bye bye|See you!|Good night|See you later.|Goodbye|I have to go.|See you tomorrow!|Good night!|Farewell|Bye!",
        "再见|再见！|拜拜|晚安|回头见|明天见！|我要走了。|下次再见|拜拜！|晚安！|我走了，再见|先这样，再见。",
        "Goodbye! Have a nice day.",
        "再见！祝你愉快。",
    ),
    (
        "OK|Good|Great!|Nice|Yes|No|Good job!|Well done|Cool|You are right.|I see|That is right.|Very good!|Perfect|Fine",
        "好的|好|很好！|不错|对|不对|做得好！|没错|知道了|明白了|嗯|行|太好了！|是的|完美",
        "OK! What else can I do for you?",
        "好的！还有什么可以帮你？",
    ),
)


def chat(talk: Talk) -> Exchange:
    """Small talk: thanks, goodbye, and questions about the model that a system message does not change."""
    english, chinese, answer, chinese_answer = talk.rng.choice(SELF)
    thought = talk.say("This is small talk.", "这是闲聊。")
    return Exchange("small_talk", talk.ask(english, chinese), talk.say(answer, chinese_answer), thought)


def made_sentence(talk: Talk) -> str:
    """A short sentence, of sense or not, in the language of the question."""
    if talk.asked == "zh":
        pieces = list(lexicon.DICTIONARY.values()) + [
            "我",
            "你",
            "他",
            "在",
            "的",
            "是",
            "有",
            "和",
            "不",
            "去",
            "看",
            "喜欢",
            "很",
            "了",
            "要",
            "一个",
        ]
        text = "".join(talk.rng.choices(pieces, k=talk.rng.randint(2, 6)))
        return text + talk.values.han(1, 4) if talk.chance(0.4) else text
    words = talk.rng.choices(lexicon.SENTENCE_WORDS, k=talk.rng.randint(2, 8))
    for index in range(len(words)):
        if talk.chance(0.15):
            words[index] = talk.values.word("en")
    text = " ".join(words)
    return text[0].upper() + text[1:] if talk.chance(0.4) else text


def repeat(talk: Talk) -> Exchange:
    """A word, a string or a sentence that is to be said back exactly."""
    kind = talk.rng.choice(("word", "word", "sentence", "sentence", "number", "odd"))
    if kind == "word":
        text = " ".join(talk.values.word(talk.asked) for _ in range(talk.rng.choice((1, 1, 1, 2, 3))))
    elif kind == "sentence":
        text = made_sentence(talk)
    elif kind == "number":
        text = talk.values.number()
    else:
        text = (
            talk.values.han(2, 8)
            if talk.asked == "zh"
            else " ".join(talk.values.made_up() for _ in range(talk.rng.randint(1, 6)))
        )
    if talk.chance(0.15):
        text += talk.rng.choice("!.?") if talk.asked == "en" else talk.rng.choice("！。？")
    question = talk.ask(
        'Repeat after me: {t}|Repeat: {t}|Say: {t}|Say {t}|Please repeat: {t}|Repeat the following: {t}|Repeat this: {t}|Echo: {t}|Please say: {t}|Can you say {t}|Say it back: {t}|Write exactly: {t}|Repeat these words: {t}|Repeat after me. {t}|Say this: {t}|Repeat {t}|echo {t}|Repeat exactly: {t}|Just say {t}|Say "{t}".|Repeat "{t}"',
        "跟我说：{t}|重复：{t}|请重复：{t}|请说：{t}|跟我念：{t}|说：{t}|重复一下：{t}|复述：{t}|请跟我说：{t}|请重复这句话：{t}|重复下面的话：{t}|说{t}|重复{t}|请说{t}|照着说：{t}|请复述：{t}|跟着我说：{t}|念：{t}|重复这个词：{t}|请说“{t}”。|重复“{t}”",
        t=text,
    )
    return Exchange("repeat", question, text, talk.say("I say it back.", "我照着说。"))


def said_before(talk: Talk) -> Exchange:
    """The user asks for an earlier message, their own or the model's."""
    own = talk.chance(0.6)
    if own:
        question = talk.ask(
            "What did I say before?|What did I just say?|What was my last message?|What did I say?|Repeat my last message.|What did I write before this?|What was my previous message?|Quote my last message.|What did I just tell you?|What have I just said?|Do you remember what I just said?|Say what I said before.",
            "我刚才说了什么？|我上一句说了什么？|我之前说了什么？|我刚说了什么？|我上一条消息是什么？|重复我的上一句话。|我刚刚说了什么？|我前面说了什么？|你记得我刚才说了什么吗？|我上一句话是什么？",
        )
    else:
        question = talk.ask(
            "Repeat your last answer.|Say that again.|Again please|What did you say?|What did you just say?|Can you say that again?|Please repeat your answer.|Once more please.|Repeat what you said.|Sorry, what did you say?|What was your last answer?|I did not get that, say it again.",
            "再说一遍。|重复你刚才的回答。|你刚才说什么？|请再说一遍。|你说什么？|再说一次|重复一下你的回答。|你刚刚说了什么？|你上一句说了什么？|没听清，再说一遍。",
        )
    before = talk.exchanges[-1] if talk.exchanges else None
    if before is None:
        answer = (
            talk.say("This is your first message.", "这是你的第一条消息。")
            if own
            else talk.say("I have not said anything yet.", "我还没有说过话。")
        )
        return Exchange(
            "said_before", question, answer, talk.say("There is no message before this one.", "前面没有消息。")
        )
    if own:
        answer = talk.say(f"You said: {before.question}", f"你说：{before.question}")
        return Exchange(
            "said_before", question, answer, talk.say("I look at the user's last message.", "我看看用户的上一条消息。")
        )
    return Exchange("said_before", question, before.answer, talk.say("I repeat my last answer.", "我重复刚才的回答。"))


def count(talk: Talk, *, far: bool = False) -> Exchange:
    """Counting up, in digits, from one or another number; `far` counts to 50 or 100."""
    start, end = 1, talk.rng.choice((3, 5, 10, 10, 12, 15, 20, 20, 25, 30, talk.rng.randint(2, 30)))
    if far:
        end = talk.rng.choice((50, 100, 100, 100, talk.rng.randint(40, 100)))
    elif talk.chance(0.3):
        start = talk.rng.randint(2, 90)
        end = start + talk.rng.randint(2, 12)
    if start == 1 and talk.chance(0.7):
        question = talk.ask(
            "Count to {e}.|Count to {e}|Please count to {e}.|Can you count to {e}?|count up to {e}|Count up to {e}, please.|Count for me to {e}.|Could you count to {e}?|I want you to count to {e}.|Now count to {e}.",
            "数到{e}。|数到{e}|请数到{e}。|你能数到{e}吗？|从头数到{e}。|数数到{e}。|请你数到{e}。|给我数到{e}。|帮我数到{e}。|现在数到{e}。",
            e=str(end),
        )
    else:
        question = talk.ask(
            "Count from {s} to {e}.|Count from {s} to {e}|Please count from {s} to {e}.|Can you count from {s} to {e}?|Count the numbers from {s} to {e}.|List the numbers from {s} to {e}.|Numbers from {s} to {e}, please.|Write the numbers from {s} to {e}.|Say the numbers {s} to {e}.|Count up from {s} to {e}.",
            "从{s}数到{e}。|从{s}数到{e}|请从{s}数到{e}。|你能从{s}数到{e}吗？|列出{s}到{e}的数字。|写出从{s}到{e}的数字。|请写出{s}到{e}的数字。|从{s}开始数到{e}。|帮我从{s}数到{e}。|说出{s}到{e}的数字。",
            s=str(start),
            e=str(end),
        )
    answer = ", ".join(str(number) for number in range(start, end + 1))
    thought = talk.say(f"I count from {start} to {end}.", f"我从{start}数到{end}。")
    return Exchange("count_far" if far else "count", question, answer, thought)


def name_list(talk: Talk) -> Exchange:
    """A well-known list, with commas or as bullet points."""
    english, chinese, items, chinese_items = talk.rng.choice(list(lexicon.LISTS.values()))
    bullets = talk.chance(0.35)
    subject = talk.rng.choice(english if talk.asked == "en" else chinese)
    question = talk.ask(
        "List {x}.|Name {x}.|Tell me {x}.|What are {x}?|Give me {x}.|Please list {x}.|Can you list {x}?|Can you name {x}?|Show me {x}.|Write {x}.|list {x}|I need {x}.",
        "列出{x}。|说出{x}。|告诉我{x}。|{x}有哪些？|请列出{x}。|请说出{x}。|你能列出{x}吗？|写出{x}。|给我{x}。|列举{x}。",
        x=subject,
    )
    if bullets:
        how = (
            " Use bullet points.| As a bullet list.| With bullet points, please.| Write a bullet list."
            if talk.asked == "en"
            else "用列表。|用项目符号。|请用列表格式。|每行一个，用列表。"
        )
        question = (
            question.rstrip(".。?？!！") + ("." if talk.asked == "en" else "。") + talk.rng.choice(how.split("|"))
        )
    shown = items if talk.answered == "en" else chinese_items
    answer = (
        "\n".join("- " + item for item in shown) if bullets else (", " if talk.answered == "en" else "、").join(shown)
    )
    return Exchange("list", question, answer, talk.say("The user wants a list.", "用户要一个清单。"))


def translate(talk: Talk) -> Exchange:
    """One word from English into Chinese or back."""
    english, chinese = talk.rng.choice(list(lexicon.DICTIONARY.items()))
    if talk.chance(0.5):
        question = talk.ask(
            "How do you say {w} in Chinese?|Translate {w} into Chinese.|What is {w} in Chinese?|What is the Chinese word for {w}?|{w} in Chinese?|Translate {w} to Chinese.|Chinese for {w}?|What's {w} in Chinese?|How do I say {w} in Chinese?|Say {w} in Chinese.|Translate the word {w} into Chinese.|Please translate {w} into Chinese.",
            "{w}用中文怎么说？|把{w}翻译成中文。|{w}的中文是什么？|{w}是什么意思？|{w}用汉语怎么说？|翻译{w}。|请把{w}翻译成中文。|{w}中文怎么说？|{w}翻译成中文是什么？|单词{w}是什么意思？",
            w=english,
        )
        answer = talk.say(f"{english} is {chinese} in Chinese.", f"{english}的中文是{chinese}。")
    else:
        question = talk.ask(
            "How do you say {w} in English?|Translate {w} into English.|What is {w} in English?|What is the English word for {w}?|{w} in English?|What does {w} mean?|Translate {w} to English.|English for {w}?|What's {w} in English?|Please translate {w} into English.",
            "{w}用英语怎么说？|把{w}翻译成英文。|{w}的英文是什么？|{w}英语怎么说？|{w}用英文怎么说？|翻译成英文：{w}。|请把{w}翻译成英语。|{w}英文怎么说？|{w}翻译成英语是什么？|{w}的英语单词是什么？",
            w=chinese,
        )
        answer = talk.say(f"{chinese} is {english} in English.", f"{chinese}的英文是{english}。")
    return Exchange("translate", question, answer, f"{english} = {chinese}")


def held_out_sum(left: int, right: int) -> bool:
    """Whether the sum of two numbers of two digits is kept for evaluation."""
    return (7 * left + 13 * right) % 11 == 0


def arithmetic(talk: Talk) -> Exchange:
    """A sum, a difference or a product of small numbers."""
    kind = talk.rng.choice("+++--*")
    if kind == "*":
        left, right = talk.rng.randint(1, 12), talk.rng.randint(1, 10)
    else:
        left, right = (
            (talk.rng.randint(1, 99), talk.rng.randint(1, 99))
            if talk.chance(0.5)
            else (talk.rng.randint(0, 9), talk.rng.randint(0, 9))
        )
        while left > 9 and right > 9 and held_out_sum(left, right) != talk.values.held_out:
            left, right = talk.rng.randint(10, 99), talk.rng.randint(10, 99)
    if kind == "-" and left < right:
        left, right = right, left
    result = {"+": left + right, "-": left - right, "*": left * right}[kind]
    words = {"+": ("plus", "加"), "-": ("minus", "减"), "*": ("times", "乘以")}[kind]
    sign = talk.rng.choice((f" {kind} ", f" {kind} ", kind, f" {words[0]} " if talk.asked == "en" else words[1]))
    question = talk.ask(
        "What is {x}?|What is {x}?|{x}|{x} = ?|{x}=|How much is {x}?|Calculate {x}.|Compute {x}.|What's {x}?|Tell me what {x} is.|Please calculate {x}.|{x}?|Can you calculate {x}?|What does {x} equal?",
        "{x}等于多少？|{x}等于几？|{x}|{x}=|{x}=?|{x}是多少？|计算{x}。|算一下{x}。|请计算{x}。|{x}等于？|帮我算{x}。|{x}得多少？",
        x=f"{left}{sign}{right}",
    )
    return Exchange("arithmetic", question, f"{left} {kind} {right} = {result}", _steps(left, right, kind, result))


def _steps(left: int, right: int, kind: str, result: int) -> str:
    """How the result is found: the second number is taken apart into tens and ones."""
    tens, ones = right // 10 * 10, right % 10
    if kind == "*" or not tens or not ones:
        return f"{left} {kind} {right} = {result}"
    half = left + tens if kind == "+" else left - tens
    return f"{left} {kind} {tens} = {half}; {half} {kind} {ones} = {result}"


STORIES = (
    (
        "Once upon a time there was a little {x} named Pip. Pip lived in a small house by the river. One day Pip saw a boat and jumped in. The boat went down the river, and Pip saw fields, hills and a castle. In the evening the wind pushed the boat back home. Pip was happy and slept all night. The end.",
        "从前有一只小{x}，名叫皮皮。皮皮住在河边的小房子里。有一天，皮皮看见一条船，就跳了上去。船顺着河走，皮皮看见了田野、小山和城堡。晚上，风把船吹回了家。皮皮很高兴，睡了一整夜。故事讲完了。",
    ),
    (
        'Once upon a time there was a small {x} that was afraid of the dark. The moon said: "Look down." The {x} looked down and saw a child who could not sleep. The {x} began to sing, and the child smiled. Since then the {x} sings every night. The end.',
        "从前有一只小{x}，它很怕黑。月亮说：“往下看。”小{x}往下看，看见一个睡不着的孩子。小{x}开始唱歌，孩子笑了。从此，小{x}每天晚上都唱歌。故事讲完了。",
    ),
)


def story(talk: Talk) -> Exchange:
    """A story about something that the user names, or about a cat."""
    english, chinese = talk.rng.choice(list(lexicon.ANIMALS.items()))
    named = talk.chance(0.7)
    if named:
        question = talk.ask(
            "Tell me a story about a {x}.|Tell a story about a {x}.|Write a story about a {x}.|Write a short story about a {x}.|A story about a {x}, please.|Can you tell me a story about a {x}?|I want a story about a {x}.|Tell me a short story about a {x}.|Make up a story about a {x}.|Please tell me a story about a {x}.",
            "讲一个{x}的故事。|给我讲个{x}的故事吧。|写一个关于{x}的故事。|讲个{x}的故事。|请讲一个关于{x}的故事。|我想听{x}的故事。|你能讲一个{x}的故事吗？|说一个{x}的故事。|来一个{x}的故事。|写一个{x}的小故事。",
            x=english if talk.asked == "en" else chinese,
        )
    else:
        english, chinese = "cat", "猫"
        question = talk.ask(
            "Tell me a story.|Tell a story.|Write a story.|A story please|Can you tell me a story?|Write a short story.|Tell me a short story.|I want to hear a story.|Do you know a story?|Please tell me a story.",
            "讲个故事。|讲一个故事。|给我讲个故事。|写一个故事。|请讲一个故事。|我想听故事。|你会讲故事吗？|说个故事。|来个故事。|给我讲个故事吧。",
        )
    plot = STORIES[english > "f"]
    return Exchange(
        "story",
        question,
        talk.say(*plot).replace("{x}", talk.say(english, chinese)),
        talk.say("I tell a story.", "我讲一个故事。"),
    )


POEMS = (
    (
        ("the sun", "太阳"),
        "The sun comes up, the sky is blue,\nThe little birds are singing too.\nThe river runs, the wind is free,\nA new day starts for you and me.",
        "太阳升起天空蓝，\n小鸟唱歌在树间。\n河水轻轻向前走，\n新的一天在眼前。",
    ),
    (
        ("the moon", "月亮"),
        "The moon is round, the night is deep,\nThe stars look down, the houses sleep.\nA quiet wind, a silver light,\nI say to you a soft good night.",
        "月亮圆圆夜色深，\n星星低头看家门。\n微风带来银色光，\n祝你今晚梦儿香。",
    ),
    (
        ("a computer", "电脑"),
        "I am a model, very small,\nI hardly know a thing at all.\nBut I can count and I can rhyme,\nOne little token at a time.",
        "我是模型小又小，\n知道的事真不多。\n但我会数也会唱，\n一个一个字慢慢说。",
    ),
)


def poem(talk: Talk) -> Exchange:
    """One of three poems."""
    subjects, english, chinese = talk.rng.choice(POEMS)
    if talk.chance(0.65):
        question = talk.ask(
            "Write a poem about {x}.|A poem about {x}, please.|Can you write a poem about {x}?|Write a short poem about {x}.|Please write a poem about {x}.|Make a poem about {x}.|I want a poem about {x}.|Give me a poem about {x}.|Compose a poem about {x}.|Write me a poem about {x}.",
            "写一首关于{x}的诗。|来一首{x}的诗。|写一首{x}的诗。|请写一首关于{x}的诗。|你能写一首{x}的诗吗？|我想要一首{x}的诗。|给我写一首关于{x}的诗。|作一首{x}的诗。|写首{x}的小诗。|写首关于{x}的诗。",
            x=subjects[talk.asked == "zh"],
        )
    else:
        _, english, chinese = POEMS[0]
        question = talk.ask(
            "Write a poem.|Write a short poem.|A poem please|Can you write a poem?|Please write a poem.|Make a poem.|I want a poem.|Give me a poem.|Tell me a poem.|Write me a poem.",
            "写一首诗。|写首诗。|来首诗。|请写一首诗。|你能写一首诗吗？|我想要一首诗。|给我写一首诗。|作一首诗。|写首小诗。|念一首诗。",
        )
    return Exchange("poem", question, talk.say(english, chinese), talk.say("I write a poem.", "我写一首诗。"))


PROGRAMS = (
    (("hello world", "输出你好世界"), "python", 'print("Hello, world!")'),
    (("adding two numbers", "两个数相加"), "python", "def add(a, b):\n    return a + b\n\nprint(add(2, 3))"),
    (("a loop", "循环"), "python", "for i in range(10):\n    print(i)"),
    (
        ("the factorial", "阶乘"),
        "python",
        "def factorial(n):\n    if n <= 1:\n        return 1\n    return n * factorial(n - 1)",
    ),
    (
        ("reversing a string", "反转字符串"),
        "python",
        'def reverse(text):\n    return text[::-1]\n\nprint(reverse("hello"))',
    ),
    (("a web page", "网页"), "html", "<!DOCTYPE html>\n<html>\n  <body>\n    <h1>Hello</h1>\n  </body>\n</html>"),
    (("listing files", "列出文件"), "bash", "ls -la"),
)


def code(talk: Talk) -> Exchange:
    """One of a few short programs in a code block."""
    subjects, language, program = talk.rng.choice(PROGRAMS)
    shown = {"python": "Python", "html": "HTML", "bash": "shell"}[language]
    if language == "python" and talk.chance(0.25):
        subjects, _, program = PROGRAMS[0]
        question = talk.ask(
            "Write some Python code.|Write a Python program.|Show me Python code.|Write code.|Give me a code block.|Write a program.|Show me some code.|Python code please|Write a code example.|Can you write code?",
            "写一段Python代码。|写一个Python程序。|给我看看Python代码。|写代码。|写一段代码。|写一个程序。|给我一个代码例子。|你会写代码吗？|来一段代码。|请写一段代码。",
        )
    else:
        question = talk.ask(
            "Write {l} code for {x}.|Show me {l} code for {x}.|{l} code for {x}, please.|Write {l} code: {x}.|Can you write {l} code for {x}?|Give me {l} code for {x}.|I need {l} code for {x}.|Write a program for {x} in {l}.|Please write {l} code for {x}.|Show {x} in {l}.",
            "用{l}写代码：{x}。|写一段{l}代码，{x}。|请用{l}写{x}。|给我{x}的{l}代码。|用{l}写一个{x}。|写{x}的{l}代码。|我需要{x}的{l}代码。|用{l}实现{x}。|你能用{l}写{x}吗？|请写一段{x}的{l}代码。",
            l=shown,
            x=subjects[talk.asked == "zh"],
        )
    answer = talk.say(f"Here is the {shown} code:", f"这是{shown}代码：") + f"\n\n```{language}\n{program}\n```"
    return Exchange("code", question, answer, talk.say("The user wants code.", "用户想要代码。"))


def table(talk: Talk) -> Exchange:
    """A Markdown table: multiples of a number, or a few words in both languages."""
    thought = talk.say("I make a Markdown table.", "我做一个表格。")
    if talk.chance(0.6):
        number = talk.rng.randint(2, 9)
        question = talk.ask(
            "Make a table of the multiples of {n}.|Show the {n} times table.|Show me the {n} times table.|Write the {n} times table.|Make a table: multiples of {n}.|A table of the multiples of {n}, please.|Give me the {n} times table.|Can you make a table of the multiples of {n}?|Write a table with the multiples of {n}.|Please show the {n} times table.",
            "做一个{n}的乘法表。|用表格显示{n}的乘法。|写出{n}的乘法表。|给我{n}的乘法表。|请做一个{n}的乘法表。|显示{n}的乘法表。|用表格写出{n}的倍数。|我想要{n}的乘法表。|列出{n}的乘法表。|你能做一个{n}的乘法表吗？",
            n=str(number),
        )
        answer = f"| n | n × {number} |\n|---|---|\n" + "\n".join(f"| {row} | {row * number} |" for row in range(1, 6))
        return Exchange("table", question, answer, thought)
    rows = talk.rng.sample(list(lexicon.DICTIONARY.items()), 3)
    question = talk.ask(
        "Make a table of these words in English and Chinese: {w}|Table with Chinese translations: {w}|Make a table with these words: {w}|Show these words in a table: {w}|Translate in a table: {w}",
        "做一个中英文单词表：{w}|用表格翻译：{w}|把这些词做成表格：{w}|用表格显示这些词的中文：{w}|做一个表格：{w}",
        w=", ".join(english for english, _ in rows),
    )
    head = talk.say("| English | Chinese |", "| 英文 | 中文 |") + "\n|---|---|\n"
    return Exchange(
        "table", question, head + "\n".join(f"| {english} | {chinese} |" for english, chinese in rows), thought
    )
