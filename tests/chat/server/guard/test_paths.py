"""The path that the guard judges is the path that the router answers."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse
from starlette.routing import Match, Route

from chat.server.guard.middleware import Guard
from chat.server.guard.paths import path_of
from chat.server.settings.guard import GuardSettings
from tests.chat.server.asgi import ask

ANY = Route("/{rest:path}", lambda request: PlainTextResponse("answer"))
PARTS = st.lists(st.sampled_from(["/", "//", "api", "v1", "a", "", "é", "%2F", "..", "/api"]), max_size=5).map("".join)


def routed(scope) -> str | None:
    """Return the path that a router compares with its own; None if it finds that there is none."""
    match, found = ANY.matches(scope)
    return "/" + found["path_params"]["rest"] if match is not Match.NONE else None


@given(path=PARTS.map("/".__add__), prefix=PARTS)
def test_the_prefix_is_cut_as_the_router_cuts_it(path, prefix):
    scope = {"type": "http", "method": "GET", "path": path, "root_path": prefix}
    expected = routed(scope)
    if expected is None:
        assert not path_of(scope).startswith("/")
    else:
        assert path_of(scope) == expected


@pytest.fixture
def mounted(tmp_path):
    """An application that knows its prefix, as vLLM's does with ``--root-path``; the guard stands inside."""
    file = tmp_path / "keys"
    file.write_text("alice: alice-secret\n")
    app = FastAPI(root_path="/api")
    for path in ("/v1/models", "/sleep", "/health", "/api/v1/models"):
        app.add_api_route(path, lambda path=path: path, methods=["GET"])
    app.add_middleware(Guard, settings=GuardSettings(key_file=str(file)), own_paths=())
    return app


@pytest.mark.parametrize(
    ("path", "status", "answer"),
    [
        ("/v1/models", 200, '"/v1/models"'),  # the proxy in front has taken the prefix off
        ("/api/v1/models", 200, '"/v1/models"'),  # or has not
        ("/api/sleep", 404, None),
        ("/sleep", 404, None),
        ("/api/api/v1/models", 404, None),  # /api/v1/models is no path that the policy knows, though there is a route
        ("/apis/v1/models", 404, None),
        ("/api", 404, None),
    ],
)
def test_under_a_prefix_the_guard_judges_what_would_be_answered(mounted, path, status, answer):
    reply = ask(mounted, path, method="GET")
    assert reply.status == status
    assert answer is None or reply.body.decode() == answer


def test_under_a_prefix_a_key_is_asked_for_all_the_same(mounted):
    assert ask(mounted, "/api/v1/models", method="GET", key="").status == 401
    assert ask(mounted, "/api/health", method="GET", key="").status == 200
    assert ask(mounted, "/apihealth", method="GET", key="").status == 401
