"""What was built once is not built again, and ids that were generated are kept."""

from __future__ import annotations

import copy
import functools
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatcore.errors import InvalidMessageError
from chatcore.prompts.builder import CHECK_EVERY, MIN_MESSAGES_WITH_PAST
from chatcore.prompts.pieces import PieceCache, piece_bytes
from prompt_utils import PromptBuilder
from tests.chatcore.prompts.sample_models import (
    PLAIN_TEMPLATE,
    THINKING_TEMPLATE,
    assistant,
    tiny_builder,
    tiny_tokenizer,
    user,
)

COUNTING_TEMPLATE = "{{ messages | length }}" + PLAIN_TEMPLATE  # looks at the whole conversation
BACKWARD_TEMPLATE = PLAIN_TEMPLATE.replace("message.content", "message.content + ' ' * (messages[-1].content | length)")


SPELL = "'!' if 'abracadabra' in messages[-1].content else ''"


def new_builder(template: str = THINKING_TEMPLATE) -> PromptBuilder:
    return PromptBuilder(tiny_tokenizer(), template)


def conversation(num_turns: int, start: int = 0) -> list[dict[str, Any]]:
    turns = range(start, start + num_turns)
    return [message for i in turns for message in (user(f"Question {i}?"), assistant(f"Answer {i}."))]


@functools.cache
def forgetful_builder(template: str) -> PromptBuilder:
    return PromptBuilder(tiny_tokenizer(), template, max_cache_bytes=0)


def built_whole(template: str, messages: list[Any], **options: Any) -> Any:
    return forgetful_builder(template).build(messages, **options)


def test_next_turn_goes_on_from_the_past() -> None:
    builder = new_builder()
    messages = conversation(MIN_MESSAGES_WITH_PAST)
    for turn in range(5):
        messages.append(user(f"Next {turn}"))
        assert builder.build(messages) == built_whole(THINKING_TEMPLATE, messages)
        messages.append(assistant("Fine."))
    assert builder._num_continued == 4
    assert forgetful_builder(THINKING_TEMPLATE)._num_continued == 0


def test_next_turn_renders_only_new_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    builder = new_builder()
    messages = [{"role": "system", "content": "Be brief."}, *conversation(50), user("Next")]
    builder.build(messages)
    lengths: list[int] = []
    template = builder._templates["default"]
    render = template.render

    def counted(rendered: Any, **options: Any) -> str:
        lengths.append(len(rendered))
        return render(rendered, **options)

    monkeypatch.setattr(template, "render", counted)
    builder.build([*messages, assistant("Fine."), user("And?")])
    assert lengths
    assert max(lengths) <= 4


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m[2].update(content="Another question?"),
        lambda m: m[3].update(content="Answer 1. <think>"),
        lambda m: m[0].update(role="system"),
        lambda m: m[3].update(reasoning_content="why"),
        lambda m: m[3].update(tool_calls=[{"function": {"name": "f", "arguments": {"n": 1}}}]),
        lambda m: m.pop(2) and m.pop(2),
        lambda m: m.insert(0, {"role": "system", "content": "Be brief."}),
    ],
    ids=["question", "answer", "role", "reasoning", "call", "gone", "system"],
)
def test_changed_past_is_built_anew(change: Any) -> None:
    """Also where the caller changes its own list, which the builder has seen."""
    builder = new_builder()
    messages = [*conversation(8), user("Next")]
    builder.build(messages)
    builder.build([*messages, assistant("a"), user("b")])
    change(messages)
    messages += [assistant("Fine."), user("And?")]
    assert builder.build(messages) == built_whole(THINKING_TEMPLATE, messages)


def test_numbers_that_are_equal_but_not_the_same_are_told_apart() -> None:
    """1 == True in Python, but a template writes 1 or true."""
    builder = new_builder()
    call: dict[str, Any] = {"function": {"name": "f", "arguments": {"n": 1}}}
    messages = [
        user("a"),
        {**assistant(""), "tool_calls": [call]},
        {"role": "tool", "content": "x"},
        *conversation(4),
        user("z"),
    ]
    builder.build(messages)
    other = copy.deepcopy(messages)
    other[1]["tool_calls"][0]["function"]["arguments"]["n"] = True
    other += [assistant("y"), user("?")]
    assert '{"n": true}' in builder.build(other).text


