"""How do turn, throughput and start grow, ours and the peer's? Data for three plots, and the plots.

    python benchmarks/bench_growth.py --tokenizer FOLDER [--template FILE] [--only turns start draw]

turns    the cost of turn 1 to 1,000 of one conversation, Qwen's whole vocabulary: the prompt alone
         (``apply_chat_template`` against ``PromptBuilder.build``), and the first token of a Qwen3 of two layers with
         random weights, engine in this process (``LLM.chat`` against ``VLLMWrapper.reply``). Medians of three turns.
start    from the command to the first byte of an answer, models of random weights from 2 MB to 1 GB: a plain script
         with ``vllm.LLM`` and its defaults against ``ask`` without an engine that runs. The second of two starts of
         each, so that both find the files and what they compiled in their caches.
draw     SVG pictures of these, and of the throughput that bench_serve.py has measured, into docs/images.

What one run has measured is kept in results/bench_growth.json; a part that is not run keeps its figures of before.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.bench_prompt import Bench, seconds, turns  # noqa: E402
from benchmarks.report import kept, write  # noqa: E402

TURNS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
NUM_TIMED = 3  # turns at each place; the median is reported
MAX_ANSWER_WORDS = 12  # so that 1,000 turns fit the window, and are read within a minute
WINDOW = 131_072
PEER_PROMPT, OUR_PROMPT = "apply_chat_template", "PromptBuilder.build"
PEER_TURN, OUR_TURN = "LLM.chat", "VLLMWrapper.reply"
PEER_START, OUR_START = "script with LLM(...)", "ask, cold"
# Layers and width of the models whose start is timed; the demo model's vocabulary. From 2 MB to 1 GB.
SIZES = ((1, 128), (8, 512), (8, 1280), (12, 2048))
ASK = ("ask", "Hello!", "--no-think", "--max-tokens", "1")  # as many as the script
PARTS = ("turns", "start", "draw")
Message = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, help="a folder with Qwen's tokenizer; without one no turns are timed")
    parser.add_argument("--template", type=Path, help="a Jinja file, where that folder holds none")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    figures = kept("bench_growth", ("turns", "start_s"))
    if "turns" in options.only and options.tokenizer is None:
        print("turns are left out: they need --tokenizer FOLDER, with Qwen's tokenizer")
    elif "turns" in options.only:
        with tempfile.TemporaryDirectory(prefix="bench-growth-") as scratch:
            figures["turns"] = measure_turns(Path(scratch), options)
    if "start" in options.only:
        measure_start(figures)
    if "draw" in options.only:
        draw_all(figures)
    write("bench_growth", figures)


# -- turn 1 to 1,000 ---------------------------------------------------------------------------------------------------


def measure_turns(scratch: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Return milliseconds of each way by the number of the turn."""
    from benchmarks.bench_turns import make_model
    from vllm_wrapper import VLLMWrapper

    make_model(scratch, options.tokenizer)
    config = json.loads((scratch / "config.json").read_text("utf-8"))
    (scratch / "config.json").write_text(json.dumps({**config, "max_position_embeddings": WINDOW}), "utf-8")
    if options.template:
        shutil.copy(options.template, scratch / "chat_template.jinja")
    conversation = short_turns(max(TURNS) + NUM_TIMED)
    with VLLMWrapper(scratch, max_model_len=WINDOW) as llm:
        bench = Bench(scratch, NUM_TIMED)
        places = {str(turn): measure_place(llm, bench, conversation, turn) for turn in TURNS}
    tokens = {turn: place.pop("num_tokens") for turn, place in places.items()}
    names = (PEER_PROMPT, OUR_PROMPT, PEER_TURN, OUR_TURN)
    return {
        "num_tokens": tokens,
        "ms": {name: {turn: place[name] for turn, place in places.items()} for name in names},
    }


def short_turns(number: int) -> list[Message]:
    """Return a system message and so many short turns."""
    source = turns(random.Random(1))
    messages: list[Message] = [{"role": "system", "content": "You are a helpful assistant."}]
    for _ in range(number):
        question, answer = next(source)
        shortened = " ".join(answer["content"].split()[:MAX_ANSWER_WORDS])
        messages += [question, {"role": "assistant", "content": shortened}]
    return messages


