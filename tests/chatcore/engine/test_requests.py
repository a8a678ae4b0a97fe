"""Several answers, likelihoods, seeds, biases: what a caller may ask for beside the text, on the real engine."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict

import pytest

from chatcore.errors import EngineError, InvalidMessageError, ModelLoadError, SamplingError
from chatcore.reply import Reply
from vllm_wrapper import ContextWindowWarning

GREEDY = {"temperature": 0.0, "enable_thinking": False}
HELLO = [{"role": "user", "content": "Hello!"}]
STORY = [{"role": "user", "content": "Tell me a story."}]  # it knows several
COUNT = [{"role": "user", "content": "Count from 1 to 100."}]


def test_several_answers_come_as_several_replies(llm):
    replies = llm.replies(STORY, n=4, temperature=2.0, top_p=1.0, top_k=0, max_tokens=24, enable_thinking=False)
    assert [type(reply) for reply in replies] == [Reply] * 4
    assert len({reply.text for reply in replies}) > 1
    assert {reply.usage.num_prompt_tokens for reply in replies} == {
        llm.prompt_builder.count(STORY, enable_thinking=False)
    }


def test_a_seed_makes_answers_repeatable(llm):
    options = {"temperature": 1.5, "max_tokens": 12, "enable_thinking": False}
    first = llm.replies(HELLO, n=3, seed=7, **options)
    again = llm.replies(HELLO, n=3, seed=7, **options)
    assert [reply.text for reply in first] == [reply.text for reply in again]
    assert llm.reply(HELLO, seed=8, **options).text == first[1].text


@pytest.mark.parametrize(
    ("n", "temperature", "message"), [(0, 1.0, "n is 0"), ("3", 1.0, "n is '3'"), (2, 0.0, "would be the same")]
)
def test_several_answers_that_cannot_be_are_refused(llm, n, temperature, message):
    with pytest.raises(SamplingError, match=message):
        llm.replies(HELLO, n=n, temperature=temperature)


@pytest.mark.parametrize("way", ["reply", "stream"])
def test_likelihoods_stand_beside_each_token(llm, way):
    if way == "reply":
        reply = llm.reply(HELLO, logprobs=3, **GREEDY)
    else:
        with llm.stream(HELLO, logprobs=3, **GREEDY) as stream:
            list(stream)
        reply = stream.reply
    assert tuple(place.chosen.token_id for place in reply.logprobs) == reply.token_ids
    assert "".join(place.chosen.text for place in reply.logprobs) == reply.text
    for place in reply.logprobs:
        assert place.chosen.rank == 1  # greedy
        assert place.top[0] == place.chosen
        assert [candidate.rank for candidate in place.top] == [1, 2, 3]
        assert 0.0 >= place.top[0].logprob >= place.top[1].logprob >= place.top[2].logprob
        assert sum(math.exp(candidate.logprob) for candidate in place.top) <= 1.001


def test_zero_alternatives_tell_the_chosen_token_alone(llm):
    reply = llm.reply(HELLO, logprobs=0, **GREEDY)
    assert reply.logprobs
    assert all(place.top == () for place in reply.logprobs)
    assert llm.reply(HELLO, **GREEDY).logprobs is None


def test_the_prompts_likelihoods_are_one_for_each_token(llm):
    reply = llm.reply(HELLO, prompt_logprobs=1, max_tokens=2, **GREEDY)
    token_ids = llm.prompt_builder.build(HELLO, enable_thinking=False).token_ids
    assert reply.prompt_logprobs[0] is None
    assert [place.chosen.token_id for place in reply.prompt_logprobs[1:]] == token_ids[1:]


def test_a_reply_with_likelihoods_survives_the_way_to_another_process(llm):
    reply = llm.reply(HELLO, logprobs=2, prompt_logprobs=0, max_tokens=3, **GREEDY)
    assert Reply.from_dict(asdict(reply)) == reply


def test_a_bias_makes_a_token_impossible(llm):
    first = llm.reply(HELLO, **GREEDY).token_ids[0]
    assert llm.reply(HELLO, logit_bias={first: -100.0}, **GREEDY).token_ids[0] != first


@pytest.mark.parametrize(
    ("sampling", "message"),
    [
        ({"temperature": "hot"}, "temperature is 'hot'"),
        ({"seed": "x"}, "seed is 'x'"),
        ({"seed": 1 << 70}, "seed is 1180591620717411303424"),
        ({"logit_bias": {"word": 1}}, "logit_bias is {'word': 1}"),
        ({"logit_bias": {10_000_000: 1}}, "logit_bias|vocab"),
        ({"max_tokens": 2.5}, "max_tokens is 2.5"),
        ({"stop": 5}, "stop is 5"),
        ({"structured_outputs": {"choice": 3}}, "structured_outputs is"),
        ({"response_format": {"regex": "("}}, "."),
        ({"response_format": {"grammar": "no grammar"}}, "."),
        ({"lora": "pirate"}, "there is no LoRA adapter 'pirate'; there are: none"),
    ],
)
def test_a_value_of_a_wrong_kind_is_refused_and_harms_nobody_else(llm, sampling, message):
    """Such values broke the engine's step once they had reached it, and with it every answer under way."""
    with llm.stream(COUNT, **GREEDY) as other:
        next(other)
        with pytest.raises(SamplingError, match=message) as caught:
            llm.reply(HELLO, **sampling)
        assert "\n" not in str(caught.value)
        assert len(other.reply.text) > 100


