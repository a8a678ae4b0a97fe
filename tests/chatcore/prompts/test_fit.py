"""What does not fit the window goes in whole turns, oldest first, and is named."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatcore.errors import PromptError, PromptTooLongError
from prompt_utils import FittedPrompt, PromptBuilder
from tests.chatcore.prompts.sample_models import (
    PLAIN_TEMPLATE,
    THINKING_TEMPLATE,
    assistant,
    tiny_builder,
    tiny_tokenizer,
    user,
)

SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"type": "function", "function": {"name": "look", "arguments": {"where": "here"}}}
CALLS: dict[str, Any] = {"role": "assistant", "content": "", "tool_calls": [CALL]}
RESULT = {"role": "tool", "content": "a result of some length"}


def conversation(num_turns: int) -> list[dict[str, Any]]:
    turns = [
        message for i in range(num_turns) for message in (user(f"Question {i}?"), assistant("Answer. " * (i % 5 + 1)))
    ]
    return [SYSTEM, *turns, user("And now?")]


def test_everything_stays_while_it_fits() -> None:
    builder, messages = tiny_builder(), conversation(5)
    count = builder.count(messages)
    fitted = builder.fit(messages, max_prompt_tokens=count)
    assert fitted.messages == messages
    assert fitted.dropped == []
    assert fitted.prompt == builder.build(messages)
    assert len(fitted.prompt.token_ids) == count


def test_oldest_turn_is_dropped_first() -> None:
    builder, messages = tiny_builder(), conversation(5)
    fitted = builder.fit(messages, max_prompt_tokens=builder.count(messages) - 1)
    assert fitted.dropped == [1, 2]
    assert fitted.messages == [SYSTEM, *messages[3:]]
    assert fitted.prompt == builder.build(fitted.messages)


@pytest.mark.parametrize("template", [THINKING_TEMPLATE, PLAIN_TEMPLATE], ids=["thinks", "plain"])
def test_no_more_turns_go_than_must(template: str) -> None:
    builder, messages = tiny_builder(template), conversation(12)
    whole = builder.count(messages)
    for limit in range(builder.count([SYSTEM, messages[-1]]), whole, 7):
        fitted = builder.fit(messages, max_prompt_tokens=limit)
        assert len(fitted.prompt.token_ids) <= limit
        one_more = [SYSTEM, *messages[1 + len(fitted.dropped) - 2 :]]
        assert builder.count(one_more) > limit


def test_cut_goes_down_to_the_target_once_something_must_go() -> None:
    builder, messages = tiny_builder(), conversation(20)
    limit = builder.count(messages)
    assert builder.fit(messages, max_prompt_tokens=limit, target_prompt_tokens=limit // 2).dropped == []
    fitted = builder.fit(messages, max_prompt_tokens=limit - 1, target_prompt_tokens=limit // 2)
    assert limit // 3 < len(fitted.prompt.token_ids) <= limit // 2
    newest = builder.fit([SYSTEM, user("Hi")], max_prompt_tokens=1000, target_prompt_tokens=1)
    assert newest.dropped == []


def test_target_that_cannot_be_reached_is_no_error_while_the_limit_holds() -> None:
    builder, messages = tiny_builder(), conversation(3)
    limit = builder.count([SYSTEM, messages[-1]]) + 1
    fitted = builder.fit(messages, max_prompt_tokens=limit, target_prompt_tokens=2)
    assert fitted.messages == [SYSTEM, messages[-1]]


def test_newest_message_that_does_not_fit_names_both_numbers() -> None:
    builder = tiny_builder()
    messages = [SYSTEM, user("old"), assistant("old"), user("long " * 100)]
    needed = builder.count([SYSTEM, messages[-1]])
    with pytest.raises(PromptTooLongError) as raised:
        builder.fit(messages, max_prompt_tokens=50)
    assert raised.value.num_prompt_tokens == needed
    assert raised.value.max_prompt_tokens == 50


def test_tool_call_goes_with_its_results() -> None:
    builder = tiny_builder()
    messages = [
        user("Look!"),
        CALLS,
        RESULT,
        RESULT,
        assistant("Seen."),
        user("Thanks"),
        assistant("Welcome"),
        user("Bye"),
    ]
    fitted = builder.fit(messages, max_prompt_tokens=builder.count(messages) - 1)
    assert fitted.dropped == [0, 1, 2, 3, 4]


def test_in_a_long_newest_turn_the_oldest_calls_go() -> None:
    builder = tiny_builder()
    messages = [SYSTEM, user("old"), assistant("old"), user("Look!"), *[CALLS, RESULT] * 5]
    limit = builder.count([SYSTEM, user("Look!"), *[CALLS, RESULT] * 3])
    fitted = builder.fit(messages, max_prompt_tokens=limit)
    assert fitted.dropped == [1, 2, 4, 5, 6, 7]
    assert len(fitted.prompt.token_ids) == limit
    with pytest.raises(PromptTooLongError):
        builder.fit(messages, max_prompt_tokens=builder.count([SYSTEM, user("Look!"), CALLS, RESULT]) - 1)


def test_pinned_message_stays_with_its_turn() -> None:
    builder, messages = tiny_builder(), conversation(6)
    limit = builder.count([SYSTEM, *messages[3:5], messages[-1]])
    fitted = builder.fit(messages, max_prompt_tokens=limit, pinned=[4])
    assert fitted.messages == [SYSTEM, messages[3], messages[4], messages[-1]]
    with pytest.raises(PromptTooLongError):
        builder.fit(messages, max_prompt_tokens=limit - 1, pinned=[4])
    with pytest.raises(PromptError, match="message 99 is pinned, but there are 14 messages"):
        builder.fit(messages, max_prompt_tokens=limit, pinned=[99])


def test_system_and_developer_messages_stay_wherever_they_are() -> None:
    builder = tiny_builder(PLAIN_TEMPLATE)
    developer = {"role": "developer", "content": "Now in French."}
    messages = [SYSTEM, user("a"), assistant("b"), developer, user("c")]
    fitted = builder.fit(messages, max_prompt_tokens=builder.count(messages) - 1)
    assert fitted.messages == [SYSTEM, developer, user("c")]


def test_options_reach_every_prompt() -> None:
    builder, messages = tiny_builder(), conversation(5)
    options: dict[str, Any] = {"enable_thinking": False, "tools": [{"type": "function", "function": {"name": "look"}}]}
    fitted = builder.fit(messages, max_prompt_tokens=builder.count(messages, **options) - 1, **options)
    assert fitted.prompt == builder.build(fitted.messages, **options)
    assert fitted.prompt.text.endswith("</think>\n\n")
    assert "look" in fitted.prompt.text


def test_cut_is_found_without_trying_every_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    builder, messages = PromptBuilder(tiny_tokenizer(), THINKING_TEMPLATE), conversation(200)
    builds: list[int] = []
    build = builder.build

    def counted(built: Any, **options: Any) -> Any:
        builds.append(len(built))
        return build(built, **options)

    monkeypatch.setattr(builder, "build", counted)
    fitted = builder.fit(messages, max_prompt_tokens=builder.count(messages) // 3)
    assert len(fitted.dropped) > 200
    assert len(builds) <= 5


def test_template_that_sees_every_letter_is_fitted_too() -> None:
    """It tells a text with invisible brackets from one without, so turns are measured by their share of the text."""
    template = PLAIN_TEMPLATE.replace("message.content", "message.content[0:1] + message.content[1:]")
    template = template.replace("message.role", "(message.content | length) ~ message.role")
    builder, messages = tiny_builder(template), conversation(30)
    assert not builder._templates["default"].refers
    limit = builder.count(messages) // 2
    fitted = builder.fit(messages, max_prompt_tokens=limit)
    assert len(fitted.prompt.token_ids) <= limit
    assert builder.count([SYSTEM, *messages[1 + len(fitted.dropped) - 2 :]]) > limit


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.sampled_from("uact"), st.text(max_size=20)), min_size=1, max_size=20),
    st.integers(min_value=1, max_value=400),
    st.sets(st.integers(min_value=0, max_value=3)),
)
def test_what_is_kept_fits_and_what_is_dropped_is_told(
    kinds: list[tuple[str, str]], limit: int, pinned: set[int]
) -> None:
    """Kept and dropped are the whole; pinned and newest messages are kept; no result loses its call."""
    fields: dict[str, dict[str, Any]] = {
        "u": {"role": "user"},
        "a": {"role": "assistant"},
        "c": CALLS,
        "t": {"role": "tool"},
    }
    messages = [user("Hi"), *({**fields[kind], "content": content} for kind, content in kinds)]
    pinned = {i for i in pinned if i < len(messages)}
    try:
        fitted = tiny_builder().fit(messages, max_prompt_tokens=limit, pinned=pinned)
    except PromptTooLongError as error:
        too_long = error.num_prompt_tokens
    else:
        too_long = limit + 1
        check_fitted(messages, fitted, limit, pinned)
    assert too_long > limit


def check_fitted(messages: list[dict[str, Any]], fitted: FittedPrompt, limit: int, pinned: set[int]) -> None:
    kept = [i for i in range(len(messages)) if i not in set(fitted.dropped)]
    assert fitted.messages == [messages[i] for i in kept]
    assert len(fitted.prompt.token_ids) <= limit
    assert pinned.isdisjoint(fitted.dropped)
    assert len(messages) - 1 in kept
    assert max(i for i, message in enumerate(messages) if message["role"] == "user") in kept
    for i in kept:
        assert messages[i]["role"] != "tool" or i - 1 in kept
