"""How docstrings become pages: doctests as code, roles of other tools (``:class:`X` ``) as plain names.

A griffe extension, named in mkdocs.yml; docs/reference.md is what it works for.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

__all__ = ["Readable"]

ROLE = re.compile(r":(?:class|func|meth|mod|data|attr):`~?([^`]+)`")
SECTION = re.compile(r"\n( *(?:Args|Returns|Raises|Yields|Attributes|Source):)")  # parted by an empty line
DOCTEST = re.compile(r"^(?P<indent> *)>>> .*(?:\n(?P=indent)\S.*)*", re.MULTILINE)  # up to the next empty line


class Readable(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None:
            obj.docstring.value = readable(obj.docstring.value)


def readable(text: str) -> str:
    r"""Return a docstring as Markdown.

    >>> readable("See :class:`chatcore.errors.ChatError`.\n\n>>> 1 + 1\n2")
    'See `errors.ChatError`.\n\n```pycon\n>>> 1 + 1\n2\n```'
    """
    named = SECTION.sub(r"\n\n\1", ROLE.sub(r"`\1`", text))
    return DOCTEST.sub(lambda found: f"{found['indent']}```pycon\n{found[0]}\n{found['indent']}```", named)
