"""Who may ask vLLM's server for what: a pure ASGI middleware in front of every path, HTTP and websocket.

``vllm serve MODEL --middleware chat.server.guard.Guard``; the command ``serve`` does it by itself. A request goes
through with a key that the server knows, for a path and with fields that the policy allows; the routes find whose it is
in ``request.state.owner``. Replies are passed on piece by piece, and so is the news that a client has left.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat.net.asgi import replay
from chat.server.guard.body import Disconnected, drain, encode, parse, read_body
from chat.server.guard.keys import ANYBODY, Caller, KeyRing, presented_keys
from chat.server.guard.paths import path_of
from chat.server.guard.policy import Policy
from chat.server.limits.metrics import GUARD_SECONDS, REJECTIONS
from chat.server.limits.places import Place, Places, num_seqs_of
from chat.server.limits.refusal import RETRY_AFTER, Refusal, send_refusal
from chat.server.settings.guard import GuardSettings

__all__ = ["Guard"]

QUIET_PATHS = frozenset({"/health", "/ping", "/metrics"})  # asked every few seconds: not worth a line each
POLICY_VIOLATION, TRY_AGAIN_LATER = 1008, 1013  # of RFC 6455 and its registry
logger = logging.getLogger(__name__)

RawHeaders = list[tuple[bytes, bytes]]


class Guard:
    """The middleware.

    Args:
        app: what is guarded.
        settings: those of the command line if left out.
        own_paths: patterns of paths that are open beside vLLM's; those of this package's routes if left out.
    Raises:
        ConfigError: the keys cannot be read: a server that cannot tell who asks must not start.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: GuardSettings | None = None,
        own_paths: Sequence[re.Pattern[str]] | None = None,
    ) -> None:
        self.app = app
        self.settings = settings or GuardSettings.from_environment()
        self._policy = Policy(self.settings, _own_paths() if own_paths is None else own_paths)
        file = Path(self.settings.key_file) if self.settings.key_file else None
        self._keys = None if self.settings.unauthenticated else KeyRing(file)
        self._places: Places | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._guard_http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._guard_websocket(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    # -- HTTP -------------------------------------------------------------------------------------------------------

    async def _guard_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange = _Exchange(scope, send)
        body_read = False
        try:
            caller = self._admit(scope, exchange.path)
            if caller is None:  # open to all: nothing is read, nothing changed
                await self.app(scope, receive, exchange.send)
                return
            exchange.owner = caller.owner
            body: bytes | None = None
            parsed: dict[str, Any] = {}
            if _has_body(scope):
                body = await self._read_body(scope, receive, exchange)
                body_read = True
                if body and not _is_form(scope):
                    parsed = parse(body)
                    self._policy.check_body(exchange.path, parsed, caller)
                    body = encode(parsed)
            if self._policy.asks_engine(exchange.path, parsed):
                exchange.place = self._places_of(scope).take(caller.owner)
            scope = _for_app(scope, caller, exchange.request_id, body, self._policy.closed_headers, exchange.place)
            GUARD_SECONDS.observe(time.perf_counter() - exchange.begun_s - exchange.waited_s)
            await self.app(scope, receive if body is None else replay(body, receive), exchange.send)
        except Disconnected:
            exchange.status = 499
        except Refusal as refusal:
            REJECTIONS.labels(refusal.reason).inc()
            unread = not body_read and _has_body(scope)
            await send_refusal(exchange.send, refusal, close=unread, finish=not unread)
            if unread:
                await drain(receive)
                await exchange.send({"type": "http.response.body", "body": b""})
        finally:
            exchange.leave_place()
            exchange.log()

    async def _read_body(self, scope: Scope, receive: Receive, exchange: _Exchange) -> bytes:
        begun_s = time.perf_counter()
        settings = self.settings
        headers = dict(scope["headers"])
        body = await read_body(receive, headers, max_bytes=settings.max_body_bytes, max_s=settings.max_body_s)
        exchange.waited_s = time.perf_counter() - begun_s
        return body

    def _admit(self, scope: Scope, path: str) -> Caller | None:
        """Return whose request this is; None for a path that is open to all.

        Raises:
            Refusal: no key, a wrong one, or a path that is closed.
        """
        if self._policy.is_open(path) or _is_preflight(scope):
            return None
        _check_framing(scope["headers"])
        caller = self._identify(scope, path)
        self._policy.check_path(path)
        return caller

    def _identify(self, scope: Scope, path: str) -> Caller:
        if self._keys is None:
            return ANYBODY
        reading = self._policy.is_reading(path) and scope.get("method") in ("GET", "HEAD")
        presented = presented_keys(scope["headers"], basic=reading, anthropic=path.startswith("/v1/messages"))
        for key in presented:
            if caller := self._keys.find(key):
                return caller
        challenge = b'Basic realm="vllm-deploy", charset="UTF-8"' if reading else b"Bearer"
        message = "this key is not known here" if presented else "a key is wanted: Authorization: Bearer KEY"
        headers = [(b"www-authenticate", challenge)]
        raise Refusal(401, "key", message, code="invalid_api_key", headers=headers)

    def _places_of(self, scope: Scope) -> Places:
        """Return the places; how many there are is known once vLLM has set up its application."""
        if self._places is None:
            self._places = Places(self.settings, num_seqs_of(scope))
        return self._places

    # -- websockets -------------------------------------------------------------------------------------------------

    async def _guard_websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = path_of(scope)
        try:
            caller = self._identify(scope, path)
            self._policy.check_path(path)
            place = self._places_of(scope).take(caller.owner)
        except Refusal as refusal:
            REJECTIONS.labels(refusal.reason).inc()
            logger.info("- WEBSOCKET %s %d", _printable(path), refusal.status)
            await receive()
            code = TRY_AGAIN_LATER if refusal.status in (429, 503) else POLICY_VIOLATION
            await send({"type": "websocket.close", "code": code, "reason": refusal.message[:100]})
            return
        request_id = _new_request_id()
        logger.info("%s WEBSOCKET %s owner=%s", request_id, _printable(path), caller.owner)
        try:
            await self.app(_for_app(scope, caller, request_id, None, self._policy.closed_headers, place), receive, send)
        finally:
            place.leave()


class _Exchange:
    """One request and its reply: what the log says about it."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self.path = path_of(scope)
        self.request_id = _new_request_id()
        self.owner = "-"
        self.status = 0
        self.begun_s = time.perf_counter()
        self.waited_s = 0.0  # for the body
        self.place: Place | None = None
        self._method = scope["method"]
        self._send = send

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [pair for pair in message.get("headers", ()) if pair[0].lower() != b"x-request-id"]
            headers.append((b"x-request-id", self.request_id.encode()))
            if self.status == 503 and not any(name.lower() == b"retry-after" for name, _ in headers):
                headers.append(RETRY_AFTER)  # vLLM's own refusals say nothing of when
            message = {**message, "headers": headers}
        elif not message.get("more_body", False):
            self.leave_place()  # before the client knows: what it asks next must find it free
        await self._send(message)

    def leave_place(self) -> None:
        """Give the place back, unless the answer goes on behind the reply."""
        if self.place is not None and not self.place.stays:
            self.place.leave()

    def log(self) -> None:
        """Say who asked for what; never what was said."""
        if self.path in QUIET_PATHS and self.status < 400:
            return
        duration_ms = (time.perf_counter() - self.begun_s) * 1000
        what = (self.request_id, self._method, _printable(self.path), self.status, self.owner, duration_ms)
        logger.info("%s %s %s %d owner=%s %.0f ms", *what)


def _new_request_id() -> str:
    """Return an id as long as vLLM's own: every piece of a streamed answer repeats it."""
    return secrets.token_hex(8)


def _own_paths() -> list[re.Pattern[str]]:
    """Return the patterns of the paths that this package's routes answer."""
    from chat.server.api.routes import routers

    routes: list[Any] = [route for router in routers() for route in router.routes]
    return [route.path_regex for route in routes if hasattr(route, "path_regex")]


def _for_app(
    scope: Scope,
    caller: Caller,
    request_id: str,
    body: bytes | None,
    closed_headers: frozenset[bytes],
    place: Place | None,
) -> Scope:
    """Return what the routes see: the owner, this server's own request id, the length of the body as it is now."""
    dropped = closed_headers if body is None else closed_headers | {b"content-length", b"transfer-encoding"}
    headers: RawHeaders = [pair for pair in scope["headers"] if pair[0] not in dropped]
    if b"x-request-id" in closed_headers:
        headers.append((b"x-request-id", request_id.encode()))
    if body is not None:
        headers.append((b"content-length", str(len(body)).encode()))
    state = {
        **scope.get("state", {}),
        "owner": caller.owner,
        "cache_salt": caller.cache_salt(),
        "request_id": request_id,
        "place": place,
    }
    return {**scope, "headers": headers, "state": state}


def _has_body(scope: Scope) -> bool:
    return scope["method"] not in ("GET", "HEAD", "OPTIONS") or any(
        (name == b"content-length" and value != b"0") or name == b"transfer-encoding"
        for name, value in scope["headers"]
    )


def _is_form(scope: Scope) -> bool:
    """Tell whether the body is a form with a file, which only transcription takes."""
    kind = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
    return kind.lower().startswith(b"multipart/form-data") and path_of(scope).startswith("/v1/audio/")


def _is_preflight(scope: Scope) -> bool:
    """Tell whether a browser asks what it may ask: the CORS middleware behind this one answers it by itself."""
    wanted = {b"origin", b"access-control-request-method"}
    return scope["method"] == "OPTIONS" and wanted <= {name for name, _ in scope["headers"]}


def _check_framing(headers: RawHeaders) -> None:
    """Refuse a request whose end two programs could see in two places."""
    lengths = [value for name, value in headers if name == b"content-length"]
    if len(lengths) > 1 or (lengths and any(name == b"transfer-encoding" for name, _ in headers)):
        raise Refusal(400, "framing", "the length of the body is said twice", code="bad_framing")


def _printable(path: str) -> str:
    """Return a path for the log: one line, not endless, no control characters."""
    return ascii(path[:200])[1:-1]