def test_the_time_to_the_first_token_is_shorter_than_the_whole(llm):
    usage = llm.reply(COUNT, **GREEDY).usage
    assert 0 < usage.ttft_ms < usage.e2el_ms / 2


def test_the_warning_of_dropped_turns_points_at_the_caller(llm):
    messages = [{"role": role, "content": "word " * 30} for _ in range(9) for role in ("user", "assistant")]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ContextWindowWarning)
        llm.reply([*messages, *HELLO], max_prompt_tokens=200, **GREEDY)
        llm.chat("Hello!", [("word " * 30, "word " * 30)] * 9, max_window_size=200, **GREEDY)
    assert [warning.filename for warning in caught] == [__file__, __file__]


def test_an_engine_that_was_not_made_for_it_says_so(llm, tmp_path):
    with pytest.raises(EngineError, match="not made for sleeping") as caught:
        llm.sleep()
    assert "enable_sleep_mode" in caught.value.hint
    with pytest.raises(ModelLoadError, match="not made for LoRA adapters") as refused:
        llm.add_lora("pirate", tmp_path)
    assert "lora_adapters={}" in refused.value.hint
    assert llm.loras == []


def test_a_tool_whose_schema_is_none_is_refused(llm):
    tool = {"type": "function", "function": {"name": "look", "parameters": "anything"}}
    with pytest.raises(InvalidMessageError, match="schema is not OpenAI's"):
        llm.reply(HELLO, tools=[tool])


def test_the_end_of_the_turn_can_be_ignored_but_not_what_the_caller_adds(llm):
    endless = llm.reply(HELLO, ignore_eos=True, max_tokens=60, **GREEDY)
    assert (endless.usage.num_output_tokens, endless.finish_reason) == (60, "length")
    added = llm.reply(HELLO, ignore_eos=True, max_tokens=60, stop_token_ids=[endless.token_ids[3]], **GREEDY)
    assert (added.usage.num_output_tokens, added.finish_reason) == (4, "stop")


@pytest.mark.parametrize(
    ("name", "value"),
    [("tools", 5), ("template_kwargs", ["a"]), ("max_prompt_tokens", "9"), ("lora", ["a"]), ("outputs", "each")],
)
def test_options_of_a_wrong_kind_are_refused_by_name(llm, name, value):
    """They may come from a line of a batch."""
    with pytest.raises(SamplingError, match=name):
        llm.reply(HELLO, **{name: value})
