"""A server's models and conversations from Python, under the names that LMDeploy's client has.

Scripts written for ``lmdeploy.serve.openai.api_client.APIClient`` run with the import changed::

    from chat.client import APIClient

    client = APIClient("http://127.0.0.1:8000")
    for text, tokens, finish_reason in client.chat("Hello!", session_id=1):
        print(text)
    client.end_session(1)

Every method that answers is a generator, streamed or not. What a call leaves out is the model's own default.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx2

from chat.net.api_keys import find_api_key
from chat.net.http_client import SESSION_HEADER, cause_of, make_client, root_of
from chatcore.errors import ConversationBusyError, ServerRequestError

__all__ = ["APIClient"]

NO_SESSION = -1
CONNECT_TIMEOUT_S = 10.0

Answer = dict[str, Any]


class APIClient:
    """Requests to one server. Close it, or use it in a ``with`` block.

    Args:
        api_server_url: such as ``http://127.0.0.1:8000``; with or without ``/v1``.
        api_key: if left out, the variable ``OPENAI_API_KEY``, or on this machine the key that ``serve`` made.

    Every method raises :class:`chatcore.errors.ServerRequestError` if the server refuses, fails or does not answer.
    """

    def __init__(self, api_server_url: str, api_key: str | None = None) -> None:
        self.api_server_url = root_of(api_server_url)
        key = find_api_key(self.api_server_url) if api_key is None else api_key
        timeout = httpx2.Timeout(None, connect=CONNECT_TIMEOUT_S)  # an answer takes as long as it takes
        self._client = make_client(self.api_server_url, api_key=key, timeout=timeout)
        self._own_session = secrets.token_hex(12)  # for what belongs to no conversation

    def __enter__(self) -> APIClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    @property
    def available_models(self) -> list[str]:
        """The models that the server has."""
        return [model["id"] for model in self._ask("GET", "/v1/models")["data"]]

    def encode(
        self, input: str | Sequence[str], do_preprocess: bool = False, add_bos: bool = True
    ) -> tuple[list[int] | list[list[int]], int | list[int]]:
        """Return the token ids of a text, and how many they are; of several texts, lists of both.

        Args:
            do_preprocess: encode each text as a user's message, in the chat template.
            add_bos: begin with the token that begins a text, if the model has one.
        """
        body = {"input": input, "do_preprocess": do_preprocess, "add_bos": add_bos}
        answer = self._ask("POST", "/v1/encode", body)
        return answer["input_ids"], answer["length"]

    # -- OpenAI's requests --------------------------------------------------------------------------------------

    def chat_completions_v1(
        self,
        model: str,
        messages: str | Sequence[Mapping[str, Any]],
        *,
        stream: bool = False,
        session_id: int | str = NO_SESSION,
        **parameters: Any,
    ) -> Iterator[Answer]:
        """Answer messages; yield one completion, or its chunks as they come.

        Args:
            messages: OpenAI's shape; a text is one message of the user's.
            session_id: keeps a conversation on one engine behind a router.
            parameters: further fields of OpenAI's request, or of vLLM's: ``temperature``, ``max_tokens``, ``tools``...
        """
        said = [{"role": "user", "content": messages}] if isinstance(messages, str) else list(messages)
        body = {"model": model, "messages": said, "stream": stream, **parameters}
        yield from self._completions("/v1/chat/completions", body, session_id)

    def completions_v1(
        self,
        model: str,
        prompt: str | Sequence[Any],
        *,
        stream: bool = False,
        session_id: int | str = NO_SESSION,
        **parameters: Any,
    ) -> Iterator[Answer]:
        """Go on with a raw prompt; yield one completion, or its chunks as they come."""
        body = {"model": model, "prompt": prompt, "stream": stream, **parameters}
        yield from self._completions("/v1/completions", body, session_id)

    # -- conversations on the server ----------------------------------------------------------------------------

    def chat_interactive_v1(
        self,
        prompt: str | Sequence[Mapping[str, Any]],
        *,
        session_id: int = NO_SESSION,
        interactive_mode: bool = False,
        stream: bool = False,
        **parameters: Any,
    ) -> Iterator[Answer]:
        """Answer what is new in a session; yield one reply, or its pieces as they come.

        Args:
            session_id: a number of the caller's; -1: the server takes one and says which.
            interactive_mode: remember what is said under that number.
            parameters: further fields of LMDeploy's request: ``request_output_len``, ``temperature``, ``cancel``...
        Raises:
            ConversationBusyError: an answer is being given in the session.
        """
        body = {"prompt": prompt, "session_id": session_id, "interactive_mode": interactive_mode, **parameters}
        path, headers = "/v1/chat/interactive", self._session_header(session_id)
        if not stream:
            yield self._ask("POST", path, body, headers)
            return
        with self._open(path, {**body, "stream": True}, headers) as response:
            for line in self._lines(response):
                yield json.loads(line)

    def chat(
        self, prompt: str, session_id: int, *, stream: bool = False, **parameters: Any
    ) -> Iterator[tuple[str, int, str | None]]:
        """Say something in a session; yield (text, tokens so far, why the answer ended).

        Raises:
            ValueError: the session has no number of its own.
        """
        if session_id == NO_SESSION:
            raise ValueError("a conversation needs a session_id other than -1")
        for reply in self.chat_interactive_v1(
            prompt, session_id=session_id, interactive_mode=True, stream=stream, **parameters
        ):
            yield reply["text"], reply["tokens"], reply["finish_reason"]

    def end_session(self, session_id: int) -> None:
        """Forget a session; its number is free again."""
        for _ in self.chat_interactive_v1("", session_id=session_id, request_output_len=0):
            pass

    # -- inside -------------------------------------------------------------------------------------------------

    def _completions(self, path: str, body: Mapping[str, Any], session_id: int | str) -> Iterator[Answer]:
        headers = self._session_header(session_id)
        if not body["stream"]:
            yield _with_both_names(self._ask("POST", path, body, headers))
            return
        with self._open(path, body, headers) as response:
            for line in self._lines(response):
                data = line.removeprefix("data:").strip()
                if not data.startswith("{"):  # a comment that keeps the connection alive, or [DONE]
                    continue
                chunk = json.loads(data)
                if "error" in chunk:
                    raise ServerRequestError(f"{self.api_server_url}: {_words_of(chunk)}")
                yield _with_both_names(chunk)

    def _session_header(self, session_id: int | str) -> dict[str, str]:
        return {SESSION_HEADER: self._own_session if session_id == NO_SESSION else str(session_id)}

    def _ask(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        with self._send(self._client.build_request(method, path, json=body, headers=headers)) as response:
            try:
                return json.loads(response.read())
            except ValueError as error:
                raise ServerRequestError(f"{self.api_server_url}{path} does not answer in JSON") from error
            except httpx2.TransportError as error:
                raise self._broken(error) from error

    def _open(self, path: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> _Opened:
        return self._send(self._client.build_request("POST", path, json=body, headers=headers))

    def _send(self, request: httpx2.Request) -> _Opened:
        """Send a request; the answer's body is still to come."""
        try:
            response = self._client.send(request, stream=True)
        except httpx2.TransportError as error:
            raise ServerRequestError(
                f"{self.api_server_url} does not answer ({cause_of(error)})",
                hint="Check the address, and whether the server runs.",
            ) from error
        if not response.is_success:
            with _Opened(response):
                raise self._refusal(response)
        return _Opened(response)

    def _lines(self, response: httpx2.Response) -> Iterator[str]:
        try:
            yield from (line for line in response.iter_lines() if line.strip())
        except httpx2.TransportError as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> ServerRequestError:
        return ServerRequestError(f"the connection to {self.api_server_url} broke off ({cause_of(error)})")

    def _refusal(self, response: httpx2.Response) -> ServerRequestError | ConversationBusyError:
        status = response.status_code
        try:
            said = _words_of(json.loads(response.read()))
        except (ValueError, httpx2.TransportError):
            said = ""
        if status == 409:
            return ConversationBusyError(response.request.headers.get(SESSION_HEADER, ""))
        if status in (401, 403) and not said:
            said = "the key is not accepted"
        hint = "Give the key, or name it in OPENAI_API_KEY." if status == 401 else None
        return ServerRequestError(f"{self.api_server_url} answers {status}: {said}", status=status, hint=hint)


class _Opened:
    """A response whose body may still be coming; leaving the block ends it, and the server stops answering."""

    def __init__(self, response: httpx2.Response) -> None:
        self._response = response

    def __enter__(self) -> httpx2.Response:
        return self._response

    def __exit__(self, *_: object) -> None:
        self._response.close()


def _words_of(body: Any) -> str:
    """Return what an error says: OpenAI's form, LMDeploy's flat one, or FastAPI's own."""
    error = body.get("error", body) if isinstance(body, Mapping) else {}
    said = error.get("message") or error.get("detail") or "" if isinstance(error, Mapping) else error
    return (str(said).splitlines() or [""])[0][:300]


def _with_both_names(answer: Answer) -> Answer:
    """Give thinking under both of its names: ``reasoning``, as vLLM says, and ``reasoning_content``, as others do."""
    for choice in answer.get("choices", ()):
        part = choice.get("message") or choice.get("delta")
        if part:
            thought = part.get("reasoning") or part.get("reasoning_content")
            if thought is not None:
                part["reasoning"] = part["reasoning_content"] = thought
    return answer
