"""Make docs/images/architecture.svg from the imports: which parts of the house there are, and which uses which.

    python docs/images/make_architecture_picture.py

Rooms are those of tests/test_imports.py, put together into parts; an arrow leads from a part to one that it imports,
unless there is a longer way to it. tests/test_docs.py holds the picture against the code.
"""

from __future__ import annotations

import fnmatch
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "images" / "architecture.svg"
sys.path.insert(0, str(ROOT))

from tests.test_imports import FILES, FLOOR_OF, imports_of, module_of, room_of  # noqa: E402

# Parts of the house and the rooms that belong to each; the first pattern that fits holds.
PARTS: dict[str, tuple[str, ...]] = {
    "errors, replies": ("chatcore", "chatcore.errors", "chatcore.reply", "chatcore.json_files"),
    "prompts": ("chatcore.prompts",),
    "models": ("chatcore.models",),
    "tools": ("chatcore.tools",),
    "engine": ("chatcore.engine",),
    "conversations": ("chat.conversations",),
    "network": ("chat.net", "chat.environment", "chat.private_files"),
    "store": ("chat.store",),
    "settings, client": ("chat.config", "chat.client"),
    "backends": ("chat.backends",),
    "session": ("chat.session",),
    "server": ("chat.server", "chat.server.*"),
    "terminal": ("chat.terminal",),
    "stack": ("chat.stack",),
    "web page": ("chat.web",),
    "doctor": ("chat.doctor",),
    "command line": ("chat", "chat.cli"),
    "public modules": ("prompt_utils", "vllm_wrapper", "vllm_deploy"),
}
BOX_WIDTH, LINE_HEIGHT, GAP, ROW_GAP, MARGIN = 232, 16, 24, 46, 16  # pixels
WORDS_IN_LINE = 34  # characters of a box's second text


def part_of(room: str) -> str:
    """Return the part of the house that a room belongs to."""
    return next(part for part, patterns in PARTS.items() if any(fnmatch.fnmatch(room, one) for one in patterns))


def used_parts() -> dict[str, set[str]]:
    """Return for each part the parts that its files import."""
    uses: dict[str, set[str]] = defaultdict(set)
    for file in FILES:
        room = room_of(module_of(file))
        if room is None:
            continue
        here = part_of(room)
        others = {part_of(other) for module in imports_of(file) if (other := room_of(module))}
        uses[here] |= others - {here}
    uses["public modules"].add("command line")  # commands are imported by name, when typed
    return dict(uses)


def heights(uses: Mapping[str, set[str]]) -> dict[str, int]:
    """Return on which row each part stands: above everything that it uses."""
    rows: dict[str, int] = {}

    def row(part: str, above: tuple[str, ...] = ()) -> int:
        if part in above:
            raise SystemExit(f"parts use one another in a circle: {' > '.join([*above, part])}")
        if part not in rows:
            rows[part] = 1 + max((row(used, (*above, part)) for used in uses.get(part, ())), default=-1)
        return rows[part]

    for part in uses:
        row(part)
    for part in uses["public modules"]:  # what people meet stands in one row
        if not any(part in used for user, used in uses.items() if user != "public modules"):
            rows[part] = rows["public modules"] - 1
    return rows


def direct(uses: Mapping[str, set[str]]) -> list[tuple[str, str]]:
    """Return the arrows: without those for which there is a longer way."""

    def reached(part: str) -> set[str]:
        return {found for used in uses.get(part, ()) for found in {used, *reached(used)}}

    return sorted(
        (part, used)
        for part, all_used in uses.items()
        for used in all_used
        if not any(used in reached(other) for other in all_used - {used})
    )


def rooms_in(part: str) -> list[str]:
    """Return the names of a part's rooms, without the package's."""
    return sorted(room.removeprefix("chat.") for room in FLOOR_OF if part_of(room) == part and _exists(room))


def _exists(room: str) -> bool:
    path = ROOT / room.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").is_file()


def _lines(names: list[str]) -> list[str]:
    lines = [""]
    for name in names:
        if lines[-1] and len(lines[-1]) + len(name) + 2 > WORDS_IN_LINE:
            lines.append("")
        lines[-1] += f", {name}" if lines[-1] else name
    return lines


def draw() -> str:
    """Return the picture as SVG."""
    uses = used_parts()
    rows = heights(uses)
    by_row = [sorted(part for part in rows if rows[part] == row) for row in range(max(rows.values()), -1, -1)]
    width = max(len(parts) for parts in by_row) * (BOX_WIDTH + GAP) - GAP + 2 * MARGIN
    boxes: dict[str, tuple[float, float, float]] = {}
    shapes: list[str] = []
    top = float(MARGIN)
    for parts in by_row:
        left = (width - len(parts) * (BOX_WIDTH + GAP) + GAP) / 2
        texts = {part: _lines(rooms_in(part)) for part in parts}
        height = max(len(lines) for lines in texts.values()) * LINE_HEIGHT + 34
        for part in parts:
            boxes[part] = (left, top, height)
            shapes.append(_box(part, texts[part], left, top, height))
            left += BOX_WIDTH + GAP
        top += height + ROW_GAP
    arrows = [_arrow(boxes[part], boxes[used], f"{part} uses {used}") for part, used in direct(uses)]
    return HEAD.format(width=width, height=top - ROW_GAP + MARGIN) + "\n".join([*arrows, *shapes]) + "\n</svg>\n"


def _box(part: str, lines: list[str], left: float, top: float, height: float) -> str:
    texts = [f'<text x="{left + 12:.0f}" y="{top + 21:.0f}" class="part">{escape(part)}</text>']
    if lines != [part]:
        for number, line in enumerate(lines):
            y = top + 40 + number * LINE_HEIGHT
            texts.append(f'<text x="{left + 12:.0f}" y="{y:.0f}" class="rooms">{escape(line)}</text>')
    frame = f'<rect x="{left:.0f}" y="{top:.0f}" width="{BOX_WIDTH}" height="{height:.0f}" rx="6"/>'
    return "\n".join([frame, *texts])


def _arrow(above: tuple[float, float, float], below: tuple[float, float, float], title: str) -> str:
    x1, y1 = above[0] + BOX_WIDTH / 2, above[1] + above[2]
    x2, y2 = below[0] + BOX_WIDTH / 2, below[1]
    middle = (y1 + y2) / 2
    path = f"M{x1:.0f},{y1:.0f} C{x1:.0f},{middle:.0f} {x2:.0f},{middle:.0f} {x2:.0f},{y2 - 4:.0f}"
    return f'<path d="{path}" marker-end="url(#tip)"><title>{escape(title)}</title></path>'


HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img"
  aria-label="Parts of the program and which uses which, from the command line above to the errors below">
<style>
  rect {{ fill: #f6f8fa; stroke: #57606a; }}
  path {{ fill: none; stroke: #8c959f; stroke-width: 1.3; }}
  text {{ font-family: sans-serif; fill: #1f2328; }}
  .part {{ font-size: 14px; font-weight: bold; }}
  .rooms {{ font-size: 11px; fill: #57606a; }}
</style>
<defs><marker id="tip" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="7" markerHeight="7" orient="auto">
<path d="M0,0 L8,4 L0,8 z" style="fill: #8c959f; stroke: none"/></marker></defs>
"""


if __name__ == "__main__":
    PICTURE.write_text(draw(), "utf-8")
