"""A middleware of vLLM's server that records its routes, and the token ids that reach the engine.

It runs after the guard (``--middleware tests.reliability.recorder.Recorder``) and changes nothing. Each line that it
writes is JSON: the routes of the application once, then for each prompt its ids, under the request's own id, which the
reply carries in ``X-Request-Id``.
"""

from __future__ import annotations

import contextvars
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["FILE_VARIABLE", "Recorder", "recorded_prompts", "recorded_routes"]

FILE_VARIABLE = "RECORDER_FILE"
current_request_id: contextvars.ContextVar[str] = contextvars.ContextVar("current_request_id", default="")


class Recorder:
    def __init__(self, app: Any) -> None:
        self.app = app
        self._file = Path(os.environ[FILE_VARIABLE])
        self._is_recording = False

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            current_request_id.set(scope.get("state", {}).get("request_id", ""))
            if not self._is_recording:
                self._is_recording = True
                self._record_engine(scope["app"])
        await self.app(scope, receive, send)

    def _record_engine(self, app: Any) -> None:
        self._write({"routes": list(_walk(app.routes, ""))})
        engine, generate = app.state.engine_client, app.state.engine_client.generate

        def generate_recorded(prompt: Any, *arguments: Any, **options: Any) -> Any:
            self._write({"request_id": current_request_id.get(), "prompt_token_ids": list(prompt["prompt_token_ids"])})
            return generate(prompt, *arguments, **options)

        engine.generate = generate_recorded

    def _write(self, line: dict[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _walk(routes: Any, prefix: str) -> Iterator[dict[str, Any]]:
    """Give every route, those of mounted applications too."""
    for route in routes:
        path = prefix + str(getattr(route, "path", ""))
        methods = sorted(getattr(route, "methods", None) or ())
        yield {"kind": type(route).__name__, "path": path, "methods": methods}
        yield from _walk(getattr(route, "routes", None) or (), path)


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def recorded_routes(file: Path) -> list[dict[str, Any]]:
    """Return the routes that the application had."""
    return next(list(line["routes"]) for line in _lines(file) if "routes" in line)


def recorded_prompts(file: Path) -> dict[str, list[list[int]]]:
    """Return the prompts that have reached the engine, by request."""
    found: dict[str, list[list[int]]] = {}
    for line in _lines(file):
        if "request_id" in line:
            found.setdefault(line["request_id"], []).append(line["prompt_token_ids"])
    return found
