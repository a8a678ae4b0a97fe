"""``/v1/chat/interactive`` in LMDeploy's contract: the server remembers what was said under a session's number.

Where the contract let a session be corrupted, it is kept: one answer at a time (409), each key its own numbers, nothing
is thrown away silently. Sampling parameters that a request leaves out are the model's own, not fixed ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from chat.conversations.conversation import Conversation, Message, from_dicts
from chat.server.api.access import cache_salt_of, dropped_header, owner_of, prompts_of, turns_of
from chat.server.api.answers import Clock, chat_pieces, is_error
from chat.server.api.problems import FLAT_REFUSALS, FlatRoute, RequestError
from chat.server.api.prompts import TurnPrompt, ready_ids
from chat.server.api.turns import Piece, RunningTurn, RunningTurns, behind
from chat.server.vllm_plugin.compatibility import (
    ChatCompletionRequest,
    load_aware_call,
    validate_json_request,
    with_cancellation,
)
from chatcore.errors import ChatError, PromptTooLongError

__all__ = ["router"]

NO_SESSION = -1
MAX_SESSION_ID = 2**63 - 1
MAX_TOKENS = 2**31 - 1

router = APIRouter(route_class=FlatRoute, responses=FLAT_REFUSALS, tags=["Interactive"])


class InteractiveMessage(BaseModel):
    """A message of a list of messages. What else it brings is left out: ready token ids are not a client's to give."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | None = ""
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None


class InteractiveRequest(BaseModel):
    """LMDeploy's request. What is null is the model's own default."""

    model_config = ConfigDict(extra="forbid")

    prompt: str | list[InteractiveMessage] = Field(description="what is new: text, or messages")
    image_url: str | list[str] | None = Field(None, description="refused: conversations that are kept hold text")
    session_id: Annotated[int, Field(ge=NO_SESSION, le=MAX_SESSION_ID)] = NO_SESSION
    interactive_mode: bool = Field(False, description="remember what is said under the session's number")
    stream: bool = False
    stop: str | list[Annotated[str, StringConstraints(min_length=1)]] | None = None
    request_output_len: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = Field(None, description="most new tokens")
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1, le=MAX_TOKENS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    ignore_eos: bool = False
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    cancel: bool = Field(False, description="stop the answer that is being given in the session")
    adapter_name: str | None = Field(None, description="the LoRA adapter to answer with")
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    min_new_tokens: Annotated[int, Field(ge=0, le=MAX_TOKENS)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    enable_thinking: bool | None = Field(None, description="ours: whether the model thinks before it answers")


class InteractiveReply(BaseModel):
    """LMDeploy's reply, and what ours says besides."""

    text: str
    tokens: int = Field(description="generated so far")
    input_tokens: int = Field(description="of the prompt, what is new")
    history_tokens: int = Field(description="of the prompt, what the session held before")
    finish_reason: Literal["stop", "length", "tool_calls", "error"] | None = None
    session_id: int = Field(description="ours: the session's number; -1: nothing is remembered")
    reasoning_content: str | None = Field(default=None, description="ours: what the model thought")
    reasoning: str | None = Field(default=None, description="ours: the same")
    dropped_turns: list[int] | None = Field(default=None, description="ours: turns that the window does not hold")


@router.post(
    "/v1/chat/interactive",
    summary="Talk in a session",
    dependencies=[Depends(validate_json_request)],
    response_model=InteractiveReply,
    response_model_exclude_none=True,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "one reply; streamed: one JSON object a line"}
    },
)
@with_cancellation  # type: ignore[untyped-decorator]  # vLLM's are not followed
@load_aware_call  # type: ignore[untyped-decorator]
async def chat_interactive(request: InteractiveRequest, raw_request: Request) -> Any:
    """Answer, remember, cancel or end, as the request says."""
    turns, owner = turns_of(raw_request), owner_of(raw_request)
    if request.cancel:
        return await _cancel(turns, request.session_id, owner)
    if request.image_url:
        raise RequestError("sessions hold text: send images to /v1/chat/completions", param="image_url")
    if not request.interactive_mode:
        if request.session_id != NO_SESSION:
            await asyncio.to_thread(turns.store.served.end_session, request.session_id, owner=owner)
        if not request.prompt and request.request_output_len == 0:
            return _zero(request.session_id)
    new = _messages(request.prompt)
    exchange = Exchange(raw_request, request, Clock())
    if request.interactive_mode:
        return await exchange.in_session(turns, owner, new)
    return await exchange.alone(new)


