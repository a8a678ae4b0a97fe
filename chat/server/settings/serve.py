"""Options, environment and a YAML file -> the settings of ``serve``. Options hold against the environment, it against
the file, the file against the defaults; an error says where the value stands."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from chat.net.api_keys import is_loopback
from chat.server.settings.environment import PROMPT_CACHE_MB, PROMPT_CACHE_VARIABLE
from chat.server.settings.guard import GuardSettings
from chat.server.settings.retention import ServedSettings
from chatcore.errors import ConfigError

__all__ = ["ENVIRONMENT", "ServeSettings", "load_settings"]

# The variables that deployments of this kind have used for long, and what each sets.
ENVIRONMENT = {
    "MODEL_DIR": "model",
    "MODEL_NAME": "served_model_name",
    "MODEL_ABSOLUTE_ROOT": "model_root",
    "HOST": "host",
    "PORT": "port",
    "API_KEY_FILE": "api_key_file",
    "TENSOR_PARALLEL_SIZE": "tensor_parallel_size",
    "DATA_DIR": "data_dir",
    "VLLMDEPLOY_STORE": "store",
    "SHUTDOWN_TIMEOUT": "shutdown_timeout",
    "VERBOSE": "verbose",
    PROMPT_CACHE_VARIABLE: "prompt_cache_mb",
    "VLLM_ARGUMENTS": "vllm_arguments",
}
CONFIG_VARIABLE = "SERVE_CONFIG"

Names = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]


class ServeSettings(BaseModel):
    """What ``serve`` is told.

    Attributes:
        model: ``demo``, a folder, or an id on ModelScope or Hugging Face.
        model_root: a folder; a relative ``model`` is looked for there first.
        served_model_name: the names that requests use; the model's own if empty.
        host, port: the address to listen on.
        tensor_parallel_size: GPUs that share the model; None: those that are visible.
        shutdown_timeout: how long running answers may take once the server is told to end, in seconds.
        verbose: vLLM's log goes to standard error instead of a file.
        prompt_cache_mb: memory for encoded prompts, in each process that serves HTTP.
        data_dir: the folder of the conversations.
        store: a file or a database URL for the conversations; holds against ``data_dir``.
        api_key_file: keys, one ``owner: key`` a line; empty: the user's own file, made if it is not there.
        allow_unauthenticated: ask for no key.
        open_to_anyone: that this is meant also on an address that other machines reach.
        open_metrics, completions, allow_media_urls, allow_path, allow_field, max_body_bytes, max_n, max_tokens,
            max_messages, max_requests, max_requests_per_owner: see :class:`GuardSettings`.
        conversations: what of them is kept how long.
        vllm: options of vLLM's server by their names: ``max_model_len: 8192``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    model_root: str = ""
    served_model_name: Names = ()
    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    tensor_parallel_size: int | None = Field(None, ge=1)
    shutdown_timeout: int = Field(30, ge=0)
    verbose: bool = False
    prompt_cache_mb: int = Field(PROMPT_CACHE_MB, ge=1)
    data_dir: str = ""
    store: str = ""
    api_key_file: str = ""
    allow_unauthenticated: bool = False
    open_to_anyone: bool = False
    open_metrics: bool = False
    completions: bool = True
    allow_media_urls: bool = False
    allow_path: Names = ()
    allow_field: Names = ()
    max_body_bytes: int = Field(32 << 20, ge=1024)
    max_n: int = Field(16, ge=1)
    max_tokens: int = Field(0, ge=0)
    max_messages: int = Field(4096, ge=1)
    max_requests: int = Field(0, ge=0)
    max_requests_per_owner: int = Field(0, ge=0)
    conversations: ServedSettings = Field(default_factory=ServedSettings)
    vllm: dict[str, Any] = Field(default_factory=dict)
    vllm_arguments: Annotated[tuple[str, ...], BeforeValidator(lambda value: _words(value))] = ()

    def guard(self, key_file: Path) -> GuardSettings:
        """Return what the guard is told."""
        return GuardSettings(
            key_file=str(key_file),
            unauthenticated=self.allow_unauthenticated,
            open_metrics=self.open_metrics,
            completions=self.completions,
            media_urls=self.allow_media_urls,
            allowed_paths=self.allow_path,
            allowed_fields=self.allow_field,
            max_body_bytes=self.max_body_bytes,
            max_n=self.max_n,
            max_tokens=self.max_tokens,
            max_messages=self.max_messages,
            max_requests=self.max_requests,
            max_requests_per_owner=self.max_requests_per_owner,
        )

    def options_for_vllm(self) -> list[str]:
        """Return the options of vLLM's server that file and environment name.

        >>> ServeSettings(vllm={"max_model_len": 8192, "enforce_eager": True}).options_for_vllm()
        ['--max-model-len', '8192', '--enforce-eager']
        """
        words = [word for name, value in self.vllm.items() for word in _option(name, value)]
        return words + list(self.vllm_arguments)


