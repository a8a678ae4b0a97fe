"""stack.yaml -> what is to run; whatever is wrong with the file is told with its line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from chat.stack.presets import PRESETS, Kind, Preset
from chatcore.errors import ConfigError

__all__ = ["LLMDescription", "ServiceDescription", "StackDescription", "WebDescription", "read_description"]

Place = tuple[str | int, ...]  # where a value stands in the file, such as ("llm", "gpus", 0)
SERVICES: tuple[Kind, ...] = ("llm", "embedding", "rerank")
OPTION = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
# Options of vLLM's server that have a key of their own, or are the stack's business.
TAKEN_OPTIONS = {
    "api-key": "api_key_file",
    "data-parallel-size": "data_parallel_size",
    "gpu-memory-utilization": "gpu_memory_utilization",
    "host": "host",
    "max-model-len": "max_model_len",
    "model": "model",
    "port": "port",
    "served-model-name": "name",
    "tensor-parallel-size": "gpus",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ServiceDescription(_Strict):
    """One model behind vLLM's server.

    Attributes:
        preset: a name of :data:`chat.stack.presets.PRESETS`: the model, and what vLLM must be told about it.
        model: ``demo``, a folder, or an id on ModelScope or Hugging Face; holds against the preset's.
        name: under which clients ask for it; ``model`` if left out.
        port: on 127.0.0.1; if left out, the next one behind the stack's own.
        gpus: numbers of the GPUs that it may use; replicas share them out evenly. Empty: no GPU.
        gpu_memory_utilization: the part of each GPU's memory, 0 to 1.
        max_model_len: the window, in tokens.
        arguments: further options of vLLM's server, such as ``max-num-seqs: 64``; true is a bare switch.
        environment: variables for this service's processes alone.
    """

    preset: str = ""
    model: str = ""
    name: str = ""
    port: int | None = Field(default=None, ge=1, le=65535)
    gpus: list[int] = []
    gpu_memory_utilization: float | None = Field(default=None, gt=0, le=1)
    max_model_len: int | None = Field(default=None, ge=1)
    arguments: dict[str, Any] = {}
    environment: dict[str, str] = {}

    @field_validator("arguments")
    @classmethod
    def _check_arguments(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        for name in arguments:
            if not OPTION.fullmatch(name):
                raise ValueError(f"{name!r} is no option; write it without dashes, such as max-num-seqs")
            if key := TAKEN_OPTIONS.get(name.replace("_", "-")):
                raise ValueError(f"{name} is set by the key {key} of the stack")
        return arguments


class LLMDescription(ServiceDescription):
    """The language model.

    Attributes:
        replicas: servers with the same model; each conversation stays with one of them.
        data_parallel_size: engines inside one server, each on GPUs of its own.
    """

    replicas: int = Field(default=1, ge=1, le=64)
    data_parallel_size: int = Field(default=1, ge=1, le=64)


class WebDescription(_Strict):
    """The web page.

    Attributes:
        port: on 127.0.0.1; if left out, the next one behind the stack's own.
    """

    port: int | None = Field(default=None, ge=1, le=65535)


class StackDescription(_Strict):
    """What ``stack.yaml`` says.

    Attributes:
        host, port: the one address in front.
        api_key_file: keys, one ``owner: key`` a line; if left out, the file that ``serve`` makes as well.
        store: a file or a database URL for conversations; the user's data folder if left out.
        start_timeout_s: how long a service may take to start, its download included, in seconds.
        llm, embedding, rerank, web: the services; at least one model.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=1, le=65535)
    api_key_file: str = ""
    store: str = ""
    start_timeout_s: float = Field(default=1800.0, gt=0, strict=False)
    llm: LLMDescription | None = None
    embedding: ServiceDescription | None = None
    rerank: ServiceDescription | None = None
    web: WebDescription | None = None

    def services(self) -> Iterator[tuple[Kind, ServiceDescription]]:
        """Yield the models' services in the order in which they start."""
        for kind in SERVICES:
            if (service := getattr(self, kind)) is not None:
                yield kind, service


def read_description(file: Path) -> StackDescription:
    """Read and check a stack's file; paths in it are relative to its folder.

    Raises:
        ConfigError: the first thing that is wrong with it, with its line.
    """
    text = _read(file)
    try:
        node = yaml.compose(text)
        values = yaml.safe_load(text)
        _refuse_duplicates(node, file)
    except ConfigError:
        raise
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{file}, line {line}: {error.problem}", hint="A line looks so: port: 8000") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{file} is no YAML: {str(error).splitlines()[0]}") from error
    except (ValueError, RecursionError) as error:  # a thirteenth month, thousands of brackets
        raise ConfigError(f"{file} cannot be understood: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{file} names no service", hint="The shortest stack has two lines: llm: and, indented, model: demo"
        )
    values = {name: {} if value is None and name in (*SERVICES, "web") else value for name, value in values.items()}
    try:
        description = StackDescription.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _invalid(first, node, file) from error
    for place, problem, hint in _contradictions(description):
        raise ConfigError(f"{file}, line {_line_of(node, place)}: {problem}", hint=hint)
    return _beside(description, file.resolve().parent)


