"""A probe inside a process that reports what it holds; Python imports a module of this name at its start.

A process has more memory than it holds: what it has given back lies between what is still in use, and only malloc and
Python know how much that is. To ask, put a file ``PID.ask`` into the folder ``PROBE_FOLDER``; the answer is
``PID.json``, ``{"held_mb": 412.5, "objects": 812345}``: what malloc has given out, and how many pieces Python
has, garbage collected first.

Python's table of interned strings doubles once, by 7 MB more than all that vLLM imports, when some 170,000 strings have
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

POLL_INTERVAL_S = 0.1
NUM_STRINGS = 500_000  # that come and go
FIELDS = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")


class Malloc(ctypes.Structure):
    """``struct mallinfo2`` of glibc: ``uordblks`` are the bytes in use, ``hblkhd`` those of pieces mapped alone."""

    _fields_ = [(name, ctypes.c_size_t) for name in FIELDS]


def serve(folder: Path) -> None:
    """Answer requests as long as the process lives."""
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = Malloc
    is_settled = False
    request, result = folder / f"{os.getpid()}.ask", folder / f"{os.getpid()}.json"
    while True:
        time.sleep(POLL_INTERVAL_S)
        if request.exists():
            if not is_settled:
                fill_intern_table()
                is_settled = True
            gc.collect()
            malloc = libc.mallinfo2()
            held_mb = (malloc.uordblks + malloc.hblkhd) / (1 << 20)
            partial = result.with_suffix(".partial")
            partial.write_text(json.dumps({"held_mb": held_mb, "objects": sys.getallocatedblocks()}))
            request.unlink()
            partial.rename(result)


def fill_intern_table() -> None:
    """Make Python's table of interned strings grow to the size that it keeps."""
    for number in range(NUM_STRINGS):
        sys.intern(f"string {number}")


if "PROBE_FOLDER" in os.environ:
    threading.Thread(target=serve, args=(Path(os.environ["PROBE_FOLDER"]),), name="probe", daemon=True).start()