def test_options_have_pasts_of_their_own() -> None:
    builder = new_builder()
    messages = [*conversation(8), user("Next")]
    tools = [{"type": "function", "function": {"name": "look"}}]
    for options in ({}, {"tools": tools}, {"enable_thinking": False}, {"add_generation_prompt": False}) * 2:
        assert builder.build(messages, **options) == built_whole(THINKING_TEMPLATE, messages, **options)


@pytest.mark.parametrize("template", [COUNTING_TEMPLATE, BACKWARD_TEMPLATE], ids=["counts", "last word"])
def test_template_that_looks_at_the_whole_is_rendered_whole(template: str) -> None:
    builder = new_builder(template)
    messages = conversation(8)
    for content in ("Next", "x", "Next"):
        messages.append(user(content))
        assert builder.build(messages) == built_whole(template, messages)
        messages.append(assistant("Fine."))
    assert builder._num_continued == 0


def test_template_that_deceives_the_probes_is_found_out() -> None:
    """It looks back only for a word that no probe says. Every so often a prompt is built whole, and compared."""
    template = PLAIN_TEMPLATE.replace("message.content", f"({SPELL}) + message.content")
    builder = new_builder(template)
    messages = conversation(8)
    for turn in range(CHECK_EVERY + 2):
        messages.append(user(f"abracadabra {turn}"))
        prompt = builder.build(messages)
        messages.append(assistant("Fine."))
    assert prompt == built_whole(template, messages[:-1])


def test_conversations_that_begin_alike_do_not_mix() -> None:
    builder = new_builder()
    shared = conversation(8)
    for name in ("a", "b", "a", "c"):
        branch = [*shared, user(name), assistant(name * 2), user("?")]
        assert builder.build(branch) == built_whole(THINKING_TEMPLATE, branch)


def test_threads_build_the_same_prompts() -> None:
    builder = PromptBuilder(tiny_tokenizer(), THINKING_TEMPLATE, max_cache_bytes=40_000)
    wrong: list[int] = []

    def talk(number: int) -> None:
        messages = conversation(4, start=number * 100)
        for turn in range(25):
            messages.append(user(f"{number} {turn}"))
            if builder.build(messages) != built_whole(THINKING_TEMPLATE, messages):
                wrong.append(number)
            messages.append(assistant(str(turn)))

    threads = [threading.Thread(target=talk, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_prompts_that_were_handed_out_are_the_callers() -> None:
    builder = new_builder()
    messages = [*conversation(8), user("Next")]
    builder.build(messages).token_ids.clear()
    builder.build(messages).token_ids.append(-1)
    assert builder.build(messages) == built_whole(THINKING_TEMPLATE, messages)


def test_cache_stays_within_its_bytes() -> None:
    cache = PieceCache(20_000)
    for i in range(1000):
        cache.put(f"piece {i}", ([1] * 10, "text"))
    assert 0 < cache.num_bytes <= 20_000
    assert cache.get("piece 999") is not None
    assert cache.get("piece 0") is None
    cache.put("long", ([1] * 10_000, "text"))
    assert cache.get("long") is None
    assert piece_bytes("x" * 1000, ([], "")) > 1000


def test_pasts_stay_within_their_bytes() -> None:
    builder = PromptBuilder(tiny_tokenizer(), THINKING_TEMPLATE, max_cache_bytes=100_000)
    for number in range(40):
        builder.build([*conversation(10, start=number * 10), user("?")])
    store = builder._pasts
    assert 0 < len(store._pasts) < 40
    assert store._num_bytes == sum(past.num_bytes for past in store._pasts.values()) <= 50_000


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from("uarct"), st.sampled_from(["Hi", "", " x ", "</think>", "\n"])), max_size=30))
def test_any_conversation_grows_to_the_prompt_of_the_whole(kinds: list[tuple[str, str]]) -> None:
    call = {"function": {"name": "f", "arguments": {}}}
    fields: dict[str, dict[str, Any]] = {
        "u": {"role": "user"},
        "a": {"role": "assistant"},
        "r": {"role": "assistant", "reasoning_content": "so"},
        "c": {"role": "assistant", "tool_calls": [call]},
        "t": {"role": "tool"},
    }
    builder, messages = tiny_builder(), [user("Hi")]
    for kind, content in kinds:
        messages.append({**fields[kind], "content": content})
        if kind == "u":
            assert builder.build(messages) == built_whole(THINKING_TEMPLATE, messages)


