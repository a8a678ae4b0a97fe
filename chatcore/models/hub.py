"""A model's name -> a folder on this machine.

A name is ``demo`` (the embedded model), a folder, or a model's id on ModelScope or Hugging Face. Ids are looked up in
the caches of both hubs before anything is asked over the network, and downloaded through the hubs' own client
libraries, into the hubs' own cache layout (:mod:`chatcore.models.hub_clients`). Loads no weights, runs no code of the
model.
"""

from __future__ import annotations

import difflib
import os
import queue
import re
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from chatcore.errors import ChatError, HubUnreachableError, ModelError, ModelLoadError, ModelNotFoundError
from chatcore.json_files import read_object
from chatcore.models.hub_clients import HUBS, OTHER_WEIGHTS, CachedModel, Hub, HubFile, Progress, needed_files
from chatcore.models.memory import DOWNLOAD_AGAIN, read_tensor_header

__all__ = [
    "DEMO_MODEL",
    "DEMO_MODEL_DIR",
    "Download",
    "check_model_dir",
    "download_model",
    "fetch_description",
    "find_cached",
    "find_local",
    "full_model_id",
    "is_demo",
    "list_cached_models",
    "resolve_model",
]

DEMO_MODEL = "demo"
DEMO_MODEL_DIR = Path(__file__).resolve().parent / "demo"

DEFAULT_OWNER = "Qwen"  # a name without owner, such as Qwen3-0.6B, is Qwen's
MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
TRUE_WORDS = {"1", "true", "yes", "on"}


def resolve_model(name: str | os.PathLike[str] = DEMO_MODEL, *, hub: str = "auto", revision: str | None = None) -> Path:
    """Return the folder that holds a model, downloading it if need be.

    Args:
        name: ``demo``, a folder, or an id such as ``Qwen/Qwen3-0.6B`` (``Qwen3-0.6B`` is the same).
        hub: ``huggingface``, ``modelscope``, or ``auto``: the one that ``VLLM_USE_MODELSCOPE`` asks for, else the one
            that answers sooner; the other one if that one does not have the model.
        revision: a branch, tag or commit on the hub; the default branch if left out.
    Raises:
        ModelNotFoundError: there is no such folder and no such model.
        HubUnreachableError: the model is not on this machine and no hub answers.
        ModelLoadError: the folder lacks files that a model needs.

    >>> resolve_model("demo") == DEMO_MODEL_DIR
    True
    """
    text = os.fspath(name)
    if folder := find_local(text):
        return folder
    return find_cached(text, hub=hub, revision=revision) or download_model(text, hub=hub, revision=revision).folder


def find_local(name: str) -> Path | None:
    """Return the folder that a name stands for without any hub: the embedded model's, or one of this machine.

    Raises:
        ModelNotFoundError: it is a file.
        ModelLoadError: the folder lacks files that a model needs.
    """
    if name == DEMO_MODEL:
        return check_model_dir(DEMO_MODEL_DIR)
    path = Path(os.path.expanduser(name))
    if path.is_dir():
        return check_model_dir(path)
    if path.exists():
        raise ModelNotFoundError(f"{name} is a file; a model is a folder", hint="Name the folder that holds the file.")
    return None


def full_model_id(name: str) -> str:
    """Return a model's id with its owner; a name without one is Qwen's.

    >>> full_model_id("Qwen3-0.6B")
    'Qwen/Qwen3-0.6B'

    Raises:
        ModelNotFoundError: no model can have this name.
    """
    if not MODEL_ID.fullmatch(name):
        raise ModelNotFoundError(f"there is no folder {name}")
    return name if "/" in name else f"{DEFAULT_OWNER}/{name}"


def find_cached(name: str, *, hub: str = "auto", revision: str | None = None) -> Path | None:
    """Return the folder of a model that is on this machine, complete; asks no hub."""
    model_id = full_model_id(name)
    for client in _hubs(hub):
        if folder := client.cached(model_id, revision):
            try:
                return check_model_dir(folder)
            except ModelLoadError:  # only parts of it were fetched, perhaps by another program
                continue
    return None


