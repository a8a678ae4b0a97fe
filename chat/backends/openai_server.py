"""Replies from a server that speaks OpenAI's protocol, through the official ``openai`` client.

vLLM's own server gives most (exact token counts by ``/tokenize``, the window's length); any other works as well, with
what it does not tell left out or estimated.
"""

from __future__ import annotations

import contextlib
import queue
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from chat.backends.base import BackendStatus, BackendStream, Fit, ModelInfo, Readiness
from chat.net.http_client import GENERATED_IDS, SESSION_HEADER, api_url_of, cause_of, uses_proxies
from chatcore.errors import ChatError, EngineError, PromptTooLongError, SamplingError
from chatcore.prompts.window import group_turns, max_prompt_tokens
from chatcore.reply import Delta, MessageDict, Reply, ToolCall, Usage

if TYPE_CHECKING:
    from openai import OpenAI

__all__ = ["ServerBackend"]


CONNECT_TIMEOUT_S = 10.0
UNKNOWN_WINDOW = 32_768  # tokens; for servers that do not tell
CHARACTERS_PER_TOKEN = 3.0  # where nobody counts; for a gauge only
OPENAI_PARAMETERS = frozenset(
    {"temperature", "top_p", "max_tokens", "seed", "stop", "presence_penalty", "frequency_penalty", "n"}
    | {"logprobs", "top_logprobs", "logit_bias", "response_format"}
)
NOT_SENT = frozenset({"token_ids"})  # of a message: only our own server knows what to do with them, and where


