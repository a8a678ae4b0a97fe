"""Write docs/licences.md: the licence of every package in the locks, as its own metadata tells.

``python docs/make_licences.py`` after a lock has changed; tests/test_docs.py holds the page against the locks.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "licences.md"
NOT_LOCKS = {"requirements.txt"}  # the GPU set names vLLM and what is ours; pip resolves the rest
TOLD_ELSEWHERE = {"oss-harmony": "Apache-2.0", "setuptools": "MIT", "tiktoken": "MIT"}  # in the LICENSE file they bring
SHORT = {
    "Apache Software License": "Apache-2.0",
    "MIT License": "MIT",
    "BSD License": "BSD",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


def locked_packages() -> dict[str, list[str]]:
    """Return the packages in the locks, and for each the locks that name it."""
    packages: dict[str, list[str]] = {"torch": ["deploy/install.sh"]}
    for lock in sorted(ROOT.glob("requirements*.txt")):
        if lock.name in NOT_LOCKS:
            continue
        for line in lock.read_text("utf-8").splitlines():
            if match := re.match(r"([A-Za-z0-9][\w.-]*)(\[[\w,-]+\])?==", line):
                packages.setdefault(match[1], []).append(lock.stem)
    return packages


def licence_of(package: str) -> str:
    """Return a package's licence; raises PackageNotFoundError where it is not installed."""
    metadata = importlib.metadata.metadata(package)
    if package in TOLD_ELSEWHERE:
        return TOLD_ELSEWHERE[package]
    if expression := metadata.get("License-Expression"):
        return str(expression)
    classifiers = [
        line.rsplit(" :: ", 1)[-1] for line in metadata.get_all("Classifier", []) if line.startswith("License :: ")
    ]
    named = sorted({SHORT.get(name, name) for name in classifiers if name not in ("OSI Approved", "Other")})
    if named:
        return ", ".join(named)
    text = str(metadata.get("License") or "").strip()
    if text and "\n" not in text and len(text) < 60:
        return SHORT.get(text, text)
    return "see its LICENSE file" if text else "not told"


def main() -> int:
    """Write the page; packages that are not installed keep the row that they have."""
    known = {match[1]: match[2] for match in re.finditer(r"^\| ([^|]+) \| ([^|]+) \|", page_text(), re.MULTILINE)}
    rows, missing = [], []
    for package, locks in sorted(locked_packages().items(), key=lambda item: item[0].lower()):
        try:
            licence = licence_of(package)
        except importlib.metadata.PackageNotFoundError:
            licence = known.get(package, "")
        if not licence:
            missing.append(package)
            continue
        rows.append(f"| {package} | {licence} | {', '.join(locks)} |")
    if missing:
        print(f"not installed, and no row yet: {', '.join(missing)}", file=sys.stderr)
        return 1
    PAGE.write_text(HEAD + "\n".join(rows) + "\n", "utf-8")
    return 0


def page_text() -> str:
    """Return the page as it is; empty before it was first made."""
    return PAGE.read_text("utf-8") if PAGE.exists() else ""


HEAD = """# Licences

This project is under the Apache License 2.0, the embedded model included. What it is installed with has licences of its
own; they are listed here as the packages' metadata tell them, by `python docs/make_licences.py`.

| package | licence | in |
|---|---|---|
"""


if __name__ == "__main__":
    sys.exit(main())
