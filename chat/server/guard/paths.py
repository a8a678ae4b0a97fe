"""Which path a request is for, as the router behind the guard sees it."""

from __future__ import annotations

from starlette.types import Scope

__all__ = ["path_of"]


def path_of(scope: Scope) -> str:
    """Return a request's path without the prefix under which the application stands (ASGI's ``root_path``).

    The router does the same before it compares paths; a guard that cut elsewhere would judge another path than the one
    that is answered. A test holds it against the router.

    >>> path_of({"path": "/api/v1/models", "root_path": "/api"}), path_of({"path": "/apis", "root_path": "/api"})
    ('/v1/models', '/apis')
    """
    path: str = scope["path"]
    prefix: str = scope.get("root_path", "")
    rest = path.removeprefix(prefix)
    return rest if rest in ("", path) or rest.startswith("/") else path
