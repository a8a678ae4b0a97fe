"""What is on the screen, and in the scrollback, while and after Markdown streams."""

from __future__ import annotations

import random

import pytest

from chat.terminal.markdown import Look, divide_line, render_code, split_blocks
from chat.terminal.markdown_stream import MarkdownStream
from chat.terminal.painter import Painter, printable
from chat.terminal.stream import RawStream
from tests.chat.terminal.screen import Screen

ANSWER = """# Title

Some **bold text** and *italic*, `code` and a [link](https://example.com/x). A literal \\(x^2\\) and <div>html</div>.
second line

Qwen 是阿里云研发的大语言模型系列，能够进行多轮对话、写作、翻译和编程等任务，它支持长上下文。👩‍👩‍👧‍👦 emoji

- first item
- second item is long enough to wrap because it has many words in it
  - nested

1. one
2. two

> quote of
> two lines

```python
def f(x):
\treturn f"{x}"

print(f(1))  # a comment that is a good deal longer than the screen is wide
```

| a | 名称 |
|---|-----:|
| 1 | 中文 |

Done."""


def stream(text: str, sizes: list[int], screen: Screen, color: bool = True) -> str:
    look = Look(screen.columns, "256" if color else None)
    markdown = MarkdownStream(screen.write, screen.size, lambda: look, lambda name, n: f"── {name} {n}" if n else "──")
    position = 0
    for size in sizes:
        markdown.feed(text[position : position + size])
        markdown._next_paint_s = 0.0  # paint at every piece: what a slow model makes happen
        markdown.flush()
        position += size
    markdown.feed(text[position:])
    markdown.finish()
    return screen.text


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("columns", "lines"), [(40, 60), (23, 60), (80, 60)])
def test_pieces_give_the_same_screen_as_the_whole(seed: int, columns: int, lines: int) -> None:
    whole = stream(ANSWER, [], Screen(columns, lines))
    pieces = random.Random(seed)
    sizes = [pieces.randint(1, 9) for _ in range(len(ANSWER))]
    assert stream(ANSWER, sizes, Screen(columns, lines)) == whole


def test_nothing_that_the_model_wrote_is_missing() -> None:
    shown = stream(ANSWER, [3] * 300, Screen(80, 60))
    for part in ("Title", "\\(x^2\\)", "<div>html</div>", "https://example.com/x", "second line", "nested", "quote of"):
        assert part in shown
    assert "**" not in shown


def test_code_can_be_copied_from_the_screen_as_it_is() -> None:
    shown = stream(ANSWER, [5] * 200, Screen(80, 60)).split("\n")
    start = shown.index("── python 1")
    assert shown[start + 1 : start + 4] == ["def f(x):", '    return f"{x}"', ""]
    assert all(row == row.rstrip() for row in shown)


def test_rows_that_left_the_screen_are_not_touched() -> None:
    """An answer much longer than the screen: every line is there once, in order, though only six rows can be seen."""
    answer = "\n\n".join(f"Paragraph number {n} has a few words." for n in range(40))
    screen = Screen(60, 6)
    assert stream(answer, [4] * 500, screen) == answer
    long_list = "\n".join(f"- item {n}" for n in range(60))
    rows = stream(long_list, [4] * 500, Screen(60, 6)).split("\n")
    assert [row.strip() for row in rows] == [f"• item {n}" for n in range(60)]


def test_a_paragraph_longer_than_the_screen_is_shown_once() -> None:
    words = [f"word{n}" for n in range(300)]
    assert stream(" ".join(words), [7] * 400, Screen(30, 5)).split() == words


def test_finished_blocks_are_never_repainted() -> None:
    """A hundred lines of code make the cursor go up at most by the rows of the open line."""
    screen = Screen(80, 50)
    stream("```py\n" + "x = 1\n" * 100 + "```\n", [1] * 700, screen)
    assert screen.num_repainted == 0


def test_an_unclosed_fence_shows_its_code() -> None:
    assert stream("```py\nx = 1\ny = 2", [2] * 20, Screen()) == "── py 1\nx = 1\ny = 2\n──"


def test_chinese_streams_character_by_character() -> None:
    """FastChat printed Chinese only at the next space. Here every piece is on the screen once it has been painted."""
    screen = Screen(40, 10)
    markdown = MarkdownStream(screen.write, screen.size, lambda: Look(40), lambda name, n: "")
    for count, character in enumerate("今天天气很好我们去公园散步吧", start=1):
        markdown.feed(character)
        markdown._next_paint_s = 0.0
        markdown.flush()
        assert screen.text == "今天天气很好我们去公园散步吧"[:count]


@pytest.mark.parametrize("width", range(4, 30))
def test_rows_are_never_wider_than_the_screen_and_lose_nothing(width: int) -> None:
    from wcwidth import width as text_width

    text = "Qwen 是“阿里云”的模型，很好（真的）。A veryveryverylongword, 👩‍👩‍👧‍👦👨‍👩‍👧 e\u0301nd."
    rows = [text[a:b] for a, b in zip([0, *divide_line(text, width)], [*divide_line(text, width), None], strict=True)]
    assert "".join(rows) == text
    assert all(text_width(row.rstrip()) <= width for row in rows)
    assert width < 6 or not any(row.startswith(("，", "。", "）")) for row in rows[1:])
    assert not any(row.startswith(("\u200d", "\u0301")) for row in rows)


def test_a_joined_emoji_is_not_torn_by_raw_streaming() -> None:
    written: list[str] = []
    raw = RawStream(written.append)
    for piece in ("a👩", "\u200d", "👧b"):
        raw.feed(piece)
    raw.finish()
    assert written[0] in ("a👩", "a")
    assert "".join(written) == "a👩\u200d👧b\n"
    assert not any(piece.endswith("\u200d") for piece in written)


def test_an_answer_cannot_send_escape_sequences() -> None:
    evil = "\x1b]52;c;aGk=\x07\x1b[2J\x9b31mred\ud800"
    assert "\x1b" not in printable(evil)
    assert "\x9b" not in printable(evil)
    screen: list[str] = []
    RawStream(screen.append).feed(evil)
    assert "".join(screen).encode().count(b"\x1b") == 0


def test_no_escape_sequences_without_a_color_system() -> None:
    assert render_code("x = 1", "python", Look(40, None)) == ["x = 1"]


def test_colours_are_left_out_where_they_are_not_wanted() -> None:
    rows = render_code("def f(): return 'x'", "python", Look(40, "256", no_color=True))
    assert not any(f"[{code}" in rows[0] or f";{code}" in rows[0] for code in range(30, 50))


@pytest.mark.parametrize("source", ["", "\n\n", "   ", "```", "|", "- ", "#", "[x]: y", "&nbsp;", "***", "~~~~\n\n"])
def test_odd_markdown_is_split_without_loss(source: str) -> None:
    blocks = split_blocks(source)
    assert "".join(block.source for block in blocks) in (source, "")
    stream(source, [1] * len(source), Screen())


def test_painter_writes_only_what_differs() -> None:
    written: list[str] = []
    painter = Painter(written.append, lambda: (40, 10))
    painter.show(["one", "two"])
    painter.show(["one", "two three"])
    assert written[-1] == "\r\x1b[Jtwo three"
    painter.show(["one", "two three"])
    assert len(written) == 2
