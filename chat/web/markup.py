"""Text -> HTML. What a model or a person wrote never becomes HTML by itself: every character of it is escaped.

Markdown is read with raw HTML turned off; links may only be http, https and mailto; pictures become links, since
fetching one would tell its server who reads what. Formulas become MathML, of which only known elements and attributes
are kept.
"""

from __future__ import annotations

import functools
import html
import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from mdit_py_plugins.dollarmath import dollarmath_plugin
from mdit_py_plugins.texmath import texmath_plugin

__all__ = ["code_style", "escape", "formula_html", "kept_markdown_html", "markdown_html", "plain_html"]

MAX_FORMULA_CHARACTERS = 2000  # longer ones are shown as they are written
MAX_OPEN_LINES = 16  # of a code block in a person's message: longer ones, such as files, are folded
MAX_CACHED_TEXTS = 512
LIGHT_STYLE, DARK_STYLE = "xcode", "github-dark"  # of code, by the names that Pygments has

SAFE_LINK = re.compile(r"(?:https?://|mailto:)", re.IGNORECASE)
LANGUAGE = re.compile(r"[\w+#.-]{1,30}")
MATH_ELEMENTS = frozenset(
    [
        "math",
        "mi",
        "mn",
        "mo",
        "ms",
        "mtext",
        "mspace",
        "mrow",
        "mfrac",
        "msqrt",
        "mroot",
        "mstyle",
        "mpadded",
        "mphantom",
    ]
    + ["msub", "msup", "msubsup", "munder", "mover", "munderover", "mmultiscripts", "mtable", "mtr", "mtd", "menclose"]
)
MATH_ATTRIBUTES = frozenset(
    [
        "accent",
        "accentunder",
        "columnalign",
        "columnspacing",
        "depth",
        "display",
        "displaystyle",
        "fence",
        "form",
        "height",
    ]
    + [
        "linethickness",
        "lspace",
        "mathvariant",
        "maxsize",
        "minsize",
        "movablelimits",
        "notation",
        "rowspacing",
        "rspace",
    ]
    + ["scriptlevel", "separator", "stretchy", "symmetric", "voffset", "width", "xmlns"]
)


def escape(text: str) -> str:
    """Return text that HTML shows as it is, also within an attribute.

    >>> escape('<b title="x">')
    '&lt;b title=&quot;x&quot;&gt;'
    """
    return html.escape(text, quote=True)


def markdown_html(text: str, copy_label: str = "Copy") -> str:
    """Return Markdown as HTML: with tables, highlighted code and formulas.

    Args:
        text: as the model wrote it.
        copy_label: what the button at a block of code says.

    >>> markdown_html("**bold** <b>not</b>")
    '<p><strong>bold</strong> &lt;b&gt;not&lt;/b&gt;</p>\\n'
    """
    return str(_markdown().render(text, {"copy_label": copy_label}))


@functools.lru_cache(MAX_CACHED_TEXTS)
def kept_markdown_html(text: str, copy_label: str = "Copy") -> str:
    """Return the same as :func:`markdown_html`, and remember it: for answers that do not grow any more."""
    return markdown_html(text, copy_label)


def plain_html(text: str, copy_label: str = "Copy") -> str:
    """Return what a person typed as it is, line by line; only fenced code is shown as code, long code folded.

    >>> plain_html("*not* bold")
    '<div class="plain">*not* bold</div>'
    """
    lines, parts, done = text.split("\n"), [], 0
    for token in _fences().parse(text):
        if token.type != "fence" or token.map is None:
            continue
        first, last = token.map
        parts.append(_plain(lines[done:first]))
        code = _code_html(token.content, token.info, copy_label)
        num_lines = token.content.count("\n")
        if num_lines > MAX_OPEN_LINES:
            code = f'<details class="file"><summary>{num_lines} ⏎</summary>{code}</details>'
        parts.append(code)
        done = last
    return "".join([*parts, _plain(lines[done:])])


def _plain(lines: Sequence[str]) -> str:
    text = "\n".join(lines).strip("\n")
    return f'<div class="plain">{escape(text)}</div>' if text.strip() else ""


@functools.cache
def _fences() -> MarkdownIt:
    return MarkdownIt("zero").enable("fence")


