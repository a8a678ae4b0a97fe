"""Tools: their schemas in many wordings, the two that the model calls, and dialogues' exchanges with them."""

from __future__ import annotations

import json
import random
from typing import Any

from demo_model import lexicon
from demo_model.talk import Exchange, Talk, ToolUse

WEATHER = "get_weather"
CALCULATOR = "calculator"
DESCRIPTIONS = {
    WEATHER: (
        "Get the current weather for a city",
        "Get the weather in a city.",
        "Get weather",
        "Current weather of a city",
        "Look up the weather.",
        "查询城市的天气",
        "获取天气",
    ),
    CALCULATOR: (
        "Evaluate an arithmetic expression",
        "Calculate",
        "A calculator for arithmetic",
        "Compute the value of an expression.",
        "Do a calculation",
        "计算算术表达式",
        "计算器",
    ),
}
ARGUMENTS = {
    WEATHER: ("city", ("City name", "The city", "Name of the city", "A city, e.g. Paris", "城市名")),
    CALCULATOR: ("expression", ("The expression", "Expression to evaluate", "An expression, e.g. 2 + 3", "表达式")),
}
OTHER_TOOLS = (
    ("get_time", "Get the current time in a time zone", "zone"),
    ("search", "Search the web", "query"),
    ("send_email", "Send an email", "address"),
    ("get_stock_price", "Get the price of a stock", "symbol"),
    ("play_music", "Play a song", "title"),
    ("set_alarm", "Set an alarm clock", "time"),
    ("open_file", "Open a file by its name", "path"),
    ("book_flight", "Book a flight", "destination"),
)
WEATHER_ASKED = (
    "What is the weather in {c}?|What's the weather in {c}?|How is the weather in {c}?|How is the weather in {c} today?|Weather in {c}?|What's the weather like in {c}?|What is the weather like in {c}?|weather in {c}|Tell me the weather in {c}.|"
    "Please check the weather in {c}.|Is it sunny in {c}?|Is it raining in {c}?|What is the weather in {c} today?|How's the weather in {c}?|Check the weather for {c}.|Get the weather for {c}.|And in {c}?|What is the temperature in {c}?|How warm is it in {c}?|Is it cold in {c}?|Show me the weather for {c}.",
    "{c}天气怎么样？|今天{c}的天气如何？|{c}的天气怎么样？|查一下{c}的天气。|{c}今天天气怎么样？|{c}天气|{c}天气如何？|请查询{c}的天气。|告诉我{c}的天气。|今天{c}天气怎么样？|{c}下雨吗？|{c}冷吗？|{c}多少度？|帮我查{c}的天气。|{c}现在的天气怎么样？|我想知道{c}的天气。|那{c}呢？",
)
CALCULATION_ASKED = (
    "What is {x}?|What is {x}?|Calculate {x}.|Calculate {x}|Use the calculator: {x}|Compute {x}.|How much is {x}?|{x}|Please calculate {x}.|What's {x}?|Can you calculate {x}?|Tell me what {x} is.|{x} = ?|Now calculate {x}.|And what is {x}?|Please compute {x}.|Work out {x}.|Evaluate {x}.",
    "{x}等于多少？|计算{x}。|用计算器算{x}|{x}是多少？|请计算{x}。|算一下{x}。|{x}|{x}=|帮我算{x}。|{x}等于几？|请算出{x}。|计算一下{x}。|那{x}呢？",
)
Schema = dict[str, Any]


