"""Whether what is kept on this machine is in order: settings, conversations, the engine host's folder."""

from __future__ import annotations

import importlib.util
import os
import socket
import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from chat.config import Settings, default_file, load_settings
from chat.doctor.findings import Finding, Reporter
from chatcore.errors import ConfigError, EngineError
from chatcore.models.fit import gib

__all__ = ["check_config", "check_sockets", "check_store"]

DATABASE_TIMEOUT_S = 1.5
POSTGRES_PORT = 5432


def check_config(report: Reporter) -> tuple[Settings, list[Finding]]:
    """Read the settings; the defaults hold where they cannot be read."""
    file = default_file()
    try:
        settings = load_settings()
    except ConfigError as error:
        return Settings(), [report.error("config.bad", reason=error, hint=error.hint or file)]
    if file.is_file():
        return settings, [report.ok("config.ok", path=file)]
    return settings, [report.ok("config.none")]


def check_store(report: Reporter, store: str) -> Iterator[Finding]:
    """Look at the conversations' file or database; makes nothing and changes nothing."""
    if "://" in store and not store.startswith("sqlite"):
        yield _check_database(report, store)
        return
    from chat.store.local import default_path

    path = Path(os.path.expanduser(store.removeprefix("sqlite:///"))) if store else default_path()
    if not path.exists():
        folder = next(parent for parent in path.parents if parent.exists())
        writable = os.access(folder, os.W_OK)
        yield report.ok("store.new", path=path) if writable else report.error("store.readonly", path=path)
        return
    if not os.access(path, os.W_OK):
        yield report.error("store.readonly", path=path)
    elif reason := _damage(path):
        yield report.error("store.damaged", path=path, reason=reason)
    elif path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield report.warning("store.open", path=path)
    else:
        yield report.ok("store.ok", path=path, size=gib(path.stat().st_size))


def _damage(path: Path) -> str:
    """Return what is wrong with a database file; reads its tables' list and the first page of each."""
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=1)
        try:
            for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
                if "search" not in name:  # full-text tables need their tokenizer
                    connection.execute(f'SELECT * FROM "{name}" LIMIT 1').fetchall()  # noqa: S608  # a table's name that the database gave
        finally:
            connection.close()
    except sqlite3.Error as error:
        return str(error)
    return ""


def _check_database(report: Reporter, url: str) -> Finding:
    parts = urlsplit(url)
    host, port = parts.hostname or "localhost", parts.port or POSTGRES_PORT
    if importlib.util.find_spec("psycopg") is None:
        return report.error("store.no_driver", url=f"{parts.scheme}://{host}")
    try:
        socket.create_connection((host, port), timeout=DATABASE_TIMEOUT_S).close()
    except OSError as error:
        return report.error("store.away", host=f"{host}:{port}", reason=error.strerror or error)
    return report.ok("store.url", host=f"{host}:{port}")


def check_sockets(report: Reporter) -> Iterator[Finding]:
    """Look at the folder where terminals meet the engine."""
    from chat.backends.engine_host import runtime_dir

    try:
        yield report.ok("sockets.ok", path=runtime_dir())
    except (EngineError, OSError) as error:
        hint = getattr(error, "hint", "") or "VLLMDEPLOY_RUNTIME_DIR"
        yield report.error("sockets.bad", reason=error, hint=hint)
