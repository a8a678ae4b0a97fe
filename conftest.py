"""Collect doctests from the packages, and only from modules that have any.

Importing every module to look for doctests would need all extras and load vLLM into each test process.
"""

from __future__ import annotations

from pathlib import Path

PACKAGES = {"chat", "chatcore"}
ROOT = Path(__file__).parent


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Ignore the packages' modules without a doctest."""
    in_package = collection_path.relative_to(ROOT).parts[:1]
    if collection_path.suffix != ".py" or not PACKAGES & set(in_package):
        return None
    return ">>> " not in collection_path.read_text("utf-8") or None
