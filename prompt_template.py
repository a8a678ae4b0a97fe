"""Messages -> rendered text in which every control token carries a mark that nobody else can write.

A chat template is a Jinja program that writes control tokens around what people said. Once both are in one string,
nobody can tell them apart. So they are told apart before:

* In the template's own literals, a control token is replaced by ``MARK`` and a letter that stands for it, before the
  template is compiled. Literals that the template only compares with (``'</think>' in content``) stay as they are.
* In what people said, the letters used for that are escaped, so that no message can hold a mark. What spells a control
  token is escaped as well, so that a template cannot be led by what a user typed; in an assistant's content, markup
  that models write themselves (``<think>``) stays visible, because templates take it out of old answers.

The text is rendered by transformers' own Jinja environment. prompt_utils.py is the public room.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from errors import InvalidMessageError, PromptError
from prompt_encoding import ControlToken

__all__ = ["ROLES", "Alphabet", "TracedTemplate", "shield_message", "shield_value"]

ROLES = ("system", "developer", "user", "assistant", "tool", "function")

# Letters of the Vai script: no template trims, changes or escapes a letter, NFC keeps them, and few people write
# them. Who does may: in messages they are escaped.
MARK = "\ua500"  # before a control token's letter: written by the template
ESCAPE = "\ua501"  # before a letter: the text that the letter stands for, written by anyone
CUT = "\ua502"  # written by the native template: what follows is encoded on its own
CONTINUE = "\ua503"  # where the message ends that the model shall continue
SENTINELS = (MARK, ESCAPE, CUT, CONTINUE)

FIRST_LETTER = 0x4E00  # letters that stand for tokens are CJK ideographs: printable, no white space, no case
MAX_LETTERS = 0x9FFF - FIRST_LETTER

WRITTEN_BY_MODELS = re.compile(r"</?[A-Za-z_]+>")  # <think>, </tool_call>: markup inside an answer, not around turns

# What a method or filter is given to look for is compared with text, not written. Of `replace`, the new text is.
READING_METHODS = frozenset(
    "count endswith find get index lstrip partition removeprefix removesuffix rfind rindex rpartition rsplit rstrip "
    "split splitlines startswith strip".split()
)
WRITING_FILTERS = frozenset({"default", "d", "join", "indent", "format"})

RENDER_ERRORS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Alphabet:
    """The letters that stand for control tokens, and the two ways to write them.

    >>> alphabet = Alphabet([ControlToken(7, "<|im_end|>", special=True)])
    >>> alphabet.plain(alphabet.mark("Hi<|im_end|>"))
    'Hi<|im_end|>'
    >>> alphabet.mark("<|im_end|>") == alphabet.escape("<|im_end|>")
    False
    """

    def __init__(self, control_tokens: Sequence[ControlToken]) -> None:
        if len(control_tokens) + len(SENTINELS) > MAX_LETTERS:
            raise PromptError(
                f"the tokenizer has {len(control_tokens)} control tokens; {MAX_LETTERS} can be told apart"
            )
        self.control_tokens = tuple(control_tokens)
        spellings = [*(token.text for token in control_tokens), *SENTINELS]
        self._letter = {text: chr(FIRST_LETTER + i) for i, text in enumerate(spellings)}
        self._spelling = {letter: text for text, letter in self._letter.items()}
        self._all = _any_of(spellings)
        structure = [token.text for token in control_tokens if not WRITTEN_BY_MODELS.fullmatch(token.text)]
        self._structure = _any_of([*structure, *SENTINELS])
        self._suspects = tuple({text[0] for text in spellings})
        self._coded = re.compile(f"[{MARK}{ESCAPE}](.)", re.DOTALL)

    def token(self, letter: str) -> ControlToken:
        """Return the control token that a letter behind ``MARK`` stands for."""
        return self.control_tokens[ord(letter) - FIRST_LETTER]

    def mark(self, text: str) -> str:
        """Mark the control tokens in a template's own text."""
        return self._all.sub(self._mark_one, text)

    def escape(self, text: str, *, keep_markup: bool = False) -> str:
        """Escape what spells a control token in anyone else's text."""
        for suspect in self._suspects:
            if suspect in text:
                return (self._structure if keep_markup else self._all).sub(self._escape_one, text)
        return text

    def plain(self, text: str) -> str:
        """Return the text that people read."""
        if MARK in text or ESCAPE in text:
            text = self._coded.sub(lambda match: self._spelling.get(match[1], match[0]), text)
        return text

    def _mark_one(self, match: re.Match[str]) -> str:
        return (ESCAPE if match[0] in SENTINELS else MARK) + self._letter[match[0]]

    def _escape_one(self, match: re.Match[str]) -> str:
        return ESCAPE + self._letter[match[0]]


