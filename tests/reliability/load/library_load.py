"""A load generator for the library and a store, which runs until standard input is closed.

``python -m tests.reliability.load.library_load STORE`` prints ``ready`` when the model is loaded and the prompt caches
are full, and at its end the number of actions of each kind, as JSON.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from collections import Counter, deque
from typing import Any

from chat.conversations import files
from chat.conversations.conversation import Message
from chat.store.local import ConversationStore
from chatcore.engine import wrapper as wrapper_module
from chatcore.errors import PromptTooLongError, SamplingError
from prompt_utils import PromptBuilder
from tests.reliability.load.client import LIMITS
from tests.reliability.load.prompts import CACHE_FILL_TOKENS, long_conversations, random_message
from vllm_wrapper import VLLMWrapper

SEED = 10
MAX_KEPT = 30  # conversations; older ones are deleted
PAUSE_S = 0.2  # as long as a person takes, in an hour that passes quickly
SHORT = {"max_tokens": 12, "temperature": 0.0}


class SmallCacheBuilder(PromptBuilder):
    """A builder with a small prompt cache, as the server has here, so that other growth shows."""

    @classmethod
    def from_pretrained(cls, model_dir: Any, **options: Any) -> PromptBuilder:
        return super().from_pretrained(model_dir, max_cache_bytes=LIMITS["--prompt-cache-mb"] << 20, **options)


class LibraryLoadGenerator:
    """Random actions with the library and a store, as the terminal uses them."""

    def __init__(self, llm: VLLMWrapper, store: ConversationStore) -> None:
        self._llm = llm
        self._store = store
        self._chance = random.Random(SEED)
        self._kept: deque[str] = deque()

    def step(self) -> str:
        """Run one random action; return its name."""
        actions = [
            self.reply,
            self.stream,
            self.abort,
            self.batch,
            self.history,
            self.send_invalid,
            self.hold_conversation,
            self.list_and_search,
        ]
        action = self._chance.choice(actions)
        action()
        return action.__name__

    def reply(self) -> None:
        assert self._llm.reply(self._messages(), **SHORT).usage.num_output_tokens

    def stream(self) -> None:
        with self._llm.stream(self._messages(), **SHORT) as stream:
            assert "".join(delta.text for delta in stream) or stream.reply.reasoning

    def abort(self) -> None:
        """Stop an answer after its first piece."""
        with self._llm.stream(self._messages(), max_tokens=500, ignore_eos=True) as stream:
            next(iter(stream))
            stream.abort()
            assert stream.reply.finish_reason == "abort"

    def batch(self) -> None:
        assert len(self._llm.reply_batch([self._messages() for _ in range(4)], progress=False, **SHORT)) == 4

    def history(self) -> None:
        _, history = self._llm.chat(random_message(self._chance), **SHORT)
        assert len(self._llm.chat(random_message(self._chance), history, **SHORT)[1]) == 2

    def send_invalid(self) -> None:
        """Pass options that must be refused."""
        for options, kind in (({"temperature": -1.0}, SamplingError), ({"max_prompt_tokens": 3}, PromptTooLongError)):
            try:
                self._llm.reply(self._messages(), **{"max_tokens": 2, **options})
            except kind:
                continue
            raise AssertionError(f"{options} was taken")

    def hold_conversation(self) -> None:
        """Keep a conversation of two turns, its answers piece by piece."""
        conversation = self._store.create(system="You are a helpful assistant.")
        for _ in range(2):
            self._store.add(conversation, Message("user", random_message(self._chance)))
            messages: Any = [{"role": one.role, "content": one.content} for one in conversation.path()]
            answer = Message("assistant", "", status="partial")
            with self._llm.stream(messages, **SHORT) as stream:
                for number, _ in enumerate(stream):
                    if number % 8 == 0:
                        self._store.add(conversation, answer)
            whole = Message.from_reply(stream.reply)
            self._store.add(conversation, Message("assistant", whole.content, token_ids=whole.token_ids))
        self._kept.append(conversation.id)
        while len(self._kept) > MAX_KEPT:
            self._store.delete(self._kept.popleft())

    def list_and_search(self) -> None:
        """List, search and export."""
        assert len(self._store.recent(limit=10)) <= 10
        self._store.search(random_message(self._chance).split()[0], limit=10)
        if self._kept:
            found = self._store.load(self._chance.choice(self._kept))
            assert files.from_dict(json.loads(files.to_json(found))).id == found.id

    def _messages(self) -> list[dict[str, Any]]:
        return [{"role": "user", "content": random_message(self._chance)}]


def main(where: str) -> None:
    """Run actions until standard input is closed."""
    over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
    done: Counter[str] = Counter()
    store = ConversationStore(where)
    wrapper_module.PromptBuilder = SmallCacheBuilder
    with VLLMWrapper("demo", max_model_len=2048) as llm:
        generator = LibraryLoadGenerator(llm, store)
        num_tokens, conversations = 0, long_conversations(random.Random(SEED))
        while num_tokens < CACHE_FILL_TOKENS:
            num_tokens += llm.prompt_builder.count(next(conversations))
        print("ready", flush=True)
        while not over.is_set():
            done[generator.step()] += 1
            time.sleep(PAUSE_S)
    store.close()
    print(json.dumps(done), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
