"""A model's name -> a folder on this machine.

A name is ``demo`` (the embedded model), a folder, or a model's id on ModelScope or Hugging Face. Ids are looked up in
the caches of both hubs before anything is asked over the network, and downloaded through the hubs' own client
libraries, into the hubs' own cache layout, with their own progress bars. Loads no weights, runs no code of the model.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from errors import HubUnreachableError, ModelError, ModelLoadError, ModelNotFoundError
from model_memory import DOWNLOAD_AGAIN, read_tensor_header

__all__ = [
    "DEMO_MODEL",
    "DEMO_MODEL_DIR",
    "check_model_dir",
    "is_demo",
    "resolve_model",
]

DEMO_MODEL = "demo"
DEMO_MODEL_DIR = Path(__file__).resolve().parent / "demo_model" / "model"

DEFAULT_OWNER = "Qwen"  # a name without owner, such as Qwen3-0.6B, is Qwen's
MODEL_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
OTHER_WEIGHTS = ("*.bin", "*.pt")
NOT_NEEDED = ("*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*", "*.bin.index.json.bak")
TRUE_WORDS = {"1", "true", "yes", "on"}


def resolve_model(name: str | os.PathLike[str] = DEMO_MODEL, *, hub: str = "auto", revision: str | None = None) -> Path:
    """Return the folder that holds a model, downloading it if need be.

    Args:
        name: ``demo``, a folder, or an id such as ``Qwen/Qwen3-0.6B`` (``Qwen3-0.6B`` is the same).
        hub: ``huggingface``, ``modelscope``, or ``auto``: ModelScope first if ``VLLM_USE_MODELSCOPE`` says so, else
            Hugging Face first; the other one if the first does not answer.
        revision: a branch, tag or commit on the hub; the default branch if left out.
    Raises:
        ModelNotFoundError: there is no such folder and no such model.
        HubUnreachableError: the model is not on this machine and no hub answers.
        ModelLoadError: the folder lacks files that a model needs.

    >>> resolve_model("demo") == DEMO_MODEL_DIR
    True
    """
    text = os.fspath(name)
    if text == DEMO_MODEL:
        return check_model_dir(DEMO_MODEL_DIR)
    path = Path(text).expanduser()
    if path.is_dir():
        return check_model_dir(path)
    if path.exists():
        raise ModelNotFoundError(f"{text} is a file; a model is a folder", hint="Name the folder that holds the file.")
    if not MODEL_ID.fullmatch(text):
        raise ModelNotFoundError(f"there is no folder {text}")
    model_id = text if "/" in text else f"{DEFAULT_OWNER}/{text}"
    return check_model_dir(_from_hubs(model_id, _hub_order(hub), revision))


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
    _read_json(config_file)
    _check_weights(folder)
    tokenizers = ("tokenizer.json", "tokenizer.model", "qwen.tiktoken", "vocab.json", "tekken.json")
    if not any((folder / file).is_file() for file in tokenizers):
        raise ModelLoadError(f"{folder} has no tokenizer (none of {', '.join(tokenizers)})", hint=DOWNLOAD_AGAIN)
    return folder


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ModelLoadError(f"{file} cannot be read: {error}", hint=DOWNLOAD_AGAIN) from error
    if not isinstance(value, dict):
        raise ModelLoadError(f"{file} holds no JSON object", hint=DOWNLOAD_AGAIN)
    return value


def _check_weights(folder: Path) -> None:
    index_file = folder / "model.safetensors.index.json"
    if index_file.is_file():
        shards = sorted(set(_read_json(index_file).get("weight_map", {}).values()))
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


def _hub_order(hub: str) -> tuple[str, ...]:
    if hub in _HUBS:
        return (hub,)
    if hub != "auto":
        raise ModelError(f"unknown hub {hub!r}", hint=f"Use one of: auto, {', '.join(_HUBS)}.")
    if os.environ.get("VLLM_USE_MODELSCOPE", "").lower() in TRUE_WORDS:
        return ("modelscope", "huggingface")
    return ("huggingface", "modelscope")


def _from_hubs(model_id: str, hubs: Iterable[str], revision: str | None) -> Path:
    """Try the caches first, then the hubs; the first hub that has the model wins."""
    hubs = tuple(hubs)
    for hub in hubs:
        if folder := _HUBS[hub](model_id, revision, cached_only=True):
            return folder
    unreachable: list[str] = []
    for hub in hubs:
        try:
            if folder := _HUBS[hub](model_id, revision, cached_only=False):
                return folder
        except HubUnreachableError as error:
            unreachable.append(str(error))
    if unreachable:
        raise HubUnreachableError(f"{model_id} is not on this machine, and {'; '.join(unreachable)}")
    raise ModelNotFoundError(f"there is no model {model_id} on {' or '.join(hubs)}, and no folder of that name")


def _from_huggingface(model_id: str, revision: str | None, *, cached_only: bool) -> Path | None:
    """Return the folder of a model on Hugging Face, or None if it is not there."""
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return Path(
            snapshot_download(
                model_id, revision=revision, ignore_patterns=list(NOT_NEEDED), local_files_only=cached_only
            )
        )
    except GatedRepoError as error:
        raise ModelNotFoundError(
            f"{model_id} on Hugging Face wants its terms to be accepted first",
            hint="Accept them there and set HF_TOKEN.",
        ) from error
    except RevisionNotFoundError as error:
        raise ModelNotFoundError(f"{model_id} on Hugging Face has no revision {revision}") from error
    except RepositoryNotFoundError:
        return None
    except (LocalEntryNotFoundError, httpx.HTTPError, HfHubHTTPError, OSError) as error:
        if cached_only:
            return None
        raise HubUnreachableError(f"Hugging Face does not answer ({_cause(error)})") from error


def _from_modelscope(model_id: str, revision: str | None, *, cached_only: bool) -> Path | None:
    """Return the folder of a model on ModelScope, or None if it is not there."""
    from modelscope.hub.snapshot_download import snapshot_download
    from modelscope_hub.errors import HubError, NotExistError

    try:
        return Path(
            snapshot_download(
                model_id, revision=revision, ignore_patterns=list(NOT_NEEDED), local_files_only=cached_only
            )
        )
    except NotExistError as error:
        if revision is not None and not cached_only:
            raise ModelNotFoundError(f"{model_id} on ModelScope has no revision {revision}, or is not there") from error
        return None
    except (HubError, ValueError, OSError) as error:
        if cached_only:
            return None
        raise HubUnreachableError(f"ModelScope does not answer ({_cause(error)})") from error


_HUBS = {"huggingface": _from_huggingface, "modelscope": _from_modelscope}


def _cause(error: BaseException) -> str:
    """Return the innermost reason of a chain of errors, in one short line."""
    while error.__cause__ or error.__context__:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return (str(error) or type(error).__name__).splitlines()[0][:120]
