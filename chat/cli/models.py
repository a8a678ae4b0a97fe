"""What ``models`` does: list the models on this machine."""

from __future__ import annotations

import argparse
import json
import os
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

from chat.session.texts import TextTable, find_language
from chatcore.errors import ModelLoadError
from chatcore.models.fit import gib

__all__ = ["add_options", "list_models", "run"]

TEXTS = {
    "ready": ("ready", "可用"),
    "incomplete": ("incomplete", "不完整"),
    "embedded": ("embedded", "内嵌"),
    "head": ("MODEL", "模型"),
    "hint": (
        "incomplete: python vllm_deploy.py download NAME goes on where it stopped",
        "不完整：python vllm_deploy.py download 名称 会接着下载",
    ),
}


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``models`` takes."""
    command.add_argument("--json", action="store_true", help="print one JSON list instead of a table")


def run(options: argparse.Namespace) -> int:
    """Print the models on this machine: the embedded one, and those in the hubs' caches."""
    models = list_models()
    if options.json:
        print(json.dumps(models, indent=2))
        return 0
    texts = TextTable(TEXTS, find_language())
    width = max(len(model["model"]) for model in models)
    for model in models:
        used = datetime.fromtimestamp(model["used_at_utc"]).strftime("%Y-%m-%d") if model["used_at_utc"] else "-"
        hub = texts("embedded") if model["hub"] == "embedded" else model["hub"]
        state = texts("ready" if model["complete"] else "incomplete")
        print(
            f"{model['model']:<{width}}  {gib(model['num_bytes']):>10}  {state}  {hub}  {used:<10}  {model['folder']}"
        )
    if not all(model["complete"] for model in models):
        print(texts("hint"), file=sys.stderr)
    return 0


def list_models() -> list[dict[str, Any]]:
    """Return what is known of each model, as plain data; asks no hub."""
    os.environ["TQDM_DISABLE"] = "1"
    from chatcore.models.hub import DEMO_MODEL, DEMO_MODEL_DIR, list_cached_models
    from chatcore.models.memory import weights_bytes

    models: list[dict[str, Any]] = [
        {
            "model": DEMO_MODEL,
            "hub": "embedded",
            "folder": str(DEMO_MODEL_DIR),
            "num_bytes": weights_bytes(DEMO_MODEL_DIR),
            "used_at_utc": 0,
            "complete": _is_complete(DEMO_MODEL_DIR),
        }
    ]
    for model in list_cached_models():
        models.append(
            {
                "model": model.model_id,
                "hub": model.hub,
                "folder": str(model.folder),
                "num_bytes": model.num_bytes,
                "used_at_utc": model.used_at_utc,
                "complete": _is_complete(model.folder),
            }
        )
    return models


def _is_complete(folder: Path) -> bool:
    from chatcore.models.hub import check_model_dir

    try:
        check_model_dir(folder)
    except ModelLoadError:
        return False
    return not any(folder.rglob("*.incomplete"))
