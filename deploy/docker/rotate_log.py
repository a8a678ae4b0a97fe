"""Copy standard input to standard output and to a file that is begun anew when it is full.

    program 2>&1 | python rotate_log.py FILE MAX_BYTES NUM_BACKUPS

FILE.1 is the newest of the full ones. Ends when the program does; signals are for the program.
"""

from __future__ import annotations

import logging
import logging.handlers
import signal
import sys


def main(file: str, max_bytes: int, num_backups: int) -> None:
    """Copy until the input ends; a full disk costs the file's lines, not the program's life."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    logging.raiseExceptions = False
    kept = logging.handlers.RotatingFileHandler(file, maxBytes=max_bytes, backupCount=num_backups, encoding="utf-8")
    for raw in sys.stdin.buffer:
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
        line = raw.decode("utf-8", "replace").rstrip("\n")
        kept.emit(logging.makeLogRecord({"msg": line, "levelno": logging.INFO}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
