"""Configuration file, environment, command line -> settings, and where each came from.

The command line holds against the environment, the environment against the file, the file against the defaults. A
setting is named alike everywhere: ``thinking_view`` in the file, ``VLLMDEPLOY_THINKING_VIEW`` in the environment.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from chat.environment import PREFIX, read_variable
from chatcore.errors import ConfigError

__all__ = ["Settings", "default_file", "load_settings"]

# In the environment under our prefix, but no settings: folders, and what a server tells its processes.
NOT_SETTINGS = {"RUNTIME_DIR", "LOG_DIR", "CONFIG", "GUARD", "SERVED"}
TRUE, FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
SECRET = re.compile(r"(^|_)(key|token|password|secret)$", re.IGNORECASE)  # fields whose values are not shown
DEFAULT_SYSTEM = "You are a helpful assistant."


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set, with the defaults.

    Attributes:
        model: ``demo``, a folder, or an id on ModelScope or Hugging Face.
        url: an OpenAI-compatible server to talk to instead of an engine of this machine.
        api_key_file: a file that holds the server's key.
        system: the system message; none if empty.
        sampling: fields of vLLM's ``SamplingParams``.
        enable_thinking: whether the model thinks before it answers; None leaves it to the model.
        thinking_view: how thinking is shown.
        language: of the program's own texts; empty: as the locale says.
        plain: no colours, no Markdown, no redrawing.
        store: a file or a database URL for conversations; empty: the user's data folder.
        keep_alive_s: how long an engine stays loaded after its last client; negative: for ever.
        engine: keyword arguments of :class:`vllm_wrapper.VLLMWrapper`.
        tools: sources of tools by name (:mod:`chatcore.tools.configured`).
        tool_approval: whether the person is asked before a tool is run.
        origins: where each setting comes from, by name.
    """

    model: str = "demo"
    url: str = ""
    api_key_file: str = ""
    system: str = DEFAULT_SYSTEM
    sampling: Mapping[str, Any] = field(default_factory=dict)
    enable_thinking: bool | None = None
    thinking_view: Literal["full", "collapsed", "hidden"] = "collapsed"
    language: Literal["", "en", "zh"] = ""
    plain: bool = False
    store: str = ""
    keep_alive_s: float = 300.0
    engine: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[str, Any] = field(default_factory=dict)
    tool_approval: Literal["ask", "auto"] = "ask"
    origins: Mapping[str, str] = field(default_factory=dict)

    def rows(self) -> list[tuple[str, str, str]]:
        """Return (name, value, where it comes from) for every setting; passwords and keys are left out."""
        return [(name, _shown(getattr(self, name)), self.origins.get(name, "default")) for name in sorted(_kinds())]


def default_file() -> Path:
    """Return the configuration file: what ``VLLMDEPLOY_CONFIG`` names, else the user's ``config.toml``."""
    if chosen := read_variable("VLLMDEPLOY_CONFIG"):
        return Path(os.path.expanduser(chosen))
    import platformdirs

    return platformdirs.user_config_path("vllm-deploy") / "config.toml"


def load_settings(
    options: Mapping[str, Any] | None = None,
    *,
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Put the settings together.

    Args:
        options: what the command line says; None means not said. ``sampling`` and ``engine`` are merged, not replaced.
        file: the configuration file; :func:`default_file` if left out. One that is not there is empty.
        environment: the process's own if left out.
    Raises:
        ConfigError: an unknown name, with the nearest one, or a value of a wrong kind, and where it stands.
    """
    file = file or default_file()
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    sources = [
        (str(file), _from_file(file)),
        ("environment", _from_environment(os.environ if environment is None else environment)),
        ("command line", {name: value for name, value in (options or {}).items() if value is not None}),
    ]
    for source_name, source in sources:
        for name, value in source.items():
            checked, origin = _check(name, value, source_name), source_name
            if isinstance(checked, Mapping):
                if not checked:
                    continue
                if name in values:
                    checked, origin = {**values[name], **checked}, f"{origins[name]}, {origin}"
            values[name], origins[name] = checked, origin
    return Settings(**values, origins=origins)


def _kinds() -> dict[str, Any]:
    """Return the type of each setting by its name."""
    kinds = get_type_hints(Settings)
    del kinds["origins"]
    return kinds


def _from_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text("utf-8-sig"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file} is not TOML: {error}", hint='A line looks so: model = "Qwen/Qwen3-0.6B"') from error
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, thousands of brackets
        raise ConfigError(f"{file} cannot be understood: {error}") from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for variable, text in environment.items():
        name = variable.removeprefix(PREFIX)
        if name != variable and name not in NOT_SETTINGS:
            found[name.lower()] = _parse(name.lower(), text)
    return found


def _parse(name: str, text: str) -> Any:
    """Return what a text in the environment stands for; :func:`_check` judges it."""
    kind = _kinds().get(name)
    if kind is None or kind is str or get_origin(kind) is Literal:
        return text
    if kind in (bool, bool | None) and text.lower() in TRUE | FALSE:
        return text.lower() in TRUE
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _check(name: str, value: Any, origin: str) -> Any:
    kinds = _kinds()
    if name not in kinds:
        nearest = difflib.get_close_matches(name, kinds, n=1)
        hint = f"Did you mean {nearest[0]}?" if nearest else f"Known: {', '.join(sorted(kinds))}."
        raise ConfigError(f"unknown setting {name!r} ({origin})", hint=hint)
    kind = kinds[name]
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            choices = ", ".join(repr(choice) for choice in get_args(kind))
            raise ConfigError(f"{name} is {value!r} ({origin}); it is one of {choices}")
        return value
    if kind is float:
        if not _is_number(value):
            raise ConfigError(f"{name} is {value!r} ({origin}); it is a {_kind_name(kind)}")
        return float(value)
    if get_origin(kind) is Mapping:
        if not isinstance(value, Mapping):  # not shown: it may hold a key
            raise ConfigError(f"{name} is not a table ({origin})", hint=f'It looks so: {name} = {{"temperature": 0.7}}')
        if name == "tools":
            _check_tools(value, origin)
        return value
    if not isinstance(value, kind):
        raise ConfigError(f"{name} is {value!r} ({origin}); it is a {_kind_name(kind)}")
    return value


def _check_tools(sources: Mapping[str, Any], origin: str) -> None:
    from chatcore.tools.configured import check_source

    for name, table in sources.items():
        try:
            check_source(name, table)
        except ConfigError as error:
            raise ConfigError(f"{error} ({origin})", hint=error.hint) from error


def _is_number(value: Any) -> bool:
    return abs(value) < 1 << 63 if type(value) is int else type(value) is float and not math.isnan(value)


def _kind_name(kind: Any) -> str:
    names = {str: "text", float: "number"}
    return names.get(kind, "switch: true or false")


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return json.dumps(_without_secrets(value), ensure_ascii=False)
    if isinstance(value, str) and "://" in value:
        scheme, rest = value.split("://", 1)
        address = rest.split("?", 1)[0]  # behind it there may be a password as well
        return f"{scheme}://…@{address.rsplit('@', 1)[1]}" if "@" in address else f"{scheme}://{address}"
    return str(value)


def _without_secrets(table: Mapping[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {}
    for name, value in table.items():
        if SECRET.search(name):
            shown[name] = "…"
        else:
            shown[name] = _without_secrets(value) if isinstance(value, Mapping) else value
    return shown
