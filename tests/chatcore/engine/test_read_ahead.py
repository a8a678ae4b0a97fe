"""What the engine reads while the user does: the next turn finds its whole past in the prefix cache."""

from __future__ import annotations

import itertools
import time

import pytest

from chatcore.engine.lora import LoadedAdapters
from chatcore.engine.requests import RequestMaker

LONG = {"temperature": 0.0, "max_tokens": 400, "ignore_eos": True, "enable_thinking": False}


@pytest.fixture
def engine_reads(llm, monkeypatch):
    """Prompts that the engine was given, by length, since the test began."""
    lengths = []
    add_request = llm.model.llm_engine.add_request

    def note(request_id, prompt, *arguments, **options):
        lengths.append(len(prompt["prompt_token_ids"]))
        return add_request(request_id, prompt, *arguments, **options)

    monkeypatch.setattr(llm.model.llm_engine, "add_request", note)
    return lengths


def wait_until_idle(llm, lengths):
    """Wait until nothing more is read, without asking the engine anything."""
    before = -1
    while before != len(lengths) or llm.model.llm_engine.has_unfinished_requests():
        before = len(lengths)
        time.sleep(0.5)


def block_size(llm):
    return llm.model.llm_engine.vllm_config.cache_config.block_size


def most_cached(num_tokens, llm):
    """Return how many tokens of a prompt can come out of the cache: whole blocks, and one token is always computed."""
    return (num_tokens - 1) // block_size(llm) * block_size(llm)


def talk(llm, lengths, name, **options):
    """Ask, read for a while, ask again; return the second reply."""
    messages = [{"role": "user", "content": f"I am {name}. Count from 1 to 200."}]
    messages.append(llm.reply(messages, **LONG, **options).message)
    wait_until_idle(llm, lengths)
    messages.append({"role": "user", "content": "Thanks!"})
    return llm.reply(messages, **(LONG | {"max_tokens": 1}))


def test_the_next_turn_finds_an_answer_whose_markup_changed_in_the_cache(llm, engine_reads):
    usage = talk(llm, engine_reads, "Ada").usage
    at_least = usage.num_prompt_tokens - block_size(llm)  # the question may begin a block
    assert usage.num_cached_tokens >= most_cached(at_least, llm)
    assert usage.num_cached_tokens > 300


def test_reading_ahead_goes_in_short_steps(llm, engine_reads, monkeypatch):
    monkeypatch.setattr("chatcore.engine.requests.AHEAD_TOKENS", 128)
    talk(llm, engine_reads, "Grace")
    asked, *ahead, asked_again = engine_reads
    assert len(ahead) > 1
    *steps, last = [later - earlier for earlier, later in itertools.pairwise(ahead)]
    assert set(steps) == {128}
    assert last <= 128
    assert asked < ahead[0] <= ahead[-1] <= asked_again


def test_nothing_is_read_ahead_where_the_cache_has_it_already(llm, engine_reads):
    """A turn that ends within the block in which it began."""
    messages = [{"role": "user", "content": "Hi, I am Alan."}]
    reply = llm.reply(messages, temperature=0.0, max_tokens=8, enable_thinking=False)
    wait_until_idle(llm, engine_reads)
    assert reply.usage.num_output_tokens <= 8
    assert len(engine_reads) == 1


@pytest.mark.parametrize("ask", ["reply_batch", "replies"])
def test_batches_read_nothing_ahead(llm, engine_reads, ask):
    messages = [{"role": "user", "content": f"{ask}: count from 1 to 200."}]
    if ask == "reply_batch":
        llm.reply_batch([messages], progress=False, **LONG)
    else:
        llm.replies(messages, n=1, **LONG)
    wait_until_idle(llm, engine_reads)
    assert len(engine_reads) == 1


@pytest.mark.parametrize("reads_ahead", [True, False])
def test_reading_ahead_can_be_switched_off(llm, reads_ahead):
    requests = RequestMaker(
        llm.prompt_builder, llm.model, LoadedAdapters(llm._thread.call, llm.model_dir), reads_ahead=reads_ahead
    )
    request = requests.make([{"role": "user", "content": "Hello!"}], "ends")
    assert (request.ahead is not None) == reads_ahead
