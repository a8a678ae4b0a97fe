"""Write docs/newcomer.md: every step of the quickstart on a clean machine, with its time and the size of its downloads.

    python docs/make_newcomer.py [--note "Packages came from a mirror in the same room."]

Needs git, make and a network. A new clone of this checkout's last commit, in a temporary folder with an empty home
folder and nothing of this environment, goes through the steps in order; the first one that fails ends it. Takes one
or two minutes more than ``make install``, and 4 GB of disk meanwhile. On a machine that does other work the times say
little.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "newcomer.md"
sys.path.insert(0, str(ROOT))

from benchmarks.report import machine  # noqa: E402

STEPS = (  # what it is for, what is typed, and what is said in the program
    ("install", "make install", ""),
    ("install again", "make install", ""),
    ("doctor", "python vllm_deploy.py doctor demo", ""),
    ("first answer", 'python vllm_deploy.py ask "What is 12 + 30?"', ""),
    ("second answer", 'python vllm_deploy.py ask "What is 12 + 31?"', ""),
    ("a chat", "make chat", "Hello!\n/exit\n"),
    ("the list of engines", "python vllm_deploy.py ps", ""),
    ("unload", "python vllm_deploy.py stop", ""),
    ("help", "python vllm_deploy.py --help", ""),
    ("tests of one file", "make test ARGS=tests/chatcore/prompts/test_fit.py", ""),
    ("from Python", "python examples/two_turns.py", ""),
)
OF_THE_USER = re.compile(r"HOME|PYTHON|VIRTUAL_ENV|XDG_|HF_|HUGGING|MODELSCOPE|VLLM|OMP_|OPENAI")
UNITS = {"kB": 10**3, "MB": 10**6, "GB": 10**9}
TIMEOUT_S = 3600.0


@dataclass(frozen=True, slots=True)
class Row:
    """One step, done."""

    name: str
    command: str
    seconds: float
    downloaded: str = ""
    on_disk: str = ""

    def __str__(self) -> str:
        cells = [self.name, f"`{self.command}`", shown_s(self.seconds), self.downloaded, self.on_disk]
        return f"| {' | '.join(cells)} |".replace("  ", " ")


def take_steps(folder: Path) -> Iterator[Row]:
    """Clone into a folder and go through the steps; yield each when it is done."""
    clone = folder / "vllm-deploy"
    seconds, _ = run(["git", "clone", "--quiet", f"file://{ROOT}", str(clone)], folder, "")
    history = size_of(clone / ".git")
    files = size_of(clone) - history
    yield Row("clone", "git clone", seconds, shown_bytes(history), f"{shown_bytes(files)}, and the history")
    for name, command, said in STEPS:
        seconds, output = run(["bash", "-c", command], clone, said)
        if name == "install":
            number, size = downloads(output)
            told = f"{shown_bytes(size)} in {number} packages"
            yield Row(name, command, seconds, told, f"{shown_bytes(size_of(clone / '.venv'))} in `.venv`")
        else:
            typed = f"{command}`, one message, `/exit" if said else command
            yield Row(name, typed, seconds)


def run(command: list[str], folder: Path, said: str) -> tuple[float, str]:
    """Run a command as a new user of the machine would; return its time in seconds, and what it printed.

    Raises:
        SystemExit: it failed.
    """
    begun_s = time.monotonic()
    result = subprocess.run(  # noqa: S603 - the commands stand above
        command,
        cwd=folder,
        env=environment(folder),
        input=said,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"{result.stdout}\nthis failed: {command[-1]}")
    return time.monotonic() - begun_s, result.stdout


def environment(folder: Path) -> dict[str, str]:
    """Return the machine's environment without what belongs to its user; homes and sockets lie beside the clone."""
    beside = folder if folder.name != "vllm-deploy" else folder.parent
    kept = {name: value for name, value in os.environ.items() if not OF_THE_USER.match(name)}
    runtime = beside / "run"
    runtime.mkdir(mode=0o700, exist_ok=True)
    activated = beside / "vllm-deploy" / ".venv" / "bin"
    others = [place for place in kept["PATH"].split(os.pathsep) if not Path(place).is_relative_to(ROOT)]
    path = os.pathsep.join([str(activated), *others])
    return {**kept, "HOME": str(beside / "home"), "XDG_RUNTIME_DIR": str(runtime), "PATH": path}


def downloads(output: str) -> tuple[int, int]:
    """Return how many packages pip fetched, and their bytes; a file in a folder of wheels counts as fetched."""
    sizes = [
        float(number) * UNITS[unit] for number, unit in re.findall(r"Downloading \S+ \(([\d.]+) (kB|MB|GB)\)", output)
    ]
    sizes += [Path(file).stat().st_size for file in re.findall(r"Processing (/\S+\.whl)", output)]
    return len(sizes), round(sum(sizes))


def size_of(folder: Path) -> int:
    """Return the bytes that a folder takes on disk."""
    return sum(file.lstat().st_blocks * 512 for file in folder.rglob("*"))


def shown_bytes(size: int) -> str:
    return f"{size / 10**9:.1f} GB" if size >= 10**9 else f"{size / 10**6:.0f} MB"


def shown_s(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def main() -> int:
    """Take the steps, write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--note", default="", help="where packages came from, or what else the figures depend on")
    options = parser.parse_args()
    facts = machine()
    what = f"{facts['cores']} cores ({facts['processor']}; no GPU used), Linux, Python {facts['python']}"
    head = HEAD.format(what=what, date=time.strftime("%Y-%m-%d"), load=facts["load_average"], note=options.note)
    rows = []
    with tempfile.TemporaryDirectory(prefix="newcomer-") as folder:
        for row in take_steps(Path(folder)):
            print(row, flush=True)
            rows.append(str(row))
    PAGE.write_text(re.sub(r" +\n", "\n", head) + "\n".join(rows) + "\n" + TAIL, "utf-8")
    return 0


HEAD = """# A clean machine

What happens on a machine that has Python 3.11, git and make, and nothing of this project: every step of the quickstart,
in order, in a new clone with an empty home folder. `python docs/make_newcomer.py` goes through them and writes this
page.

Machine: {what}, {date}. Load by others when it began: {load}. {note}

| step | command | time | downloaded | on disk |
|---|---|---|---|---|
"""
TAIL = """
The first answer takes longest because vLLM is imported and the engine started, for the first time on this machine; the
engine then stays for five minutes, so the second answer and the chat come at once. Nothing is downloaded after the
installation: the model is embedded.

A real model adds its own download, which `python vllm_deploy.py doctor MODEL` tells before it begins: 1.4 GiB for
Qwen3-0.6B, 15.3 GiB for Qwen3-8B.
"""

if __name__ == "__main__":
    sys.exit(main())
