"""Names of test functions stay short enough to read in a report."""

from __future__ import annotations

import ast

from tests.program import ROOT

MAX_CHARACTERS = 90


def test_no_test_name_has_more_than_90_characters():
    names = [
        f"{file.relative_to(ROOT)}::{node.name}"
        for file in (ROOT / "tests").rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert len(names) > 1000
    assert [name for name in names if len(name.partition("::")[2]) > MAX_CHARACTERS] == []