@functools.cache
def _markdown() -> MarkdownIt:
    reader = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    reader.use(dollarmath_plugin, allow_space=False, allow_digits=False, double_inline=True)
    reader.use(texmath_plugin, delimiters="brackets")
    reader.validateLink = lambda url: SAFE_LINK.match(url) is not None  # type: ignore[method-assign]
    rules = {
        "fence": _fence,
        "code_block": _code_block,
        "image": _image,
        "link_open": _link_open,
        "table_open": lambda *_: '<div class="table" tabindex="0"><table>',
        "table_close": lambda *_: "</table></div>",
        "math_inline": _inline_formula,
        "math_single": _inline_formula,
        "math_inline_double": _block_formula,
        "math_block": _block_formula,
        "math_block_label": _block_formula,
        "math_block_eqno": _block_formula,
    }
    for name, rule in rules.items():
        reader.renderer.rules[name] = rule  # type: ignore[attr-defined]
    return reader


# -- rules: how a token of Markdown becomes HTML ----------------------------------------------------------------------

Tokens = Sequence[Token]
Environment = Mapping[str, Any]


def _fence(tokens: Tokens, index: int, options: Any, environment: Environment) -> str:
    return _code_html(tokens[index].content, tokens[index].info, environment["copy_label"])


def _code_block(tokens: Tokens, index: int, options: Any, environment: Environment) -> str:
    return _code_html(tokens[index].content, "", environment["copy_label"])


def _image(tokens: Tokens, index: int, options: Any, environment: Environment) -> str:
    token = tokens[index]
    text = RendererHTML().renderInlineAsText(token.children, options, environment)  # type: ignore[arg-type]
    return f"<a {_link_attributes(str(token.attrs.get('src', '')))}>{escape(text or str(token.attrs.get('src')))}</a>"


def _link_open(tokens: Tokens, index: int, options: Any, environment: Environment) -> str:
    return f"<a {_link_attributes(str(tokens[index].attrs.get('href', '')))}>"


def _link_attributes(url: str) -> str:
    return f'href="{escape(url)}" target="_blank" rel="noopener noreferrer nofollow"'


def _inline_formula(tokens: Tokens, index: int, options: Any, environment: Environment) -> str:
    return formula_html(tokens[index].content, "inline")


def _block_formula(tokens: Tokens, index: int, options: Any, environment: Environment) -> str:
    return f'<div class="formula" tabindex="0">{formula_html(tokens[index].content, "block")}</div>'


# -- code -------------------------------------------------------------------------------------------------------------


def _code_html(code: str, info: str, copy_label: str) -> str:
    """Return a block of code under a bar with its language and a button that copies it."""
    words = info.split()
    language = words[0] if words and LANGUAGE.fullmatch(words[0]) else ""
    bar = f'<span>{escape(language)}</span><button type="button" data-copy="code">{escape(copy_label)}</button>'
    body = _highlighted(code, language)
    return f'<div class="code"><div class="code-bar">{bar}</div><pre tabindex="0"><code>{body}</code></pre></div>\n'


def _highlighted(code: str, language: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import get_lexer_by_name
    from pygments.util import ClassNotFound

    try:
        lexer = get_lexer_by_name(language, stripnl=False)
    except ClassNotFound:
        return escape(code)
    return str(highlight(code, lexer, HtmlFormatter(nowrap=True)))


def code_style() -> str:
    """Return the style sheet of highlighted code, for the light page and the dark one."""
    from pygments.formatters import HtmlFormatter

    light = HtmlFormatter(style=LIGHT_STYLE).get_style_defs(".code")
    dark = HtmlFormatter(style=DARK_STYLE).get_style_defs(".dark .code")
    return f"{light}\n{dark}\n"


# -- formulas ---------------------------------------------------------------------------------------------------------


@functools.lru_cache(MAX_CACHED_TEXTS)
def formula_html(source: str, display: str) -> str:
    """Return a formula as MathML; as it is written if it cannot be read.

    >>> formula_html("\\\\oops{", "inline")
    '<code class="formula-source">\\\\oops{</code>'
    """
    from latex2mathml.converter import convert_to_element

    try:
        if len(source) > MAX_FORMULA_CHARACTERS:
            raise ValueError("too long")
        root = convert_to_element(source.strip(), display=display)
        _keep_only_math(root)
        return ElementTree.tostring(root, encoding="unicode")
    except Exception:  # the reader of formulas fails in many ways, and what a model writes is often no formula
        return f'<code class="formula-source">{escape(source)}</code>'


def _keep_only_math(element: ElementTree.Element) -> None:
    """Make sure that there is nothing but a formula: no links, no handlers, no elements of HTML."""
    if element.tag not in MATH_ELEMENTS:
        raise ValueError(f"{element.tag} is no part of a formula")
    for name in [name for name in element.attrib if name not in MATH_ATTRIBUTES]:
        del element.attrib[name]
    if element.text:
        element.text = html.unescape(element.text)  # signs come as &#x02211;
    for child in element:
        _keep_only_math(child)