def load_settings(options: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> ServeSettings:
    """Put the settings together.

    Args:
        options: what the command line says; None means not said. Names that are no settings are left out.
        environment: the process's own if left out.
    Raises:
        ConfigError: an unknown name or a value out of range, and where it stands; no keys on an open address.
    """
    variables = os.environ if environment is None else environment
    file = options.get("config") or variables.get(CONFIG_VARIABLE)
    values, origins = _from_file(Path(file)) if file else ({}, {})
    for variable, name in ENVIRONMENT.items():
        if variables.get(variable):
            values[name], origins[name] = variables[variable], f"environment {variable}"
    for name in ServeSettings.model_fields.keys() & options.keys():
        if options[name] is not None:
            values[name], origins[name] = options[name], f"--{name.replace('_', '-')}"
    try:
        settings = ServeSettings(**values)
    except ValidationError as error:
        raise _first_error(error, origins, values) from None
    _check_open(settings)
    return settings


def _check_open(settings: ServeSettings) -> None:
    if settings.allow_unauthenticated and not settings.open_to_anyone and not is_loopback(settings.host):
        raise ConfigError(
            f"without keys, everybody who reaches {settings.host}:{settings.port} could use the model and read all "
            "conversations",
            hint="Leave --allow-unauthenticated out, listen on 127.0.0.1, or add --open-to-anyone if that is meant.",
        )


def _from_file(file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the file's values, and the place of each by its path: ``conversations.max_turns``."""
    try:
        text = Path(os.path.expanduser(file)).read_text("utf-8")
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{file}{place}: this is not YAML: {getattr(error, 'problem', None) or error}") from error
    if values is None:
        return {}, {}
    if not isinstance(values, dict) or not all(isinstance(name, str) for name in values):
        raise ConfigError(f"{file} holds no settings", hint="A line looks so: model: Qwen/Qwen3-8B")
    return values, _places(tree, str(file))


def _places(node: Any, file: str, path: str = "") -> dict[str, str]:
    """Return the line of each key in a file; the same key twice is an error, since YAML would drop one in silence."""
    places: dict[str, str] = {}
    for key, value in node.value:
        name = f"{path}{key.value}"
        place = f"{file}, line {key.start_mark.line + 1}"
        if name in places:
            raise ConfigError(f"{place}: {name} is set above as well")
        places[name] = place
        if isinstance(value, yaml.MappingNode):
            places |= _places(value, file, f"{name}.")
    return places


def _first_error(error: ValidationError, origins: Mapping[str, str], values: Mapping[str, Any]) -> ConfigError:
    import difflib

    first = error.errors()[0]
    steps = [str(step) for step in first["loc"]]
    name = ".".join(steps)
    place = next((origins[path] for path in _prefixes(steps) if path in origins), "settings")
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        known = [*ServeSettings.model_fields, *TypeAdapter(ServedSettings).json_schema()["properties"]]
        nearest = difflib.get_close_matches(steps[-1], known, n=1)
        hint = f"Did you mean {nearest[0]}?" if nearest else "Options of vLLM's server stand below vllm:."
        return ConfigError(f"{place}: unknown setting {name!r}", hint=hint)
    return ConfigError(f"{place}: {name}: {first['msg'][:1].lower()}{first['msg'][1:]}")


def _prefixes(steps: Sequence[str]) -> list[str]:
    return [".".join(steps[:end]) for end in range(len(steps), 0, -1)]


def _words(value: Any) -> Any:
    return tuple(shlex.split(value)) if isinstance(value, str) else value


def _option(name: str, value: Any) -> list[str]:
    import json

    option = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [option if value else f"--no-{option[2:]}"]
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return [option, *map(str, value)]
    return [option, json.dumps(value) if isinstance(value, dict | list) else str(value)]
