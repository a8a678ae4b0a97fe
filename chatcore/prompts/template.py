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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from os.path import commonprefix
from types import MappingProxyType
from typing import Any

from chatcore.errors import InvalidMessageError, PromptError
from chatcore.prompts.tokenizer import ControlToken
from chatcore.reply import ROLES

__all__ = ["ROLES", "Alphabet", "Shield", "TracedTemplate", "read_literals", "refer"]


# Letters of the Vai script: no template trims, changes or escapes a letter, NFC keeps them, and few people write
# them. Who does may: in messages they are escaped.
MARK = "\ua500"  # before a control token's letter: written by the template
ESCAPE = "\ua501"  # before a letter: the text that the letter stands for, written by anyone
CUT = "\ua502"  # written by the native template: what follows is encoded on its own
CONTINUE = "\ua503"  # where the message ends that the model shall continue
REFER = "\ua504"  # before a letter: here begins the text of the message that the letter numbers
REFER_END = "\ua505"  # and here it ends
SENTINELS = (MARK, ESCAPE, CUT, CONTINUE, REFER, REFER_END)

FIRST_LETTER = 0x4E00  # letters that stand for tokens are CJK ideographs: printable, no white space, no case
MAX_LETTERS = 0x9FFF - FIRST_LETTER

WRITTEN_BY_MODELS = re.compile(r"</?[A-Za-z_]+>")  # <think>, </tool_call>: markup inside an answer, not around turns

# What a method or filter is given to look for is compared with text, not written. Of `replace`, the new text is.
READING_METHODS = frozenset(
    {"count", "endswith", "find", "get", "index", "lstrip", "partition", "removeprefix", "removesuffix", "rfind"}
    | {"rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip"}
)
WRITING_FILTERS = frozenset({"default", "d", "join", "indent", "format"})

# What templates look up by name, so that it must stay as it is even where a control token contains the word.
SCHEMA_WORDS = frozenset(
    {"type", "text", "image", "image_url", "video", "id", "index", "function", "name", "arguments", "description"}
    | {"parameters", "properties", "required", "items", "enum", "default", "string", "object", "array", "content"}
)

RENDER_ERRORS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class Alphabet:
    """The letters that stand for control tokens, and the two ways to write them.

    Args:
        control_tokens: the tokenizer's.
        read_literals: what the template looks for in messages; escaped like control tokens.

    >>> alphabet = Alphabet([ControlToken(7, "<|im_end|>", special=True)])
    >>> alphabet.plain(alphabet.mark("Hi<|im_end|>"))
    'Hi<|im_end|>'
    >>> alphabet.mark("<|im_end|>") == alphabet.escape("<|im_end|>")
    False
    """

    def __init__(self, control_tokens: Sequence[ControlToken], read_literals: Iterable[str] = ()) -> None:
        if len(control_tokens) > MAX_LETTERS - 1000:
            raise PromptError(
                f"the tokenizer has {len(control_tokens)} control tokens; {MAX_LETTERS - 1000} are supported"
            )
        self.control_tokens = tuple(control_tokens)
        tokens = [token.text for token in control_tokens]
        spellings = list(dict.fromkeys([*tokens, *SENTINELS, *sorted(read_literals)]))
        self._letter = {text: chr(FIRST_LETTER + i) for i, text in enumerate(spellings)}
        self._spelling = {letter: text for text, letter in self._letter.items()}
        nothing = chr(FIRST_LETTER + len(spellings))
        self._spelling[nothing] = ""
        self._guard = ESCAPE + nothing
        self._tokens = _any_of(tokens)
        self._sentinels = _any_of(SENTINELS)
        self._own = _any_of([*tokens, *SENTINELS])
        self._all = _any_of(spellings)
        self._structure = _any_of(text for text in spellings if not WRITTEN_BY_MODELS.fullmatch(text))
        self._suspects = tuple({text[0] for text in spellings})
        self._coded = re.compile(f"[{MARK}{ESCAPE}](.)", re.DOTALL)

    def token(self, letter: str) -> ControlToken:
        """Return the control token that a letter behind ``MARK`` stands for."""
        return self.control_tokens[ord(letter) - FIRST_LETTER]

    def mark(self, text: str) -> str:
        """Mark the control tokens in a template's own text."""
        return self._own.sub(lambda match: (ESCAPE if match[0] in SENTINELS else MARK) + self._letter[match[0]], text)

    def escape_sentinels(self, text: str) -> str:
        """Escape the letters used here, and nothing else, in a template's own text."""
        return self._sentinels.sub(lambda match: ESCAPE + self._letter[match[0]], text)

    def mark_spelled(self, rendered: str) -> str:
        """Mark the control tokens in rendered text in which everyone else's are escaped."""
        return self._tokens.sub(lambda match: MARK + self._letter[match[0]], rendered)

    def escape(self, text: str, *, keep_markup: bool = False) -> str:
        """Escape what spells a control token in anyone else's text."""
        for suspect in self._suspects:
            if suspect in text:
                spellings = self._structure if keep_markup else self._all
                return spellings.sub(lambda match: ESCAPE + self._letter[match[0]], text)
        return text

    def guard(self, text: str) -> str:
        """Put an empty escape at the ends of a text that could be part of a control token.

        For templates whose tokens are found by their spelling: what surrounds the text must not complete one.
        """
        core = text.strip()
        if not core or core in SCHEMA_WORDS:
            return text
        tokens = [token.text for token in self.control_tokens]
        inside = any(core in token for token in tokens)
        begins = inside or any(core.startswith(token[i:]) for token in tokens for i in range(1, len(token)))
        ends = inside or any(core.endswith(token[:i]) for token in tokens for i in range(1, len(token)))
        return text.replace(core, (self._guard if begins else "") + core + (self._guard if ends else ""), 1)

    def plain(self, text: str) -> str:
        """Return the text that people read."""
        if MARK in text or ESCAPE in text:
            text = self._coded.sub(lambda match: self._spelling.get(match[1], match[0]), text)
        return text


