"""What a model or a person wrote never becomes HTML, whatever it is."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mdit_py_plugins", reason="the extra for the web page is not installed")

from chat.web.markup import MATH_ATTRIBUTES, MATH_ELEMENTS, escape, formula_html, markdown_html, plain_html

ATTACKS = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<a href='javascript:alert(1)'>click</a>",
    "[click](javascript:alert(1))",
    "[click](JaVaScRiPt:alert(1))",
    "[click](&#106;avascript:alert(1))",
    "[click](java\tscript:alert(1))",
    "[click](data:text/html,<script>alert(1)</script>)",
    "[click](vbscript:alert(1))",
    "![x](https://elsewhere.example/pixel.png)",
    '![x](x" onerror="alert(1))',
    '[x](https://a.example "t\\" onmouseover=\\"alert(1)")',
    '<https://a.example/"onmouseover=alert(1)>',
    '```"><script>alert(1)</script>\nx\n```',
    "```html\n</code></pre><script>alert(1)</script>\n```",
    "`</code><script>alert(1)</script>`",
    "| <script>alert(1)</script> |\n|---|\n| <img src=x onerror=alert(1)> |",
    "$\\href{javascript:alert(1)}{x}$",
    "$\\text{</math><script>alert(1)</script>}$",
    "$$\\unknown{<img src=x onerror=alert(1)>$$",
    "\\(<img src=x onerror=alert(1)>\\)",
    "\\[ \\style{background:url(https://elsewhere.example)}{x} \\]",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "<!--><script>alert(1)</script>",
    "</article></div><script>alert(1)</script>",
    "${alert(1)} {{alert(1)}} {{#each x}}",
    '" autofocus onfocus="alert(1)',
    "<style>*{display:none}</style><form action=https://elsewhere.example><input name=key>",
    "<details open ontoggle=alert(1)>",
    "<b>bold</b> & <i>italic</i>",
]

ELEMENTS = {"p", "strong", "em", "s", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "blockquote", "hr", "br"}
ELEMENTS |= {"a", "code", "pre", "div", "span", "button", "table", "thead", "tbody", "tr", "th", "td", "details"}
ELEMENTS |= {"summary"}
ATTRIBUTES = {"class", "href", "target", "rel", "type", "data-copy", "tabindex", "title", "style", "start"}


class Inspector(HTMLParser):
    """Collects whatever a text has become that it must not be."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ELEMENTS | MATH_ELEMENTS:
            self.found.append(f"<{tag}>")
        for name, value in attrs:
            if name not in ATTRIBUTES | MATH_ATTRIBUTES:
                self.found.append(f"<{tag} {name}>")
            if name == "href" and not (value or "").lower().startswith(("http://", "https://", "mailto:")):
                self.found.append(f"href {value}")
            if name == "style" and value not in ("text-align:left", "text-align:right", "text-align:center"):
                self.found.append(f"style {value}")

    def handle_comment(self, data: str) -> None:
        self.found.append("comment")


def inspect(html: str) -> list[str]:
    inspector = Inspector()
    inspector.feed(html)
    inspector.close()
    return inspector.found


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_stays_text(attack: str) -> None:
    assert inspect(markdown_html(attack)) == []
    assert inspect(plain_html(attack)) == []
    assert inspect(f'<p class="{escape(attack)}">{escape(attack)}</p>') == []


PIECES = [
    *ATTACKS,
    "\n",
    "\n\n",
    "```",
    "`",
    "$",
    "$$",
    "\\(",
    "\\]",
    "|",
    "- ",
    "> ",
    "    ",
    "[",
    "](",
    ")",
    "*",
    "#",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=6)), max_size=12).map("".join))
def test_attacks_put_together_stay_text(text: str) -> None:
    assert inspect(markdown_html(text)) == []
    assert inspect(plain_html(text)) == []


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("\\{}^_&$<>\"'=/ abhreftxsmovilng"), max_size=40))
def test_no_formula_becomes_anything_but_a_formula(source: str) -> None:
    assert inspect(formula_html(source, "inline")) == []


def test_markdown_is_shown() -> None:
    html = markdown_html("# Title\n\n**bold** `code`\n\n| a |\n|---|\n| 1 |\n\n```python\nx = 1\n```\n")
    assert "<h1>Title</h1>" in html
    assert "<strong>bold</strong>" in html
    assert "<td>1</td>" in html
    assert 'data-copy="code"' in html
    assert "<span>python</span>" in html


@pytest.mark.parametrize("text", ["$x^2$", "\\(x^2\\)", "$$x^2$$", "\\[x^2\\]"])
def test_formulas_are_shown(text: str) -> None:
    assert "<msup><mi>x</mi><mn>2</mn></msup>" in markdown_html(text)


def test_prices_are_no_formula() -> None:
    assert "<math" not in markdown_html("It costs $5 here and $10 there.")


def test_what_a_person_types_is_shown_as_it_is() -> None:
    assert plain_html("  1 * 2 * 3\n# no title") == '<div class="plain">  1 * 2 * 3\n# no title</div>'


def test_a_long_file_is_folded() -> None:
    text = "Look:\n\nnotes.md:\n```md\n" + "line\n" * 40 + "```"
    assert '<details class="file"><summary>40' in plain_html(text)
    assert "<details" not in plain_html("```\nshort\n```")
