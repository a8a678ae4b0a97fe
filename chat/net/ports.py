"""Whether an address can be listened on, found out before anything slow starts."""

from __future__ import annotations

import socket

__all__ = ["why_not_listening"]


def why_not_listening(host: str, port: int) -> OSError | None:
    """Return why a server could not listen on an address; None if it could.

    It is tried, as servers do it: a port that was just left is free.

    Args:
        host: an address of this machine, of either family, or a name of one.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except OSError as error:
        return error
    return None
