"""The database behind the store: opening it, bringing it up to date, transactions, and errors in plain words."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.pool import StaticPool

from chat.store.rows import damaged, from_json, to_json
from chat.store.schema import MIGRATIONS, metadata, store_version
from chatcore.errors import StoreBusyError, StoreError

__all__ = ["Database"]

BUSY_TIMEOUT_MS = 10_000  # how long to wait for another process that writes
MIGRATION_LOCK = 7361846  # any number that nothing else on a Postgres server locks by


class Database:
    """A SQLite file, a SQLite database in memory, or a Postgres database. May be used from several threads.

    Args:
        where: a file or a Postgres URL; None for memory.
    Raises:
        StoreError: it cannot be opened or brought up to date.
    """

    def __init__(self, where: str | Path | None) -> None:
        self.file: Path | None = None
        self._lock: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        self._writing = threading.Lock()
        options: dict[str, Any] = {"json_serializer": to_json, "json_deserializer": from_json}
        if where is None:
            # One connection serves all threads, one at a time.
            self.name, url, self._lock = "memory", sa.URL.create("sqlite"), threading.RLock()
            options |= {"poolclass": StaticPool, "connect_args": {"check_same_thread": False}}
        elif "://" in str(where):
            url = _parse_url(str(where))
            # Of what follows the question mark only a socket's folder is shown: a password may stand there too.
            socket = {"host": url.query["host"]} if "host" in url.query else {}
            self.name = url.set(query=socket).render_as_string(hide_password=True)
            options["pool_pre_ping"] = True
        else:
            self.file = Path(os.path.expanduser(where))
            _make(self.file)
            self.name, url = str(self.file), sa.URL.create("sqlite", database=str(self.file))
        self._engine = self._make_engine(url, options)
        try:
            self._migrate()
        except StoreError:
            self.close()
            raise

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return self._engine.dialect.name

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    @contextlib.contextmanager
    def write(self, *, lasts: bool = True) -> Iterator[sa.Connection]:
        """Run a block as one transaction: all of it is on disk afterwards, or nothing.

        Args:
            lasts: false for what nobody misses after a power cut; the disk is not waited for then.
        """
        with (
            self._translated(),
            self._lock,
            self._one_at_a_time(),
            self._engine.connect() as connection,
            connection.execution_options(lasts=lasts).begin(),
        ):
            if not lasts and self.dialect == "postgresql":
                connection.exec_driver_sql("SET LOCAL synchronous_commit TO OFF")
            yield connection

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Let the threads of this process wait for one another before they wait for other processes.

        SQLite has one writer, and lets the others sleep until they happen to find it free: neither fast nor fair.
        """
        if self.file is None:
            yield
            return
        if not self._writing.acquire(timeout=BUSY_TIMEOUT_MS / 1000):
            raise StoreBusyError(f"{self.name}: other threads have been writing for too long")
        try:
            yield
        finally:
            self._writing.release()

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Run a block that only reads."""
        with self._translated(), self._lock, self._engine.connect() as connection:
            yield connection.execution_options(reads_only=True)

    @contextlib.contextmanager
    def outside_transaction(self) -> Iterator[sa.Connection]:
        """Run a block whose statements take effect one by one, such as VACUUM."""
        with self._translated(), self._lock, self._engine.connect() as connection:
            yield connection.execution_options(isolation_level="AUTOCOMMIT")

    def check_writable(self) -> None:
        """Write something and take it back; a :class:`StoreError` if that cannot be done."""
        with self.write() as connection:
            connection.execute(store_version.update().values(version=store_version.c.version))

    def _make_engine(self, url: sa.URL, options: dict[str, Any]) -> sa.Engine:
        try:
            engine = sa.create_engine(url, **options)
        except ImportError as error:
            raise StoreError(
                f"{self.name} needs the package psycopg", hint="Install it: pip install 'psycopg[binary]'."
            ) from error
        if engine.dialect.name == "sqlite":
            sa.event.listen(engine, "connect", _prepare_sqlite)
            sa.event.listen(engine, "begin", _begin_sqlite)
        return engine

    def _migrate(self) -> None:
        with self.read() as connection:
            version = _read_version(connection)
            # On a server another process may add its tables between two looks; there the look under the lock decides.
            if version == 0 and self.file is not None:
                self._refuse_what_is_not_ours(connection)
        if version > len(MIGRATIONS):
            raise StoreError(
                f"{self.name} was written by a newer version of this program (schema {version} of {len(MIGRATIONS)})",
                hint="Update this program, or name another store.",
            )
        self._take_for_ours()
        if 0 < version < len(MIGRATIONS):
            self._keep_copy(version)
        for number, migration in enumerate(MIGRATIONS[version:], start=version + 1):
            with self.write() as connection:
                if connection.dialect.name == "postgresql":  # SQLite's BEGIN IMMEDIATE keeps others out already
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({MIGRATION_LOCK})")
                version_now = _read_version(connection)
                if version_now == 0:
                    self._refuse_what_is_not_ours(connection)
                if version_now < number:  # another process may have been faster
                    metadata.create_all(connection, tables=[store_version])
                    migration(connection)
                    connection.execute(store_version.delete())
                    connection.execute(store_version.insert().values(version=number))

    def _take_for_ours(self) -> None:
        """Change what is changed for good in a file of ours; one that is refused stays as it was."""
        if self.file is None:
            return
        _close_to_others(self.file)
        deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
        while not self._keep_log_beside():
            if time.monotonic() > deadline:
                raise StoreBusyError(f"{self.file}: other processes have been opening it for too long")
            time.sleep(0.01)

    def _keep_log_beside(self) -> bool:
        """Turn SQLite's write-ahead log on; false while another process does, for which SQLite does not wait here."""
        try:
            with self.outside_transaction() as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        except StoreBusyError:
            return False
        return True

    def _keep_copy(self, version: int) -> None:
        """Copy the file before it is changed; Postgres has backups of its own."""
        if self.file is None:
            return
        copy = self.file.with_name(f"{self.file.name}.schema-{version}")
        if copy.exists():
            return
        growing = copy.with_name(f"{copy.name}.{os.getpid()}")
        try:
            _make(growing)
            with (
                contextlib.closing(sqlite3.connect(self.file)) as source,
                contextlib.closing(sqlite3.connect(growing)) as target,
            ):
                source.backup(target)
            growing.replace(copy)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(
                f"{self.file} cannot be copied before it is brought up to date: {error}", hint=_hint(str(error))
            ) from error
        finally:
            growing.unlink(missing_ok=True)

    def _refuse_what_is_not_ours(self, connection: sa.Connection) -> None:
        """A file that has tables belongs to another program; a Postgres database may be shared, but not our names."""
        tables = set(sa.inspect(connection).get_table_names())
        if self.file is None:
            tables &= set(metadata.tables)
        if tables:
            raise StoreError(f"{self.name} holds something else", hint="Name another store.")

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turn the database's errors into one sentence with a remedy."""
        try:
            yield
        except (sa.exc.DBAPIError, sa.exc.TimeoutError) as error:
            said = str(getattr(error, "orig", error)).splitlines()[0]
            if "locked" in said or isinstance(error, sa.exc.TimeoutError):
                raise StoreBusyError(f"{self.name}: {said}") from error
            raise StoreError(f"{self.name}: {said}", hint=_hint(said)) from error
        except UnicodeDecodeError as error:  # SQLite's own words for what is wrong quote what cannot be read
            raise damaged(f"{self.name} holds what is no text") from error