def schema(rng: random.Random, name: str) -> Schema:
    """The tool's JSON schema, in one of several wordings."""
    if name in DESCRIPTIONS:
        argument, details = ARGUMENTS[name]
        description = rng.choice(DESCRIPTIONS[name])
        detail = rng.choice(details)
    else:
        description, argument = next((text, key) for tool, text, key in OTHER_TOOLS if tool == name)
        detail = argument.capitalize()
    field: Schema = {"type": "string"}
    if rng.random() < 0.7:
        field["description"] = detail
    parameters: Schema = {"type": "object", "properties": {argument: field}}
    if name == WEATHER and rng.random() < 0.15:
        parameters["properties"]["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
    if rng.random() < 0.8:
        parameters["required"] = [argument]
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


def choose(rng: random.Random) -> tuple[list[Schema], tuple[str, ...]]:
    """A dialogue's tools: weather, calculator or both, sometimes with others; and the names of those two that it has."""
    callable_names = rng.choice(
        ((WEATHER,), (WEATHER,), (CALCULATOR,), (WEATHER, CALCULATOR), (WEATHER, CALCULATOR), (WEATHER, CALCULATOR))
    )
    others = rng.sample([name for name, _, _ in OTHER_TOOLS], rng.choice((0, 0, 0, 1, 1, 2)))
    names = [*callable_names, *others]
    rng.shuffle(names)
    return [schema(rng, name) for name in names], callable_names


def weather(talk: Talk) -> Exchange:
    """A question about a city's weather, the call, its result in one of many forms, and the answer."""
    city = talk.values.city(talk.asked)
    question = talk.ask(*WEATHER_ASKED, c=city)
    thought = talk.say(
        f"I need the weather in {city}, so I call get_weather.", f"我需要{city}的天气，调用get_weather。"
    )
    if talk.chance(0.06):
        reason = talk.rng.choice(
            ("not found", "city not found", "timeout", "no data", "service unavailable", "unknown city")
        )
        use = ToolUse(WEATHER, {"city": city}, json.dumps({"error": reason}), thought)
        answer = talk.say(f"I could not get the weather in {city}: {reason}.", f"我查不到{city}的天气：{reason}。")
        return Exchange("tool", question, answer, talk.say("The tool failed.", "工具出错了。"), use)
    sky = talk.rng.choice(list(lexicon.WEATHER))
    degrees = talk.rng.randint(-15, 42)
    use = ToolUse(WEATHER, {"city": city}, _weather_result(talk, city, sky, degrees), thought)
    answer = talk.say(
        f"The weather in {city} is {sky}, {degrees} degrees.", f"{city}的天气是{lexicon.WEATHER[sky]}，{degrees}度。"
    )
    return Exchange(
        "tool",
        question,
        answer,
        talk.say(f"It is {sky}, {degrees} degrees.", f"{lexicon.WEATHER[sky]}，{degrees}度。"),
        use,
    )


def _weather_result(talk: Talk, city: str, sky: str, degrees: int) -> str:
    """What a weather service might send: JSON of several shapes, or a line of text."""
    shown = lexicon.WEATHER[sky] if talk.asked == "zh" and talk.chance(0.3) else sky
    if talk.chance(0.2):
        return talk.rng.choice(
            (
                f"{shown}, {degrees}°C",
                f"{degrees} degrees, {shown}",
                f"{shown} {degrees}",
                f"{city}: {shown}, {degrees}°C",
            )
        )
    where = talk.rng.choice(({"city": city}, {"city": city}, {}, {"location": city}))
    heat: dict[str, Any] = {
        talk.rng.choice(("temperature", "temperature", "temp", "temp_c", "degrees")): talk.rng.choice(
            (degrees, degrees, str(degrees))
        )
    }
    what = {talk.rng.choice(("condition", "condition", "weather", "sky", "description")): shown}
    more = talk.rng.choice(({}, {}, {}, {"humidity": talk.rng.randint(10, 99)}, {"unit": "celsius"}))
    return json.dumps({**where, **(heat | what if talk.chance(0.6) else what | heat), **more}, ensure_ascii=False)


def calculation_asked(talk: Talk) -> tuple[str, tuple[int, str, int]]:
    """A question with a calculation that is too much for the model itself, and the calculation."""
    sign = talk.rng.choice("++--**/")
    left, right = int(talk.values.number()), int(talk.values.number())
    if sign == "/":
        right = talk.rng.randint(2, 99)
        left = right * talk.rng.randint(2, 500)
    words = {"+": ("plus", "加"), "-": ("minus", "减"), "*": ("times", "乘以"), "/": ("divided by", "除以")}[sign]
    shown = talk.rng.choice(
        (f" {sign} ", f" {sign} ", f" {sign} ", sign, f" {words[0]} " if talk.asked == "en" else words[1])
    )
    return talk.ask(*CALCULATION_ASKED, x=f"{left}{shown}{right}"), (left, sign, right)


def calculator(talk: Talk) -> Exchange:
    """A calculation, the call, its result and the answer."""
    question, (left, sign, right) = calculation_asked(talk)
    result = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[sign]
    expression = f"{left} {sign} {right}"
    reply = talk.rng.choice(
        (
            str(result),
            json.dumps({"result": result}),
            json.dumps({"result": result}),
            json.dumps({"value": result}),
            json.dumps({"expression": expression, "result": result}),
            json.dumps({"answer": str(result)}),
            f"{expression} = {result}",
        )
    )
    thought = talk.say("I call the calculator.", "我调用计算器。")
    use = ToolUse(CALCULATOR, {"expression": expression}, reply, thought)
    return Exchange(
        "tool", question, f"{expression} = {result}", talk.say(f"The result is {result}.", f"结果是{result}。"), use
    )


def call(talk: Talk) -> Exchange:
    """An exchange with one of the dialogue's tools."""
    return {WEATHER: weather, CALCULATOR: calculator}[talk.rng.choice(talk.tools)](talk)