class ServerBackend:
    """Replies from an OpenAI-compatible server.

    Args:
        url: such as ``http://127.0.0.1:8000/v1``; the path may be left out.
        api_key: empty if the server wants none.
        model: one of those that the server has; its first if left out.

    The constructor returns at once; the server is asked for its models in the background.
    """

    log_file = None

    def __init__(self, url: str, *, api_key: str = "", model: str | None = None) -> None:
        self.url = api_url_of(url)
        self.name = model or self.url
        self._api_key = api_key
        self._model = model
        self._is_ours = False
        self._session_id = secrets.token_hex(12)  # for what belongs to no conversation
        self._open()

    def status(self) -> BackendStatus:
        """Tell whether the server has answered. Never blocks."""
        return self._readiness.status()

    def wait_until_ready(self, timeout_s: float | None = None) -> BackendStatus:
        """Wait until the server has answered or could not be reached, or the time is over."""
        return self._readiness.wait(timeout_s)

    def info(self) -> ModelInfo:
        """Return what the server tells of its model; waits for it."""
        return self._readiness.info()

    def stream(
        self,
        messages: Sequence[MessageDict],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        enable_thinking: bool | None = None,
        continue_final_message: bool = False,
        session_id: str | None = None,
        **sampling: Any,
    ) -> BackendStream:
        """Begin an answer; sampling parameters that OpenAI does not know are sent as vLLM takes them.

        Args:
            session_id: the conversation's id: a router sends its requests to the engine that knows it already.
        """
        model = self.info().name
        extra: dict[str, Any] = {name: value for name, value in sampling.items() if name not in OPENAI_PARAMETERS}
        extra |= self._prompt_options(messages, enable_thinking, continue_final_message)
        if self._is_ours:
            extra["return_token_ids"] = True
        arguments: dict[str, Any] = {name: value for name, value in sampling.items() if name in OPENAI_PARAMETERS}
        if tools:
            arguments["tools"] = list(tools)
        return _ServerStream(
            self._client,
            {
                "model": model,
                "messages": _for_server(messages),
                "stream": True,
                "stream_options": {"include_usage": True},
                "extra_headers": {SESSION_HEADER: session_id or self._session_id},
                "extra_body": extra,
                **arguments,
            },
        )

    def fit(
        self,
        messages: Sequence[MessageDict],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        enable_thinking: bool | None = None,
        continue_final_message: bool = False,
        max_tokens: int | None = None,
        per_message: bool = False,
    ) -> Fit:
        """Return what of these messages fits the window: whole oldest turns go, never the system message.

        Raises:
            PromptTooLongError: what must stay does not fit.
        """
        limit = max_prompt_tokens(self.info().max_model_len, max_tokens)
        body: dict[str, Any] = {"tools": list(tools) if tools else None}
        dropped: tuple[int, ...] = ()
        for dropped in _cuts(messages):
            kept = [message for index, message in enumerate(messages) if index not in dropped]
            count = self._count(kept, body | self._prompt_options(kept, enable_thinking, continue_final_message))
            if count <= limit:
                break
        else:
            raise PromptTooLongError(count, limit)
        tokens = tuple(self._count([message], {}) for message in messages) if per_message else ()
        return Fit(count, limit, dropped, tokens)

    def models(self) -> list[str]:
        """Return the models that the server has.

        Raises:
            ChatError: it does not answer.
        """
        from openai import OpenAIError

        self.info()
        try:
            return [model.id for model in self._client.models.list(timeout=CONNECT_TIMEOUT_S)]
        except (OpenAIError, ValueError) as error:
            raise translate(error, self.url) from error

    def reload(self) -> None:
        """Connect again."""
        self._open()

    def close(self) -> None:
        """Let go of the connections."""
        with contextlib.suppress(AttributeError):
            self._client.close()

    # -- inside -------------------------------------------------------------------------------------------------

    def _prompt_options(
        self, messages: Sequence[MessageDict], enable_thinking: bool | None, continue_final_message: bool
    ) -> dict[str, Any]:
        """Return what a request says of how its prompt is built."""
        template: dict[str, Any] = {} if enable_thinking is None else {"enable_thinking": enable_thinking}
        ids = {str(index): list(m["token_ids"]) for index, m in enumerate(messages) if m.get("token_ids")}
        if self._is_ours and ids:
            template[GENERATED_IDS] = ids
        options: dict[str, Any] = {"chat_template_kwargs": template} if template else {}
        if continue_final_message:
            options |= {"continue_final_message": True, "add_generation_prompt": False}
        return options

    def _open(self) -> None:
        self._readiness = Readiness()
        self._counts_exactly = True
        threading.Thread(target=self._connect, name="server-client", daemon=True).start()

    def _connect(self) -> None:
        from openai import DefaultHttpxClient, OpenAI, OpenAIError, Timeout

        self._client: OpenAI = OpenAI(
            base_url=self.url,
            api_key=self._api_key or "none",
            max_retries=0,
            timeout=Timeout(None, connect=CONNECT_TIMEOUT_S),
            http_client=DefaultHttpxClient(trust_env=uses_proxies(self.url)),
        )
        try:
            models = list(self._client.models.list(timeout=CONNECT_TIMEOUT_S))
        except (OpenAIError, ValueError) as error:
            self._readiness.become("failed", error=translate(error, self.url))
            return
        names = [model.id for model in models]
        if not names or (self._model and self._model not in names):
            problem = EngineError(
                f"{self.url} has no model {self._model or ''}".rstrip(), hint=f"It has: {', '.join(names) or 'none'}."
            )
            self._readiness.become("failed", error=problem)
            return
        model = models[names.index(self._model) if self._model else 0]
        window = getattr(model, "max_model_len", None) or UNKNOWN_WINDOW
        self._is_ours = self._keeps_conversations()
        self.name = model.id
        self._readiness.become("ready", info=ModelInfo(name=model.id, max_model_len=window, thinks=True))

    def _keeps_conversations(self) -> bool:
        """Tell whether the server is one of ours."""
        from openai import OpenAIError

        try:
            found = self._client.get("/store", cast_to=object, options={"timeout": CONNECT_TIMEOUT_S})
        except (OpenAIError, ValueError):
            return False
        return isinstance(found, Mapping) and found.get("object") == "conversation_store"

    def _count(self, messages: Sequence[MessageDict], body: Mapping[str, Any]) -> int:
        """Return the prompt's length in tokens, by the server if it counts."""
        from openai import APIStatusError, OpenAIError

        if self._counts_exactly:
            try:
                counted: Any = self._client.post(
                    f"{self.url.removesuffix('/v1')}/tokenize",
                    cast_to=object,
                    body={"model": self.info().name, "messages": _for_server(messages), **body},
                    options={"headers": {SESSION_HEADER: self._session_id}},
                )
                return int(counted["count"])
            except APIStatusError as error:
                if error.status_code == 400:
                    raise translate(error, self.url) from error
                self._counts_exactly = False
            except (OpenAIError, KeyError, TypeError, ValueError):
                self._counts_exactly = False
        return sum(_estimate(message) for message in messages)