async def _cancel(turns: RunningTurns, session_id: int, owner: str) -> InteractiveReply:
    if session_id == NO_SESSION:
        raise RequestError("please set a session_id to cancel a request", param="session_id")
    conversation_id = await asyncio.to_thread(turns.store.served.find_session, session_id, owner=owner)
    if conversation_id is not None:
        await turns.cancel(conversation_id, owner=owner)
    return _zero(session_id)


def _zero(session_id: int) -> InteractiveReply:
    return InteractiveReply(
        text="", tokens=0, input_tokens=0, history_tokens=0, finish_reason="stop", session_id=session_id
    )


def _messages(prompt: str | Sequence[InteractiveMessage]) -> Conversation:
    if not prompt:
        raise RequestError("the prompt is empty", param="prompt")
    if isinstance(prompt, str):
        return from_dicts([{"role": "user", "content": prompt}])
    return from_dicts([message.model_dump() for message in prompt])


class Exchange:
    """One request and its reply."""

    def __init__(self, raw_request: Request, request: InteractiveRequest, clock: Clock) -> None:
        self._raw_request = raw_request
        self._request = request
        self._clock = clock
        self._prompt = TurnPrompt([])
        self._session_id = NO_SESSION
        self._num_tokens = 0

    async def in_session(self, turns: RunningTurns, owner: str, said: Conversation) -> Response:
        """Answer, and remember what was said."""
        turn, is_new = await self._open(turns, owner, said)
        try:
            new = behind(turn.conversation, said)
            try:
                self._prompt = await asyncio.to_thread(self._make_prompt, turn.conversation, new)
            except PromptTooLongError as error:
                await turn.close()
                return await self._too_long(turn.conversation, error)
            events = await self._events(self._prompt)
            await turn.say(new, window_start_id=self._prompt.window_start_id)
            pieces = chat_pieces(events, self._clock, dropped_turns=len(self._prompt.dropped_turns))
            turn.begin(pieces, num_reused_tokens=self._prompt.num_history_tokens)
        except BaseException:
            await asyncio.shield(turn.close())
            if is_new:
                await asyncio.shield(asyncio.to_thread(turns.store.delete, turn.conversation.id, owner=owner))
            raise
        return await self._reply(turn.pieces())

    async def alone(self, said: Conversation) -> Response:
        """Answer, and remember nothing."""
        new = list(said.path())
        conversation = Conversation(system=said.system)
        try:
            self._prompt = await asyncio.to_thread(self._make_prompt, conversation, new)
        except PromptTooLongError as error:
            return await self._too_long(conversation, error)
        return await self._reply(chat_pieces(await self._events(self._prompt), self._clock))

    async def _open(self, turns: RunningTurns, owner: str, said: Conversation) -> tuple[RunningTurn, bool]:
        """Open a turn in the session's conversation; begin one if there is none."""
        served, number = turns.store.served, self._request.session_id
        known = None if number == NO_SESSION else await asyncio.to_thread(served.find_session, number, owner=owner)
        if known is not None:
            self._session_id = number
            return await turns.open(known, owner=owner), False
        conversation = await asyncio.to_thread(turns.create, owner=owner, system=said.system)
        wanted = None if number == NO_SESSION else number
        self._session_id, has_it = await asyncio.to_thread(served.begin_session, conversation.id, wanted, owner=owner)
        if has_it != conversation.id:  # another request was faster
            await asyncio.to_thread(turns.store.delete, conversation.id, owner=owner)
        return await turns.open(has_it, owner=owner), has_it == conversation.id

    def _make_prompt(self, conversation: Conversation, new: Sequence[Message]) -> TurnPrompt:
        kwargs = prompts_of(self._raw_request).template_kwargs(self._chat_request([]))
        return prompts_of(self._raw_request).make(
            conversation, new, max_tokens=self._request.request_output_len, template_kwargs=kwargs
        )

    async def _too_long(self, conversation: Conversation, error: PromptTooLongError) -> Response:
        """Say that the window is full, as LMDeploy does; nothing is kept."""
        prompts, has_history = prompts_of(self._raw_request), conversation.tip_id is not None
        num_history = await asyncio.to_thread(prompts.count, conversation) if has_history else 0
        self._prompt = TurnPrompt([0] * error.num_prompt_tokens, min(num_history, error.num_prompt_tokens))
        return self._json(self._line("", finish_reason="length"))

    async def _events(self, prompt: TurnPrompt) -> AsyncIterator[str]:
        serving = self._raw_request.app.state.openai_serving_chat
        events = await serving.create_chat_completion(self._chat_request(prompt.token_ids), self._raw_request)
        if is_error(events):
            raise RequestError(events.error.message, param=events.error.param, status=events.error.code)
        return events  # type: ignore[no-any-return]

    def _chat_request(self, token_ids: Sequence[int]) -> ChatCompletionRequest:
        request = self._request
        chosen: dict[str, Any] = {
            "model": request.adapter_name,
            "max_completion_tokens": request.request_output_len,
            "min_tokens": request.min_new_tokens,
            "cache_salt": cache_salt_of(self._raw_request),
            "chat_template_kwargs": _thinking(request.enable_thinking),
            **request.model_dump(
                include={"stop", "top_p", "top_k", "temperature", "repetition_penalty", "ignore_eos", "seed", "min_p"}
                | {"skip_special_tokens", "spaces_between_special_tokens"}
            ),
        }
        return ChatCompletionRequest(
            messages=[{"role": "user", "content": ""}],
            stream=True,
            stream_options={"include_usage": True},
            return_token_ids=True,
            kv_transfer_params=ready_ids(token_ids) if token_ids else None,
            **{name: value for name, value in chosen.items() if value is not None},
        )

    # -- the reply ----------------------------------------------------------------------------------------------

    async def _reply(self, pieces: AsyncIterator[Piece]) -> Response:
        if self._request.stream:
            headers = self._headers()
            return StreamingResponse(self._lines(pieces), media_type="text/event-stream", headers=headers)
        text, reasoning, last = "", "", Piece(finish_reason="error")
        async with contextlib.aclosing(pieces) as coming:  # type: ignore[type-var]
            async for last in coming:
                text, reasoning = text + last.text, reasoning + last.reasoning
                self._num_tokens += len(last.token_ids)
        return self._json(self._line(text, reasoning, finish_reason=_finish_reason(last), usage=last.usage))

    async def _lines(self, pieces: AsyncIterator[Piece]) -> AsyncIterator[bytes]:
        """Give one JSON object a line. An error ends the stream with a line whose reason is ``error``."""
        try:
            async with contextlib.aclosing(pieces) as coming:  # type: ignore[type-var]
                async for piece in coming:
                    self._num_tokens += len(piece.token_ids)
                    reason = _finish_reason(piece)
                    yield _encode(self._line(piece.text, piece.reasoning, finish_reason=reason, usage=piece.usage))
        except ChatError:  # the log says why
            yield _encode(self._line("", finish_reason="error"))

    def _line(
        self,
        text: str,
        reasoning: str = "",
        *,
        finish_reason: Any = None,
        usage: Mapping[str, float] | None = None,
    ) -> InteractiveReply:
        num_history = self._prompt.num_history_tokens
        return InteractiveReply(
            text=text,
            tokens=int(usage["num_output_tokens"]) if usage else self._num_tokens,
            input_tokens=len(self._prompt.token_ids) - num_history,
            history_tokens=num_history,
            finish_reason=finish_reason,
            session_id=self._session_id,
            reasoning_content=reasoning or None,
            reasoning=reasoning or None,
            dropped_turns=list(self._prompt.dropped_turns) or None,
        )

    def _json(self, reply: InteractiveReply) -> Response:
        return JSONResponse(_without_absent(reply), headers=self._headers())

    def _headers(self) -> dict[str, str]:
        return dropped_header(self._prompt.dropped_turns)


def _thinking(enable_thinking: bool | None) -> dict[str, Any] | None:
    return None if enable_thinking is None else {"enable_thinking": enable_thinking}


def _finish_reason(piece: Piece) -> str | None:
    return "stop" if piece.finish_reason == "abort" else piece.finish_reason


def _without_absent(reply: InteractiveReply) -> dict[str, Any]:
    """Return the reply as it is sent: LMDeploy's fields always, ours where they say something."""
    ours = {"reasoning_content", "reasoning", "dropped_turns"}
    return {name: value for name, value in reply.model_dump().items() if value is not None or name not in ours}


def _encode(reply: InteractiveReply) -> bytes:
    return json.dumps(_without_absent(reply), ensure_ascii=False).encode() + b"\n"