# Generated ids


def spell(builder: PromptBuilder, *texts: str) -> list[int]:
    """Return ids that nobody's encoder would give: letter by letter; control tokens by name."""
    ids: list[int] = []
    for text in texts:
        token_id = builder.tokenizer.token_to_id(text)
        ids += [i for letter in text for i in builder.tokenizer.encode(letter)] if token_id is None else [token_id]
    return ids


def contains(ids: list[int], part: list[int]) -> bool:
    return any(ids[i : i + len(part)] == part for i in range(len(ids)))


def test_generated_ids_are_kept_while_they_say_the_same() -> None:
    builder = tiny_builder()
    ids = spell(builder, "Hello, world!", "<|im_end|>")
    answer = {**assistant("Hello, world!"), "token_ids": ids}
    before = builder.build([user("Hi")]).token_ids
    after = builder.build([user("Hi"), answer, user("?")])
    assert after.token_ids[: len(before) + len(ids)] == before + ids
    assert after.text == builder.build([user("Hi"), assistant("Hello, world!"), user("?")]).text
    edited = builder.build([user("Hi"), {**answer, "content": "Hello, you!"}, user("?")])
    assert edited == builder.build([user("Hi"), assistant("Hello, you!"), user("?")])


def test_generated_ids_stay_with_their_own_message() -> None:
    """Two answers say the same; one was generated with other ids. In another conversation neither is known."""
    builder = new_builder()
    odd = spell(builder, "Hello, world!")
    plain = builder.tokenizer.encode("Hello, world!")
    assert odd != plain
    messages = [
        user("Hello, world!"),
        {**assistant("Hello, world!"), "token_ids": odd},
        user("a"),
        assistant("Hello, world!"),
    ]
    ids = builder.build([*messages, user("?")]).token_ids
    text = builder.tokenizer.decode(ids)
    assert text.count("Hello, world!") == 3
    assert sum(ids[i : i + len(odd)] == odd for i in range(len(ids))) == 1
    again = [{key: value for key, value in message.items() if key != "token_ids"} for message in messages]
    assert not contains(builder.build([*again, user("?")]).token_ids, odd)


def test_generated_ids_stay_in_the_settled_past() -> None:
    builder = new_builder()
    odd = spell(builder, "Hello, world!")
    messages = [user("Hi"), {**assistant("Hello, world!"), "token_ids": odd}, *conversation(5), user("?")]
    for turn in range(3):
        prompt = builder.build(messages)
        assert contains(prompt.token_ids, odd)
        assert prompt == built_whole(THINKING_TEMPLATE, messages)
        messages += [assistant("ok"), user(str(turn))]
    plain = [{**message, "token_ids": None} if "token_ids" in message else message for message in messages]
    assert not contains(builder.build(plain).token_ids, odd)


