"""ModelScope and Hugging Face, each through its own client library: what a model consists of, and how to fetch it.

Both are used in the same way, through :class:`Hub`. Files land in the hub's own cache, in its own layout, so that other
programs find them; what was cut off is taken up where it stopped. Tokens (``HF_TOKEN``, ``MODELSCOPE_API_TOKEN``) and
mirrors (``HF_ENDPOINT``, ``MODELSCOPE_ENDPOINT``) are read by the libraries themselves, and shown nowhere.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import logging
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from chatcore.errors import HubUnreachableError, ModelError, ModelLoadError, ModelNotFoundError

__all__ = ["HUBS", "OTHER_WEIGHTS", "CachedModel", "Hub", "HubFile", "Progress", "needed_files"]

NOT_NEEDED = ("*.pth", "*.gguf", "*.onnx", "*.h5", "*.msgpack", "original/*", "consolidated*", "*.bin.index.json.bak")
OTHER_WEIGHTS = ("*.bin", "*.pt")  # not needed either where the same weights are there as safetensors
SPARE_BYTES = 256 << 20  # 256 MiB of disk that a download leaves free
MAX_NAMES = 500  # that a hub is asked for when a name is wrong
LOCAL_FILES = (".msc", ".mv", ".mdl", "._____temp")  # that ModelScope keeps in a folder for itself


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of a model on a hub. ``sha256``: of a large file; ``git_sha1``: of a small one; empty if not told."""

    path: str
    num_bytes: int
    sha256: str = ""
    git_sha1: str = ""


@dataclass(frozen=True, slots=True)
class CachedModel:
    """A model in a hub's cache on this machine. ``used_at_utc``: seconds since 1970, 0 if nobody knows."""

    model_id: str
    hub: str
    folder: Path
    num_bytes: int
    used_at_utc: float


class Progress(Protocol):
    """What is told while files arrive."""

    def begin(self, num_bytes: int, num_bytes_there: int) -> None:
        """So many bytes are wanted, and so many of them are there already."""

    def advance(self, num_bytes: int) -> None:
        """So many bytes have come; negative where a piece has to be fetched again."""

    def checking(self, path: str) -> None:
        """All have come; the sum of this file is being checked."""


class Hub(Protocol):
    """A model hub. A model that is not there is ``None``; a hub that does not answer is a ``HubUnreachableError``."""

    name: str
    title: str

    def cached(self, model_id: str, revision: str | None) -> Path | None:
        """Return the model's folder in the cache, if all is there that an engine needs."""

    def files(self, model_id: str, revision: str | None) -> list[HubFile] | None:
        """Return the model's files as the hub lists them."""

    def fetch(self, model_id: str, revision: str | None, files: Sequence[HubFile], progress: Progress | None) -> Path:
        """Bring these files into the cache, check their sums, and return the model's folder."""

    def fetch_file(self, model_id: str, revision: str | None, path: str, folder: Path) -> Path:
        """Bring one small file into a folder outside the cache."""

    def names(self, *, owner: str = "", words: str = "") -> list[str]:
        """Return ids of models of an owner, or that hold these words."""

    def cached_models(self) -> list[CachedModel]:
        """Return the models in the cache."""


def needed_files(files: Iterable[HubFile]) -> list[HubFile]:
    """Return the files that an engine needs: not the same weights a second time in another format.

    >>> [file.path for file in needed_files([HubFile("a.safetensors", 9), HubFile("a.bin", 9), HubFile("a.gguf", 9)])]
    ['a.safetensors']
    """
    wanted = [file for file in files if not _matches(file.path, NOT_NEEDED)]
    if any(file.path.endswith(".safetensors") for file in wanted):
        wanted = [file for file in wanted if not _matches(file.path, OTHER_WEIGHTS)]
    return wanted


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch.fnmatch(path, pattern) for pattern in patterns)