def _any_of(spellings: Iterable[str]) -> re.Pattern[str]:
    """Match any of these, the longest first, as tokenizers do."""
    return re.compile(_common_prefixes({text for text in spellings if text}) or r"(?!)")


def _common_prefixes(words: set[str]) -> str:
    """Return a pattern that reads each beginning once: with thousands of words, one by one would be slow.

    >>> _common_prefixes({"<a", "<ab", "<c"})
    '<(?:a(?:b)?|c)'
    """
    parts = []
    for _, group in groupby(sorted(words - {""}), key=lambda word: word[0]):
        same = list(group)
        prefix = commonprefix(same)
        parts.append(re.escape(prefix) + _common_prefixes({word[len(prefix) :] for word in same}))
    if not parts:
        return ""
    if "" in words:
        return f"(?:{'|'.join(parts)})?"
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


@dataclass(frozen=True, slots=True)
class Shield:
    """Copies messages so that no text in them can be taken for a control token or lead the template.

    Args:
        alphabet: how to escape.
        spelled: the template's control tokens are found by their spelling, so nothing in a message may look like one.
    """

    alphabet: Alphabet
    spelled: bool = False

    def message(self, message: object, index: int) -> dict[str, Any]:
        """Return a copy of a message, without its ``token_ids``.

        Raises:
            InvalidMessageError: the message is not OpenAI's shape.
        """
        if type(message) is not dict and not isinstance(message, Mapping):
            raise InvalidMessageError(f"a message is a dictionary, not {type(message).__name__}", index=index)
        role = message.get("role")
        if type(role) is not str or role not in ROLES:
            raise InvalidMessageError(f"the role {role!r} is none of {', '.join(ROLES)}", index=index)
        _check_shape(message, index)
        shielded: dict[str, Any] = {}
        try:
            for field, value in message.items():
                if field == "role":
                    shielded[field] = role
                elif field != "token_ids":
                    # What models write, templates take out of old answers: they must see it there.
                    keep_markup = role == "assistant" and field == "content" and not self.spelled
                    shielded[self.value(field)] = self.value(value, keep_markup=keep_markup)
        except (TypeError, RecursionError) as error:
            raise InvalidMessageError(_reason(error), index=index) from error
        return shielded

    def value(self, value: Any, *, keep_markup: bool = False) -> Any:
        """Return a copy of a JSON value with every string in it, keys included, escaped.

        Only JSON's own types pass: an object of another type could write what it likes when a template prints it.

        Raises:
            TypeError: a value is of another type.
        """
        if isinstance(value, str):
            text = value if type(value) is str else str.__str__(value)
            escaped = self.alphabet.escape(text, keep_markup=keep_markup)
            return self.alphabet.guard(escaped) if self.spelled else escaped
        if value is None or type(value) in (int, float, bool):
            return value
        if isinstance(value, int | float):
            return int(value) if isinstance(value, int) else float(value)
        if isinstance(value, Mapping):
            return {self.value(key): self.value(inner, keep_markup=keep_markup) for key, inner in value.items()}
        if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
            return [self.value(inner, keep_markup=keep_markup) for inner in value]
        raise TypeError(f"a value is text, a number, a list or a dictionary, not {type(value).__name__}")


