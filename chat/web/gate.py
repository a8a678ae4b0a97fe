"""The application: who may come in, what may be asked for, what a browser may load. Gradio does the rest."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import gradio as gr
from fastapi import APIRouter, FastAPI, Form, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from gradio.utils import get_upload_folder
from starlette.concurrency import run_in_threadpool

from chat.conversations import files
from chat.conversations.conversation import Conversation
from chat.net.asgi import replay
from chat.web.app import make_page, page_options
from chat.web.login import login_page
from chat.web.open_pages import Pages, choose_language
from chat.web.texts import Texts
from chatcore.errors import ChatError, StoreError

__all__ = ["make_app"]

MAX_UPLOAD = "8mb"
# Of Gradio's many routes, those that the page itself uses. The rest (calls from outside, its own editor and
# dashboards, files of this machine, a proxy) answers nobody.
OPEN_PATHS = {"/", "/config", "/favicon.ico", "/manifest.json", "/theme.css", "/login", "/logout"}
OPEN_PATHS |= {"/gradio_api/run/predict"}  # events that never wait: only Stop is one
OPEN_FOLDERS = ("/assets/", "/static/", "/svelte/", "/export/", "/gradio_api/queue/", "/gradio_api/heartbeat/")
OPEN_API = {"info", "cancel", "reset", "startup-events", "theme.css", "upload", "upload_progress", "login_check"}
# What happens on the page. Gradio would copy any file of this machine, or of an address, that is named there as an
# upload: it looks where a file lies only on pages that it has launched itself, and this one is mounted.
EVENT_PATHS = {"/gradio_api/queue/join", "/gradio_api/run/predict"}
# Scripts are inline and made by templates in Gradio, so those have to be allowed; but nothing from elsewhere is, and
# nothing can be sent there.
SECURITY_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; manifest-src 'self'; "
        "worker-src 'self' blob:; form-action 'self'; base-uri 'self'; frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def make_app(pages: Pages, *, hosts: frozenset[str] | None, port: int) -> FastAPI:
    """Return the application.

    Args:
        hosts: names under which the page may be asked for; None for any. A page that only this machine may see answers
            to this machine's names: others could be made to point here.
        port: part of the cookie's name, since browsers give cookies to every port.
    """
    door = Door(pages, f"vllm-deploy-{port}")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(door.routes())
    options = page_options()
    gr.mount_gradio_app(app, make_page(pages), "/", auth_dependency=door.who, max_file_size=MAX_UPLOAD, **options)
    app.add_middleware(Gate, door=door, hosts=hosts)
    return app


class Door:
    """Logging in and out, and conversations as files: what Gradio has no place for."""

    def __init__(self, pages: Pages, cookie: str) -> None:
        self.pages = pages
        self.cookie = cookie

    def who(self, request: Request) -> str | None:
        """Return who sends a request; None if nobody is logged in."""
        person = self.pages.people.find(request.cookies.get(self.cookie))
        return person.id if person else None

    def routes(self) -> APIRouter:
        """Return the routes."""
        router = APIRouter()
        router.add_api_route("/login", self.show_login, methods=["GET"], response_model=None)
        router.add_api_route("/login", self.log_in, methods=["POST"], response_model=None)
        router.add_api_route("/logout", self.log_out, methods=["GET"], response_model=None)
        router.add_api_route("/export/{name}", self.export, methods=["GET"], response_model=None)
        return router

    def _texts(self, request: Request) -> Texts:
        return Texts(choose_language(self.pages.settings, request.headers.get("accept-language", "")))

    def show_login(self, request: Request) -> Response:
        """Ask for a key."""
        return HTMLResponse(login_page(self._texts(request)))

    async def log_in(self, request: Request, key: Annotated[str, Form()] = "") -> Response:
        """Let somebody in whose key is right."""
        problem = self._texts(request)("login.wrong")
        try:
            token = await run_in_threadpool(self.pages.people.log_in, key.strip())
        except ChatError as error:
            token, problem = None, str(error)
        if token is None:
            return HTMLResponse(login_page(self._texts(request), problem), status_code=401)
        response = RedirectResponse(".", status_code=303)
        is_https = request.url.scheme == "https"
        response.set_cookie(self.cookie, token, httponly=True, samesite="lax", secure=is_https)
        return response

    def log_out(self, request: Request) -> Response:
        """Forget a login."""
        self.pages.people.log_out(request.cookies.get(self.cookie, ""))
        response = RedirectResponse("login", status_code=303)
        response.delete_cookie(self.cookie)
        return response

    def export(self, name: str, request: Request) -> Response:
        """Give a conversation as a file."""
        person = self.pages.people.find(request.cookies.get(self.cookie))
        conversation_id, _, form = name.rpartition(".")
        if person is None or form not in EXPORTS:
            return Response(status_code=404)
        try:
            conversation = person.store.load(conversation_id)
        except StoreError:
            return Response(status_code=404)
        write, kind = EXPORTS[form]
        filename = quote(f"{conversation.title or conversation.id}.{form}".replace("/", "-"), safe="")
        headers = {"content-disposition": f"attachment; filename*=UTF-8''{filename}"}
        return Response(write(conversation), media_type=kind, headers=headers)


class Gate:
    """Lets through what the page needs, asks for a login where there is none, and tells browsers what they may do."""

    def __init__(
        self, app: Callable[[Scope, Receive, Send], Awaitable[None]], door: Door, hosts: frozenset[str] | None
    ):
        self._app = app
        self._door = door
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        refused = self._refuse(request)
        if refused is None and scope["method"] == "POST" and scope["path"] in EVENT_PATHS:
            body = await request.body()
            receive = replay(body, receive)
            if _names_other_files(body):
                refused = Response("a file was named that was not uploaded", status_code=400)
        if refused is not None:
            await refused(scope, receive, send)
            return

        async def send_safe(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                own = [(name.encode(), value.encode()) for name, value in SECURITY_HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        await self._app(scope, receive, send_safe)

    def _refuse(self, request: Request) -> Response | None:
        """Return why a request is not let through; None if it is."""
        path = request.url.path
        if self._hosts is not None and request.url.hostname not in self._hosts:
            return Response("this page answers under the names of this machine only", status_code=403)
        if not _is_open(path):
            return Response(status_code=404)
        if path == "/" and self._door.who(request) is None:
            return RedirectResponse("login", status_code=303)
        return None


def _is_open(path: str) -> bool:
    if path in OPEN_PATHS or path.startswith(OPEN_FOLDERS):
        return True
    folder, _, name = path.rpartition("/")
    return folder == "/gradio_api" and name in OPEN_API


def _names_other_files(body: bytes) -> bool:
    """Tell whether an event names a file that no upload has made."""
    try:
        waiting = [json.loads(body)]
        folder = Path(get_upload_folder()).resolve()
        while waiting:
            value = waiting.pop()
            if isinstance(value, dict):
                path = value.get("path")
                if isinstance(path, str) and not Path(path).resolve().is_relative_to(folder):
                    return True
                waiting += value.values()
            elif isinstance(value, list):
                waiting += value
    except (ValueError, OSError, RecursionError):  # no JSON, no path, or nested without end
        return True
    return False


EXPORTS: dict[str, tuple[Callable[[Conversation], str], str]] = {
    "md": (files.to_markdown, "text/markdown"),
    "json": (files.to_json, "application/json"),
}
