"""LoRA adapters: small weights that change what a model says, kept beside it and chosen by name for each answer.

An adapter is a folder as the peft library writes it: ``adapter_config.json`` and ``adapter_model.safetensors``. It is
read and compared with its model before the engine sees it. The engine loads it and runs answers with and without it,
or with another one, in the same batch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chatcore.errors import EngineError, ModelLoadError, SamplingError, first_line
from chatcore.json_files import read_object
from chatcore.models.memory import read_tensor_header

__all__ = ["LoadedAdapters", "LoraAdapter", "engine_arguments", "read_adapter"]

CONFIG_FILE, WEIGHTS_FILE = "adapter_config.json", "adapter_model.safetensors"
MAX_IN_ONE_BATCH = 8  # adapters that one step may use, unless engine_args says otherwise; each takes memory
MIN_KEPT = 8  # adapters that main memory holds; of more, the one that was not used for longest is read anew
ENGINE_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)  # what vLLM's max_lora_rank may be
DEFAULT_RANK = 16  # vLLM's own
NAME_PREFIX = "base_model.model."  # peft puts it before the names of the model's own modules


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    """An adapter on this machine. ``rank`` is the larger dimension that its matrices share."""

    name: str
    folder: Path
    rank: int

    @property
    def engine_rank(self) -> int:
        """The smallest ``max_lora_rank`` of vLLM's that holds it."""
        return next(allowed for allowed in ENGINE_RANKS if allowed >= self.rank)


class LoadedAdapters:
    """The adapters that an engine holds.

    Args:
        call: runs a function with the engine in the engine's thread (:meth:`chatcore.engine.thread.EngineThread.call`).
        model_dir: the engine's model.
    """

    def __init__(self, call: Callable[[Callable[[Any], Any]], Any], model_dir: Path) -> None:
        self._call = call
        self._model_dir = model_dir
        self._requests: dict[str, Any] = {}  # vLLM's LoRARequest of each, by name

    @property
    def names(self) -> list[str]:
        return list(self._requests)

    def request(self, name: str | None) -> Any:
        """Return what an answer with this adapter hands to the engine; None for the model alone.

        Raises:
            SamplingError: there is no such adapter.
        """
        if name is None:
            return None
        if name not in self._requests:
            raise SamplingError(
                f"there is no LoRA adapter {name!r}; there are: {', '.join(self.names) or 'none'}",
                hint="Name its folder when you load the model, lora_adapters={name: folder}, or with add_lora().",
            )
        return self._requests[name]

    def add(self, name: str, folder: str | os.PathLike[str]) -> None:
        """Read an adapter and load it.

        Raises:
            ModelLoadError: it cannot be read, does not fit the model, or the engine has no place for it.
        """
        if name in self._requests:
            raise ModelLoadError(f"there is a LoRA adapter {name} already", hint="Choose another name.")
        config = self._call(lambda engine: engine.vllm_config.lora_config)
        if config is None:
            raise ModelLoadError(
                "the engine was not made for LoRA adapters",
                hint="Load the model with lora_adapters={}, or with the adapters themselves.",
            )
        adapter = read_adapter(name, folder, self._model_dir)
        if adapter.rank > config.max_lora_rank:
            raise ModelLoadError(
                f"the LoRA adapter {name} has rank {adapter.rank}; the engine takes up to {config.max_lora_rank}",
                hint=f"Load the model with engine_args={{'max_lora_rank': {adapter.engine_rank}}}.",
            )
        self.load(adapter)

    def load(self, adapter: LoraAdapter) -> None:
        """Load an adapter now: in the middle of a step, a damaged one would end everybody's answer."""
        from chatcore.engine.vllm_api import LoRARequest, current_platform

        if current_platform.is_cpu():
            places = self._call(lambda engine: engine.vllm_config.lora_config.max_loras) - 1  # one must stay empty:
            if len(self._requests) >= places:  # see loading.cpu_arguments
                raise ModelLoadError(
                    f"the engine holds {places} LoRA adapters; on CPU it takes no more",
                    hint=f"Load the model with engine_args={{'max_loras': {2 * places}}}.",
                )
        request = LoRARequest(adapter.name, len(self._requests) + 1, str(adapter.folder))
        try:
            self._call(lambda engine: engine.add_lora(request))
        except EngineError:
            raise
        except Exception as error:
            raise ModelLoadError(f"vLLM cannot load the LoRA adapter {adapter.name}: {first_line(error)}") from error
        self._requests[adapter.name] = request