def measure_place(llm: Any, bench: Bench, conversation: list[Message], turn: int) -> dict[str, float]:
    """Return the cost of a turn in each way; the turn before has been had in the same way, untimed."""
    from vllm import SamplingParams

    from benchmarks.bench_turns import fill_cache

    params = SamplingParams(temperature=0.0, max_tokens=1)
    ways: dict[str, Callable[[list[Message]], Any]] = {
        PEER_PROMPT: bench.peer_ids,
        OUR_PROMPT: llm.prompt_builder.build,
        PEER_TURN: lambda said: llm._thread.call(lambda engine: llm.model.chat(said, params, use_tqdm=False)),
        OUR_TURN: lambda said: llm.reply(said, temperature=0.0, max_tokens=1),
    }
    end = 2 * turn  # the system message, the turns before, and this turn's question
    if turn > 1:
        fill_cache(llm, conversation[: end - 1])
    taken: dict[str, list[float]] = {name: [] for name in ways}
    if turn > 1:
        for run in ways.values():
            run(conversation[: end - 2])
    for number in range(NUM_TIMED):
        for name in random.Random(turn + number).sample(list(ways), len(ways)):
            # Another question in each way and each time: what others have asked is in nobody's cache.
            question = {"role": "user", "content": f"{name} {number}: {conversation[end - 1]['content']}"}
            said = [*conversation[: end - 1], question]
            taken[name].append(seconds(lambda said=said, name=name: ways[name](said))[0] * 1000)
    medians = {name: round(statistics.median(values), 2) for name, values in taken.items()}
    num_tokens = llm.prompt_builder.count(conversation[:end])
    print(f"turn {turn}, {num_tokens} tokens: {medians}", flush=True)
    return {**medians, "num_tokens": num_tokens}


# -- start -------------------------------------------------------------------------------------------------------------


def measure_start(figures: dict[str, Any]) -> None:
    """Measure the seconds of each way by the model's size in MB; what is known is kept after each size, as all of them
    take half an hour."""
    from benchmarks.bench_start import PEER, seconds_to_first_byte, stop_and_wait

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    result: dict[str, dict[str, float]] = {PEER_START: {}, OUR_START: {}}
    figures["start_s"] = result
    with tempfile.TemporaryDirectory(prefix="bench-growth-") as scratch:
        os.environ["VLLMDEPLOY_RUNTIME_DIR"] = scratch  # the user's own engines are left alone
        for num_layers, width in SIZES:
            folder = Path(scratch, f"model-{num_layers}-{width}")
            size_mb = make_sized_model(folder, num_layers, width)
            commands = {
                PEER_START: [sys.executable, "-c", PEER, str(folder)],
                OUR_START: [sys.executable, "vllm_deploy.py", *ASK, "--model", str(folder)],
            }
            for name, command in commands.items():
                for _ in range(2):
                    stop_and_wait()
                    result[name][str(size_mb)] = round(seconds_to_first_byte(command), 2)
            stop_and_wait()
            shutil.rmtree(folder)
            write("bench_growth", figures)
            print(f"{size_mb} MB: " + ", ".join(f"{name} {found[str(size_mb)]} s" for name, found in result.items()))


def make_sized_model(folder: Path, num_layers: int, width: int) -> int:
    """Write a Qwen3 of random weights with the demo model's tokenizer; return the size of its weights in MB."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from chatcore.models.hub import DEMO_MODEL_DIR

    shutil.copytree(DEMO_MODEL_DIR, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((folder / "config.json").read_text("utf-8"))
    shape = {"num_hidden_layers": num_layers, "hidden_size": width, "intermediate_size": 3 * width}
    with torch.device("meta"):
        model = Qwen3ForCausalLM(Qwen3Config(**{**config, **shape})).to(torch.bfloat16)
    model = model.to_empty(device="cpu")
    model.tie_weights()
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.02)
    model.save_pretrained(folder)
    return round(sum(file.stat().st_size for file in folder.glob("*.safetensors")) / 1e6)


# -- pictures ----------------------------------------------------------------------------------------------------------


def draw_all(figures: dict[str, Any]) -> None:
    """Draw what there is; say what there is not."""
    try:
        from benchmarks.drawing import draw_clients, draw_start, draw_turns
    except ModuleNotFoundError as error:
        print(f"no pictures: {error}; pip install --no-deps -r requirements-docs.txt")
        return
    if "turns" in figures:
        draw_turns(figures["turns"])
    if "start_s" in figures:
        draw_start(figures["start_s"])
    if short := kept("bench_serve", ["short_prompts"]):
        draw_clients(short["short_prompts"])
    else:
        print("no picture of the throughput: bench_serve.py has not been run")


if __name__ == "__main__":
    main()
