"""The command ``doctor``: runs the checks and prints what they find. Starts no engine, imports no vLLM, no PyTorch."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
from collections.abc import Iterator
from typing import TextIO

from chat.doctor.findings import Finding, Reporter
from chat.doctor.texts import TEXTS
from chat.session.texts import Language, TextTable, find_language

__all__ = ["add_options", "examine", "run"]

EXIT_TROUBLE = 1
COLOURS = {"ok": "32", "note": "36", "warning": "33", "error": "31"}
LABEL_COLUMNS = 14


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``doctor`` takes."""
    command.add_argument(
        "model", nargs="?", help="also tell what fits: a folder, or an id on ModelScope or Hugging Face"
    )
    command.add_argument("--json", action="store_true", help="print one JSON object")
    command.add_argument("--deep", action="store_true", help="import vLLM as well, in a process of its own; takes long")
    command.add_argument("--port", type=int, default=8000, help="the port that a server would take")
    command.add_argument(
        "--hub", choices=["auto", "modelscope", "huggingface"], default="auto", help="to ask for the model"
    )
    command.add_argument("--language", choices=["en", "zh"], help="of the findings; the locale's if left out")


def run(options: argparse.Namespace) -> int:
    """Print the findings; the exit code is 1 if one of them is an error."""
    os.environ["TQDM_DISABLE"] = "1"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that cannot show a character is one of the findings
    language: Language = options.language or find_language()
    texts = TextTable(TEXTS, language)
    findings: list[Finding] = []
    for finding in examine(Reporter(texts), options.model, port=options.port, deep=options.deep, hub=options.hub):
        findings.append(finding)
        if not options.json:
            print_finding(finding, texts, sys.stdout)
    worst = max((list(COLOURS).index(finding.state) for finding in findings), default=0)
    if options.json:
        print(
            json.dumps({"ok": worst < 3, "findings": [dataclasses.asdict(finding) for finding in findings]}, indent=2)
        )
    else:
        print("\n" + texts(("summary.ok", "summary.ok", "summary.warnings", "summary.errors")[worst]))
    return EXIT_TROUBLE if worst == 3 else 0


def examine(
    report: Reporter, model: str | None = None, *, port: int = 8000, deep: bool = False, hub: str = "auto"
) -> Iterator[Finding]:
    """Run every check, and yield what each finds as soon as it has."""
    from chat.doctor import machine, software
    from chat.doctor import storage as keeping
    from chatcore.models.fit import find_machine
    from chatcore.models.hub import list_cached_models

    here = find_machine()
    gpus, driver_cuda = machine.read_gpus() if here.kind == "gpu" else ([], "")
    yield from software.check_python(report)
    yield from software.check_vllm(report, here)
    yield from software.check_packages(report)
    if deep:
        yield from software.check_import(report)
    yield from machine.check_gpus(report, gpus, driver_cuda)
    yield from machine.check_memory(report)
    yield from machine.check_shared_memory(report, here)
    yield from machine.check_disk(report)
    settings, findings = keeping.check_config(report)
    yield from findings
    yield from keeping.check_store(report, settings.store)
    yield from keeping.check_sockets(report)
    yield from machine.check_port(report, port)
    yield from machine.check_terminal(report)
    yield from machine.check_hubs(report, len(list_cached_models()))
    if model:
        from chat.doctor.model import check_model

        yield from check_model(report, model, here, hub=hub)


def print_finding(finding: Finding, texts: TextTable, stream: TextIO) -> None:
    """Print one finding: its state, what was looked at, the fact, and below it the remedy."""
    from rich.cells import cell_len

    state = texts(f"state.{finding.state}")
    label = texts(finding.check)
    shown = f"\033[{COLOURS[finding.state]}m{state}\033[0m" if _has_colours(stream) else state
    gap = " " * (max(len(TEXTS[f"state.{name}"][0]) for name in COLOURS) - cell_len(state))
    print(f"{shown}{gap}  {label}{' ' * (LABEL_COLUMNS - cell_len(label))} {finding.fact}", file=stream)
    if finding.remedy:
        print(f"{' ' * 9}{' ' * LABEL_COLUMNS} {texts('remedy', remedy=finding.remedy)}", file=stream)


def _has_colours(stream: TextIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
