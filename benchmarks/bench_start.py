"""How long from the command to the first token, and to a prompt that can be typed into?

    python benchmarks/bench_start.py [--model demo] [--runs 3]

Each figure is a whole process, wall clock, from its start to the first byte of an answer on standard output:

* ``ask, cold``: no engine host runs; one is started, imports vLLM, loads the model.
* ``ask, warm``: the host is there.
* ``script with LLM(...)``: the peer: a plain script that makes ``vllm.LLM`` with its defaults and prints an answer.
* ``usable prompt``: ``chat`` in a pseudo-terminal, until a typed word stands in its line; nothing is loaded yet.
* ``--help``: to its first byte.

Medians of the runs; the peer runs in the same session, in turn with ours. Wanted: ask, cold at most
0.35 of the peer, ask, warm 1 s, usable prompt 0.6 s, --help 0.25 s.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.report import spread, write  # noqa: E402
from chat.backends.engine_host_client import list_hosts, stop_hosts  # noqa: E402
from chatcore.models.hub import resolve_model  # noqa: E402
from tests.chat.terminal.driver import Driver  # noqa: E402

PEER = """
import sys
from vllm import LLM, SamplingParams
if __name__ == "__main__":
    llm = LLM(sys.argv[1], gpu_memory_utilization=0.5)
    output = llm.chat([{"role": "user", "content": "Hello!"}], SamplingParams(max_tokens=1), use_tqdm=False)
    print(output[0].outputs[0].text)
"""


def seconds_to_first_byte(command: list[str]) -> float:
    """Run a command to its end; return the seconds until it printed something that is not a log line."""
    started_s = time.perf_counter()
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        process.stdout.read(1)
        elapsed_s = time.perf_counter() - started_s
        process.stdout.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:3])} ended with {process.returncode}")
    return elapsed_s


def seconds_to_usable_prompt(model: str) -> float:
    """Type as soon as the program runs; return the seconds until the word stands in the line."""
    started_s = time.perf_counter()
    driver = Driver([sys.executable, "vllm_deploy.py", "chat", "--model", model])
    try:
        driver.wait_until(driver.is_prompting, "a prompt", timeout_s=60)
        driver.press("word")
        driver.wait_until(lambda: "word" in driver.line(), "the word", timeout_s=60)
        return time.perf_counter() - started_s
    finally:
        driver.close()


def stop_and_wait() -> None:
    stop_hosts()
    while list_hosts():
        time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--runs", type=int, default=3)
    options = parser.parse_args()
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    with tempfile.TemporaryDirectory(prefix="bench-") as runtime_dir:
        os.environ["VLLMDEPLOY_RUNTIME_DIR"] = runtime_dir  # the user's own engines are left alone
        times = measure(options)
        stop_and_wait()
    peer_s = statistics.median(times["script with LLM(...)"])
    print(f"{'from the command to the first token':<38} {'median':>8} {'min':>8} {'max':>8} {'/ peer':>7}")
    result = {}
    for name, values in times.items():
        median_s = statistics.median(values)
        result[name] = {**spread(values), "ratio": round(median_s / peer_s, 3)}
        print(f"{name:<38} {median_s:>7.2f}s {min(values):>7.2f}s {max(values):>7.2f}s {median_s / peer_s:>7.2f}")
    write("bench_start", {"seconds": result})


def measure(options: argparse.Namespace) -> dict[str, list[float]]:
    """Return the seconds of each way, one for each run."""
    folder = str(resolve_model(options.model))
    ask = [sys.executable, "vllm_deploy.py", "ask", "Hello!", "--no-think", "--model", options.model]
    names = ("ask, cold", "ask, warm", "script with LLM(...)", "usable prompt", "--help")
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(options.runs):
        stop_and_wait()
        times["ask, cold"].append(seconds_to_first_byte(ask))
        times["ask, warm"].append(seconds_to_first_byte(ask))
        stop_and_wait()
        times["script with LLM(...)"].append(seconds_to_first_byte([sys.executable, "-c", PEER, folder]))
        times["usable prompt"].append(seconds_to_usable_prompt(options.model))
        stop_and_wait()
        times["--help"].append(seconds_to_first_byte([sys.executable, "vllm_deploy.py", "--help"]))
    return times


if __name__ == "__main__":
    main()