def list_cached_models() -> list[CachedModel]:
    """Return the models in the caches of both hubs, the one that was used last first."""
    models = [model for client in HUBS.values() for model in client.cached_models()]
    return sorted(models, key=lambda model: -model.used_at_utc)


@dataclass(frozen=True, slots=True)
class Download:
    """A model that has come from a hub. ``num_bytes``: of the files that an engine needs."""

    model_id: str
    hub: str
    folder: Path
    num_bytes: int


def download_model(
    name: str, *, hub: str = "auto", revision: str | None = None, progress: Progress | None = None
) -> Download:
    """Bring a model into a hub's cache: what is there stays, what was cut off goes on, sums are checked.

    Args:
        progress: told how much is wanted and how much has come; the libraries show bars of their own if left out.
    Raises:
        ModelNotFoundError: no hub has it; names the nearest that there are.
        HubUnreachableError: no hub answers; names the models that are on this machine.
        ModelLoadError: a file was damaged on its way, or the model lacks files that an engine needs.
        ModelError: the disk is too small.
    """
    model_id = full_model_id(name)
    client, files = _find(model_id, _hubs(hub), revision)
    wanted = needed_files(files)
    folder = check_model_dir(client.fetch(model_id, revision, wanted, progress))
    return Download(model_id, client.title, folder, sum(file.num_bytes for file in wanted))


def fetch_description(name: str, folder: Path, *, hub: str = "auto", revision: str | None = None) -> tuple[str, int]:
    """Fetch what describes a model, its config.json, into a folder of the caller's.

    Returns:
        The title of the hub that has it, and the size of its weights in bytes.
    Raises:
        As :func:`download_model`.
    """
    model_id = full_model_id(name)
    client, files = _find(model_id, _hubs(hub), revision)
    wanted = needed_files(files)
    if not any(file.path == "config.json" for file in wanted):
        raise ModelLoadError(f"{model_id} on {client.title} has no config.json", hint="vLLM cannot load such a model.")
    client.fetch_file(model_id, revision, "config.json", folder)
    weights = sum(file.num_bytes for file in wanted if file.path.endswith((".safetensors", ".bin", ".pt")))
    return client.title, weights


def is_demo(model_dir: str | os.PathLike[str]) -> bool:
    """Tell whether a folder is the embedded demo model's."""
    return Path(model_dir).resolve() == DEMO_MODEL_DIR


def check_model_dir(model_dir: str | os.PathLike[str]) -> Path:
    """Return the folder if it holds what an engine needs: a configuration, complete weights, a tokenizer.

    Cheap: reads headers only. A truncated weights file is found by the length that its own header claims.

    Raises:
        ModelLoadError: names the first file that is missing or damaged.
    """
    folder = Path(model_dir)
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ModelLoadError(
            f"{folder} is not a model folder: it has no config.json",
            hint="Name the folder that holds config.json, the weights and the tokenizer.",
        )
    read_object(config_file, hint=DOWNLOAD_AGAIN)
    _check_weights(folder)
    tokenizers = ("tokenizer.json", "tokenizer.model", "qwen.tiktoken", "vocab.json", "tekken.json")
    if not any((folder / file).is_file() for file in tokenizers):
        raise ModelLoadError(f"{folder} has no tokenizer (none of {', '.join(tokenizers)})", hint=DOWNLOAD_AGAIN)
    return folder


def _check_weights(folder: Path) -> None:
    index_file = folder / "model.safetensors.index.json"
    if index_file.is_file():
        shards = sorted(set(read_object(index_file, hint=DOWNLOAD_AGAIN).get("weight_map", {}).values()))
        missing = [shard for shard in shards if not (folder / shard).is_file()]
        if missing:
            raise ModelLoadError(
                f"{folder} lacks {len(missing)} of {len(shards)} weights files, first {missing[0]}",
                hint=DOWNLOAD_AGAIN,
            )
    safetensors = sorted(folder.glob("*.safetensors"))
    if not safetensors and not any(next(folder.glob(pattern), None) for pattern in OTHER_WEIGHTS):
        raise ModelLoadError(f"{folder} has no weights (no *.safetensors)", hint=DOWNLOAD_AGAIN)
    for file in safetensors:
        _check_safetensors(file)


