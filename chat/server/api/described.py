"""``/openapi.json`` in a form that generators of clients can read.

Several of the classes that vLLM takes from OpenAI's package have one name, and generators name classes by it: of two
with one name they drop the second, and with it every route that needs it.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from fastapi import FastAPI

__all__ = ["describe_uniquely", "give_unique_titles"]

NOT_IN_NAMES = re.compile(r"[^0-9A-Za-z]+")


def describe_uniquely(app: FastAPI) -> None:
    """Have an application's description name every class differently."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        return give_unique_titles(describe())

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it


def give_unique_titles(description: dict[str, Any]) -> dict[str, Any]:
    """Give the schemas that share a title titles of their own, in place; return the description.

    >>> schemas = {"a__Text": {"title": "Text"}, "b__Text": {"title": "Text"}, "Item": {"title": "Item"}}
    >>> _ = give_unique_titles({"components": {"schemas": schemas}})
    >>> [schema["title"] for schema in schemas.values()]
    ['a_Text', 'b_Text', 'Item']
    """
    schemas: dict[str, Any] = description.get("components", {}).get("schemas", {})
    uses = Counter(schema.get("title") for schema in schemas.values())
    for name, schema in schemas.items():
        if uses[schema.get("title")] > 1:
            schema["title"] = NOT_IN_NAMES.sub("_", name)
    return description
