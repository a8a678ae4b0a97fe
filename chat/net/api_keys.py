"""The keys of a server: whose each is, where they are kept, and which one a client sends.

A file of keys has one ``owner: key`` a line; a key alone belongs to ``local``, as do the terminal's conversations.
Empty lines and lines that begin with ``#`` are left out. One owner may have several keys.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from chat.private_files import open_private
from chatcore.errors import ConfigError

__all__ = [
    "LOCAL_OWNER",
    "default_key_file",
    "find_api_key",
    "is_loopback",
    "make_key_file",
    "parse_keys",
    "read_key_file",
]

LOCAL_OWNER = "local"
API_KEY_VARIABLE = "OPENAI_API_KEY"
MIN_KEY_LENGTH = 8  # characters; anything shorter is a mistake or can be guessed
LINE = re.compile(r"(?:(?P<owner>[\w.@-]{1,64}):[ \t]*)?(?P<key>[!-~]+)", re.ASCII)


def default_key_file() -> Path:
    """Return where a server keeps its keys, and our clients find them, if nobody names another file."""
    import platformdirs

    return platformdirs.user_config_path("vllm-deploy") / "api-keys"


def read_key_file(file: Path) -> dict[str, str]:
    """Return the owner of each key, in the order of the file, which holds at least one.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w+") as file:
    ...     _ = file.write("# ours\\nalice: a-long-secret\\nbare-secret\\n")
    ...     file.flush()
    ...     read_key_file(Path(file.name))
    {'a-long-secret': 'alice', 'bare-secret': 'local'}

    Raises:
        ConfigError: the file cannot be read, holds no key, or a line is none. No key is quoted.
    """
    owners = parse_keys(file)
    if not owners:
        raise ConfigError(f"the key file {file} holds no key", hint="Write one: owner: key.")
    return owners


def parse_keys(file: Path) -> dict[str, str]:
    """Return the owner of each key, in the order of the file, which may hold none.

    Raises:
        ConfigError: the file cannot be read, or a line is no key. No key is quoted.
    """
    try:
        lines = Path(os.path.expanduser(file)).read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the key file {file} cannot be read: {type(error).__name__}") from error
    owners: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        match = LINE.fullmatch(text)
        if match is None or len(match["key"]) < MIN_KEY_LENGTH:
            hint = f"A line looks so: alice: KEY. A key has {MIN_KEY_LENGTH} or more visible characters."
            raise ConfigError(f"{file}, line {number}: this is no key", hint=hint)
        owner = match["owner"] or LOCAL_OWNER
        if owners.setdefault(match["key"], owner) != owner:
            raise ConfigError(f"{file}, line {number}: this key has another owner above")
    return owners


def make_key_file(file: Path) -> bool:
    """Make a file with one fresh key for ``local``, readable by this user alone; tell whether it had to be made.

    Raises:
        ConfigError: it cannot be written.
    """
    draft = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(draft, "x", encoding="utf-8", opener=open_private) as out:
            out.write(f"{LOCAL_OWNER}: {secrets.token_urlsafe(32)}\n")
        try:
            os.link(draft, file)  # whole or not at all, and never over one that is there
        except FileExistsError:
            return False
        return True
    except OSError as error:
        raise ConfigError(f"the key file {file} cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            draft.unlink()


def find_api_key(url: str, api_key_file: str = "") -> str:
    """Return the key that a client sends to a server; empty if there is none.

    A file that is named holds; then the variable ``OPENAI_API_KEY``; then, for a server of this machine, the file that
    the command ``serve`` makes.

    Raises:
        ConfigError: the named file cannot be read or holds no key.
    """
    if api_key_file:
        return _own_key(Path(api_key_file))
    if key := os.environ.get(API_KEY_VARIABLE):
        return key
    file = default_key_file()
    return _own_key(file) if is_loopback(urlsplit(url).hostname or "") and file.exists() else ""


def is_loopback(host: str) -> bool:
    """Tell whether a host name means this machine alone.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.2", "::1", "0.0.0.0", "example.org")]
    [True, True, True, False, False]
    """
    import ipaddress

    if host.lower().removesuffix(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _own_key(file: Path) -> str:
    """Return the key of ``local`` if the file has one, else its first."""
    owners = read_key_file(file)
    return next((key for key, owner in owners.items() if owner == LOCAL_OWNER), next(iter(owners)))