def read_adapter(name: str, folder: str | os.PathLike[str], model_dir: str | os.PathLike[str]) -> LoraAdapter:
    """Read an adapter's configuration and the shapes of its weights; loads none of them.

    Args:
        name: under which answers ask for it.
        folder: as the peft library writes it.
        model_dir: the model that it is for.
    Raises:
        ModelLoadError: a file is missing or damaged, the engine does not know this kind of adapter, or it was made for
            another model.
    """
    if not name:
        raise ModelLoadError("a LoRA adapter needs a name")
    path = Path(os.path.expanduser(folder))
    config = _read_config(path)
    if config.get("peft_type", "LORA") != "LORA":
        raise ModelLoadError(f"{path} is a {config['peft_type']} adapter; only LoRA adapters can be used")
    rank = config.get("r")
    if not isinstance(rank, int) or rank < 1:
        raise ModelLoadError(f"{path / CONFIG_FILE} names no rank: r is {rank!r}")
    rank = max([rank, *(config.get("rank_pattern") or {}).values()])
    if rank > ENGINE_RANKS[-1]:
        raise ModelLoadError(f"{path} has rank {rank}; vLLM runs up to {ENGINE_RANKS[-1]}")
    shapes = _shapes([path / WEIGHTS_FILE])
    base = _shapes(sorted(Path(model_dir).glob("*.safetensors")))
    if problem := _misfit(shapes, base):
        made_for = config.get("base_model_name_or_path")
        raise ModelLoadError(
            f"the LoRA adapter {name} does not fit {model_dir}: {problem}",
            hint=f"It was made for {made_for}: load that model." if made_for else "Load the model it was made for.",
        )
    return LoraAdapter(name, path.resolve(), rank)


def engine_arguments(adapters: Iterable[LoraAdapter]) -> dict[str, Any]:
    """Return the arguments of ``vllm.LLM`` with which these adapters, and more of their rank, can be used.

    >>> engine_arguments([LoraAdapter("pirate", Path("pirate"), 12)])
    {'enable_lora': True, 'max_lora_rank': 16, 'max_loras': 1, 'max_cpu_loras': 8}
    """
    adapters = list(adapters)
    return {
        "enable_lora": True,
        "max_lora_rank": max((adapter.engine_rank for adapter in adapters), default=DEFAULT_RANK),
        "max_loras": min(max(len(adapters), 1), MAX_IN_ONE_BATCH),
        "max_cpu_loras": max(len(adapters), MIN_KEPT),
    }


def _read_config(folder: Path) -> dict[str, Any]:
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise ModelLoadError(
                f"{folder} is no LoRA adapter: it has no {file}",
                hint=f"An adapter holds {CONFIG_FILE} and its weights.",
            )
    return read_object(folder / CONFIG_FILE)


def _shapes(files: Iterable[Path]) -> dict[str, list[int]]:
    """Return the shape of each tensor in safetensors files, by name; reads their headers only."""
    return {name: entry["shape"] for file in files for name, entry in read_tensor_header(file)[0].items()}


def _misfit(adapter: Mapping[str, list[int]], base: Mapping[str, list[int]]) -> str:
    """Tell why an adapter's matrices do not fit a model's; empty if they do, or if names do not tell.

    A matrix of n rows and m columns gets an A of m columns and a B of n rows. Quantized and renamed modules have no
    matrix to compare with; vLLM judges those.
    """
    if not adapter:
        return "it holds no weights"
    modules = {name.removesuffix(".weight") for name in base}
    known = [name for name in adapter if _module_of(name) in modules]
    for name, shape in adapter.items():
        weight = base.get(f"{_module_of(name)}.weight")
        if weight is None and known and _module_of(name) not in modules:
            return f"the model has no {_module_of(name)}"
        if weight is None or len(weight) != 2 or len(shape) != 2:
            continue
        rows, columns = weight
        if ".lora_A." in name and shape[1] != columns:
            return f"{_module_of(name)} reads {columns} values, and the adapter {shape[1]}"
        if ".lora_B." in name and shape[0] != rows:
            return f"{_module_of(name)} gives {rows} values, and the adapter {shape[0]}"
    return ""


def _module_of(tensor_name: str) -> str:
    """Return the name of the model's module that an adapter's tensor belongs to.

    >>> _module_of("base_model.model.model.layers.0.mlp.up_proj.lora_A.weight")
    'model.layers.0.mlp.up_proj'
    """
    return tensor_name.removeprefix(NAME_PREFIX).partition(".lora_")[0]
