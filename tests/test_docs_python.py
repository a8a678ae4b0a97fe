"""The blocks of docs/python.md, run one after the other on the real engine."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"
BLOCK = re.compile(r"(?P<mark><!-- not run: [^\n]+ -->\n)?```python\n(?P<code>.*?)```", re.DOTALL)


def test_the_blocks_of_the_page_run(llm, capsys):
    names = {"llm": llm}
    blocks = [found["code"] for found in BLOCK.finditer(PAGE.read_text("utf-8")) if not found["mark"]]
    assert len(blocks) >= 7
    for code in blocks:
        exec(compile(code, PAGE.name, "exec"), names)
    assert "Ada" in names["history"][1][1]
    assert names["answer"].parsed in ("good", "bad")
    assert "error: " not in capsys.readouterr().out
