"""The keys that the server knows, read again when their file changes; who sends which."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import logging
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from chat.net.api_keys import LOCAL_OWNER, default_key_file, parse_keys
from chatcore.errors import ConfigError

__all__ = ["ANYBODY", "Caller", "KeyRing", "presented_keys"]

CHECK_INTERVAL_S = 1.0
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Caller:
    """Whose request it is.

    Attributes:
        owner: the name of the key.
        secret: from which this owner's cache salts are made; empty: they get none.
    """

    owner: str
    secret: bytes = field(default=b"", repr=False)

    def cache_salt(self, chosen: str = "") -> str | None:
        """Return the salt that keeps the prefix cache of this owner apart from that of others.

        Without it, whoever guesses the beginning of another's prompt could tell by the time to the first token.

        Args:
            chosen: what the client asked for; it separates further, within the owner.
        """
        if not self.secret:
            return None
        return hmac.new(self.secret, b"cache_salt\0" + chosen.encode(), hashlib.sha256).hexdigest()


ANYBODY = Caller(LOCAL_OWNER)


class KeyRing:
    """The keys of one file.

    A line that is no key, or a file that cannot be read, leaves the keys as they were and is said in the log; a file
    without keys lets nobody in.
    """

    def __init__(self, file: Path | None = None) -> None:
        """
        Args:
            file: the user's own if left out.
        Raises:
            ConfigError: it cannot be read, or a line is no key.
        """
        self.file = Path(os.path.expanduser(file or default_key_file()))
        self._stamp = self._read_stamp()
        self._callers = _callers(parse_keys(self.file))
        self._checked_s = time.monotonic()

    def find(self, presented: bytes) -> Caller | None:
        """Return whose key this is, or None. How long it takes does not tell how nearly it was one."""
        self._read_again()
        digest = hashlib.sha256(presented).digest()
        found = None
        for known, caller in self._callers:
            if hmac.compare_digest(digest, known):
                found = caller
        return found

    def _read_again(self) -> None:
        now_s = time.monotonic()
        if now_s - self._checked_s < CHECK_INTERVAL_S:
            return
        self._checked_s = now_s
        stamp = self._read_stamp()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._callers = _callers(parse_keys(self.file))
        except ConfigError as error:
            logger.error("%s; the keys stay as they were", error)
        else:
            logger.info("the keys were read again: %d", len(self._callers))

    def _read_stamp(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self.file)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size


def _callers(owners: dict[str, str]) -> list[tuple[bytes, Caller]]:
    """Return the digest of each key, and who has it; an owner's salts come from the first of the owner's keys."""
    callers: dict[str, Caller] = {}
    for key, owner in owners.items():
        callers.setdefault(owner, Caller(owner, key.encode()))
    return [(hashlib.sha256(key.encode()).digest(), callers[owner]) for key, owner in owners.items()]


def presented_keys(headers: Iterable[tuple[bytes, bytes]], *, basic: bool, anthropic: bool) -> list[bytes]:
    """Return what a request presents as its key: nothing, one, or several readings of one header.

    ``Authorization: Bearer KEY``, and ``Authorization: ID-KEY`` as some serverless platforms send it, where nothing
    tells which hyphen ends the id. Two such headers are none: who stands in front may have looked at the other one.

    Args:
        headers: names in lower case.
        basic: also take the password of HTTP Basic, which browsers send without being asked: for reading pages only.
        anthropic: also take ``x-api-key``, as Anthropic's clients send it.
    """
    names = {b"authorization", b"x-api-key"} if anthropic else {b"authorization"}
    found = [(name, value.strip()) for name, value in headers if name in names]
    if len(found) != 1:
        return []
    name, value = found[0]
    if name == b"x-api-key":
        return [value]
    scheme, _, rest = value.partition(b" ")
    if scheme.lower() == b"bearer" and rest:
        return [rest.strip()]
    if scheme.lower() == b"basic" and rest:
        return _basic_password(rest) if basic else []
    parts = value.split(b"-")
    return [] if b" " in value else [b"-".join(parts[start:]) for start in range(1, min(len(parts), MAX_HYPHENS))]


MAX_HYPHENS = 16  # so many readings of ID-KEY are tried


def _basic_password(encoded: bytes) -> list[bytes]:
    try:
        _, found, password = base64.b64decode(encoded, validate=True).partition(b":")
    except binascii.Error:
        return []
    return [password] if found else []
