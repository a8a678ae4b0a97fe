"""Messages and tools into ``PromptBuilder``, and what a model may write into the parsers of its answers."""

from __future__ import annotations

import json
import random
import re
import time
from dataclasses import asdict
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.fuzz_prompt import Maker, attack
from chat.conversations.conversation import Conversation, Message
from chatcore.engine.outputs import OutputCollector, OutputParser, make_parser_class
from chatcore.engine.thread import Arrival
from chatcore.errors import ChatError
from chatcore.reply import Reply
from chatcore.tools.functions import as_tool, call_tool
from prompt_utils import PromptBuilder
from tests.chatcore.prompts.oracle import (
    GOLDEN,
    MARKUP,
    ROOT,
    golden_builder,
    golden_templates,
    spelled,
    stock_render,
    twin,
)
from tests.reliability.cases import refused, run_cases
from tests.reliability.mutation import mutate_bytes, mutate_value, odd_text, odd_value

PARSERS = (("hermes", "qwen3"), ("qwen3_coder", "qwen3"), ("hermes", None), (None, "qwen3"), (None, "deepseek_r1"))
WRITTEN = (
    "<think>\nLet me see.\n</think>\n\nIt is 144.",
    '<tool_call>\n{"name": "power", "arguments": {"base": 12, "exponent": 2}}\n</tool_call>',
    "Well.\n<tool_call>\n<function=power>\n<parameter=base>\n12\n</parameter>\n</function>\n</tool_call>",
    '</think>{"name": "power", "arguments": "{}"}<tool_call>',
)
MARKS = (
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<function=",
    "<parameter=",
    "</parameter>",
    "</function>",
)
NAME = re.compile(r"[A-Za-z_]+")  # what templates look up and compare with; no control token is spelled so


@pytest.fixture(scope="module")
def builders() -> list[PromptBuilder]:
    demo = PromptBuilder.from_pretrained(ROOT / "chatcore" / "models" / "demo")
    return [demo, *(golden_builder(name) for name in (golden_templates() if GOLDEN.is_dir() else ()))]


def test_no_text_in_any_field_becomes_a_control_token(builders):
    """Whole conversations made of control tokens and halves of them, against the stock template's own opinion."""

    def case(rng: random.Random) -> str:
        builder, markup = rng.choice(builders), rng.random() < 0.3
        maker = Maker(builder, rng)
        taken = attack(builder, maker.conversation(markup=markup), maker.tools(), markup=markup)
        return "built" if taken else "refused"

    assert run_cases("messages made of control tokens", case, short=300)["built"]


