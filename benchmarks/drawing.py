"""The plots of bench_growth.py, as SVG files that read on a light and on a dark page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

__all__ = ["draw_clients", "draw_start", "draw_turns"]

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"
OURS_COLOUR, PEER_COLOUR = "#1f77b4", "#d95f02"  # told apart by colour-blind people too
SETTINGS = {
    "svg.hashsalt": "vllm-deploy",  # the same figures give the same file
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "xtick.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "figure.facecolor": "white",
}
Line = Mapping[str, float]  # by the number on the axis below


def draw_turns(figures: Mapping[str, Any]) -> None:
    """Draw the cost of a turn: its prompt, and its first token."""
    ms = figures["ms"]
    last = max(figures["num_tokens"], key=int)
    label = f"turn (turn {int(last):,}: {figures['num_tokens'][last]:,} tokens of history)"
    prompt = {name: ms[name] for name in ("apply_chat_template", "PromptBuilder.build")}
    first = {name: ms[name] for name in ("LLM.chat", "VLLMWrapper.reply")}
    panels = [("The prompt of turn N", "ms", prompt), ("The first token of turn N", "ms", first)]
    _draw("growth-turns", panels, label, scale="log")


def draw_clients(short: Mapping[str, Any]) -> None:
    """Draw throughput and time to the first token against the number of clients."""

    def lines(figure: str) -> dict[str, Line]:
        names = ("stock vLLM", "ours")
        return {name: {clients: found[figure][name]["median"] for clients, found in short.items()} for name in names}

    panels = [
        ("Throughput, short prompts", "requests per second", lines("throughput_per_s")),
        ("Time to the first token, median", "ms", lines("median_ttft_ms")),
    ]
    _draw("growth-clients", panels, "clients at once")


def draw_start(seconds: Mapping[str, Line]) -> None:
    """Draw the start against the size of the weights."""
    _draw("growth-start", [("From the command to the first token", "s", seconds)], "weights, MB")


def _draw(name: str, panels: list[tuple[str, str, Mapping[str, Line]]], label: str, scale: str = "linear") -> None:
    """Draw panels side by side; in each, the peer's line first. ``scale``: of what is measured."""
    with matplotlib.rc_context(SETTINGS):
        figure, places = pyplot.subplots(1, len(panels), figsize=(5.4 * len(panels), 3.4), squeeze=False)
        for axes, (title, unit, lines) in zip(places[0], panels, strict=True):
            for (line_name, line), colour in zip(lines.items(), (PEER_COLOUR, OURS_COLOUR), strict=True):
                places_below = [float(place) for place in line]
                axes.plot(places_below, list(line.values()), marker="o", markersize=4, color=colour, label=line_name)
            axes.set(title=title, xlabel=label, ylabel=unit, xscale="log", yscale=scale)
            if scale == "linear":
                axes.set_ylim(0, None)
            axes.set_xticks(places_below, [f"{int(place):,}" for place in places_below])
            axes.minorticks_off()
            axes.legend(frameon=False)
        figure.tight_layout()
        figure.savefig(IMAGES / f"{name}.svg", metadata={"Date": None})
        pyplot.close(figure)
    print(f"drawn: docs/images/{name}.svg")
