"""What others import tells what it is for, and shows how it is used or why that needs no example."""

from __future__ import annotations

import importlib
import inspect
import re

import pytest

MODULES = [
    "prompt_utils",
    "vllm_wrapper",
    "chatcore.errors",
    "chatcore.reply",
    "chatcore.engine.response_format",
    "chatcore.tools.functions",
]
EXAMPLE = re.compile(r"^ *>>> |::\n\n", re.MULTILINE)
# Names whose use another example shows, or that are only met and never made.
SHOWN_ELSEWHERE = {
    "AnyTool": "a type",
    "AsyncStream": "VLLMWrapper.astream",
    "FinishReason": "a type",
    "FittedPrompt": "PromptBuilder.fit",
    "MAX_RESULT_CHARACTERS": "a number",
    "MCPTools": "its module",
    "MessageDict": "a type",
    "ROLES": "words",
    "PromptTokenizer": "PromptBuilder.from_pretrained",
    "Stream": "VLLMWrapper.stream",
    "Tool": "as_tool",
    "ToolRun": "VLLMWrapper.run_tools",
    "ToolSource": "MCPTools",
    "acall_tool": "call_tool",
    "as_tools": "as_tool",
    "from_dict": "its own example",
    "to_dict": "from_dict",
    "vLLMWrapper": "VLLMWrapper",
}
PUBLIC = [(module, name) for module in MODULES for name in importlib.import_module(module).__all__]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=lambda part: part)
def test_a_public_name_tells_what_it_is_for_and_how_it_is_used(module, name):
    value = getattr(importlib.import_module(module), name)
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        assert SHOWN_ELSEWHERE[name]  # a constant or a type: its comment tells
        return
    docstring = inspect.getdoc(value) or ""
    assert len(docstring.split()) > 3, f"{module}.{name} has no docstring"
    assert re.match(r"[A-Z:`]", docstring), f"{module}.{name}: {docstring[:40]}"
    if inspect.isclass(value) and issubclass(value, Exception):
        return  # raised by the project; what it says is the example
    assert EXAMPLE.search(docstring) or name in SHOWN_ELSEWHERE, f"{module}.{name} shows no example"


@pytest.mark.parametrize("module", MODULES)
def test_a_public_class_explains_each_of_its_public_methods(module):
    for name in importlib.import_module(module).__all__:
        value = getattr(importlib.import_module(module), name)
        if inspect.isclass(value):
            for method, function in vars(value).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    assert inspect.getdoc(function), f"{module}.{name}.{method} has no docstring"


def test_the_list_of_exceptions_holds_nothing_that_is_gone():
    names = {name for _, name in PUBLIC}
    assert set(SHOWN_ELSEWHERE) <= names
