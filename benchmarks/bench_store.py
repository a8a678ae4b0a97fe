"""How long does it take to keep a turn, to resume a conversation, to search?

    python benchmarks/bench_store.py [--messages 100000] [--turns 300] [--store FILE_OR_URL]

The store is filled with conversations of 40 messages of about 60 English and 60 Chinese words or characters, and 150
token ids for each answer. Then, on a warm disk cache:

commit    keeping a turn: the question, three growing partial answers, the complete answer; each is one transaction that
          is on disk when it returns. ``commit`` is one of these five transactions, ``turn`` all of them.
open      from a new process' import of the store (SQLAlchemy imported already) to a store that is ready.
resume    loading one conversation of 40 messages.
list      the 50 latest conversations.
search    all of several questions, from one found everywhere to one found nowhere.

Figures are milliseconds; the last line is JSON.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

started_s = time.perf_counter()
import sqlalchemy  # noqa: E402, F401

SQLALCHEMY_MS = (time.perf_counter() - started_s) * 1000

from chat.conversations.conversation import Conversation, Message  # noqa: E402
from chat.store.local import ConversationStore  # noqa: E402

NUM_MESSAGES = 40  # of one conversation
QUESTIONS = {"everywhere": "the", "rare word": "zyzzyva", "nowhere": "xyzzy", "two characters": "部署", "prefix": "co"}
ENGLISH = "the of and to in is you that it he was for on are as with his they at be this have from or one had by"
WORDS = ENGLISH.split()
HAN = "的一是不了在人有我他这个们中来上大为和国地到以说时要就出会可也你对生能而子那得于着下自之年过发后作里部署"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000, help="messages in the store")
    parser.add_argument("--turns", type=int, default=300, help="turns to keep while the clock runs")
    parser.add_argument("--store", help="a new file or an empty database; a temporary file if left out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-store-") as folder:
        measure(options.store or f"{folder}/conversations.sqlite", options.messages, options.turns)


def measure(where: str, num_messages: int, num_turns: int) -> None:
    store = ConversationStore(where)
    began_s = time.perf_counter()
    ids = fill(store, num_messages)
    figures: dict[str, list[float]] = {"fill (each message)": [(time.perf_counter() - began_s) * 1000 / num_messages]}
    store.close()
    figures["open"] = timed(lambda: ConversationStore(where).close(), 20)
    store = ConversationStore(where)
    figures["commit"], figures["turn"] = keep_turns(store, num_turns)
    chosen = iter(random.sample(ids, 100))
    figures["resume"] = timed(lambda: store.load(next(chosen)), 100)
    figures["list"] = timed(lambda: store.recent(), 30)
    for name, question in QUESTIONS.items():
        figures[f"search: {name}"] = timed(lambda question=question: store.search(question), 20)
    store.close()
    report(figures, num_messages)


def fill(store: ConversationStore, num_messages: int) -> list[str]:
    """Put conversations into the store, many in one transaction; return their ids."""
    random.seed(0)
    ids: list[str] = []
    while len(ids) * NUM_MESSAGES < num_messages:
        ids += [kept.id for kept in store.insert_all([make_conversation() for _ in range(100)])]
    return ids


def make_conversation() -> Conversation:
    conversation = Conversation()
    for _ in range(NUM_MESSAGES // 2):
        conversation.add(Message("user", make_text()))
        ids = tuple(random.randrange(150_000) for _ in range(150))
        conversation.add(Message("assistant", make_text(), token_ids=ids, finish_reason="stop"))
    return conversation


def make_text() -> str:
    words = [random.choice(WORDS) + random.choice(("", "", f"{random.randrange(5000)}")) for _ in range(60)]
    rare = " zyzzyva" if random.random() < 0.0005 else ""
    return " ".join(words) + rare + " " + "".join(random.choices(HAN, k=60))


def keep_turns(store: ConversationStore, num_turns: int) -> tuple[list[float], list[float]]:
    """Return the times of single commits and of whole turns, in ms."""
    conversation = store.create()
    commits: list[float] = []
    turns: list[float] = []
    for _ in range(num_turns):
        text = make_text()
        answer = Message("assistant", "", status="partial")
        steps = [Message("user", make_text())]
        steps += [dataclasses.replace(answer, content=text[: len(text) * part // 3]) for part in (1, 2, 3)]
        steps.append(dataclasses.replace(answer, content=text, status="complete", token_ids=tuple(range(150))))
        for step in steps:
            commits += timed(lambda step=step: store.add(conversation, step), 1)
        turns.append(sum(commits[-len(steps) :]))
    return commits, turns


def timed(act: Callable[[], object], times: int) -> list[float]:
    """Return how long each of several calls took, in ms."""
    taken: list[float] = []
    for _ in range(times):
        began_s = time.perf_counter()
        act()
        taken.append((time.perf_counter() - began_s) * 1000)
    return taken


def report(figures: dict[str, list[float]], num_messages: int) -> None:
    rows = {}
    print(f"{num_messages} messages; import of SQLAlchemy {SQLALCHEMY_MS:.0f} ms")
    print(f"{'':<24}{'p50':>10}{'p99':>10}{'max':>10}  ms")
    for name, taken in figures.items():
        p99 = statistics.quantiles(taken, n=100, method="inclusive")[98] if len(taken) > 1 else taken[0]
        rows[name] = {"p50": statistics.median(taken), "p99": p99, "max": max(taken)}
        print(f"{name:<24}" + "".join(f"{value:>10.2f}" for value in rows[name].values()))
    print(
        json.dumps(
            {
                "num_messages": num_messages,
                "sqlalchemy_import_ms": round(SQLALCHEMY_MS, 1),
                **{name: {key: round(value, 3) for key, value in row.items()} for name, row in rows.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
