"""Settings -> vLLM's OpenAI-compatible server, as a process below this one."""

from __future__ import annotations

import errno
import importlib.metadata
import os
import shlex
import sys
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chat.backends.engine_host import ROOT, log_dir
from chat.net.api_keys import default_key_file, is_loopback, make_key_file, read_key_file
from chat.net.ports import why_not_listening
from chat.server.process.failures import explain_end
from chat.server.process.self_check import Probe, check_server
from chat.server.process.supervisor import ServerProcess, supervise
from chat.server.settings.environment import PROMPT_CACHE_VARIABLE
from chat.server.settings.guard import GuardSettings
from chat.server.settings.retention import STORE_VARIABLE, ServedSettings
from chat.server.settings.serve import ServeSettings
from chat.server.vllm_plugin.compatibility import check_vllm
from chat.server.vllm_plugin.tokenizer_mode import PLUGINS, TOKENIZER_MODE
from chatcore.engine.loading import SMALL_MODEL_BYTES, bound_onednn, cpu_kv_cache_bytes
from chatcore.engine.outputs import find_parsers
from chatcore.errors import ServerError
from chatcore.models.fit import BLOCK_TOKENS, cpu_dtype, find_machine
from chatcore.models.hub import resolve_model
from chatcore.models.load_errors import check_loadable
from chatcore.models.memory import read_memory_needs, weights_bytes
from chatcore.prompts.builder import PromptBuilder

__all__ = ["serve", "server_arguments", "suit_engine"]

DEFAULT_MODEL = "demo"
GUARD = "chat.server.guard.Guard"
KEEP_ALIVE_S = 75  # longer than clients keep idle connections (httpx and openai 5 s, nginx 60 s): they end them, not we
# vLLM loads plugins of these groups by itself, unless VLLM_PLUGINS names some: then only those.
PLUGIN_GROUPS = ("general_plugins", "platform_plugins", "io_processor_plugins", "stat_logger_plugins")


@dataclass(frozen=True, slots=True)
class _Model:
    """What is served. ``builder`` is None for a model that does not chat."""

    folder: Path
    names: tuple[str, ...]
    builder: PromptBuilder | None


def serve(settings: ServeSettings, *, vllm_arguments: Sequence[str] = ()) -> int:
    """Run vLLM's server until it is told to end.

    Args:
        vllm_arguments: options of vLLM's server from the command line; they hold against all others.
    Returns:
        The exit code: 0 or 130 if it was told to end.
    Raises:
        ChatError: it cannot be started, or has ended by itself.
    """
    chosen = [*settings.options_for_vllm(), *vllm_arguments]
    _check_installed()
    _check_address(settings.host, settings.port)
    key_file, is_new = _find_keys(settings)
    model = _find_model(settings, chosen)
    if model.builder is not None:
        _check_store(_store(settings))
    log_file = None if settings.verbose else log_dir() / f"server-{settings.port}.log"
    arguments = server_arguments(settings, model.folder, model.names, model.builder, chosen)
    print(f"starting {model.names[0]}; {_describe_parsers(model, arguments)}", flush=True)
    if log_file is not None:
        print(f"  log      {log_file}", flush=True)
    server = ServerProcess(_command(*arguments), _environment(settings, model.folder, key_file), log_file)
    key = "" if settings.allow_unauthenticated else next(iter(read_key_file(key_file)))
    url = _own_url(settings, chosen)
    probe = Probe(url, key)

    def when_ready() -> None:
        if "--headless" not in chosen:
            check_server(probe, model.names[0], model.builder, guarded=not settings.allow_unauthenticated)
        for line in _announce(settings, url, model, key_file, is_new):
            print(line, flush=True)

    code = supervise(
        server, is_healthy=probe.is_healthy, when_ready=when_ready, shutdown_timeout_s=settings.shutdown_timeout
    )
    if code is None:
        facts = {"model": model.names[0], "dtype": "auto", "quantization": "", "tensor_parallel_size": ""}
        raise explain_end(tuple(server.last_lines), server.poll(), facts, log_file)
    return code


