"""Run every benchmark of this folder, one after the other; the figures of each are kept in results/, as JSON.

make bench                                                          all of them
make bench ARGS="bench_store bench_guard"                           those whose name begins so
make bench ARGS="--tokenizer FOLDER --template FILE"                with Qwen's vocabulary where it matters

FOLDER holds Qwen's tokenizer (tokenizer.json, tokenizer_config.json), or is a model's name on Hugging Face. Without
one, what is about its vocabulary is left out, and that is said.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
sys.path.insert(0, str(ROOT))

from benchmarks.report import keep, record  # noqa: E402

# Minutes on two quiet cores.
MINUTES = {
    "bench_batch": 4,
    "bench_conversations": 4,
    "bench_growth": 10,
    "bench_guard": 1,
    "bench_memory": 5,
    "bench_prompt": 1,
    "bench_serve": 8,
    "bench_start": 4,
    "bench_store": 3,
    "bench_turns": 5,
}
WITH_TOKENIZER = ("bench_growth", "bench_prompt", "bench_serve", "bench_turns")
WITH_TEMPLATE = ("bench_growth", "bench_serve", "bench_turns")
ONLY_WITH_TOKENIZER = ("bench_turns",)
LAST = "bench_growth"  # it draws what others have measured


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="how the names of those to run begin; all if left out")
    parser.add_argument("--tokenizer", help="a folder, or a model's name on Hugging Face")
    parser.add_argument("--template", help="a Jinja file, where the folder holds none")
    options = parser.parse_args()
    found = sorted(path.stem for path in FOLDER.glob("bench_*.py"))
    names = [name for name in found if not options.names or name.startswith(tuple(options.names))]
    names.sort(key=lambda name: name == LAST)
    tokenizer = options.tokenizer and find_tokenizer(options.tokenizer)
    if not tokenizer and (left_out := [name for name in names if name in ONLY_WITH_TOKENIZER]):
        print(f"left out without --tokenizer FOLDER, with Qwen's tokenizer: {', '.join(left_out)}")
        names = [name for name in names if name not in left_out]
    minutes = sum(MINUTES.get(name, 0) for name in names)
    unknown = [name for name in names if name not in MINUTES]
    print(f"{len(names)} benchmarks, about {minutes} minutes on two quiet cores", end="")
    print(f", and what {', '.join(unknown)} takes" if unknown else "", flush=True)
    failed = [name for name in names if not run(name, arguments_of(name, tokenizer, options.template))]
    print(f"\n{len(names) - len(failed)} done, {len(failed)} failed {' '.join(failed)}")
    return bool(failed)


def find_tokenizer(name: str) -> str | None:
    """Return the folder of a tokenizer; None, and a sentence, if it cannot be had."""
    from benchmarks.bench_prompt import tokenizer_folder

    try:
        return str(tokenizer_folder(name))
    except Exception as error:  # the hub's client has many
        print(f"{name} is no folder and cannot be downloaded: {str(error).splitlines()[0]}")
        return None


def arguments_of(name: str, tokenizer: str | None, template: str | None) -> list[str]:
    words = ["--tokenizer", tokenizer] if tokenizer and name in WITH_TOKENIZER else []
    return words + (["--template", template] if words and template and name in WITH_TEMPLATE else [])


def run(name: str, arguments: Sequence[str]) -> bool:
    """Run a script; tell whether it came to its end."""
    print(f"\n== {name}, about {MINUTES.get(name, '?')} minutes", flush=True)
    command = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    line = ""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
    try:
        figures = json.loads(line)
    except ValueError:
        return False
    if "benchmark" not in figures:  # the script leaves it to us to keep them
        keep(record(name, figures, arguments))
    return process.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
