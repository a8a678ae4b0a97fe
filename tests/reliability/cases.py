"""Many seeded cases against one target: how often, how long each may take, and how a failure is repeated."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import report
from chatcore.errors import ChatError, describe
from tests.reliability import scale
from tests.reliability.mutation import CODE

__all__ = ["CASE_LIMIT_S", "CASES", "folder_in_memory", "keep_figures", "refused", "run_cases"]

CASES = 100_000  # of a target that needs no process of its own
CASE_LIMIT_S = 20.0  # on a busy machine; what takes longer hangs
MAX_DEFECTS = 8  # so many different ones are looked for before a test fails
MAX_SENTENCE = 2000  # characters
SEED = os.environ.get("FUZZ_SEED", "1")
ONE_CASE = os.environ.get("FUZZ_CASE")
NUM_CASES = os.environ.get("FUZZ_CASES")  # instead of the usual numbers, to look for more

Case = Callable[[random.Random], str]


compiled: list[str] = []  # texts of a case that were made Python code of


class TooSlow(BaseException):
    """A case is not over in time. No code of the target takes it for an error of its own."""


def run_cases(target: str, case: Case, *, short: int, full: int = CASES, batch: int = 1) -> Counter[str]:
    """Run the cases of a target; count what became of them, and keep the figures of a full run.

    ``case`` gets random numbers of its own, asserts what must hold, and returns a word for what happened. That none of
    its texts is run as Python code holds for every case. Every case
    is made of the seed and its number alone: ``FUZZ_SEED=1 FUZZ_CASE=4711 pytest ... -k TEST`` runs that one again.

    Args:
        batch: cases in one call, where many share what is expensive to set up.
    Raises:
        AssertionError: some cases failed; says which, and how each is repeated.
    """
    num_cases = int(NUM_CASES or scale.scaled(full, short))
    numbers = [int(ONE_CASE)] if ONE_CASE else range(-(-num_cases // batch))
    outcomes: Counter[str] = Counter()
    defects: dict[str, str] = {}
    slowest_s, begun_s = 0.0, time.perf_counter()
    for number in numbers:
        case_begun_s = time.perf_counter()
        try:
            with _limited(), _never_run_as_code():
                outcomes[case(random.Random(f"{SEED}/{target}/{number}"))] += 1
        except (Exception, TooSlow) as error:
            outcomes["failed"] += 1
            defects.setdefault(_place(error), _describe(target, number, error))
            if len(defects) == MAX_DEFECTS:
                break
        slowest_s = max(slowest_s, time.perf_counter() - case_begun_s)
    seconds = time.perf_counter() - begun_s
    keep_figures(
        target,
        {
            "cases": outcomes.total() * batch,
            **dict(sorted(outcomes.items())),
            "slowest_ms": round(slowest_s * 1000, 1),
            "seconds": round(seconds, 1),
            "seed": SEED,
        },
    )
    assert not defects, f"{len(defects)} different defects, {outcomes['failed']} cases\n\n" + "\n\n".join(
        defects.values()
    )
    return outcomes


@contextmanager
def folder_in_memory() -> Iterator[Path]:
    """Give a folder of which nothing waits for a disk, where there is one: most cases write a file."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as name:
        yield Path(name)


def refused(error: ChatError, *, secret: str = "") -> str:
    """Assert that an error is a sentence for people, and no page of what was met; return the word for this outcome."""
    said = describe(error)
    assert str(error).strip()
    assert len(said) < MAX_SENTENCE
    assert "Traceback" not in said
    assert not secret or secret not in said
    return "refused"


@contextmanager
def _limited() -> Iterator[None]:
    def ring(signum: int, frame: object) -> None:
        raise TooSlow(f"not over within {CASE_LIMIT_S:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, CASE_LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _never_run_as_code() -> Iterator[None]:
    """Fail if a text that was brought is compiled, as pydantic does with one that it takes for the name of a type."""
    compiled.clear()
    yield
    assert not compiled, f"run as code: {compiled[0]}"


def _listen(event: str, args: tuple[object, ...]) -> None:
    if event == "compile" and CODE in str(args[0]):
        compiled.append(str(args[0])[:300])


sys.addaudithook(_listen)


def _place(error: BaseException) -> str:
    """Return what tells one defect from another: the kind of error, and the last line of ours on the way to it."""
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/.venv/" not in frame.filename]
    last = [frame for frame in ours if "/reliability/" not in frame.filename] or ours
    return f"{type(error).__name__} at {last[-1].filename}:{last[-1].lineno}"


def _describe(target: str, number: int, error: BaseException) -> str:
    told = [line[:300] for line in "".join(traceback.format_exception(error)).splitlines()]
    return "\n".join([f"{target}: FUZZ_SEED={SEED} FUZZ_CASE={number}", *told[-40:]])


def keep_figures(target: str, figures: dict[str, object]) -> None:
    """Put a target's figures beside those of the targets that were run before."""
    file = Path(report.RESULTS) / "reliability_fuzz.json"
    if ONE_CASE or (NUM_CASES and not scale.FULL):
        print(f"\n{target}: {figures}")
        return
    known = json.loads(file.read_text("utf-8"))["targets"] if file.exists() and scale.FULL else {}
    scale.keep("fuzz", {"targets": dict(sorted({**known, target: figures}.items()))})