class HuggingFace:
    """Hugging Face, by huggingface_hub: ``models--OWNER--NAME/snapshots/COMMIT`` in ``HF_HUB_CACHE``."""

    name = "huggingface"
    title = "Hugging Face"

    def cached(self, model_id: str, revision: str | None) -> Path | None:
        """Return the snapshot in the cache; the library keeps the list of what belongs to it."""
        from huggingface_hub import get_cached_repo_tree
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        folder = self._snapshot(model_id, revision)
        if folder is None:
            return None
        try:
            tree = get_cached_repo_tree(model_id, revision=revision)
        except CachedRepoTreeNotFoundError:  # fetched by an older version, or file by file
            return folder
        listed = [HubFile(file.path, file.size) for file in tree]
        return folder if all(_is_there(folder, file) for file in needed_files(listed)) else None

    def _snapshot(self, model_id: str, revision: str | None) -> Path | None:
        """Return the snapshot in the cache, which may be incomplete."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import IncompleteSnapshotError

        try:
            return Path(snapshot_download(model_id, revision=revision, local_files_only=True))
        except IncompleteSnapshotError as error:
            return Path(error.snapshot_path)
        except (OSError, ValueError):
            return None

    def files(self, model_id: str, revision: str | None) -> list[HubFile] | None:
        """Return the files of one commit, in one request."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

        with self._errors_named(model_id, revision):
            try:
                info = HfApi().model_info(model_id, revision=revision, files_metadata=True)
            except GatedRepoError:
                raise
            except RepositoryNotFoundError:
                return None
            return [
                HubFile(
                    file.rfilename,
                    file.size or 0,
                    sha256=file.lfs.sha256 if file.lfs else "",
                    git_sha1="" if file.lfs else file.blob_id or "",
                )
                for file in info.siblings or ()
            ]

    def fetch(self, model_id: str, revision: str | None, files: Sequence[HubFile], progress: Progress | None) -> Path:
        """Bring these files into the cache and check their sums."""
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.utils import logging as hub_logging

        there = self._snapshot(model_id, revision)
        missing = [file for file in files if not there or not _is_there(there, file)]
        _begin(files, missing, Path(constants.HF_HUB_CACHE), progress, "HF_HOME")
        hub_logging.set_verbosity_error()  # it tells of every retry, across the bar
        with self._errors_named(model_id, revision):
            folder = Path(
                snapshot_download(
                    model_id,
                    revision=revision,
                    allow_patterns=[_literal(file.path) for file in files],
                    tqdm_class=_bar_class(progress) if progress else None,
                )
            )
        _check_sums(folder, missing, progress)
        return folder

    def fetch_file(self, model_id: str, revision: str | None, path: str, folder: Path) -> Path:
        """Bring one small file into a folder outside the cache."""
        from huggingface_hub import hf_hub_download

        with self._errors_named(model_id, revision):
            return Path(hf_hub_download(model_id, path, revision=revision, local_dir=folder, tqdm_class=_bar_class()))

    def names(self, *, owner: str = "", words: str = "") -> list[str]:
        """Return ids of models, those that are fetched most first."""
        from huggingface_hub import HfApi

        with self._errors_named(owner or words, None):
            found = HfApi().list_models(
                author=owner or None, search=words or None, sort="downloads", limit=MAX_NAMES, full=False
            )
            return [model.id for model in found]

    def cached_models(self) -> list[CachedModel]:
        """Return the models in the cache."""
        from huggingface_hub import scan_cache_dir
        from huggingface_hub.errors import CacheNotFound

        try:
            repos = scan_cache_dir().repos
        except CacheNotFound:
            return []
        models = []
        for repo in repos:
            newest = max(repo.revisions, key=lambda revision: revision.last_modified, default=None)
            if newest is not None and (newest.snapshot_path / "config.json").is_file():
                models.append(
                    CachedModel(repo.repo_id, self.name, newest.snapshot_path, repo.size_on_disk, repo.last_accessed)
                )
        return models

    @contextmanager
    def _errors_named(self, model_id: str, revision: str | None) -> Iterator[None]:
        """Turn the library's errors into ours; httpx2 is what it talks through."""
        import httpx2
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RevisionNotFoundError

        try:
            yield
        except GatedRepoError as error:
            raise ModelNotFoundError(
                f"{model_id} on Hugging Face wants its terms to be accepted first",
                hint="Accept them there and set HF_TOKEN.",
            ) from error
        except RevisionNotFoundError as error:
            raise ModelNotFoundError(f"{model_id} on Hugging Face has no revision {revision}") from error
        except (httpx2.HTTPError, HfHubHTTPError, OSError, ValueError, RuntimeError) as error:
            raise _trouble(self.title, error) from error