_HINTS = (
    ("readonly", "Make the file and its folder writable, or name another store."),
    ("unable to open", "Make the folder writable, or name another store."),
    ("disk is full", "Free some space on the disk; what was kept before is safe."),
    ("No space", "Free some space on the disk; what was kept before is safe."),
    ("disk I/O", "Check the disk; what was kept before is safe."),
    ("not a database", "The file is damaged or something else: move it away, or name another store."),
    ("malformed", "The file is damaged: move it away and restore a copy."),
    ("connection", "Start the database server, or name another store."),
)


def _hint(said: str) -> str:
    return next((hint for sign, hint in _HINTS if sign in said), "Check the database, or name another store.")


def _parse_url(text: str) -> sa.URL:
    """Return a Postgres URL; the errors never repeat the text, since it may hold a password."""
    try:
        url = sa.make_url(text)
        backend = url.get_backend_name()
    except (sa.exc.ArgumentError, ValueError) as error:
        raise StoreError(
            "the store's URL is malformed", hint="One looks so: postgresql://user@host/database"
        ) from error
    if backend not in ("postgresql", "postgres"):
        raise StoreError(f"a store is a SQLite file or Postgres, not {backend}", hint="Name a file by its path.")
    return url.set(drivername="postgresql+psycopg")


def _make(file: Path) -> None:
    """Make the folder (0700) and the file (0600), so that nobody else reads along."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(file, os.O_CREAT | os.O_RDWR, 0o600))
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise StoreError(
            f"{file} cannot be written: {getattr(error, 'strerror', None) or error}",
            hint="Make the folder writable, or name another store.",
        ) from error


def _close_to_others(file: Path) -> None:
    """Let nobody else read a file that was there already, if it is this user's."""
    with contextlib.suppress(OSError):
        status = file.stat()
        if status.st_mode & 0o077 and status.st_uid == os.getuid():
            file.chmod(0o600)


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where _begin_sqlite says, not where the driver guesses
    for pragma in (
        f"busy_timeout = {BUSY_TIMEOUT_MS}",
        "synchronous = FULL",
        "foreign_keys = ON",
    ):
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_sqlite(connection: sa.Connection) -> None:
    """Take the write lock at once: a transaction that reads first and writes later can fail where waiting would do.

    How long the disk is waited for is said before each: SQLite takes it outside of transactions alone.
    """
    options = connection.get_execution_options()
    if options.get("isolation_level") == "AUTOCOMMIT":
        return
    if options.get("reads_only"):
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql(f"PRAGMA synchronous = {'FULL' if options.get('lasts', True) else 'NORMAL'}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _read_version(connection: sa.Connection) -> int:
    if not sa.inspect(connection).has_table(store_version.name):
        return 0
    version = connection.execute(sa.select(sa.func.max(store_version.c.version))).scalar()
    if version is not None and (type(version) is not int or version < 0):
        raise damaged(f"its version is {version!r:.40}")
    return version or 0
