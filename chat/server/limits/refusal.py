"""What the guard says to those whom it does not let in, in the form of OpenAI's errors."""

from __future__ import annotations

import json
from collections.abc import Sequence

from starlette.types import Send

__all__ = ["RETRY_AFTER", "Refusal", "send_refusal"]

RETRY_AFTER = (b"retry-after", b"1")  # seconds: a place is free whenever an answer ends
Headers = Sequence[tuple[bytes, bytes]]
KINDS = {401: "authentication_error", 429: "rate_limit_error", 503: "server_error"}


class Refusal(Exception):
    """A request that goes no further.

    Args:
        status: of the HTTP reply.
        reason: one word for the metrics.
        message: what was met and what the limit is; no key and no text of a prompt.
        code: OpenAI's name of the error.
        param: the field at fault.
        headers: beside those of every refusal.
    """

    def __init__(
        self, status: int, reason: str, message: str, *, code: str = "", param: str = "", headers: Headers = ()
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.code = code or reason
        self.param = param
        self.headers = headers


async def send_refusal(send: Send, refusal: Refusal, *, close: bool, finish: bool = True) -> None:
    """Send a refusal.

    Args:
        close: the connection ends here, since the rest of the request has not been read.
        finish: end the reply; otherwise the caller does, with an empty last part.
    """
    kind = KINDS.get(refusal.status, "invalid_request_error")
    error = {"message": refusal.message, "type": kind, "param": refusal.param or None, "code": refusal.code}
    body = json.dumps({"error": error}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *refusal.headers]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": not finish})