def test_thoughts_and_tool_calls_keep_their_generated_ids() -> None:
    """The answer to the newest question: <think>, text and a call, as the model wrote them, are the next prompt."""
    builder = tiny_builder()
    call_text = '\n{"name": "look", "arguments": {"where": "here"}}\n'
    parts = ["<think>", "\nhm\n", "</think>", "\n\nI look.", "<tool_call>", call_text, "</tool_call>", "<|im_end|>"]
    ids = spell(builder, *parts)
    call = {"type": "function", "function": {"name": "look", "arguments": {"where": "here"}}}
    for content, kept in (("I look.", ids), ("", [*ids[:-1]])):
        if not content:
            kept = ids = spell(builder, *parts[:3], "\n\n", *parts[4:])
        answer = {
            "role": "assistant",
            "content": content,
            "reasoning_content": "hm",
            "tool_calls": [call],
            "token_ids": ids,
        }
        before = builder.build([user("Hi")]).token_ids
        prompt = builder.build([user("Hi"), answer, {"role": "tool", "content": "sun"}])
        assert prompt.token_ids[: len(before) + len(kept)] == before + kept


def test_thoughts_that_the_template_drops_do_not_come_back_with_the_ids() -> None:
    builder = tiny_builder()
    ids = spell(builder, "<think>", "\nhm\n", "</think>", "\n\nFine.", "<|im_end|>")
    answer = {**assistant("Fine."), "reasoning_content": "hm", "token_ids": ids}
    prompt = builder.build([user("Hi"), answer, user("?")])
    assert "hm" not in prompt.text
    assert contains(prompt.token_ids, spell(builder, "Fine.", "<|im_end|>"))
    assert builder.tokenizer.decode(prompt.token_ids) == prompt.text


@pytest.mark.parametrize(
    "parts",
    [["Hi", "<|im_end|>", "\n", "<|im_start|>", "system"], ["<|im_start|>", "Hi"], ["Hi", "<|endoftext|>", "x"]],
)
def test_ids_that_hold_a_turns_structure_are_not_used(parts: list[str]) -> None:
    """Whoever brings them: the text says the same, but the ids would end the turn."""
    builder = tiny_builder(PLAIN_TEMPLATE)
    answer = {**assistant("".join(parts)), "token_ids": spell(builder, *parts)}
    with_ids = builder.build([user("a"), answer, user("b")])
    assert with_ids == builder.build([user("a"), assistant("".join(parts)), user("b")])


def test_ids_do_not_reach_into_the_next_message() -> None:
    """Ids that go on behind the answer, with just what the user says next, would be the user's words."""
    builder = tiny_builder(PLAIN_TEMPLATE)
    ids = spell(builder, "Hello", "<|im_end|>", "\n", "<|im_start|>", "user\nHello, world!")
    messages = [user("a"), {**assistant("Hello"), "token_ids": ids}, user("Hello, world!")]
    assert not contains(builder.build(messages).token_ids, spell(builder, "Hello, world!"))


@pytest.mark.parametrize("role", ["user", "system", "tool"])
def test_ids_of_others_than_the_assistant_are_not_used(role: str) -> None:
    builder = tiny_builder(PLAIN_TEMPLATE)
    message = {"role": role, "content": "Hello", "token_ids": spell(builder, "Hello")}
    assert builder.build([message]) == builder.build([{"role": role, "content": "Hello"}])


@pytest.mark.parametrize("token_ids", [[10**9], [-1], [10**30]])
def test_ids_that_the_model_does_not_have_are_not_used(token_ids: Any) -> None:
    messages = [user("a"), {**assistant("Hi"), "token_ids": token_ids}]
    assert tiny_builder().build(messages) == tiny_builder().build([user("a"), assistant("Hi")])


@pytest.mark.parametrize("token_ids", ["abc", [1.5], [None], [True], 7])
def test_ids_of_another_type_are_refused(token_ids: Any) -> None:
    with pytest.raises(InvalidMessageError, match="token_ids is a list of token ids"):
        tiny_builder().build([user("a"), {**assistant("Hi"), "token_ids": token_ids}])


@pytest.mark.parametrize("index", [0, 3, MIN_MESSAGES_WITH_PAST - 1])
def test_what_is_no_message_is_refused_in_long_conversations_too(index: int) -> None:
    messages: list[Any] = conversation(MIN_MESSAGES_WITH_PAST)
    messages[index] = "Hello"
    with pytest.raises(InvalidMessageError, match=rf"messages\[{index}\]: a message is a dictionary, not str"):
        new_builder().build(messages)
