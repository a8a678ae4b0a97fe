"""Whether the vLLM that is installed is one that this package knows, found out without importing it.

The plugins stand on vLLM's inside: its registries, its renderer, its serving objects. One that has changed there might
still load them, and then build other prompts, or keep other answers, than it should. So the version is looked at, and
in vLLM's source every name that is used here, with its parameters: a fork may call itself 0.32 as well.
"""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.util
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatcore.errors import ServerError

__all__ = ["KNOWN", "SEAMS", "Seam", "check_vllm", "missing_seams", "version_of"]

KNOWN = "0.32"
VERSION = re.compile(r"^__version__ = version = ['\"]([^'\"]+)['\"]", re.MULTILINE)
_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Seam:
    """A name of vLLM's that is used here.

    Attributes:
        module: below ``vllm``, with slashes.
        name: of a function, class, method or variable.
        takes: of a function, everything that it is given here: all of that, and nothing else, must be what it needs;
            of a class, the fields that are used.
        is_awaited: it must be ``async``.
    """

    module: str
    name: str
    takes: tuple[str, ...] = ()
    is_awaited: bool = False

    def __str__(self) -> str:
        taken = f"({', '.join(self.takes)})" if self.takes else ""
        return f"{self.name}{taken} in vllm/{self.module}"


_REQUEST = ("request", "raw_request")
_PARSING = ("messages", "model_config", "content_format", "media_io_kwargs", "mm_processor_kwargs")
_TEMPLATE = ("chat_template", "chat_template_kwargs", "media_io_kwargs", "mm_processor_kwargs")
_CHAT_FIELDS = ("kv_transfer_params", "return_token_ids", "cache_salt", "chat_template_kwargs")
_RESPONSE_FIELDS = ("input", "kv_transfer_params", "cache_salt", "enable_response_messages", "previous_response_id")
_CHAT, _RESPONSES = "entrypoints/openai/chat_completion", "entrypoints/openai/responses"
_ROUTES, _PLUGIN = "entrypoints/serve/utils/api_utils", "plugins/endpoint_plugins/interface"
_awaited = functools.partial(Seam, is_awaited=True)

SEAMS = (
    Seam("renderers/registry", "RENDERER_REGISTRY"),
    Seam("renderers/registry", "RendererRegistry.renderers"),
    Seam("renderers/registry", "RendererRegistry.register", ("renderer_mode", "module", "class_name")),
    Seam("tokenizers/registry", "TokenizerRegistry"),
    Seam("tokenizers/hf", "CachedHfTokenizer"),
    Seam("v1/engine/detokenizer", "FastIncrementalDetokenizer.__init__", ("tokenizer", "request")),
    Seam("renderers/hf", "HfRenderer.__init__", ("config", "tokenizer")),
    Seam("renderers/hf", "HfRenderer.render_messages", ("messages", "params")),
    _awaited("renderers/hf", "HfRenderer.render_messages_async", ("messages", "params")),
    Seam("renderers/chat_utils", "parse_chat_messages", _PARSING),
    _awaited("renderers/chat_utils", "parse_chat_messages_async", _PARSING),
    Seam("renderers/inputs/preprocess", "parse_dec_only_prompt", ("prompt",)),
    Seam("renderers/params", "ChatParams", _TEMPLATE),
    Seam("utils/async_utils", "make_async", ("func", "executor")),
    Seam("entrypoints/cli/main", "main"),
    Seam("exceptions", "VLLMError"),
    Seam("exceptions", "VLLMValidationError"),
    Seam(f"{_CHAT}/protocol", "ChatCompletionRequest", _CHAT_FIELDS),
    _awaited(f"{_CHAT}/serving", "OpenAIServingChat.create_chat_completion", _REQUEST),
    _awaited(f"{_RESPONSES}/api_router", "create_responses", _REQUEST),
    Seam(f"{_RESPONSES}/protocol", "ResponsesRequest", _RESPONSE_FIELDS),
    Seam(f"{_RESPONSES}/protocol", "ResponsesResponse"),
    _awaited(f"{_RESPONSES}/serving", "OpenAIServingResponses.create_responses", _REQUEST),
    Seam(f"{_RESPONSES}/utils", "construct_chat_messages_with_tool_call", ("input_messages",)),
    Seam(f"{_RESPONSES}/utils", "construct_tool_dicts", ("tools", "tool_choice")),
    Seam("entrypoints/serve", "create_error_response"),
    Seam("entrypoints/serve/engine/protocol", "ErrorResponse"),
    Seam(_ROUTES, "load_aware_call", ("func",)),
    Seam(_ROUTES, "with_cancellation", ("handler_func",)),
    _awaited(_ROUTES, "validate_json_request", ("raw_request",)),
    Seam(_PLUGIN, "EndpointPlugin", ("name", "required_tasks")),
    Seam(_PLUGIN, "EndpointPlugin.attach_router", ("app",)),
    _awaited(_PLUGIN, "EndpointPlugin.init_state", ("engine_client", "state", "args")),
)