def test_no_shape_of_messages_and_tools_breaks_the_prompt(builders):
    """Conversations of which one to four places are something else: built, or refused with an error of ours."""

    def case(rng: random.Random) -> str:
        builder = rng.choice(builders)
        maker = Maker(builder, rng)
        messages: Any = [_with_ids(rng, builder, message) for message in maker.conversation(markup=False)]
        tools: Any = maker.tools()
        options: dict[str, Any] = {"enable_thinking": rng.random() < 0.5}
        if rng.random() < 0.8:
            messages = mutate_value(rng, messages)
        if rng.random() < 0.3:
            tools = mutate_value(rng, tools)
        if rng.random() < 0.1:
            options = {"enable_thinking": odd_value(rng)} if rng.random() < 0.5 else {"continue_final_message": True}
        if not isinstance(messages, list) or not isinstance(tools, list | None):
            return "no call"  # of a Python function with arguments of a wrong kind
        before = repr([messages, tools])
        try:
            prompt = builder.build(messages, tools=tools, **options)
            fitted = builder.fit(messages, tools=tools, max_prompt_tokens=len(prompt.token_ids) // 2 + 1, **options)
        except ChatError as error:
            return refused(error)
        finally:
            assert repr([messages, tools]) == before, "what was given was changed"
        assert len(fitted.prompt.token_ids) <= len(prompt.token_ids) // 2 + 1
        return _judge(builder, prompt.token_ids, messages, tools, options)

    outcomes = run_cases("messages and tools of any shape", case, short=400)
    assert outcomes["refused"]


def _with_ids(rng: random.Random, builder: PromptBuilder, message: dict[str, Any]) -> dict[str, Any]:
    """Return a message, sometimes with the ids that it was generated as, or with some that it was not."""
    if message["role"] != "assistant" or rng.random() < 0.7:
        return message
    ids = builder.tokenizer.encode(message["content"])
    return {
        **message,
        "token_ids": ids if rng.random() < 0.5 else [*ids[:3], *rng.sample([*builder.control_token_ids], 1)],
    }


def _judge(builder: PromptBuilder, token_ids: list[int], messages: Any, tools: Any, options: dict[str, Any]) -> str:
    """Assert that the control tokens of a prompt are those of the stock template on a harmless twin."""
    if options.pop("continue_final_message", False):
        return "built"  # transformers cuts its text in a way of its own
    control = {token.id for token in builder.tokenizer.control_tokens if not MARKUP.fullmatch(token.text)}
    try:
        twin_text = stock_render(builder, _twin(messages), tools=_twin(tools), **_twin(options))
    except Exception:  # what a template's code may raise is not limited
        return "built, unlike the stock template"
    expected = [token_id for _, token_id in spelled(twin_text, builder)]
    assert [i for i in token_ids if i in control] == [i for i in expected if i in control]
    return "built"


def _twin(value: Any) -> Any:
    """Return a value of any shape in which no text can be part of a control token; names stay."""
    if isinstance(value, dict):
        return {_twin(key): _twin(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_twin(inner) for inner in value]
    return value if not isinstance(value, str) or NAME.fullmatch(value) else twin(value)


# -- what a model may write -------------------------------------------------------------------------------------------


def power(base: int, exponent: int) -> int:
    """Return a power."""
    return base**exponent if max(base, exponent) < 100 else 0


@pytest.fixture(scope="module")
def parsers() -> Any:
    """vLLM's parsers, by the names that belong to a model's template; and the demo model's tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "chatcore" / "models" / "demo")
    return [make_parser_class(*names) for names in PARSERS], tokenizer


def test_whatever_a_model_writes_becomes_an_answer_that_can_be_kept(builders, parsers):
    """Thinking and tool calls that are cut off, doubled, interleaved: read, kept, and part of the next prompt."""
    classes, tokenizer = parsers

    def case(rng: random.Random) -> str:
        thinks = rng.choice([None, True, False])
        parser = OutputParser(rng.choice(classes), tokenizer, [as_tool(power).schema], thinks)
        deltas, reply = _read(rng, parser, tokenizer, _written(rng))
        assert "".join(d.text for d in deltas if d.kind == "text") == reply.text
        assert Reply.from_dict(json.loads(json.dumps(asdict(reply)))) == reply
        conversation = Conversation()
        conversation.add(Message("user", "What is 12 squared?"))
        answer = conversation.add(Message.from_reply(reply))
        for call in reply.tool_calls if answer.tool_calls else ():
            result = call_tool([as_tool(power)], call.name, call.arguments)
            conversation.add(Message("tool", result, tool_call_id=call.id))
        conversation.add(Message("user", "And 13?"))
        builders[0].build(conversation.as_dicts())
        return "calls" if reply.tool_calls else "thinking" if reply.reasoning else "text"

    outcomes = run_cases("what a model writes", case, short=150)
    assert set(outcomes) == {"calls", "thinking", "text"}


def _written(rng: random.Random) -> str:
    pieces = "".join(rng.choice(WRITTEN) for _ in range(rng.choice([1, 1, 2])))
    text = mutate_bytes(rng, pieces.encode(), [mark.encode() for mark in MARKS]).decode(errors="replace")
    return text[:2000] + rng.choice(["", "", rng.choice(MARKS), odd_text(rng)[:200]])


def _read(rng: random.Random, parser: OutputParser, tokenizer: Any, text: str) -> tuple[list[Any], Reply]:
    """Give an answer to its parser, some tokens at a time; sometimes it is cut off."""
    answer = OutputCollector(parser=parser, prompt_token_ids=[1, 2], stop_token_ids=[], dropped_turns=0, started_s=0.0)
    text = text.encode(errors="replace").decode()
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids, ends = encoded["input_ids"], [end for _, end in encoded["offset_mapping"]]
    deltas, start, shown = [], 0, 0
    while start < len(ids):
        stop = min(len(ids), start + rng.choice([1, 1, 3, 10, 50]))
        until = max(shown, ends[stop - 1]) if stop < len(ids) else len(text)
        completion = SimpleNamespace(text=text[shown:until], token_ids=ids[start:stop], logprobs=None)
        output = SimpleNamespace(
            outputs=[completion], num_cached_tokens=0, finished=stop == len(ids), prompt_logprobs=None
        )
        deltas += answer.take(Arrival(time.perf_counter(), output))
        start, shown = stop, until
        if start < len(ids) and rng.random() < 0.01:
            return deltas + answer.finish(), answer.reply("abort")
    return deltas, answer.reply(rng.choice(["stop", "stop", "length"]))