def _check_safetensors(file: Path) -> None:
    """Compare a file's length with what its header says."""
    _, expected = read_tensor_header(file)
    size = file.stat().st_size
    if size < expected:
        raise ModelLoadError(f"{file} is cut off: {size} of {expected} bytes", hint=DOWNLOAD_AGAIN)


# -- which hub has it -----------------------------------------------------------------------------------------------


def _hubs(hub: str) -> list[Hub]:
    """Return the hubs to be asked, in order."""
    if hub in HUBS:
        return [HUBS[hub]]
    if hub != "auto":
        raise ModelError(f"unknown hub {hub!r}", hint=f"Use one of: auto, {', '.join(HUBS)}.")
    names = ["huggingface", "modelscope"]
    if _prefers_modelscope():
        names.reverse()
    return [HUBS[name] for name in names]


def _prefers_modelscope() -> bool | None:
    """Return what the setting says; ``None`` if there is none."""
    setting = os.environ.get("VLLM_USE_MODELSCOPE")
    return None if setting is None else setting.lower() in TRUE_WORDS


def _find(model_id: str, hubs: Sequence[Hub], revision: str | None) -> tuple[Hub, list[HubFile]]:
    """Return a hub that has the model, and its files: the first in order if a setting gives one, else the fastest."""
    at_once = len(hubs) > 1 and _prefers_modelscope() is None
    troubles: list[ChatError] = []
    for client, answer in _answers_at_once(model_id, hubs, revision) if at_once else _answers(model_id, hubs, revision):
        if isinstance(answer, ChatError):
            troubles.append(answer)
        elif answer is not None:
            return client, answer
    refused = next((trouble for trouble in troubles if not isinstance(trouble, HubUnreachableError)), None)
    if refused:
        raise refused
    if troubles:
        there = ", ".join(sorted({model.model_id for model in list_cached_models()}))
        raise HubUnreachableError(
            f"{model_id} is not on this machine, and {'; '.join(map(str, troubles))}",
            hint=f"{HubUnreachableError.hint} On this machine: {there or 'no other model'}.",
        )
    nearest = _nearest_names(model_id, hubs)
    titles = " or ".join(client.title for client in hubs)
    raise ModelNotFoundError(
        f"there is no model {model_id} on {titles}, and no folder of that name",
        hint=f"Did you mean {' or '.join(nearest)}?" if nearest else None,
    )


_Answer = list[HubFile] | ChatError | None


def _ask(client: Hub, model_id: str, revision: str | None) -> _Answer:
    try:
        return client.files(model_id, revision)
    except ChatError as error:
        return error


def _answers(model_id: str, hubs: Sequence[Hub], revision: str | None) -> Iterator[tuple[Hub, _Answer]]:
    """Yield what each hub says, one after the other."""
    for client in hubs:
        yield client, _ask(client, model_id, revision)


def _answers_at_once(model_id: str, hubs: Sequence[Hub], revision: str | None) -> Iterator[tuple[Hub, _Answer]]:
    """Yield what each hub says, the fastest first; nobody waits for the slower one."""
    answers: queue.SimpleQueue[tuple[Hub, _Answer]] = queue.SimpleQueue()

    def ask(client: Hub) -> None:
        answer: _Answer = HubUnreachableError(f"{client.title} could not be asked")
        try:
            answer = _ask(client, model_id, revision)
        finally:  # whatever happens: somebody waits for it
            answers.put((client, answer))

    for client in hubs:
        threading.Thread(target=ask, args=(client,), daemon=True).start()
    for _ in hubs:
        yield answers.get()


def _nearest_names(model_id: str, hubs: Sequence[Hub]) -> list[str]:
    """Return the ids most like this one: of the same owner, with the same first word, or on this machine."""
    owner, _, name = model_id.partition("/")
    known = {model.model_id for model in list_cached_models()}
    for client in hubs:
        for question in ({"owner": owner}, {"words": re.split(r"[-_]", name)[0]}):
            try:
                known.update(client.names(**question))
            except ChatError:  # a hint that cannot be given is no trouble of its own
                break
    by_lower = {known_id.lower(): known_id for known_id in sorted(known)}
    near = difflib.get_close_matches(model_id.lower(), by_lower, n=3, cutoff=0.6)
    return [by_lower[lower] for lower in near]
