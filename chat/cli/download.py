"""What ``download`` does: bring a model into a hub's cache, with one bar over all its files.

The folder alone goes to standard output, so that scripts can use it; everything else goes to standard error.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bars

    from chat.session.texts import TextTable

__all__ = ["add_options", "run"]

TEXTS = {
    "here": ("{name} is a folder of this machine; there is nothing to fetch", "{name} 是本机的文件夹，无需下载"),
    "asking": ("asking the hubs for {name}", "正在向模型站查询 {name}"),
    "checking": ("checking {path}", "正在校验 {path}"),
    "done": (
        "{name} from {hub}: {size}, complete, its sums are right",
        "{name}，来自 {hub}：{size}，完整，校验和正确",
    ),
}


def add_options(command: argparse.ArgumentParser) -> None:
    """What ``download`` takes."""
    command.add_argument("model", help="an id on ModelScope or Hugging Face; Qwen3-0.6B is short for Qwen/Qwen3-0.6B")
    command.add_argument(
        "--hub", choices=["auto", "modelscope", "huggingface"], default="auto", help="auto: the one that answers sooner"
    )
    command.add_argument("--revision", help="a branch, tag or commit; the default branch if left out")


def run(options: argparse.Namespace) -> int:
    """Fetch the model; print its folder."""
    os.environ["TQDM_DISABLE"] = "1"  # one bar for all files, instead of the libraries' own; read at their import
    from chat.session.texts import TextTable, find_language
    from chatcore.models.fit import gib
    from chatcore.models.hub import download_model, find_local

    texts = TextTable(TEXTS, find_language())
    if folder := find_local(options.model):
        print(texts("here", name=options.model), file=sys.stderr)
        print(folder)
        return 0
    with DownloadBar(options.model, texts, sys.stderr) as bar:
        download = download_model(options.model, hub=options.hub, revision=options.revision, progress=bar)
    size = gib(download.num_bytes)
    print(texts("done", name=download.model_id, hub=download.hub, size=size), file=sys.stderr)
    print(download.folder)
    return 0


class DownloadBar:
    """One bar over all files of a model; a :class:`chatcore.models.hub_clients.Progress`."""

    def __init__(self, name: str, texts: TextTable, stream: TextIO) -> None:
        self._texts = texts
        self._bars = _make_bars(stream)
        self._task = self._bars.add_task(texts("asking", name=name), total=None)
        self._name = name

    def __enter__(self) -> DownloadBar:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def begin(self, num_bytes: int, num_bytes_there: int) -> None:
        """Show how much there is to come."""
        self._bars.update(self._task, description=self._name, total=num_bytes, completed=num_bytes_there)

    def advance(self, num_bytes: int) -> None:
        """Move the bar."""
        self._bars.advance(self._task, num_bytes)

    def checking(self, path: str) -> None:
        """Say which file is being checked."""
        self._bars.update(self._task, description=self._texts("checking", path=path))


def _make_bars(stream: TextIO) -> Bars:
    """Return the bar; where nobody looks, a bar that only ever shows its end."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(file=stream),
        transient=True,
        disable=not stream.isatty(),
    )
