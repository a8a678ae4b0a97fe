"""The line of figures after an answer, and their totals for ``/stats``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from chat.session.usage import output_rate
from chat.terminal.texts import Texts
from chatcore.reply import Usage

__all__ = ["figures_line", "totals"]


def figures_line(usage: Usage, finish_reason: str, texts: Texts) -> str:
    """Return, for example: ``218 tokens · TTFT 0.31 s · 41.2 tok/s · prompt 1,204 (1,100 cached) · stop``."""
    parts = [texts.count("token", usage.num_output_tokens), texts("figures.ttft", s=usage.ttft_ms / 1000)]
    if (rate := output_rate(usage)) is not None:
        parts.append(texts("figures.rate", rate=rate))
    prompt = texts("figures.prompt", n=f"{usage.num_prompt_tokens:,}")
    if usage.num_cached_tokens:
        prompt += " " + texts("figures.cached", n=f"{usage.num_cached_tokens:,}")
    return " · ".join([*parts, prompt, finish_reason])


def totals(usages: Sequence[Usage], texts: Texts) -> list[list[str]]:
    """Return the rows of ``/stats``: name, sum or median, 95th percentile."""
    rates = [rate for usage in usages if (rate := output_rate(usage)) is not None]
    ttfts_s = [usage.ttft_ms / 1000 for usage in usages]
    prompt = sum(usage.num_prompt_tokens for usage in usages)
    cached = sum(usage.num_cached_tokens for usage in usages)
    rows = [
        [texts("stats.answers"), f"{len(usages):,}"],
        [texts("stats.output"), f"{sum(usage.num_output_tokens for usage in usages):,}"],
        [texts("stats.prompt"), f"{prompt:,}"],
        [texts("stats.cached"), f"{cached:,} ({cached / prompt:.0%})" if prompt else "0"],
        [texts("stats.ttft"), _percentiles(ttfts_s, "{:.2f} s")],
    ]
    if rates:
        rows.append([texts("stats.rate"), _percentiles(rates, "{:.1f}")])
    return rows


def _percentiles(values: Sequence[float], form: str) -> str:
    middle = statistics.median(values)
    high = statistics.quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
    return f"p50 {form.format(middle)}, p95 {form.format(high)}"