HOMES = {seam.name.partition(".")[0]: f"vllm.{seam.module}".replace("/", ".") for seam in SEAMS}


def __getattr__(name: str) -> Any:
    """Import a name of :data:`SEAMS` from vLLM: this is the server's one door to it."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(HOMES[name]), name)


@functools.cache
def check_vllm(folder: Path | None = None) -> None:
    """Refuse a vLLM that is not known.

    Args:
        folder: of the package ``vllm``; the one that would be imported if left out.
    Raises:
        ServerError: there is none, it is of another version, or it is another inside.
    """
    folder = folder or _installed()
    version = version_of(folder)
    if not f"{version}.".startswith(f"{KNOWN}."):
        raise _unknown(f"vLLM {version} is not known to this program, which works with vLLM {KNOWN}")
    if missing := missing_seams(folder):
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise _unknown(f"this vLLM {version} is another than the one that this program knows: no {missing[0]}{more}")


def version_of(folder: Path) -> str:
    """Return the version that the source of a vLLM says of itself."""
    try:
        found = VERSION.search((folder / "_version.py").read_text("utf-8"))
    except OSError:
        found = None
    return found[1] if found else "of no version"


def missing_seams(folder: Path) -> list[Seam]:
    """Return what is used here and is not there, or not as it is used."""
    trees: dict[str, Sequence[ast.stmt]] = {}
    for seam in SEAMS:
        if seam.module not in trees:
            trees[seam.module] = _read(folder / seam.module)
    return [seam for seam in SEAMS if not _fits(_find(trees[seam.module], seam.name.split(".")), seam)]


def _installed() -> Path:
    spec = importlib.util.find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError("vLLM is not installed", hint="Install it: make install, or see requirements.txt.")
    return Path(next(iter(spec.submodule_search_locations)))


def _unknown(message: str) -> ServerError:
    hint = "Install the version in requirements.txt, or a version of this program that was made for yours."
    return ServerError(message, hint=hint)


def _read(module: Path) -> Sequence[ast.stmt]:
    """Return the statements of a module or a package; none if there is neither."""
    try:
        file = module / "__init__.py" if module.is_dir() else module.with_suffix(".py")
        return ast.parse(file.read_text("utf-8")).body
    except (OSError, ValueError, SyntaxError):
        return ()


def _find(body: Sequence[ast.stmt], names: Sequence[str]) -> ast.stmt | None:
    """Return the statement that gives a name, inside classes too."""
    node = next((node for node in body if names[0] in _named(node)), None)
    if len(names) == 1 or node is None:
        return node
    return _find(node.body, names[1:]) if isinstance(node, ast.ClassDef) else None


def _named(node: ast.stmt) -> Iterator[str]:
    """Give the names that a statement defines, or imports from elsewhere."""
    if isinstance(node, _Function | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))
    elif isinstance(node, ast.ImportFrom):
        yield from (alias.asname or alias.name for alias in node.names)


def _fits(node: ast.stmt | None, seam: Seam) -> bool:
    if node is None or isinstance(node, ast.ImportFrom):  # what is imported from elsewhere is only known to be there
        return node is not None
    if seam.is_awaited and not isinstance(node, ast.AsyncFunctionDef):
        return False
    if isinstance(node, ast.ClassDef):
        return set(seam.takes) <= {name for field in node.body for name in _named(field)}
    if not isinstance(node, _Function) or not seam.takes:
        return True
    said = node.args
    places = [argument.arg for argument in (*said.posonlyargs, *said.args)]
    needed = set(places[: len(places) - len(said.defaults)])
    needed |= {one.arg for one, default in zip(said.kwonlyargs, said.kw_defaults, strict=True) if default is None}
    known = {*places, *(argument.arg for argument in said.kwonlyargs)}
    return needed - {"self"} <= set(seam.takes) <= known
