"""Files that go into a message: read as text, fenced so that nothing in them can end the fence."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chatcore.errors import CommandError

__all__ = ["Attachment", "read_attachment", "split_paths", "take_mentions", "with_attachments"]

MAX_FILE_BYTES = 8 << 20  # 8 MiB: more than any window holds
ENCODINGS = ("utf-8", "gb18030")  # GB18030 covers GBK and GB2312; it refuses most of what is neither

# A path behind an @, at the beginning of a word: @notes.md, @"my notes.md", @~/notes.md
MENTION = re.compile(r'(?:(?<=\s)|^)@(?:"([^"\n]+)"|(\S+))')
BYTE_ORDER_MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file's text, and how it was encoded."""

    name: str
    text: str
    encoding: str
    size_bytes: int

    def as_markdown(self) -> str:
        """Return the file as a fenced block under its name; the fence is longer than any in the file."""
        longest = max((len(run) for run in re.findall("`+", self.text)), default=0)
        fence = "`" * max(3, longest + 1)
        language = Path(self.name).suffix.removeprefix(".")
        end = "" if self.text.endswith("\n") else "\n"
        return f"{self.name}:\n{fence}{language}\n{self.text}{end}{fence}"


def read_attachment(path: Path) -> Attachment:
    """Read a text file.

    Raises:
        CommandError: it cannot be read, is too large, or is not text.
    """
    try:
        path = Path(os.path.expanduser(path))  # what names no user stays as it is
        if path.exists() and not path.is_file() and not path.is_dir():  # a device or a pipe may have no end
            raise CommandError(f"{path} is no file")
        if path.is_file() and path.stat().st_size > MAX_FILE_BYTES:
            size = path.stat().st_size
            raise CommandError(f"{path} has {size:,} bytes; at most {MAX_FILE_BYTES:,} can be attached")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CommandError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    text, encoding = _decode(data, path)
    return Attachment(path.name, text.replace("\r\n", "\n"), encoding, len(data))


def _decode(data: bytes, path: Path) -> tuple[str, str]:
    mark = next((encoding for bom, encoding in BYTE_ORDER_MARKS.items() if data.startswith(bom)), None)
    for encoding in (mark,) if mark else ENCODINGS:
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        if not any(character < " " and character not in "\t\n\r\f\x1b" for character in text):
            return text, encoding
    raise CommandError(f"{path} is not text", hint="Only text can be sent to this model.")


def split_paths(argument: str) -> list[Path]:
    r"""Return the paths of an argument: separated by spaces, quoted or backslashed where they contain some.

    An argument that is an existing path as a whole is one path, spaces and all.

    >>> split_paths('a.txt "b c.txt" d\\ e.txt')
    [PosixPath('a.txt'), PosixPath('b c.txt'), PosixPath('d e.txt')]
    """
    import shlex

    try:
        if os.path.exists(os.path.expanduser(argument)):
            return [Path(argument)]
        return [Path(word) for word in shlex.split(argument)]
    except ValueError as error:
        raise CommandError(f"the paths cannot be told apart: {error}", hint="Put quotes around a path.") from error


def take_mentions(text: str, on_read: Callable[[Attachment], None]) -> list[Attachment]:
    """Return the files that a message mentions as ``@path``. An @ that names no file is just an @.

    Raises:
        CommandError: a file is there, but cannot be attached.
    """
    attachments = []
    for match in MENTION.finditer(text):
        word = match.group(1) or match.group(2)
        path = _existing(word)
        if path is not None:
            attachments.append(read_attachment(path))
            on_read(attachments[-1])
    return attachments


def _existing(word: str) -> Path | None:
    """Return the file that a word names, with or without the punctuation at its end."""
    for candidate in (word, word.rstrip(".,;:!?)，。；：！？）")):
        try:
            if candidate and (path := Path(candidate).expanduser()).is_file():
                return path
        except (OSError, RuntimeError, ValueError):  # too long for a name, an unknown ~user, a NUL
            continue
    return None


def with_attachments(text: str, attachments: list[Attachment]) -> str:
    """Return the message with the files behind it."""
    return "\n\n".join([text, *(attachment.as_markdown() for attachment in attachments)])
