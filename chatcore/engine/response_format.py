"""What form an answer must have -> vLLM's structured outputs, and back from the text to an object."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from chatcore.errors import SamplingError

__all__ = ["read_response_format", "without_free_space"]

ResponseFormat = type | Mapping[str, Any] | Sequence[str]
# What a file or a request can bring is never a type. pydantic would take a text for the name of one, and run it.
PLAIN_DATA = (str, bytes, int, float, Sequence)


def read_response_format(form: ResponseFormat) -> tuple[dict[str, Any], Callable[[str], Any]]:
    """Return (arguments of vLLM's ``StructuredOutputsParams``, what turns the text into an object).

    Args:
        form: a pydantic model, or any type that pydantic knows (``list[int]``): the object is one of it;
            a list of strings: the answer is one of them;
            ``{"regex": ...}`` or ``{"grammar": ...}`` (EBNF or Lark): the answer is text of that form;
            ``{"type": "json_schema", "json_schema": {"schema": ...}}`` and ``{"type": "json_object"}``, as OpenAI
            writes them, or a JSON schema alone: the object is plain data.
    Raises:
        SamplingError: it is none of these.

    >>> read_response_format(["yes", "no"])[0]
    {'choice': ['yes', 'no']}
    """
    if isinstance(form, Mapping):
        return _read_mapping(form)
    if isinstance(form, Sequence) and not isinstance(form, str) and all(isinstance(word, str) for word in form):
        return {"choice": list(form)}, _as_text
    if isinstance(form, PLAIN_DATA):
        raise _unknown(form)
    from pydantic import TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    try:
        adapter: TypeAdapter[Any] = TypeAdapter(form)
        schema = adapter.json_schema()
    except (PydanticUserError, TypeError, NameError) as error:
        raise _unknown(form) from error

    def validate(text: str) -> Any:
        try:
            return adapter.validate_json(text)
        except ValidationError:  # a rule that a schema cannot tell, such as a validator of the model's own
            return None

    return {"json": schema}, validate


def without_free_space(form: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a JSON schema as a grammar in which space stands only after ``,`` and ``:``; other forms as they are.

    JSON allows any amount of white space between its parts, and small models write nothing else until they reach
    ``max_tokens``. vLLM can forbid it for a whole engine only.

    Args:
        form: the first value of :func:`read_response_format`. A schema of which xgrammar does not know every word stays
            a schema, for another backend of vLLM.

    >>> without_free_space({"choice": ["yes", "no"]})
    {'choice': ['yes', 'no']}
    """
    schema = {"type": "object"} if form.get("json_object") else form.get("json")
    if schema is None:
        return form
    from chatcore.engine.vllm_api import has_xgrammar_unsupported_json_features

    try:
        if has_xgrammar_unsupported_json_features(schema):
            return form
        return {"grammar": _grammar(json.dumps(schema), is_open=bool(form.get("json_object")))}
    except (RuntimeError, TypeError, ValueError, AttributeError):  # no schema at all: vLLM says so
        return form


@lru_cache(maxsize=64)
def _grammar(schema: str, *, is_open: bool) -> str:
    import xgrammar

    return str(xgrammar.Grammar.from_json_schema(schema, any_whitespace=False, strict_mode=not is_open))


def _read_mapping(form: Mapping[str, Any]) -> tuple[dict[str, Any], Callable[[str], Any]]:
    for kind in ("regex", "grammar"):
        if set(form) == {kind} and isinstance(form[kind], str):
            return {kind: form[kind]}, _as_text
    if form.get("type") == "json_object" and len(form) == 1:
        return {"json_object": True}, _as_json
    if form.get("type") == "json_schema":
        named = form.get("json_schema")
        schema = named.get("schema") if isinstance(named, Mapping) else None
        if not isinstance(schema, Mapping):
            raise SamplingError('response_format of type json_schema has no "json_schema": {"schema": ...}')
        return {"json": dict(schema)}, _as_json
    if {"type", "properties", "$ref", "anyOf", "enum", "const"} & set(form):
        return {"json": dict(form)}, _as_json
    raise _unknown(form)


def _unknown(form: Any) -> SamplingError:
    return SamplingError(
        f"response_format is {form!r:.80}",
        hint="Pass a pydantic model, a JSON schema, a list of choices, {'regex': ...} or {'grammar': ...}.",
    )


def _as_text(text: str) -> str:
    return text


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
