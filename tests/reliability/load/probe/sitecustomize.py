"""Tells what a process holds, from inside; Python imports a module of this name at its start.

A process has more memory than it holds: what it has given back lies between what is still in use, and only malloc and
Python know how much that is. Whoever wants to know puts a file ``PID.ask`` into the folder ``HELD_FOLDER`` and finds
``PID.json`` there, ``{"held_mb": 412.5, "objects": 812345}``: what malloc has given out, and how many pieces Python
has, garbage collected first.

Python's table of interned strings doubles once, by 7 MB beside all that vLLM imports, when some 170,000 strings have
come and gone: names in JSON and keyword arguments are such. That is done before the first answer, so that it is not
taken for a leak, nor hides one.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import sys
import threading
import time
from pathlib import Path

LOOKS_EVERY_S = 0.1
NUM_STRINGS = 500_000  # that come and go
NUMBERS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class Malloc(ctypes.Structure):
    """``struct mallinfo2`` of glibc: ``uordblks`` are the bytes in use, ``hblkhd`` those of pieces mapped alone."""

    _fields_ = [(name, ctypes.c_size_t) for name in NUMBERS]


def answer(folder: Path) -> None:
    """Answer whoever asks, as long as the process lives."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Malloc
    settled = False
    asked, told = folder / f"{os.getpid()}.ask", folder / f"{os.getpid()}.json"
    while True:
        time.sleep(LOOKS_EVERY_S)
        if asked.exists():
            if not settled:
                let_strings_come_and_go()
                settled = True
            gc.collect()
            malloc = libc.mallinfo2()
            held_mb = (malloc.uordblks + malloc.hblkhd) / (1 << 20)
            whole = told.with_suffix(".whole")
            whole.write_text(json.dumps({"held_mb": held_mb, "objects": sys.getallocatedblocks()}))
            asked.unlink()
            whole.rename(told)


def let_strings_come_and_go() -> None:
    """Bring Python's table of interned strings to the size that it keeps."""
    for number in range(NUM_STRINGS):
        sys.intern(f"string {number}")


if "HELD_FOLDER" in os.environ:
    threading.Thread(target=answer, args=(Path(os.environ["HELD_FOLDER"]),), name="held", daemon=True).start()