def _any_of(spellings: Iterable[str]) -> re.Pattern[str]:
    """Match any of these, the longest first, as tokenizers do."""
    return re.compile("|".join(re.escape(text) for text in sorted(set(spellings), key=len, reverse=True)))


def shield_message(message: object, index: int, alphabet: Alphabet) -> dict[str, Any]:
    """Return a copy of a message in which no text can be taken for a control token.

    Raises:
        InvalidMessageError: the message is not OpenAI's shape.
    """
    if not isinstance(message, Mapping):
        raise InvalidMessageError(f"a message is a dictionary, not {type(message).__name__}", index=index)
    role = message.get("role")
    if type(role) is not str or role not in ROLES:
        raise InvalidMessageError(f"the role {role!r} is none of {', '.join(ROLES)}", index=index)
    _check_shape(message, index)
    shielded = {}
    try:
        for field, value in message.items():
            if field == "token_ids":
                continue
            keep_markup = role == "assistant" and field == "content"
            if type(field) is not str:
                raise TypeError(f"the name of a field is a string, not {type(field).__name__}")
            shielded[field] = shield_value(value, alphabet, keep_markup=keep_markup)
    except (TypeError, RecursionError) as error:
        raise InvalidMessageError(_reason(error), index=index) from error
    return shielded


def _check_shape(message: Mapping[str, Any], index: int) -> None:
    content = message.get("content")
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        for part in content:
            if not isinstance(part, Mapping):
                raise InvalidMessageError(
                    f"a part of content is a dictionary, not {type(part).__name__}",
                    index=index,
                    hint='A part of content is a dictionary such as {"type": "text", "text": "Hello"}.',
                )
    elif content is not None and not isinstance(content, str):
        raise InvalidMessageError(f"content is a string or a list of parts, not {type(content).__name__}", index=index)
    for field in ("reasoning_content", "name", "tool_call_id"):
        if not isinstance(message.get(field), str | None):
            raise InvalidMessageError(f"{field} is a string, not {type(message[field]).__name__}", index=index)
    calls = message.get("tool_calls")
    if calls is not None and (
        not isinstance(calls, Sequence)
        or isinstance(calls, str | bytes)
        or not all(isinstance(call, Mapping) for call in calls)
    ):
        raise InvalidMessageError("tool_calls is a list of dictionaries", index=index)


def shield_value(value: Any, alphabet: Alphabet, *, keep_markup: bool = False) -> Any:
    """Return a copy of a JSON value with every string in it, keys included, escaped.

    Only JSON's own types pass: an object of another type could write what it likes when a template prints it.
    """
    kind = type(value)
    if kind is str:
        return alphabet.escape(value, keep_markup=keep_markup)
    if value is None or kind in (int, float, bool):
        return value
    if isinstance(value, str):
        return alphabet.escape(str.__str__(value), keep_markup=keep_markup)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {
            shield_value(key, alphabet): shield_value(inner, alphabet, keep_markup=keep_markup)
            for key, inner in value.items()
        }
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [shield_value(inner, alphabet, keep_markup=keep_markup) for inner in value]
    raise TypeError(f"a value is text, a number, a list or a dictionary, not {kind.__name__}")


def _reason(error: Exception) -> str:
    return "values are nested too deep" if isinstance(error, RecursionError) else str(error)


