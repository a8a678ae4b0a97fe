"""Markdown as rows of a terminal. rich renders it; what would lose text or spoil copying is mended here.

HTML and backslashes stay visible, a newline is a newline, links show where they lead, code has no frame, no background
and no trailing spaces, and Chinese and Japanese wrap between characters instead of between spaces.
"""

from __future__ import annotations

import io
import os
import re
import unicodedata
from dataclasses import dataclass
from typing import ClassVar, Literal

from markdown_it import MarkdownIt
from markdown_it.token import Token
from rich import markdown as rich_markdown
from rich.console import Console, ConsoleOptions, RenderResult
from rich.containers import Lines
from rich.segment import Segment
from rich.syntax import Syntax
from rich.text import Text
from rich.theme import Theme
from wcwidth import iter_graphemes
from wcwidth import width as text_width

__all__ = ["Block", "Look", "divide_line", "render_code", "render_markdown", "split_blocks"]

THEME = Theme(
    {
        "markdown.h1": "bold underline",
        "markdown.h2": "bold underline",
        "markdown.h3": "bold",
        "markdown.h4": "bold italic",
        "markdown.code": "cyan",
        "markdown.code_block": "none",
        "markdown.block_quote": "italic",
        "markdown.table.header": "bold",
        "markdown.table.border": "dim",
        "markdown.link": "underline",
        "markdown.link_url": "dim",
    }
)
TAB_SIZE = 4
RESET = "\x1b[0m"
TRAILING_SPACE = re.compile(r"(?:\s|\x1b\[[0-9;]*m)+$")
ROW_MARGIN = 1  # columns left free at the right edge: what a terminal does after writing its last column varies

# Nothing may vanish: "\(x\)" is mathematics more often than an escaped parenthesis, and "[x]: y" may be meant as it is.
_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"]).disable(["escape", "reference"])

NOT_AT_LINE_START = frozenset("!%),.:;?]}¢°’”†‡›℃∶、。〃〆〕〗〞﹚﹜！＂％＇），．：；？！］｝～々ー…—·」』》〉】»")
NOT_AT_LINE_END = frozenset("$([{£¥‘“«‹〈《「『【〔〖〝﹙﹛＄（．［｛￡￥")


@dataclass(frozen=True, slots=True)
class Look:
    """How wide rows are, and with which colours.

    Args:
        columns: width of the terminal.
        color_system: what rich calls it: ``standard``, ``256``, ``truecolor``; None for no escape sequences at all.
        no_color: keep bold and underline, leave colours out (NO_COLOR).
    """

    columns: int
    color_system: Literal["standard", "256", "truecolor"] | None = "256"
    no_color: bool = False

    def console(self) -> Console:
        """Return a rich console that renders into a string."""
        return Console(
            file=io.StringIO(),
            force_terminal=self.color_system is not None,
            color_system=self.color_system,
            no_color=self.no_color,
            width=max(self.columns - ROW_MARGIN, 10),
            theme=THEME,
            legacy_windows=False,
            highlight=False,
        )


@dataclass(frozen=True, slots=True)
class Block:
    """A top-level block of Markdown, such as a paragraph or a list.

    Args:
        kind: markdown-it's name, such as ``paragraph_open`` or ``fence``.
        source: the block's own lines.
        code: of a fence, what is inside it.
        language: of a fence, the first word of its info string.
        closed: of a fence, whether its end has been seen.
    """

    kind: str
    source: str
    code: str = ""
    language: str = ""
    closed: bool = True


def split_blocks(source: str) -> list[Block]:
    r"""Return the top-level blocks; only the last one can still change when more text comes.

    >>> [block.kind for block in split_blocks("One.\n\n- two\n- three\n\n```py\nfour")]
    ['paragraph_open', 'bullet_list_open', 'fence']
    """
    lines = re.findall(r"[^\n]*\n|[^\n]+$", source)  # not splitlines(): it also ends lines at form feeds and the like
    tokens = [token for token in _PARSER.parse(source) if token.level == 0 and token.nesting >= 0 and token.map]
    if not tokens:
        return [Block("paragraph_open", source)] if source.strip() else []
    starts = [token.map[0] for token in tokens if token.map]
    blocks = []
    for token, start, end in zip(tokens, [0, *starts[1:]], [*starts[1:], len(lines)], strict=True):
        blocks.append(_block(token, "".join(lines[start:end])))
    return blocks


def _block(token: Token, source: str) -> Block:
    if token.type != "fence" or not token.map:
        return Block(token.type, source)
    num_marks = token.map[1] - token.map[0] - token.content.count("\n")
    if token.content and not token.content.endswith("\n"):
        num_marks -= 1
    language = token.info.split()[0] if token.info.split() else ""
    return Block("fence", source, token.content, language, closed=num_marks >= 2)


def render_markdown(source: str, look: Look) -> list[str]:
    """Return the rows that show a piece of Markdown."""
    return _rows(_Markdown(source), look)