class ModelScope:
    """ModelScope, by modelscope_hub: ``models/OWNER--NAME/snapshots/REVISION`` in ``MODELSCOPE_CACHE``."""

    name = "modelscope"
    title = "ModelScope"

    def cached(self, model_id: str, revision: str | None) -> Path | None:
        """Return the snapshot in the cache, also in the layout of older versions."""
        folder = self._snapshot(model_id, revision)
        return None if folder is None or next(folder.rglob("*.incomplete"), None) else folder

    def _snapshot(self, model_id: str, revision: str | None) -> Path | None:
        """Return the snapshot in the cache, which may be incomplete."""
        from modelscope_hub import HubApi
        from modelscope_hub.errors import HubError

        try:
            return Path(HubApi().download_repo(model_id, "model", revision=revision, local_files_only=True))
        except (HubError, ValueError, OSError):
            return None

    def files(self, model_id: str, revision: str | None) -> list[HubFile] | None:
        """Return the files of a revision, in one request."""
        from modelscope_hub.errors import NotExistError

        with self._errors_named(model_id):
            try:
                listed = self._api(model_id).list_repo_files(model_id, "model", revision=revision)
            except NotExistError as error:
                if revision is None:
                    return None
                raise ModelNotFoundError(
                    f"{model_id} on ModelScope has no revision {revision}, or is not there"
                ) from error
        return [
            HubFile(file.path, file.size, sha256=file.sha256 or "")
            for file in listed
            if not file.is_dir and file.path and not file.path.startswith(LOCAL_FILES)
        ]

    def fetch(self, model_id: str, revision: str | None, files: Sequence[HubFile], progress: Progress | None) -> Path:
        """Bring these files into the cache; the library checks the sums, those of the files that are there as well."""
        from modelscope_hub import get_default_config

        there = self._snapshot(model_id, revision)
        missing = [file for file in files if not there or not _is_there(there, file)]
        _begin(files, missing, get_default_config().cache_dir, progress, "MODELSCOPE_CACHE")
        logging.getLogger("modelscope_hub").setLevel(logging.ERROR)  # it tells of every retry, across the bar
        with self._errors_named(model_id):
            return Path(
                self._api(model_id).download_repo(
                    model_id,
                    "model",
                    revision=revision,
                    file_list=[_listed(file) for file in files],
                    progress_callbacks=[_callback_class(progress)] if progress else None,
                )
            )

    def fetch_file(self, model_id: str, revision: str | None, path: str, folder: Path) -> Path:
        """Bring one small file into a folder outside the cache."""
        with self._errors_named(model_id):
            return Path(self._api(model_id).download_file(model_id, "model", path, revision=revision, local_dir=folder))

    def names(self, *, owner: str = "", words: str = "") -> list[str]:
        """Return ids of models, those that are fetched most first."""
        from modelscope_hub import HubApi

        with self._errors_named(owner or words):
            page = HubApi().list_repos(
                "model", owner=owner or None, search=words or None, sort="downloads", page_size=100
            )
        return [model.repo_id for model in page.items if model.repo_id]

    def cached_models(self) -> list[CachedModel]:
        """Return the models in the cache, also in the layouts of older versions, which write a dot as ``___``."""
        from modelscope_hub import get_default_config

        cache = Path(get_default_config().cache_dir)
        found = [
            (folder.parent.parent.name.replace("--", "/", 1), folder)
            for folder in cache.glob("models/*--*/snapshots/*")
        ]
        for pattern in ("models/*/*", "hub/models/*/*"):
            found += [
                (f"{folder.parent.name}/{folder.name.replace('___', '.')}", folder)
                for folder in cache.glob(pattern)
                if "--" not in folder.parent.name
            ]
        return [
            CachedModel(model_id, self.name, folder, _folder_bytes(folder), folder.stat().st_mtime)
            for model_id, folder in found
            if (folder / "config.json").is_file() and not folder.is_symlink()
        ]

    def _api(self, model_id: str) -> Any:
        """Return a client of the site that has this model: there is one in China and one abroad."""
        from modelscope_hub import HubApi

        return HubApi(endpoint=HubApi().resolve_endpoint_for_read(model_id))

    @contextmanager
    def _errors_named(self, model_id: str) -> Iterator[None]:
        """Turn the library's errors into ours."""
        from modelscope_hub.errors import (
            AuthenticationError,
            FileDownloadError,
            FileIntegrityError,
            HubError,
            NotExistError,
            PermissionDeniedError,
        )

        try:
            yield
        except NotExistError as error:
            raise ModelNotFoundError(f"there is no model {model_id} on ModelScope") from error
        except (AuthenticationError, PermissionDeniedError) as error:
            raise ModelNotFoundError(
                f"{model_id} on ModelScope is not open to everybody",
                hint="Ask for access there and set MODELSCOPE_API_TOKEN.",
            ) from error
        except FileDownloadError as error:
            path, cause = next(iter(error.failed_files.items()))
            if isinstance(cause, FileIntegrityError):
                raise _damaged(path) from error
            raise _trouble(self.title, cause) from error
        except (HubError, ValueError, OSError) as error:
            raise _trouble(self.title, error) from error