class _ServerStream:
    """An answer that a server is giving, read in a thread of its own so that an abort never waits for the network."""

    def __init__(self, client: OpenAI, request: Mapping[str, Any]) -> None:
        self._client = client
        self._request = request
        self._events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._aborted = False
        self._response: Any = None
        self._started_s = time.perf_counter()
        self._first_s: float | None = None
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._token_ids: list[int] = []
        self._calls: dict[int, ToolCall] = {}
        self._finish_reason: str | None = None
        self._usage: Any = None
        self._reply: Reply | None = None
        threading.Thread(target=self._read, name="server-stream", daemon=True).start()

    def __iter__(self) -> Iterator[Delta]:
        while self._reply is None:
            event = self._events.get()
            if isinstance(event, Exception):
                raise event
            if event is None:
                self._reply = self._make_reply()
                return
            yield from self._take(event)

    def __enter__(self) -> _ServerStream:
        return self

    def __exit__(self, *_: object) -> None:
        if self._reply is None:
            self.abort()

    def abort(self) -> None:
        """End the answer now; the server notices that nobody reads any more."""
        self._aborted = True
        self._events.put(None)
        if self._response is not None:
            threading.Thread(target=self._response.close, daemon=True).start()

    @property
    def reply(self) -> Reply:
        for _ in self:
            pass
        assert self._reply is not None
        return self._reply

    def _read(self) -> None:
        try:
            self._response = self._client.chat.completions.create(**self._request)
            for chunk in self._response:
                if self._aborted:
                    self._response.close()
                    return
                self._events.put(chunk)
            self._events.put(None)
        except Exception as error:  # however the connection breaks: whoever reads must hear of it
            if not self._aborted:
                self._events.put(self._translate(error))

    def _translate(self, error: Exception) -> ChatError:
        from openai import APIStatusError

        url = str(self._client.base_url).rstrip("/")
        if self._response is not None and not isinstance(error, APIStatusError):
            return _broken_off(error, url)
        return translate(error, url)

    def _take(self, chunk: Any) -> list[Delta]:
        self._usage = chunk.usage or self._usage
        if not chunk.choices:
            return []
        choice = chunk.choices[0]
        self._token_ids += getattr(choice, "token_ids", None) or ()
        self._finish_reason = choice.finish_reason or self._finish_reason
        deltas = []
        thought = getattr(choice.delta, "reasoning", None) or getattr(choice.delta, "reasoning_content", None)
        if thought and (self._reasoning or thought.strip("\n")):
            self._reasoning.append(thought)
            deltas.append(Delta("reasoning", thought))
        text = choice.delta.content
        if text and not self._text:
            text = text.lstrip("\n")  # the blank lines after thinking belong to the markup
        if text:
            self._text.append(text)
            deltas.append(Delta("text", text))
        for part in choice.delta.tool_calls or ():
            deltas.append(self._take_call(part))
        if deltas and self._first_s is None:
            self._first_s = time.perf_counter()
        return deltas

    def _take_call(self, part: Any) -> Delta:
        call = self._calls.get(part.index, ToolCall(part.id or "", "", ""))
        name, arguments = (part.function.name or "", part.function.arguments or "") if part.function else ("", "")
        call = ToolCall(call.id, call.name + name, call.arguments + arguments)
        self._calls[part.index] = call
        return Delta("tool_call", arguments, call.name)

    def _make_reply(self) -> Reply:
        now_s = time.perf_counter()
        details = getattr(self._usage, "prompt_tokens_details", None)
        reason: Any = "abort" if self._aborted else self._finish_reason or "stop"
        return Reply(
            text="".join(self._text),
            reasoning="".join(self._reasoning).rstrip("\n"),
            tool_calls=tuple(self._calls[index] for index in sorted(self._calls)),
            token_ids=tuple(self._token_ids),
            finish_reason=reason,
            usage=Usage(
                num_prompt_tokens=getattr(self._usage, "prompt_tokens", 0),
                num_cached_tokens=getattr(details, "cached_tokens", 0) or 0,
                num_output_tokens=getattr(self._usage, "completion_tokens", 0),
                ttft_ms=((self._first_s or now_s) - self._started_s) * 1000,
                e2el_ms=(now_s - self._started_s) * 1000,
            ),
        )


def translate(error: Exception, url: str) -> ChatError:
    """Return the one sentence, and the remedy, for what the client raised."""
    from openai import APIConnectionError, APIStatusError, AuthenticationError, PermissionDeniedError

    if isinstance(error, (AuthenticationError, PermissionDeniedError)):
        return EngineError(f"{url} refuses the key", hint="Name a file that holds it: --api-key-file FILE.")
    if isinstance(error, APIStatusError):
        said = _server_message(error)
        if error.status_code in (400, 422):
            return SamplingError(f"the server refuses the request: {said}")
        return EngineError(
            f"the server answers {error.status_code}: {said}", hint="The conversation is kept: try again."
        )
    if isinstance(error, APIConnectionError):
        cause = error.__cause__ or error
        return EngineError(
            f"{url} does not answer ({str(cause).splitlines()[0] if str(cause) else type(cause).__name__})",
            hint="The conversation is kept. Check the address, and whether the server runs; /reload connects again.",
        )
    return _broken_off(error, url)


def _broken_off(error: Exception, url: str) -> EngineError:
    cause = cause_of(error.__cause__ if isinstance(error.__cause__, Exception) else error)
    return EngineError(f"the connection to {url} broke off ({cause})", hint="What came is kept: try again.")


def _server_message(error: Any) -> str:
    body = error.body if isinstance(error.body, dict) else {}
    message = body.get("message") or body.get("detail") or error.message
    return str(message).splitlines()[0][:300]


def _for_server(messages: Sequence[MessageDict]) -> list[Any]:
    return [{name: value for name, value in message.items() if name not in NOT_SENT} for message in messages]


def _estimate(message: MessageDict) -> int:
    text = str(message.get("content") or "")
    wide = sum(character > "\u2e80" for character in text)
    return 4 + wide + int((len(text) - wide) / CHARACTERS_PER_TOKEN)


def _cuts(messages: Sequence[MessageDict]) -> Iterator[tuple[int, ...]]:
    """Yield what may be left out: nothing, then one whole turn more each time, oldest first."""
    turns = group_turns(message["role"] for message in messages)
    for num_dropped in range(max(1, len(turns))):
        yield tuple(index for turn in turns[:num_dropped] for index in turn)