def _check_shape(message: Mapping[str, Any], index: int) -> None:
    token_ids = message.get("token_ids")
    if token_ids is not None and not (isinstance(token_ids, Sequence) and set(map(type, token_ids)) <= {int}):
        raise InvalidMessageError("token_ids is a list of token ids", index=index)
    content = message.get("content")
    if type(content) is str and message.keys() <= {"role", "content", "token_ids"}:
        return
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
    is_list = isinstance(calls, Sequence) and not isinstance(calls, str | bytes)
    if calls is not None and not (is_list and all(isinstance(call, Mapping) for call in calls)):
        raise InvalidMessageError("tool_calls is a list of dictionaries", index=index)


def _reason(error: Exception) -> str:
    return "values are nested too deep" if isinstance(error, RecursionError) else str(error)


def refer(text: str, number: int, *, after_markup: bool = False) -> str:
    """Put invisible brackets with a number around a text, so that it can be found in the rendered prompt.

    They lie inside the white space at its ends, so that a template may trim it. ``after_markup``: and behind the last
    markup that a model wrote, so that a template may cut it there.
    """
    start = 0
    if after_markup:
        for match in WRITTEN_BY_MODELS.finditer(text):
            start = match.end()
    core = text[start:].strip()
    if not core or number >= MAX_LETTERS:
        return text
    begin = text.index(core, start)
    end = begin + len(core)
    return f"{text[:begin]}{REFER}{chr(FIRST_LETTER + number)}{core}{REFER_END}{text[end:]}"


def referred_number(letter: str) -> int:
    """Return the number that :func:`refer` was given, from the letter behind ``REFER``."""
    return ord(letter) - FIRST_LETTER


REFERENCE = re.compile(f"{REFER}(.)|{REFER_END}", re.DOTALL)


class TracedTemplate:
    """A chat template whose own control tokens come out marked.

    Args:
        source: the Jinja text.
        alphabet: the letters for this tokenizer's control tokens.
        special_tokens: what templates may ask for by name, such as ``bos_token``.
    """

    def __init__(self, source: str, alphabet: Alphabet, special_tokens: Mapping[str, str] | None = None) -> None:
        self.source = source
        self.alphabet = alphabet
        self._names = dict(special_tokens or {})
        self._environment = _environment()
        self._use(spelled=False)
        if not self._agrees():
            # It compares text that it wrote itself, or makes tokens of parts ('<|' + role + '|>').
            self._use(spelled=True)
        self.refers = all(self._hides_references(messages) for messages in probe_conversations(SHORT_PROBES))

    def _use(self, *, spelled: bool) -> None:
        """Compile the template, its control tokens marked in the literals or left to be found by their spelling."""
        mark = self.alphabet.escape_sentinels if spelled else self.alphabet.mark
        tree = _parse(self.source)
        _mark_literals(tree, mark)
        code = self._environment.compile(tree)
        environment = self._environment
        self._template = environment.template_class.from_code(environment, code, environment.make_globals(None))
        self._special_tokens = {name: mark(text) for name, text in self._names.items()}
        self.shield = Shield(self.alphabet, spelled)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        template_kwargs: Mapping[str, Any] = MappingProxyType({}),
    ) -> str:
        """Render shielded messages; control tokens that the template wrote are marked.

        Raises:
            PromptError: the template refuses the messages; in the template's own words.
        """
        variables = {**self._special_tokens, "documents": None, **template_kwargs}
        variables |= {"messages": messages, "tools": tools, "add_generation_prompt": add_generation_prompt}
        try:
            rendered: str = self._template.render(variables)
        except RENDER_ERRORS as error:
            raise PromptError(self._refusal(error)) from error
        except _template_error() as error:
            raise PromptError(self.alphabet.plain(error.message or str(error))) from error
        return self.alphabet.mark_spelled(rendered) if self.shield.spelled else rendered

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

    def _refusal(self, error: Exception) -> str:
        return f"the chat template cannot render these messages: {self.alphabet.plain(_reason(error))}"

    def _agrees(self) -> bool:
        """Return whether marking changes nothing: same text, and no control token left unmarked."""
        stock = self._environment.from_string(self.source)
        for messages in probe_conversations(SHORT_PROBES):
            for tools in (None, PROBE_TOOLS):
                variables = {**self._names, "messages": messages, "tools": tools, "add_generation_prompt": True}
                try:
                    expected = stock.render({"documents": None, **variables})
                except (*RENDER_ERRORS, _template_error()):
                    expected = None
                shielded = [self.shield.message(message, i) for i, message in enumerate(messages)]
                try:
                    rendered = self.render(shielded, tools=tools)
                except PromptError:
                    rendered = None
                if expected is None or rendered is None:
                    if expected is not rendered:
                        return False
                elif self.alphabet.plain(rendered) != expected or self._has_unmarked(rendered, messages):
                    return False
        return True

    def _has_unmarked(self, rendered: str, messages: Sequence[Mapping[str, Any]]) -> bool:
        marked = self.alphabet.mark_spelled(rendered)
        return marked != rendered and not any("<think>" in str(message) for message in messages)

    def _hides_references(self, messages: Sequence[Mapping[str, Any]]) -> bool:
        """Return whether the template treats a text the same with :func:`refer` around it."""
        shielded = [self.shield.message(message, i) for i, message in enumerate(messages)]
        referred = [refer_message(message, i) for i, message in enumerate(shielded)]
        try:
            return REFERENCE.sub("", self.render(referred)) == self.render(shielded)
        except PromptError:
            return True


