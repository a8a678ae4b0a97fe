"""The clipboard: through the terminal (OSC 52, also over ssh and inside tmux), and through the desktop's own tools."""

from __future__ import annotations

import base64
import os
import shutil
import subprocess
from collections.abc import Mapping

__all__ = ["copy_sequence", "copy_with_tool", "paste_with_tool"]

MAX_COPIED_BYTES = 74_994  # what terminals accept at most in one OSC 52 sequence
TIMEOUT_S = 2.0

# (program, arguments to copy, arguments to paste, what must be set in the environment)
TOOLS = (
    ("wl-copy", (), None, "WAYLAND_DISPLAY"),
    ("wl-paste", None, ("--no-newline",), "WAYLAND_DISPLAY"),
    ("xclip", ("-selection", "clipboard"), ("-selection", "clipboard", "-out"), "DISPLAY"),
    ("xsel", ("--clipboard", "--input"), ("--clipboard", "--output"), "DISPLAY"),
    ("pbcopy", (), None, ""),
    ("pbpaste", None, (), ""),
    ("clip.exe", (), None, ""),
    ("powershell.exe", None, ("-NoProfile", "-Command", "Get-Clipboard"), ""),
)


def copy_sequence(text: str, environ: Mapping[str, str] = os.environ) -> str:
    r"""Return the escape sequence that puts text into the clipboard; nothing if it is too long for one.

    >>> copy_sequence("hi", {})
    '\x1b]52;c;aGk=\x07'
    """
    data = text.encode("utf-8", "replace")
    if len(data) > MAX_COPIED_BYTES:
        return ""
    sequence = f"\x1b]52;c;{base64.b64encode(data).decode()}\x07"
    if environ.get("TMUX"):  # tmux passes on what is wrapped, with every Escape doubled
        return "\x1bPtmux;" + sequence.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    return sequence


def copy_with_tool(text: str) -> bool:
    """Put text into the clipboard with a tool of the desktop; return whether there is one that did it."""
    for program, arguments, _, variable in TOOLS:
        if arguments is not None and _is_there(program, variable):
            return _run([program, *arguments], text) is not None
    return False


def paste_with_tool() -> str | None:
    """Return the clipboard's text, or None if no tool of the desktop gives it."""
    for program, _, arguments, variable in TOOLS:
        if arguments is not None and _is_there(program, variable):
            return _run([program, *arguments], None)
    return None


def _is_there(program: str, variable: str) -> bool:
    return (not variable or bool(os.environ.get(variable))) and shutil.which(program) is not None


def _run(command: list[str], text: str | None) -> str | None:
    """Run a tool; return what it prints, or None if it fails. What it prints while copying is not waited for."""
    try:
        done = subprocess.run(  # noqa: S603 (a fixed program, arguments of ours)
            command,
            input=None if text is None else text.encode(),
            stdin=subprocess.DEVNULL if text is None else None,
            stdout=subprocess.PIPE if text is None else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode("utf-8", "replace") if text is None else ""