def render_code(code: str, language: str, look: Look) -> list[str]:
    """Return one row for each line of code, highlighted. Rows may be wider than the terminal: it breaks them itself."""
    code = code.expandtabs(TAB_SIZE)
    if look.color_system is None or not language:
        return code.split("\n")
    console = look.console()
    text = Syntax(code, language, theme=_code_theme(), background_color="default").highlight(code)
    lines = text.split("\n", allow_blank=True)
    with console.capture() as capture:
        for line in lines:
            console.print(line, soft_wrap=True)
    rows = capture.get().split("\n")
    return rows[: code.count("\n") + 1]


def _code_theme() -> str:
    """Return a theme made of the terminal's own colours, for a light background where the terminal says it has one."""
    return "ansi_light" if os.environ.get("COLORFGBG", "").rpartition(";")[2] in ("7", "15") else "ansi_dark"


def _rows(renderable: rich_markdown.Markdown, look: Look) -> list[str]:
    console = look.console()
    with console.capture() as capture:
        console.print(renderable)
    rows = [_without_trailing_space(row) for row in capture.get().split("\n")]
    while rows and not rows[-1]:
        rows.pop()
    while rows and not rows[0]:
        rows.pop(0)
    return rows


def _without_trailing_space(row: str) -> str:
    """Return a row without spaces at its end, whatever colour they have."""
    stripped = TRAILING_SPACE.sub("", row)
    return stripped + RESET if "\x1b" in stripped and not stripped.endswith(RESET) else stripped


def divide_line(text: str, width: int) -> list[int]:
    """Return where to break a line so that no row is wider than ``width`` cells.

    Breaks after spaces and beside wide characters, never before closing or after opening punctuation, and never inside
    a character that is made of several code points. A word longer than a row is broken where the row ends.

    >>> divide_line("Qwen 是阿里云的模型，很好", 14)
    [9]
    """
    breaks: list[int] = []
    start = best = position = cells = 0
    previous = ""
    for cluster in iter_graphemes(text):
        if position > start and _may_break(previous, cluster):
            best = position
        cluster_cells = max(text_width(cluster), 0)
        if cells + cluster_cells > width and position > start and not cluster.isspace():
            start = best if best > start else position
            breaks.append(start)
            cells = text_width(text[start:position])
        cells += cluster_cells
        position += len(cluster)
        previous = cluster
    return breaks


def _may_break(before: str, after: str) -> bool:
    if after.isspace():
        return False
    if before.isspace():
        return True
    if after[0] in NOT_AT_LINE_START or before[-1] in NOT_AT_LINE_END:
        return False
    return _is_wide(before) or _is_wide(after)


def _is_wide(cluster: str) -> bool:
    return unicodedata.east_asian_width(cluster[0]) in "WF"


class _WrappedText(Text):
    """rich's text, wrapped by :func:`divide_line` and not padded to the right edge."""

    def wrap(self, console: Console, width: int, **options: object) -> Lines:
        rows = Lines()
        for line in self.split(allow_blank=True):
            line.expand_tabs(TAB_SIZE)
            for row in line.divide(divide_line(line.plain, width)):
                row.rstrip()
                rows.append(row)
        return rows


class _Paragraph(rich_markdown.Paragraph):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _wrapped(self.text)


class _Heading(rich_markdown.Heading):
    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield _wrapped(self.text)


class _ListItem(rich_markdown.ListItem):
    def render_number(self, console: Console, options: ConsoleOptions, number: int, last_number: int) -> RenderResult:
        """Number as people write it: with a dot."""
        margin = len(str(last_number)) + 3
        lines = console.render_lines(self.elements, options.update(width=options.max_width - margin), style=self.style)
        for index, line in enumerate(lines):
            yield Segment((f"{number}. " if index == 0 else "").rjust(margin))
            yield from line
            yield Segment.line()


class _CodeBlock(rich_markdown.CodeBlock):
    """Code inside a list or a quotation; at the top level :class:`chat.terminal.stream.MarkdownStream` prints it."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        code = self.text.plain.rstrip().expandtabs(TAB_SIZE)
        yield Syntax(code, self.lexer_name, theme=_code_theme(), background_color="default", word_wrap=True)


def _wrapped(text: Text) -> _WrappedText:
    return _WrappedText(text.plain, style=text.style, spans=list(text.spans), end=text.end)


class _Markdown(rich_markdown.Markdown):
    elements: ClassVar[dict[str, type[rich_markdown.MarkdownElement]]] = {
        **rich_markdown.Markdown.elements,
        "paragraph_open": _Paragraph,
        "heading_open": _Heading,
        "list_item_open": _ListItem,
        "fence": _CodeBlock,
        "code_block": _CodeBlock,
    }

    def __init__(self, source: str) -> None:
        super().__init__("", hyperlinks=False)
        self.parsed = [_with_hard_breaks(token) for token in _PARSER.parse(source)]


def _with_hard_breaks(token: Token) -> Token:
    """Return the token with every newline kept as one: models mean them."""
    for child in token.children or ():
        if child.type == "softbreak":
            child.type = "hardbreak"
    return token