def _command(*arguments: str) -> list[str]:
    """Return what runs ``vllm serve``; ``-P``: a folder ``chat`` where somebody happens to be is not this package."""
    return [sys.executable, "-P", "-m", "chat.server.process.vllm_process", "serve", *arguments]


# -- before the start --------------------------------------------------------------------------------------------------


def _check_installed() -> None:
    check_vllm()
    found = {point.name for group in ("general", "endpoint") for point in _entry_points(f"{group}_plugins")}
    if missing := set(PLUGINS) - found:
        raise ServerError(
            f"vLLM cannot find the plugins of this program: {', '.join(sorted(missing))}",
            hint="Install it into the same environment: make install, or pip install --no-deps -e .",
        )


def _entry_points(group: str) -> importlib.metadata.EntryPoints:
    return importlib.metadata.entry_points(group=f"vllm.{group}")


def _check_address(host: str, port: int) -> None:
    """Find out at once, and not after the engine has been loaded, whether the address can be listened on."""
    error = why_not_listening(host, port)
    if error is None:
        return
    if error.errno == errno.EADDRINUSE:
        hint = "Choose another one with --port, or end that program."
        raise ServerError(f"port {port} is taken by another program", hint=hint) from error
    hint = "Use 127.0.0.1, an address of this machine, or 0.0.0.0 for all of them."
    raise ServerError(f"{host}:{port} cannot be listened on: {error.strerror or error}", hint=hint) from error


def _check_store(where: str) -> None:
    """Find out at once whether conversations can be kept; a new store is made."""
    from chat.store.local import ConversationStore

    store = ConversationStore(where or None)
    try:
        store.check_writable()
    finally:
        store.close()


def _find_keys(settings: ServeSettings) -> tuple[Path, bool]:
    """Return the file of the keys, and whether it was made just now."""
    file = Path(os.path.expanduser(settings.api_key_file)) if settings.api_key_file else default_key_file()
    if settings.allow_unauthenticated:
        return file, False
    is_new = not settings.api_key_file and make_key_file(file)
    read_key_file(file)
    status = file.stat()
    if status.st_uid == os.getuid() and status.st_mode & 0o077:
        print(f"warning: others can read the keys; run: chmod 600 {shlex.quote(str(file))}", file=sys.stderr)
    return file, is_new


def _find_model(settings: ServeSettings, chosen: Sequence[str]) -> _Model:
    name = settings.model or DEFAULT_MODEL
    if settings.model_root:
        folders = [Path(settings.model_root) / part for part in (settings.model, *settings.served_model_name) if part]
        name = next((str(folder) for folder in folders if folder.is_dir()), name)
    folder = resolve_model(name)
    check_loadable({"model": str(folder), "dtype": _value(chosen, "--dtype") or "auto"})
    names = settings.served_model_name or (settings.model or name,)
    if _is_pooling(folder, chosen):
        return _Model(folder, names, None)
    template = _value(chosen, "--chat-template") or None
    return _Model(folder, names, PromptBuilder.from_pretrained(folder, chat_template=template))


def _is_pooling(folder: Path, chosen: Sequence[str]) -> bool:
    """Tell whether the model embeds or ranks instead of chatting."""
    if _value(chosen, "--runner") == "pooling" or _value(chosen, "--convert") in ("embed", "classify"):
        return True
    return (folder / "modules.json").exists()  # as sentence-transformers writes it


# -- what vLLM is told -------------------------------------------------------------------------------------------------