HUBS: dict[str, Hub] = {"huggingface": HuggingFace(), "modelscope": ModelScope()}


# -- what both need -------------------------------------------------------------------------------------------------


def _is_there(folder: Path, file: HubFile) -> bool:
    path = folder / file.path
    return path.is_file() and path.stat().st_size == file.num_bytes


def _begin(
    files: Sequence[HubFile], missing: Sequence[HubFile], cache: Path, progress: Progress | None, name: str
) -> None:
    """Tell how much is wanted, after looking whether the disk holds it."""
    wanted = sum(file.num_bytes for file in files)
    to_come = sum(file.num_bytes for file in missing)
    folder = next(path for path in (cache, *cache.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if to_come + SPARE_BYTES > free:
        raise ModelError(
            f"the download needs {to_come / 2**30:.1f} GiB; {free / 2**30:.1f} GiB are free in {folder}",
            hint=f"Free some disk, or name another folder: {name}.",
        )
    if progress is not None:
        progress.begin(wanted, wanted - to_come)


def _literal(path: str) -> str:
    """Return a pattern that fits this path only."""
    return path.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")


def _check_sums(folder: Path, files: Iterable[HubFile], progress: Progress | None) -> None:
    """Compare what has come with the sums that the hub lists; what differs goes, so that it is fetched again."""
    for file in files:
        if progress is not None:
            progress.checking(file.path)
        path = folder / file.path
        if file.sha256:
            with path.open("rb") as stream:
                right = hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
        elif file.git_sha1:  # git's own sum of a file: a header with its length, then its bytes
            content = path.read_bytes()
            header = b"blob %d\0" % len(content)
            right = hashlib.sha1(header + content, usedforsecurity=False).hexdigest() == file.git_sha1
        else:
            right = path.stat().st_size == file.num_bytes
        if not right:
            path.resolve().unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise _damaged(file.path)


def _damaged(path: str) -> ModelLoadError:
    return ModelLoadError(
        f"{path} was damaged on its way: its sum is not the one that the hub lists",
        hint="It has been removed. Run the same command again: only this file is fetched.",
    )


def _listed(file: HubFile) -> dict[str, object]:
    """Return a file as ModelScope lists it."""
    return {"Path": file.path, "Type": "blob", "Size": file.num_bytes, "Sha256": file.sha256}


def _folder_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _bar_class(progress: Progress | None = None) -> type:
    """Return a class that huggingface_hub may use instead of tqdm's, and that tells ``progress``.

    The library counts every byte twice, once as it comes over the network and once as it is written; the larger of both
    counts is told.
    """
    counts: list[Any] = []
    told = [0]

    class Bar:
        def __init__(self, *_: object, **options: Any) -> None:
            self.total = options.get("total")
            self.n = 0
            self.format_dict: dict[str, float | None] = {"rate": None}
            if options.get("unit") == "B":
                counts.append(self)

        def update(self, num: float | None = 1) -> None:
            self.n += int(num or 0)
            now = max((bar.n for bar in counts), default=0)
            if progress is not None and now != told[0]:
                progress.advance(now - told[0])
                told[0] = now

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def refresh(self, *_: object, **__: object) -> None:
            pass

        close = set_description = set_description_str = set_postfix_str = refresh

    return Bar


def _callback_class(progress: Progress) -> type:
    """Return a class of which modelscope_hub makes one object for each file, and that tells ``progress``."""
    from modelscope_hub import ProgressCallback

    class Callback(ProgressCallback):  # type: ignore[misc]
        def update(self, size: int) -> None:
            progress.advance(size)

    return Callback


def _trouble(title: str, error: BaseException) -> ModelError:
    """Return our error for one of a client library's: the hub's fault, or the disk's."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        return ModelError(f"the model cannot be written: {error}", hint="Free some disk, or name another folder.")
    return HubUnreachableError(f"{title} does not answer ({_cause(error)})")


def _cause(error: BaseException) -> str:
    """Return the innermost reason of a chain of errors, in one short line."""
    while (error.__cause__ or error.__context__) and not isinstance(error, TimeoutError):
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (str(error) or type(error).__name__).splitlines()[0][:120]
