"""Train the demo model from scratch on generated dialogues, on CPU.

    python -m demo_model.train                    # writes demo_model/model/; the same data and steps every time
    python -m demo_model.train --minutes 95       # ends after 95 minutes at the latest, however far it got
    python -m demo_model.train --resume demo_model/runs/main/last.pt

Whole dialogues are sorted by length into batches, one a row, so no row sees another and positions start at 0 as in use.
The loss counts only what the assistant says. How far training is, which the learning rate and the length of the dialogues
follow, is the share of its tokens or, if that is larger, of its minutes: a busy machine trains less, but ends well.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional

from demo_model.checks import CHECKED_KINDS, check_dialogue, check_writer
from demo_model.generate import Dialogue, Writer
from demo_model.muon import Muon
from demo_model.network import Network, Shape
from demo_model.train_tokenizer import MODEL_FOLDER

RUNS_FOLDER = Path(__file__).parent / "runs"
MATRIX_RATE, EMBEDDING_RATE = 0.02, 3e-3  # highest learning rates of Muon and AdamW
WARM_UP_STEPS = 60
CONSTANT_SHARE = 0.4  # of training runs at the highest learning rate; then it falls
LAST_RATE = 0.02  # of the highest learning rate, at the end
POOL_SIZE = 1024  # dialogues that are sorted by length together
LONGEST = 1100  # tokens; longer dialogues are left out
LENGTH_STEP = 16  # rows are padded to a multiple of this, so that fewer shapes occur


@dataclass(frozen=True, slots=True)
class Example:
    """A dialogue as token ids, with whether each is learnt."""

    token_ids: list[int]
    learnt: list[bool]


def encode(tokenizer: Tokenizer, dialogue: Dialogue, *, last_only: bool = False) -> Example:
    """The dialogue as an example. `last_only` learns (or checks) only the last answer."""
    token_ids: list[int] = []
    learnt: list[bool] = []
    segments = dialogue.segments()
    for index, (text, is_learnt) in enumerate(segments):
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        is_last = index == len(segments) - 1
        token_ids += ids
        learnt += [is_learnt and (is_last or (not last_only and place > 0)) for place in range(len(ids))]
    return Example(token_ids, learnt)


def collate(examples: list[Example]) -> tuple[Tensor, Tensor, Tensor]:
    """Token ids of shape (rows, length), the flat positions that are learnt from, and the ids to predict there."""
    length = max(len(example.token_ids) for example in examples) - 1
    length = -(-length // LENGTH_STEP) * LENGTH_STEP
    batch = torch.zeros(len(examples), length, dtype=torch.long)
    places: list[int] = []
    targets: list[int] = []
    for row, example in enumerate(examples):
        ids = example.token_ids
        batch[row, : len(ids) - 1] = torch.tensor(ids[:-1])
        for place in range(len(ids) - 1):
            if example.learnt[place + 1]:
                places.append(row * length + place)
                targets.append(ids[place + 1])
    return batch, torch.tensor(places), torch.tensor(targets)


def length_batches(examples: list[Example], batch_tokens: int) -> list[list[Example]]:
    """Batches of examples of like length, each of at most `batch_tokens` tokens with padding."""
    batches: list[list[Example]] = [[]]
    for example in sorted(examples, key=lambda example: len(example.token_ids)):
        if batches[-1] and (len(batches[-1]) + 1) * len(example.token_ids) > batch_tokens:
            batches.append([])
        batches[-1].append(example)
    return batches


class Gauge:
    """Chooses the number of threads by what other processes leave free, looked at every few seconds."""

    def __init__(self) -> None:
        self.ticks_per_second = os.sysconf("SC_CLK_TCK")
        self.last = self._read()
        self.cores = os.cpu_count() or 1

    def _read(self) -> tuple[float, float, float]:
        """Busy seconds of all cores, those of this process, and the clock."""
        ticks = [int(value) for value in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]
        own = os.times()
        return (sum(ticks) - ticks[3] - ticks[4]) / self.ticks_per_second, own.user + own.system, time.monotonic()

    def adjust(self) -> None:
        now = self._read()
        seconds = now[2] - self.last[2]
        if seconds < 4:
            return
        others = (now[0] - self.last[0] - now[1] + self.last[1]) / seconds
        self.last = now
        threads = max(1, self.cores - round(others + 0.1))
        if threads != torch.get_num_threads():
            torch.set_num_threads(threads)


class Trainer:
    """One training run: its network, optimizers, data and log."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.folder: Path = options.run
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(options.seed)
        self.tokenizer = Tokenizer.from_file(str(MODEL_FOLDER / "tokenizer.json"))
        self.network = Network(Shape(self.tokenizer.get_vocab_size()))
        matrices = [weight for weight in self.network.layers.parameters() if weight.ndim == 2]
        others = [weight for weight in self.network.parameters() if all(weight is not matrix for matrix in matrices)]
        self.muon = Muon(matrices)
        self.adam = torch.optim.AdamW(others, lr=EMBEDDING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
        self.steps = self.tokens = 0
        self.minutes_before = 0.0
        if options.resume:
            self._load(options.resume)
        self.started = time.monotonic()
        self.gauge = Gauge()
        self.checks = check_sets(self.tokenizer)

    @property
    def minutes(self) -> float:
        return self.minutes_before + (time.monotonic() - self.started) / 60

    @property
    def progress(self) -> float:
        """How far training is, 0 to 1."""
        share: float = self.tokens / self.options.tokens
        if self.options.minutes:
            share = max(share, self.minutes / self.options.minutes)
        return min(1.0, share)

    def rate(self) -> float:
        """The share of the highest learning rate that holds now."""
        fall = max(LAST_RATE, (1 - self.progress) / (1 - CONSTANT_SHARE))
        return min(1.0, (self.steps + 1) / WARM_UP_STEPS, fall)

    def batches(self) -> Iterator[list[Example]]:
        """Endless batches; a run that goes on from a checkpoint reads new dialogues."""
        writer = Writer(self.options.seed * 1_000_003 + self.steps)
        shuffler = random.Random(self.options.seed)
        while True:
            pool = [encode(self.tokenizer, writer.write(progress=self.progress)) for _ in range(POOL_SIZE)]
            batches = length_batches(
                [item for item in pool if len(item.token_ids) <= LONGEST], self.options.batch_tokens
            )
            shuffler.shuffle(batches)
            yield from batches

    def step(self, examples: list[Example]) -> float:
        """Learn from one batch; returns its mean loss per learnt token."""
        batch, places, targets = collate(examples)
        hidden = self.network(batch).flatten(0, 1).index_select(0, places)
        loss = functional.cross_entropy(self.network.logits(hidden), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        rate = self.rate()
        self.muon.step(MATRIX_RATE * rate)
        for group in self.adam.param_groups:
            group["lr"] = EMBEDDING_RATE * rate
        self.adam.step()
        self.network.zero_grad(set_to_none=True)
        self.steps += 1
        self.tokens += batch.numel()
        return loss.item()

    def run(self) -> None:
        """Train to the end, checking and saving every few minutes."""
        losses: list[float] = []
        next_check = self.minutes + self.options.check_minutes
        mark = (time.monotonic(), self.tokens)
        for examples in self.batches():
            self.gauge.adjust()
            losses.append(self.step(examples))
            if self.steps % 25 == 0:
                speed = (self.tokens - mark[1]) / (time.monotonic() - mark[0])
                self.log(
                    f"step {self.steps} min {self.minutes:.1f} tokens {self.tokens / 1e6:.2f}M loss {sum(losses) / len(losses):.4f} "
                    f"rate {self.rate():.3f} {speed:.0f} tok/s {torch.get_num_threads()} threads"
                )
                losses, mark = [], (time.monotonic(), self.tokens)
            if self.progress >= 1 or self.minutes >= next_check:
                next_check = self.minutes + self.options.check_minutes
                self.check()
                self.save()
                mark = (time.monotonic(), self.tokens)
            if self.progress >= 1:
                break
        export(self.network, self.tokenizer, self.options.folder)
        self.log(
            f"exported to {self.options.folder.name}/ after {self.tokens / 1e6:.2f}M tokens in {self.minutes:.1f} minutes"
        )

    @torch.no_grad()
    def check(self) -> None:
        """Log the share of held-out dialogues whose whole last answer is right, by argmax with the true text before it."""
        shares = {}
        for name, examples in self.checks.items():
            right = 0
            for group in length_batches(examples, 4096):
                batch, places, targets = collate(group)
                hidden = self.network(batch).flatten(0, 1).index_select(0, places)
                wrong = places[self.network.logits(hidden).argmax(-1) != targets] // batch.shape[1]
                right += len(group) - len(set(wrong.tolist()))
            shares[name] = round(right / len(examples), 2)
        mean = sum(shares.values()) / len(shares)
        self.log(
            f"check step {self.steps} min {self.minutes:.1f} tokens {self.tokens / 1e6:.2f}M mean {mean:.3f} {json.dumps(shares)}"
        )

    def save(self) -> None:
        """Write a checkpoint from which a run can go on."""
        state = {
            "network": self.network.state_dict(),
            "muon": self.muon.state(),
            "adam": self.adam.state_dict(),
            "steps": self.steps,
            "tokens": self.tokens,
            "minutes": self.minutes,
        }
        torch.save(state, self.folder / "last.new")
        (self.folder / "last.new").replace(self.folder / "last.pt")

    def _load(self, path: Path) -> None:
        state: dict[str, Any] = torch.load(path)
        self.network.load_state_dict(state["network"])
        self.muon.load(state["muon"])
        self.adam.load_state_dict(state["adam"])
        self.steps, self.tokens, self.minutes_before = state["steps"], state["tokens"], state["minutes"]

    def log(self, line: str) -> None:
        print(line, flush=True)
        with (self.folder / "train.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def check_sets(tokenizer: Tokenizer, size: int = 24) -> dict[str, list[Example]]:
    """Held-out dialogues of every skill and kind of system message, half of them with thinking."""
    sets = {}
    for index, name in enumerate(CHECKED_KINDS):
        writer = check_writer(name, 900_000 + index)
        sets[name] = [
            encode(
                tokenizer,
                check_dialogue(writer, name, thinking=number % 2 == 1, language=("en", "zh")[number // 2 % 2]),
                last_only=True,
            )
            for number in range(size)
        ]
    return sets


def export(network: Network, tokenizer: Tokenizer, folder: Path) -> None:
    """Write config.json, generation_config.json and bf16 model.safetensors beside the tokenizer's files."""
    vocabulary = tokenizer.get_vocab()
    end_ids = [vocabulary["<|im_end|>"], vocabulary["<|endoftext|>"]]
    config = network.shape.config(end_ids=end_ids)
    generation = {
        "bos_token_id": end_ids[1],
        "eos_token_id": end_ids,
        "pad_token_id": end_ids[1],
        "do_sample": True,
        "temperature": 0.3,
        "top_p": 0.9,
        "top_k": 20,
    }
    for name, content in (("config.json", config), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").write_bytes(save(network.file_tensors(), metadata={"format": "pt"}))


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the demo model.")
    parser.add_argument("--tokens", type=float, default=33e6, help="tokens after which the run ends")
    parser.add_argument("--minutes", type=float, help="end after so many minutes even with fewer tokens")
    parser.add_argument("--batch-tokens", type=int, default=6144)
    parser.add_argument("--check-minutes", type=float, default=6)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--run", type=Path, default=RUNS_FOLDER / "main", help="folder of the log and the checkpoint")
    parser.add_argument("--folder", type=Path, default=MODEL_FOLDER, help="where the finished model goes")
    parser.add_argument("--resume", type=Path, help="a checkpoint to go on from")
    Trainer(parser.parse_args()).run()


if __name__ == "__main__":
    main()