def server_arguments(
    settings: ServeSettings, folder: Path, names: Sequence[str], builder: PromptBuilder | None, chosen: Sequence[str]
) -> list[str]:
    """Return the options for vLLM's server: the chosen ones, and ours where nothing was chosen.

    Prompts are built by :class:`prompt_utils.PromptBuilder`; the parsers of tool calls and thinking are those that
    the model's template asks for; on CPU the dtype is the one that the processor is fast with, and the key/value cache
    takes a modest part of the memory. The guard comes last: the last middleware is the one in front.
    """
    ours = {"--host": settings.host, "--port": str(settings.port), "--shutdown-timeout": str(settings.shutdown_timeout)}
    ours |= {"--disable-uvicorn-access-log": "", "--enable-prompt-tokens-details": ""}
    if builder is not None:
        ours["--tokenizer-mode"] = TOKENIZER_MODE
        tool_parser, reasoning_parser = find_parsers(builder)
        if tool_parser:
            ours |= {"--enable-auto-tool-choice": "", "--tool-call-parser": tool_parser}
        if reasoning_parser:
            ours["--reasoning-parser"] = reasoning_parser
    if num_gpus := _tensor_parallel_size(settings, folder, chosen):
        ours["--tensor-parallel-size"] = str(num_gpus)
    sized = _value(chosen, "--gpu-memory-utilization") or os.environ.get("VLLM_CPU_KVCACHE_SPACE")
    if _is_cpu_build():
        quantization = _value(chosen, "--quantization") or _value(chosen, "-q")
        ours["--dtype"] = dtype = _value(chosen, "--dtype") or cpu_dtype(folder, quantization)
        ours["--block-size"] = str(BLOCK_TOKENS["cpu"])
        if not sized:
            ours["--kv-cache-memory-bytes"] = str(cpu_kv_cache_bytes(folder, dtype=dtype))
    if weights_bytes(folder) < SMALL_MODEL_BYTES:
        ours["--enforce-eager"] = ""  # compiling would take longer than all of its answers
    named = {word.split("=")[0].replace("_", "-") for word in chosen}
    pairs = ((name, value) for name, value in ours.items() if name not in named)
    return [
        str(folder),
        *(word for pair in pairs for word in pair if word),
        *("--served-model-name", *names),
        *chosen,
        *("--middleware", GUARD),
    ]


def _tensor_parallel_size(settings: ServeSettings, folder: Path, chosen: Sequence[str]) -> int | None:
    """Return how many GPUs share the model: as told, else as many of the visible ones as divide its heads."""
    if settings.tensor_parallel_size is not None:
        return settings.tensor_parallel_size
    parallel = (
        "--data-parallel-size",
        "-dp",
        "-tp",
        "--pipeline-parallel-size",
        "-pp",
        "--distributed-executor-backend",
    )
    if _is_cpu_build() or any(word.split("=")[0] in parallel for word in chosen):
        return None
    machine = find_machine()
    num_gpus = machine.num_devices if machine.kind == "gpu" else 1
    num_heads = read_memory_needs(folder).num_attention_heads
    return max((size for size in range(1, num_gpus + 1) if num_heads and num_heads % size == 0), default=None)


def _environment(settings: ServeSettings, folder: Path, key_file: Path) -> dict[str, str]:
    environment = dict(os.environ)
    if environment.pop("VLLM_API_KEY", None):
        print("warning: VLLM_API_KEY is not used here: keys stand in a file", file=sys.stderr)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), environment.get("PYTHONPATH"))))
    environment.setdefault("VLLM_NO_USAGE_STATS", "1")
    environment.setdefault("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", str(KEEP_ALIVE_S))
    suit_engine(environment, folder)
    environment["VLLM_PLUGINS"] = ",".join(_plugins(environment.get("VLLM_PLUGINS")))
    environment[GuardSettings.variable] = settings.guard(key_file).to_json()
    environment[ServedSettings.variable] = settings.conversations.to_json()
    environment[STORE_VARIABLE] = _store(settings)
    environment[PROMPT_CACHE_VARIABLE] = str(settings.prompt_cache_mb)
    return environment


