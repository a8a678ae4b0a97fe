"""How often does the demo model give exactly the right answer? Measured through vLLM with greedy decoding.

    python -m demo_model.evaluate                  # a table of skills, then one last line of JSON

Every dialogue is new: other seeds than training's, and names, cities, words and sums from the share that training never
sees, Latin and Chinese. An answer counts only if its text equals the expected one; the text of the thought is not looked
at. "tool_call" compares the whole call. Half of the dialogues think first, and half are Chinese.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Tokenizer

from demo_model.checks import CHECKED_KINDS, RARE_CHARACTERS, check_dialogue, check_writer
from demo_model.generate import MESSAGE_END, Dialogue
from demo_model.train_tokenizer import MODEL_FOLDER

SEED = 5_000_000
COLUMNS = ("en", "zh", "en think", "zh think")
LONGEST_ANSWER = 700  # tokens: counting to 100 takes 400


@dataclass(frozen=True, slots=True)
class Trial:
    """A held-out dialogue, the kind that it stands for, and the column that it counts in."""

    kind: str
    column: str
    dialogue: Dialogue


def trials(count: int, *, seed: int = SEED) -> list[Trial]:
    """`count` held-out dialogues for every kind and column."""
    made = []
    for index, kind in enumerate(CHECKED_KINDS):
        writer = check_writer(kind, seed + index)
        for column in COLUMNS:
            language, *think = column.split()
            if kind == RARE_CHARACTERS and language == "en":
                continue
            for _ in range(count):
                dialogue = check_dialogue(writer, kind, thinking=bool(think), language=language)
                made.append(Trial(kind, column, dialogue))
    return made


def answer_of(text: str) -> str:
    """What is said, without the thought before it and the mark that ends the turn."""
    return text.split("</think>")[-1].removesuffix(MESSAGE_END).strip()


def generate(folder: Path, prompts: list[str]) -> list[str]:
    """The model's greedy answers, thoughts and markup included."""
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")  # the engine in this process: it starts in seconds
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "2")  # GiB
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # small matrices: a second thread costs more than it brings
    from vllm import LLM, SamplingParams
    from vllm.inputs import TokensPrompt

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    engine = LLM(str(folder), enforce_eager=True, max_num_seqs=64, dtype="bfloat16")
    sampling = SamplingParams(temperature=0, max_tokens=LONGEST_ANSWER, skip_special_tokens=False)
    ids = [tokenizer.encode(prompt, add_special_tokens=False).ids for prompt in prompts]
    inputs = [TokensPrompt(prompt_token_ids=prompt_ids) for prompt_ids in ids]
    return [output.outputs[0].text for output in engine.generate(inputs, sampling, use_tqdm=False)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Evaluate the demo model through vLLM.")
    parser.add_argument("--folder", type=Path, default=MODEL_FOLDER)
    parser.add_argument("--count", type=int, default=25, help="dialogues for every skill, language and way of thinking")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--wrong", type=int, default=0, help="also print so many wrong answers of every skill")
    options = parser.parse_args()
    tested = trials(options.count, seed=options.seed)
    started = time.monotonic()
    answers = generate(options.folder, [trial.dialogue.prompt() for trial in tested])
    seconds = time.monotonic() - started
    right: dict[str, dict[str, list[bool]]] = {kind: {column: [] for column in COLUMNS} for kind in CHECKED_KINDS}
    shown = dict.fromkeys(CHECKED_KINDS, 0)
    for trial, answer in zip(tested, answers, strict=True):
        wanted = answer_of(trial.dialogue.completion())
        is_right = answer_of(answer) == wanted
        right[trial.kind][trial.column].append(is_right)
        if not is_right and shown[trial.kind] < options.wrong:
            shown[trial.kind] += 1
            print(f"{trial.kind}: {trial.dialogue.prompt()[-160:]!r}\n  wanted {wanted!r}\n  got    {answer!r}")
    print_table(right, seconds)


def print_table(right: dict[str, dict[str, list[bool]]], seconds: float) -> None:
    """A row for every kind, and the same figures as one line of JSON."""
    print(f"{'':18}{'all':>8}" + "".join(f"{column:>10}" for column in COLUMNS))
    shares: dict[str, float] = {}
    for kind, columns in right.items():
        results = [is_right for column in columns.values() for is_right in column]
        shares[kind] = round(sum(results) / len(results), 3)
        cells = "".join(f"{sum(column) / len(column):10.2f}" if column else f"{'-':>10}" for column in columns.values())
        print(f"{kind:18}{shares[kind]:8.3f}{cells}")
    num_dialogues = sum(len(column) for columns in right.values() for column in columns.values())
    mean = round(sum(shares.values()) / len(shares), 3)
    print(json.dumps({"mean": mean, "dialogues": num_dialogues, "seconds": round(seconds, 1), "skills": shares}))


if __name__ == "__main__":
    main()
