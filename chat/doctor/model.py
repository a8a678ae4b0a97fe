"""What a model takes, whether its files are whole, and what of it fits this machine."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

from chat.doctor.findings import Finding, Reporter
from chatcore.errors import ModelError
from chatcore.models.fit import Machine, ModelFit, cpu_dtype, explain, gib, plan
from chatcore.models.hub import fetch_description, find_cached, find_local
from chatcore.models.memory import MemoryNeeds, read_memory_needs

__all__ = ["check_model"]

SHORT_TOKENS = 4096  # a conversation of a few pages


def check_model(report: Reporter, name: str, machine: Machine, *, hub: str = "auto") -> Iterator[Finding]:
    """Look at a model by name or folder; one that is not here is described by its hub, and not fetched."""
    try:
        folder = find_local(name) or find_cached(name, hub=hub)
        if folder is not None:
            dtype = cpu_dtype(folder) if machine.kind == "cpu" else "auto"
            needs = read_memory_needs(folder, dtype=dtype)
            held = needs.weights_format if dtype == "auto" else f"{needs.weights_format} → {dtype}"
            yield report.ok("model.ok", name=name, format=held, weights=_size(needs))
            yield _check_template(report, folder)
        else:
            with tempfile.TemporaryDirectory() as temporary:
                title, weights = fetch_description(name, Path(temporary), hub=hub)
                needs = read_memory_needs(temporary, weights_file_bytes=weights)
            yield report.note("model.remote", name=name, hub=title, format=needs.weights_format, weights=_size(needs))
        yield from _check_fit(report, needs, machine)
    except ModelError as error:
        yield report.error("model.bad", reason=error, hint=error.hint or "python vllm_deploy.py download")


def _size(needs: MemoryNeeds) -> str:
    return gib(needs.weights_bytes) if needs.weights_bytes is not None else "?"


def _check_template(report: Reporter, folder: Path) -> Finding:
    """Look where chat templates are kept: a file of its own, or the tokenizer's settings."""
    if any(
        (folder / name).exists() for name in ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
    ):
        return report.ok("template.ok")
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    except (OSError, ValueError):
        settings = {}
    if isinstance(settings, dict) and settings.get("chat_template"):
        return report.ok("template.ok")
    return report.warning("template.none")


def _check_fit(report: Reporter, needs: MemoryNeeds, machine: Machine) -> Iterator[Finding]:
    if needs.layers:
        yield report.ok(
            "cache.ok",
            token=gib(needs.kv_cache_bytes_per_token or 0),
            window=gib(needs.cache_bytes(needs.max_window)),
            tokens=f"{needs.max_window:,}",
        )
    else:
        yield report.note("cache.unknown", reason=needs.unknown)
    fit = plan(needs, machine)
    where = _name_machine(report, fit)
    reason, hint = explain(fit)
    if not fit.fits:
        yield report.error("fit.none", machine=where, reason=reason, hint=hint)
    elif fit.max_model_len is None:
        yield report.ok("fit.weights", machine=where, reason=needs.unknown)
    else:
        yield _name_fit(report, fit, where)


def _name_machine(report: Reporter, fit: ModelFit) -> str:
    memory = gib(fit.machine.memory_bytes)
    return report.texts(f"machine.{fit.machine.kind}", count=fit.num_gpus, memory=memory)


def _name_fit(report: Reporter, fit: ModelFit, where: str) -> Finding:
    tokens = fit.max_model_len or 0
    facts = {
        "machine": where,
        "tokens": f"{tokens:,}",
        "full": report.texts.count("conversation", fit.num_conversations or 0),
        "flags": " ".join(fit.flags()),
    }
    if tokens < fit.needs.max_window:
        return report.warning("fit.smaller", wanted=f"{fit.needs.max_window:,}", **facts)
    short = min(SHORT_TOKENS, tokens)
    finding = report.ok("fit.ok", short=f"{fit.conversations(short):,}", short_tokens=f"{short:,}", **facts)
    if not fit.flags():
        return finding
    return Finding(finding.check, finding.key, "ok", finding.fact, report.texts("fit.flags", flags=facts["flags"]))