def suit_engine(environment: MutableMapping[str, str], folder: Path) -> None:
    """Set variables that suit a model on this machine; what is set already holds."""
    bound_onednn(environment)
    if weights_bytes(folder) < SMALL_MODEL_BYTES:  # its matrices are too small to be split over several threads
        environment.setdefault("OMP_NUM_THREADS", "1")
        if _is_cpu_build():  # nor are there threads to bind to cores: that is what the worker's own process is for
            environment.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")


def _store(settings: ServeSettings) -> str:
    """Return where conversations are kept; nothing: where the terminal keeps its own."""
    return settings.store or (str(Path(settings.data_dir) / "conversations.sqlite") if settings.data_dir else "")


def _plugins(named: str | None) -> list[str]:
    """Return the names of the plugins that vLLM loads: ours, and those it would load without us."""
    if named is None:
        others = [point.name for group in PLUGIN_GROUPS for point in _entry_points(group)]
    else:
        others = [name.strip() for name in named.split(",") if name.strip()]
    return list(dict.fromkeys([*PLUGINS, *others]))


def _is_cpu_build() -> bool:
    """Tell whether vLLM's build for CPU is installed, without importing it."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _value(chosen: Sequence[str], option: str) -> str:
    """Return what an option of vLLM's server is set to; the last one holds.

    >>> _value(["--dtype", "half", "--dtype=float32"], "--dtype")
    'float32'
    """
    found = ""
    for word, behind in zip(chosen, [*chosen[1:], ""], strict=False):
        name, equals, value = word.partition("=")
        if name == option:
            found = value if equals else behind
    return found


# -- what people are told ----------------------------------------------------------------------------------------------


def _describe_parsers(model: _Model, arguments: Sequence[str]) -> str:
    if model.builder is None:
        return "it embeds or ranks"
    tools, thinking = _value(arguments, "--tool-call-parser"), _value(arguments, "--reasoning-parser")
    if not tools and not thinking:
        return "its template is of no family known here: tool calls and thinking stay in the text"
    return f"tool calls: {tools or 'none'}, thinking: {thinking or 'none'}"


def _own_url(settings: ServeSettings, chosen: Sequence[str]) -> str:
    """Return where this machine reaches the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(settings.host, settings.host)  # noqa: S104  # compared, not listened on
    scheme = "https" if _value(chosen, "--ssl-certfile") else "http"
    return (
        f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}{_value(chosen, '--root-path').rstrip('/')}"
    )


def _announce(settings: ServeSettings, url: str, model: _Model, key_file: Path, is_new: bool) -> list[str]:
    lines = [f"ready: {', '.join(model.names)}", f"  API      {url}/v1", f"  docs     {url}/docs"]
    if not is_loopback(settings.host):
        lines.append(f"  listens  on {settings.host}:{settings.port}, which other machines may reach")
    if settings.allow_unauthenticated:
        lines.append("  keys     none: whoever reaches this address may use it")
    else:
        owners = ", ".join(sorted(set(read_key_file(key_file).values())))
        lines.append(f"  keys     {key_file} ({'made now; ' if is_new else ''}of: {owners})")
    return [*lines, "Try it:", f"  {_curl(settings, url, model, key_file)}"]


def _curl(settings: ServeSettings, url: str, model: _Model, key_file: Path) -> str:
    """Return a command that works as it stands; the key goes from the file to curl without being seen in a list of
    processes."""
    import json

    path, body = "/v1/embeddings", {"model": model.names[0], "input": "Hello!"}
    if model.builder is not None:
        messages = [{"role": "user", "content": "Hello!"}]
        path, body = "/v1/chat/completions", {"model": model.names[0], "messages": messages}  # type: ignore[dict-item]
    request = f"{url}{path} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(body, ensure_ascii=False))}"
    if settings.allow_unauthenticated:
        return f"curl -s {request}"
    first_key = r"/^[^#]/{s/^\([^:]*: *\)\{0,1\}/Authorization: Bearer /p;q;}"
    return f"sed -n {shlex.quote(first_key)} {shlex.quote(str(key_file))} | curl -s -H @- {request}"
