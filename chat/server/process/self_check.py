"""Whether a server that has just started is really ours: the guard, the routes, the renderer.

vLLM only logs a plugin that it could not load, and serves without it. That would be a server without keys, without
conversations, or with prompts that can be forged.
"""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from typing import Any

from chatcore.errors import ChatError, ServerError
from chatcore.prompts.builder import PromptBuilder

__all__ = ["Probe", "check_server"]

OWN_PATH = "/v1/store"  # one of the routes that chat/server/routes.py adds; it also tells that the store is there
MAX_FORGED = 32  # so many of the model's control tokens are tried


class Probe:
    """Requests to the server, from this machine.

    Args:
        url: of the server, without ``/v1``.
        key: empty if it asks for none.
    """

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._key = key
        context = ssl.create_default_context()  # its certificate names another host than the one asked here
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        handlers = (urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
        self._opener = urllib.request.build_opener(*handlers)

    def is_healthy(self) -> bool | None:
        """Tell whether the server answers well; None if it does not answer."""
        try:
            return self.ask("/health", with_key=False)[0] == 200
        except OSError:
            return None

    def ask(self, path: str, body: dict[str, Any] | None = None, *, with_key: bool = True) -> tuple[int, Any]:
        """Return the status, and the JSON of the reply if it is some.

        Raises:
            OSError: nobody answers.
        """
        headers = {"Content-Type": "application/json"}
        if with_key and self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers)  # noqa: S310  # always our own http address
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as reply:
                return reply.status, _json(reply.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _json(error.read())


TIMEOUT_S = 30.0


def check_server(probe: Probe, model: str, builder: PromptBuilder | None, *, guarded: bool) -> None:
    """Ask a server that has just started for what only ours gives.

    Args:
        model: the name under which it is served.
        builder: what builds the prompts of the model; None for one that does not chat.
        guarded: it asks for keys.
    Raises:
        ServerError: something is missing, or it does not answer; the server must not go on like that.
    """
    try:
        if guarded and probe.ask("/v1/models", with_key=False)[0] != 401:
            raise _missing("the guard")
        if probe.ask("/v1/models")[0] != 200:
            raise ServerError("another server than the one that was started answers, or it does not know its own key")
        if builder is not None:
            _check_chat(probe, model, builder)
    except OSError as error:
        raise ServerError(f"the server has started, but does not answer: {error}") from error


def _check_chat(probe: Probe, model: str, builder: PromptBuilder) -> None:
    if probe.ask(OWN_PATH)[0] != 200:
        raise _missing("the routes for conversations")
    if _num_control(probe, model, builder, " ".join(_spellings(builder))) != _num_control(
        probe, model, builder, "Yes."
    ):
        raise _missing("the renderer")


def _spellings(builder: PromptBuilder) -> list[str]:
    """Return texts that would forge a turn: control tokens as people could type them."""
    return [token.text for token in builder.tokenizer.control_tokens[:MAX_FORGED]]


def _num_control(probe: Probe, model: str, builder: PromptBuilder, text: str) -> int:
    """Return how many control tokens the server makes of a message."""
    status, counted = probe.ask("/tokenize", {"model": model, "messages": [{"role": "user", "content": text}]})
    if status != 200:
        raise ServerError(f"the server cannot build a prompt: /tokenize gives {status}")
    return sum(token_id in builder.control_token_ids for token_id in counted["tokens"])


def _missing(what: str) -> ChatError:
    return ServerError(
        f"vLLM's server runs without {what}",
        hint="Its log says why. Is this vLLM of the version that this program was made for? See requirements.txt.",
    )


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None