def _beside(description: StackDescription, folder: Path) -> StackDescription:
    """Return the description with whole paths: the services run in another folder."""
    paths = {"api_key_file": description.api_key_file}
    if "://" not in description.store:
        paths["store"] = description.store
    return description.model_copy(
        update={name: str(folder / Path(path).expanduser()) for name, path in paths.items() if path}
    )


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8-sig")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no file {file}", hint="Name the stack's file: -f FILE.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from error


def _refuse_duplicates(node: yaml.Node | None, file: Path) -> None:
    """A name that stands twice would silently hold only its last value."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for name, value in node.value:
            if name.value in seen:
                raise ConfigError(f"{file}, line {name.start_mark.line + 1}: {name.value} stands here a second time")
            seen.add(name.value)
            _refuse_duplicates(value, file)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _refuse_duplicates(value, file)


def _line_of(node: yaml.Node | None, place: Place) -> int:
    """Return the line of a value, or of the nearest thing around it that is in the file; counted from 1."""
    line = 1
    for step in place:
        if isinstance(node, yaml.MappingNode):
            found = next(((name, value) for name, value in node.value if name.value == step), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(step, int) and step < len(node.value):
            node = node.value[step]
            line = node.start_mark.line + 1
        else:
            return line
    return line


def _invalid(problem: Any, node: yaml.Node | None, file: Path) -> ConfigError:
    """Return pydantic's finding in the words of this program."""
    place: Place = problem["loc"]
    name = ".".join(str(step) for step in place)
    where = f"{file}, line {_line_of(node, place)}"
    if problem["type"] == "extra_forbidden":
        known = _known_keys(place[:-1])
        nearest = difflib.get_close_matches(str(place[-1]), known, n=1)
        hint = f"Did you mean {nearest[0]}?" if nearest else f"Known: {', '.join(known)}."
        return ConfigError(f"{where}: unknown key {name}", hint=hint)
    said = str(problem["msg"]).removeprefix("Value error, ").removeprefix("Input ")
    met = "" if problem["type"] == "value_error" else f" is {problem['input']!r}; it"
    return ConfigError(f"{where}: {name}{met or ':'} {said}")


def _known_keys(place: Place) -> list[str]:
    models: dict[Place, type[BaseModel]] = {
        (): StackDescription,
        ("llm",): LLMDescription,
        ("web",): WebDescription,
    }
    return list(models.get(place, ServiceDescription).model_fields)


def _contradictions(description: StackDescription) -> Iterator[tuple[Place, str, str]]:
    """Yield what each value alone does not show: (where, what, what to do)."""
    services = dict(description.services())
    if not services:
        yield (), "there is no service", f"Name at least one of: {', '.join(SERVICES)}."
    if description.web and not description.llm:
        yield ("web",), "the web page needs a language model", "Add llm:."
    for kind, service in services.items():
        yield from _of_preset(kind, service)
        yield from _of_gpus(kind, service)
    names = {service.name or service.model or service.preset: kind for kind, service in services.items()}
    if len(names) < len(services):
        yield (list(services)[-1], "name"), "two services have the same name", "Clients tell models apart by name."


def _of_preset(kind: Kind, service: ServiceDescription) -> Iterator[tuple[Place, str, str]]:
    fitting = [name for name, preset in PRESETS.items() if preset.kind == kind]
    preset: Preset | None = PRESETS.get(service.preset)
    if service.preset and preset is None:
        yield (kind, "preset"), f"there is no preset {service.preset!r}", f"For {kind}: {', '.join(fitting)}."
    elif preset is not None and preset.kind != kind:
        yield (kind, "preset"), f"{service.preset} is a preset for {preset.kind}", f"For {kind}: {', '.join(fitting)}."
    elif not service.preset and not service.model:
        yield (kind,), f"{kind} names neither a model nor a preset", f"Presets: {', '.join(fitting)}."


def _of_gpus(kind: Kind, service: ServiceDescription) -> Iterator[tuple[Place, str, str]]:
    servers = service.replicas if isinstance(service, LLMDescription) else 1
    engines = servers * (service.data_parallel_size if isinstance(service, LLMDescription) else 1)
    if len(set(service.gpus)) < len(service.gpus):
        yield (kind, "gpus"), "a GPU is named twice", ""
    if service.gpus and len(service.gpus) % engines:
        hint = "Each engine gets the same number of GPUs."
        yield (kind, "gpus"), f"{len(service.gpus)} GPUs cannot be shared out among {engines} engines", hint