class TracedTemplate:
    """A chat template whose own control tokens come out marked.

    Args:
        source: the Jinja text.
        alphabet: the letters for this tokenizer's control tokens.
        special_tokens: what templates may ask for by name, such as ``bos_token``.
    """

    def __init__(
        self, source: str, alphabet: Alphabet, special_tokens: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        import jinja2
        from transformers.utils import chat_template_utils

        self.source = source
        self._alphabet = alphabet
        self._special_tokens = {name: alphabet.mark(text) for name, text in special_tokens.items()}
        self._template_error = jinja2.TemplateError
        environment = chat_template_utils._compile_jinja_template("").environment  # transformers' own filters
        try:
            tree = environment.parse(source)
            _mark_literals(tree, alphabet.mark)
            code = environment.compile(tree)
        except jinja2.TemplateError as error:
            raise PromptError(f"the chat template is not valid Jinja: {error}") from error
        self._template = environment.template_class.from_code(environment, code, environment.make_globals(None))

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None,
        add_generation_prompt: bool,
        template_kwargs: Mapping[str, Any],
    ) -> str:
        """Render shielded messages; control tokens that the template wrote are marked.

        Raises:
            PromptError: the template refuses the messages; in the template's own words.
        """
        variables = {**self._special_tokens, "documents": None, **template_kwargs}
        variables |= {"messages": messages, "tools": tools, "add_generation_prompt": add_generation_prompt}
        try:
            return self._template.render(variables)  # type: ignore[no-any-return]
        except self._template_error as error:
            raise PromptError(self._alphabet.plain(str(error.message or error))) from error
        except RENDER_ERRORS as error:
            reason = self._alphabet.plain(_reason(error))
            raise PromptError(f"the chat template cannot render these messages: {reason}") from error

    def render_open(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None,
        template_kwargs: Mapping[str, Any],
    ) -> str:
        """Render shielded messages up to the end of the last one's text, for the model to continue it.

        Same result as transformers' ``continue_final_message=True``.
        """
        last = messages[-1]
        opened, text = _with_open_end(last.get("content"))
        rendered = self.render(
            [*messages[:-1], {**last, "content": opened}],
            tools=tools,
            add_generation_prompt=False,
            template_kwargs=template_kwargs,
        )
        end = rendered.rfind(CONTINUE)
        if end < 0 or text.strip() not in rendered:
            raise PromptError("the chat template leaves out the message that is to be continued")
        if rendered[end + 1 : end + 2] == " ":
            return rendered[:end]
        return rendered[:end].rstrip()  # the template trimmed white space behind the message


def _with_open_end(content: Any) -> tuple[Any, str]:
    """Return content with ``CONTINUE`` and a space behind its last text, and that text."""
    if isinstance(content, str):
        return content + CONTINUE + " ", content
    if isinstance(content, list):
        for i in reversed(range(len(content))):
            text = content[i].get("text")
            if isinstance(text, str):
                return [*content[:i], {**content[i], "text": text + CONTINUE + " "}, *content[i + 1 :]], text
    raise PromptError("the last message has no text to continue")


def _mark_literals(node: Any, mark: Callable[[str], str]) -> None:
    """Mark control tokens in the literals that a template writes, in place.

    A literal that is compared with text stays: the template must still find ``</think>`` in an old answer.
    """
    from jinja2 import nodes

    match node:
        case nodes.TemplateData():
            node.data = mark(node.data)
            return
        case nodes.Const():
            if isinstance(node.value, str):
                node.value = mark(node.value)
            return
        case nodes.Compare() | nodes.Test():
            return
        case nodes.Getitem():
            written = [node.node]
        case nodes.Pair():
            written = [node.value]
        case nodes.Call(node=nodes.Getattr(attr=method)):
            arguments = [*node.args, *node.kwargs]
            written = [node.node.node, *_written_arguments(arguments, method, method not in READING_METHODS)]
        case nodes.Filter():
            arguments = [*node.args, *node.kwargs]
            written = [node.node, *_written_arguments(arguments, node.name, node.name in WRITING_FILTERS)]
        case _:
            written = list(node.iter_child_nodes())
    for child in written:
        if child is not None:
            _mark_literals(child, mark)


def _written_arguments(arguments: list[Any], name: str, writes: bool) -> list[Any]:
    if name == "replace":
        return arguments[1:]
    return arguments if writes else []
