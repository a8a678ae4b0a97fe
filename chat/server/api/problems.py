"""Errors as HTTP replies: OpenAI's form, and LMDeploy's flat one on its own route."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Literal

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel, ValidationError

from chatcore.errors import (
    ChatError,
    ConversationBusyError,
    ConversationNotFoundError,
    EngineError,
    PromptError,
    QuotaExceededError,
    ResponseNotFoundError,
    SamplingError,
    StoreBusyError,
    StoreError,
    TooManyTurnsError,
)

__all__ = [
    "FLAT_REFUSALS",
    "REFUSALS",
    "FlatRoute",
    "OpenAIRoute",
    "RequestError",
    "error_body",
    "openai_error",
    "status_of",
]

# The first that fits.
STATUSES: tuple[tuple[type[ChatError], int], ...] = (
    (ConversationNotFoundError, 404),
    (ResponseNotFoundError, 404),
    (ConversationBusyError, 409),
    (QuotaExceededError, 429),
    (StoreBusyError, 503),
    (PromptError, 400),
    (SamplingError, 400),
    (EngineError, 500),
    (StoreError, 500),
)
# What is said does not depend on what there is of others.
NOT_THERE: Mapping[type[ChatError], str] = {
    ConversationNotFoundError: "there is no such conversation",
    ResponseNotFoundError: "there is no such response",
}
BUSY_RETRY_S = "1"


class OpenAIError(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | int | None = None


class OpenAIErrorReply(BaseModel):
    """OpenAI's errors."""

    error: OpenAIError


class FlatErrorReply(BaseModel):
    """LMDeploy's errors."""

    message: str
    type: str
    code: int
    param: str | None = None
    object: Literal["error"] = "error"


# What routes can answer beside what they are for. The guard's refusals have OpenAI's form everywhere.
REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": OpenAIErrorReply, "description": "refused: see docs/api.md"},
    "5XX": {"model": OpenAIErrorReply, "description": "the engine or the store failed"},
}
FLAT_REFUSALS: dict[int | str, dict[str, Any]] = {
    "4XX": {"model": FlatErrorReply | OpenAIErrorReply, "description": "refused: see docs/api.md"},
    "5XX": {"model": FlatErrorReply | OpenAIErrorReply, "description": "the engine or the store failed"},
}
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class RequestError(ChatError):
    """A request that cannot be done as it stands.

    Args:
        param: the field at fault.
        status: of the HTTP reply.
    """

    def __init__(self, message: str, *, param: str | None = None, status: int = 400, hint: str | None = None) -> None:
        self.param = param
        self.status = status
        super().__init__(message, hint=hint)


def status_of(error: ChatError) -> int:
    """Return the HTTP status that tells of an error."""
    if isinstance(error, RequestError):
        return error.status
    if type(error) is StoreError and error.__cause__ is None:  # nothing that a database said: the request is at fault
        return 409
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def error_body(error: ChatError, status: int) -> dict[str, Any]:
    """Return what OpenAI's ``error`` object holds. What a database says is for the server's log alone."""
    message = NOT_THERE.get(type(error), str(error))
    if status >= 500 and isinstance(error, StoreError):
        message = "the server's store is busy" if status == 503 else "the server's store cannot be read or written"
    hint = f" {error.hint}" if error.hint and status < 500 and type(error) not in NOT_THERE else ""
    return {
        "message": f"{message}.{hint}" if hint else message,
        "type": "server_error" if status >= 500 else "invalid_request_error",
        "param": getattr(error, "param", None),
        "code": _code(error, status),
    }


def openai_error(error: ChatError) -> JSONResponse:
    """Return the reply that OpenAI's clients read."""
    status = status_of(error)
    return JSONResponse({"error": error_body(error, status)}, status, headers=_headers(error, status))


class OpenAIRoute(APIRoute):
    """A route whose errors have OpenAI's form."""

    def get_route_handler(self) -> Handler:
        return _translating(super().get_route_handler(), openai_error)


class FlatRoute(APIRoute):
    """A route whose errors have LMDeploy's form: ``{"message", "type", "code", "param", "object": "error"}``."""

    def get_route_handler(self) -> Handler:
        handle = _translating(super().get_route_handler(), _flat_error)

        @functools.wraps(handle)
        async def answer(request: Request) -> Response:
            from chat.server.vllm_plugin.compatibility import VLLMError

            try:
                return await handle(request)
            except (RequestValidationError, ValidationError) as error:
                return _flat_error(RequestError(_what_is_wrong(error), param=_field_at_fault(error)))
            except VLLMError as error:
                return _flat_error(_as_vllm_says(error))

        return answer


def _translating(handle: Handler, translate: Callable[[ChatError], Response]) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            return await handle(request)
        except ChatError as error:
            return translate(error)

    return answer


def _flat_error(error: ChatError) -> JSONResponse:
    status = status_of(error)
    body = error_body(error, status)
    flat = {"message": body["message"], "type": body["type"], "code": status, "param": body["param"], "object": "error"}
    return JSONResponse(flat, status, headers=_headers(error, status))


def _as_vllm_says(error: Exception) -> RequestError:
    """Return vLLM's own judgement of an error that one of its objects raised."""
    from chat.server.vllm_plugin.compatibility import create_error_response

    said = create_error_response(error).error
    return RequestError(said.message, param=said.param, status=said.code)


def _headers(error: ChatError, status: int) -> dict[str, str]:
    passes = status in (409, 503) or isinstance(error, TooManyTurnsError)
    return {"Retry-After": BUSY_RETRY_S} if passes else {}


def _code(error: ChatError, status: int) -> str:
    if isinstance(error, ConversationBusyError):
        return "conversation_busy"
    if isinstance(error, TooManyTurnsError):
        return "rate_limit_exceeded"
    if isinstance(error, QuotaExceededError):
        return "insufficient_quota"
    return HTTPStatus(status).phrase.lower().replace(" ", "_")


def _what_is_wrong(error: RequestValidationError | ValidationError) -> str:
    found: Any = error.errors()[0]
    if not isinstance(found, Mapping):  # vLLM raises such with a text
        return str(found)
    place = ".".join(str(part) for part in found.get("loc", ()) if part != "body")
    return f"{place}: {found.get('msg', 'it is not valid')}" if place else str(found.get("msg", error))


def _field_at_fault(error: RequestValidationError | ValidationError) -> str | None:
    found: Any = error.errors()[0]
    place = [str(part) for part in found.get("loc", ()) if part != "body"] if isinstance(found, Mapping) else []
    return place[0] if place else None