def refer_message(message: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a shielded message with :func:`refer` around its content, or around the first tool it calls."""
    content = message.get("content")
    if isinstance(content, str) and content.strip():
        return {**message, "content": refer(content, number, after_markup=message["role"] == "assistant")}
    match message:
        case {"tool_calls": [{"function": {"name": str(name), **function}, **call}, *calls]}:
            referred = {**call, "function": {**function, "name": refer(name, number)}}
            return {**message, "tool_calls": [referred, *calls]}
    return message


def _environment() -> Any:
    """Return transformers' own Jinja environment: its filters, its sandbox, its white space rules."""
    from transformers.utils import chat_template_utils

    return chat_template_utils._compile_jinja_template("").environment


def _template_error() -> type[Any]:
    import jinja2

    return jinja2.TemplateError


def _parse(source: str) -> Any:
    try:
        return _environment().parse(source)
    except _template_error() as error:
        raise PromptError(f"the chat template is not valid Jinja: {error}") from error


def read_literals(source: str) -> set[str]:
    """Return the markup that a template looks for in messages, such as ``</think>``.

    Raises:
        PromptError: the text is no valid Jinja.
    """
    from jinja2 import nodes

    tree = _parse(source)
    written: list[str] = []
    _mark_literals(tree, lambda text: written.append(text) or text)  # type: ignore[func-returns-value]
    every = [node.value for node in tree.find_all(nodes.Const) if isinstance(node.value, str)]
    for text in written:
        if text in every:
            every.remove(text)
    return {text for text in every if MARKUP.fullmatch(text)}


MARKUP = re.compile(r"[<\[{]\S+[>\]}]")


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

    written: list[Any]
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
        case nodes.Call(node=nodes.Getattr(attr=str(method), node=receiver)):
            written = [receiver, *_written_arguments(node, method, method not in READING_METHODS)]
        case nodes.Filter(name=str(name)):
            written = [node.node, *_written_arguments(node, name, name in WRITING_FILTERS)]
        case _:
            written = list(node.iter_child_nodes())
    for child in written:
        if child is not None:
            _mark_literals(child, mark)


def _written_arguments(node: Any, name: str, writes: bool) -> list[Any]:
    arguments = [*node.args, *node.kwargs]
    if name == "replace":
        return arguments[1:]
    return arguments if writes else []


# Conversations that show what a template does, one letter a message: s system, u user, a assistant, r assistant with
# reasoning, k assistant with <think> in its content, c assistant that calls a tool (n: and says
# nothing else), t tool result.
SHORT_PROBES = ("u", "su", "uau", "suaua", "uru", "uku", "suctau", "sucttar", "uk", "ucta")
LONG_PROBES = ("uauau", "suauau", "surukuau", "uauru", "suakua", "ukuku")
TOOL_PROBES = ("suctauau", "ucttauctau", "suauctarukuctau", "ucctuctctau", "uctuctu", "suntauntau")
PROBE_WORDS = ("Hello", " two words ", "x", "\nline\n", "a\n\nb", "", "1. <b>", "end  \n")
PROBE_CALL = {"type": "function", "function": {"name": "look", "arguments": {"where": "here", "times": 2}}}
PROBE_TOOLS = [{"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {}}}]
PROBE_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "s": {"role": "system"},
    "u": {"role": "user"},
    "a": {"role": "assistant"},
    "r": {"role": "assistant", "reasoning_content": "Let me see."},
    "k": {"role": "assistant"},
    "c": {"role": "assistant", "tool_calls": [PROBE_CALL]},
    "n": {"role": "assistant", "tool_calls": [PROBE_CALL], "content": None},
    "t": {"role": "tool"},
}


def probe_conversations(patterns: Iterable[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield small conversations, each pattern with several texts."""
    for shift, pattern in enumerate(patterns):
        messages = []
        for i, kind in enumerate(pattern):
            word = PROBE_WORDS[(shift + i) % len(PROBE_WORDS)]
            content = f"<think>\n{word}\n</think>\n\n{word}" if kind == "k" else word
            messages.append({"content": content, **PROBE_FIELDS[kind]})
        yield messages
