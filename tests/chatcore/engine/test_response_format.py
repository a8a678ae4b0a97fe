"""What form an answer must have: what vLLM is told, and what becomes of the text."""

from __future__ import annotations

import pydantic
import pytest

from chatcore.engine.response_format import read_response_format, without_free_space
from chatcore.errors import SamplingError


class City(pydantic.BaseModel):
    name: str
    inhabitants: int = pydantic.Field(ge=0)


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("form", "told", "text", "parsed"),
    [
        (
            City,
            {"json": City.model_json_schema()},
            '{"name": "Oslo", "inhabitants": 7}',
            City(name="Oslo", inhabitants=7),
        ),
        (list[int], {"json": {"type": "array", "items": {"type": "integer"}}}, "[1, 2]", [1, 2]),
        (SCHEMA, {"json": SCHEMA}, '{"a": 1}', {"a": 1}),
        (
            {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}},
            {"json": SCHEMA},
            '{"a": 1}',
            {"a": 1},
        ),
        ({"type": "json_object"}, {"json_object": True}, '{"b": []}', {"b": []}),
        (["yes", "no"], {"choice": ["yes", "no"]}, "yes", "yes"),
        ({"regex": "[0-9]+"}, {"regex": "[0-9]+"}, "12", "12"),
        ({"grammar": 'root ::= "x"'}, {"grammar": 'root ::= "x"'}, "x", "x"),
    ],
)
def test_a_form_is_told_to_vllm_and_read_back(form, told, text, parsed):
    arguments, parse = read_response_format(form)
    assert arguments == told
    assert parse(text) == parsed


@pytest.mark.parametrize(("form", "text"), [(City, '{"name": "Oslo", "inhabitants": -1}'), (SCHEMA, '{"a": ')])
def test_a_text_that_is_not_of_the_form_is_no_object(form, text):
    assert read_response_format(form)[1](text) is None


@pytest.mark.parametrize(
    "form",
    [
        3,
        True,
        "yes",
        "int",
        "https://example.org/",
        b"int",
        {"colour": "red"},
        {"type": "json_schema"},
        ["yes", 1],
        memoryview,
    ],
)
def test_what_is_no_form_is_refused(form):
    with pytest.raises(SamplingError, match="response_format"):
        read_response_format(form)


@pytest.mark.parametrize(
    "wrapped", [str, lambda code: [code, 1], lambda code: {"type": "json_schema", "json_schema": code}]
)
def test_a_form_is_never_run_as_code(wrapped, tmp_path):
    """A batch file, or a client of the engine host, brings what it likes as ``response_format``."""
    trace = tmp_path / "trace"
    with pytest.raises(SamplingError, match="response_format"):
        read_response_format(wrapped(f"__import__('pathlib').Path({str(trace)!r}).touch()"))
    assert not trace.exists()


def test_white_space_between_the_parts_of_json_is_fixed():
    grammar = without_free_space({"json": SCHEMA})["grammar"]
    assert '": "' in grammar
    assert "\\n" not in grammar.split("root ::=")[1]


@pytest.mark.parametrize(
    "form",
    [{"choice": ["yes"]}, {"regex": "a+"}, {"json": {"type": "integer", "multipleOf": 3}}, {"json": {"type": 3}}],
)
def test_what_has_no_such_grammar_stays_as_it_is(form):
    assert without_free_space(form) == form
