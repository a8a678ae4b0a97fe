"""One response of ``/v1/responses`` that is kept: vLLM's events on a prompt of ours, and the store beside them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from fastapi import Request
from fastapi.responses import Response

from chat.conversations.conversation import Conversation, Message
from chat.server.api.access import dropped_header, owner_of, place_of, prompts_of
from chat.server.api.answers import Clock, is_error, refused
from chat.server.api.conversations import public_id
from chat.server.api.items import ItemIds, messages_of, read_items, to_items
from chat.server.api.problems import error_body, status_of
from chat.server.api.prompts import PromptMaker, TurnPrompt, ready_ids
from chat.server.api.turns import Piece, RunningTurn, behind
from chat.store.server_state import KeptResponse
from chatcore.errors import ChatError, EngineError, ResponseNotFoundError

__all__ = ["BY_RESPONSES", "FINAL", "ResponseTurn", "response_key"]

BY_RESPONSES = "responses"  # in the settings of conversations that nobody made but a response
FINAL = ("completed", "incomplete", "failed", "cancelled")
RESPONSE_ID = re.compile(r"(?:resp_)?([0-9a-f]{24})")


def response_key(response_id: str) -> str:
    """Return the store's id for one of the API's.

    Raises:
        ResponseNotFoundError: it can be none.
    """
    match = RESPONSE_ID.fullmatch(response_id)
    if match is None:
        raise ResponseNotFoundError(response_id)
    return match[1]


class ResponseTurn:
    """A turn of a conversation, given as a response.

    Args:
        request: what the client asked for.
        turn: open, and not begun.
        response_id: the store's id for the response.
        begins: the conversation was made for this response, and goes if it does not begin.
    """

    def __init__(
        self, request: Any, raw_request: Request, turn: RunningTurn, response_id: str, *, begins: bool = False
    ) -> None:
        self._request = request
        self._raw_request = raw_request
        self._turn = turn
        self._id = response_id
        self._begins = begins
        self._prompt = TurnPrompt([])
        self._body: dict[str, Any] = {}
        self._clock = Clock()
        self._ids = ItemIds(turn.id)
        self._num_events = 0
        self._kept: Future[None] | None = None  # that it has begun

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the reply."""
        return dropped_header(self._prompt.dropped_turns)

    async def begin(self, said: Conversation) -> Response | None:
        """Begin the answer to what was said; return vLLM's refusal if it does not take the request."""
        turn, refusal = self._turn, None
        try:
            new = behind(turn.conversation, said)
            prompts = prompts_of(self._raw_request)
            self._prompt = await asyncio.to_thread(self.make_prompt, self._request, prompts, turn.conversation, new)
            serving = self._raw_request.app.state.openai_serving_responses
            chosen = {"stream": True, "request_id": f"resp_{self._id}", "enable_response_messages": True}
            events = await serving.create_responses(
                self.for_vllm(self._request, self._prompt.token_ids, chosen), self._raw_request
            )
            if is_error(events):
                refusal = refused(events)
            else:
                await turn.say(new, window_start_id=self._prompt.window_start_id)
                turn.on_end, turn.stays = self._keep_end, bool(self._request.background)
                turn.begin(self._pieces(events), num_reused_tokens=self._prompt.num_history_tokens)
                if turn.stays and (place := place_of(self._raw_request)) is not None:
                    place.stays = True
                    turn.when_over(place.leave)
        except BaseException:
            await asyncio.shield(self._withdraw())
            raise
        if refusal is not None:
            await self._withdraw()
        return refusal

    async def _withdraw(self) -> None:
        await self._turn.close()
        if self._begins:
            store, conversation = self._turn.turns.store, self._turn.conversation
            await asyncio.to_thread(store.delete, conversation.id, owner=conversation.owner)

    async def events(self) -> AsyncIterator[dict[str, Any]]:
        """Give the events for the client. If the answer fails, the last one says so."""
        is_kept = False
        try:
            async for piece in self._turn.pieces():
                if self._kept is not None and not is_kept:  # nobody sees what is not in the store
                    await asyncio.shield(asyncio.wrap_future(self._kept))
                    is_kept = True
                if piece.event is not None:
                    yield piece.event
                elif piece.finish_reason == "abort":
                    yield self._last_event("response.incomplete")
        except ChatError:
            self._turn.cancel()  # in the background it would go on, and nobody could ask for it
            if not self._request.stream:
                raise
            yield self._last_event("response.failed")

    def _last_event(self, kind: str) -> dict[str, Any]:
        return {"type": kind, "sequence_number": self._num_events, "response": self._body}

    # -- the request to vLLM ------------------------------------------------------------------------------------

    @staticmethod
    def for_vllm(request: Any, token_ids: Sequence[int], chosen: Mapping[str, Any]) -> Any:
        """Return the request for vLLM's serving object, with a ready prompt."""
        ours = {
            "input": "",
            "store": False,
            "background": False,
            "conversation": None,
            "previous_response_id": None,
            "truncation": "disabled",
            "kv_transfer_params": ready_ids(token_ids),
        }
        return request.model_copy(update={**ours, **chosen})

    @staticmethod
    def make_prompt(
        request: Any, prompts: PromptMaker, conversation: Conversation, new: Sequence[Message]
    ) -> TurnPrompt:
        """Return the prompt for what a request says behind a conversation."""
        from chat.server.vllm_plugin.compatibility import construct_tool_dicts

        tools = construct_tool_dicts(request.tools, request.tool_choice)
        return prompts.make(
            conversation,
            new,
            instructions=request.instructions,
            max_tokens=request.max_output_tokens,
            may_drop=_may_drop(request),
            template_kwargs=prompts.template_kwargs(request, tools),
        )

    # -- its answer ---------------------------------------------------------------------------------------------

    async def _pieces(self, events: AsyncIterator[Any]) -> AsyncIterator[Piece]:
        """Read vLLM's events; begin to keep the response when it begins."""
        async for vllm_event in events:
            event = self._ids.rename(vllm_event.model_dump(mode="json", by_alias=True))
            self._num_events += 1
            kind = event.get("type")
            if kind == "response.completed":
                yield self._last_piece(event)
                return
            if kind == "error":
                raise EngineError(str(event.get("message") or "the engine failed"))
            if "response" in event:
                self._body = event["response"] = self._described(event["response"])
            if kind == "response.created" and self._request.store is not False:
                keeping = asyncio.to_thread(self._keep_begin, self._body)  # the engine begins meanwhile
                self._kept = asyncio.run_coroutine_threadsafe(keeping, asyncio.get_running_loop())
            yield self._piece(event)

    def _piece(self, event: dict[str, Any]) -> Piece:
        kind, delta = event.get("type"), str(event.get("delta") or "")
        if delta:
            self._clock.first()
        return Piece(
            text=delta if kind == "response.output_text.delta" else "",
            reasoning=delta if kind == "response.reasoning_text.delta" else "",
            event=event,
        )

    def _last_piece(self, event: dict[str, Any]) -> Piece:
        answer = event["response"]
        generated = answer.get("output_messages") or []
        self._body = event["response"] = self._described(answer)
        calls = [call for message in messages_of(_as_read(answer["output"])).path() for call in message.tool_calls]
        usage = answer["usage"] or {}
        stopped = "tool_calls" if calls else "stop"
        return Piece(
            token_ids=[token_id for part in generated for token_id in part["tokens"]],
            tool_calls=calls,
            finish_reason="length" if answer["status"] == "incomplete" else stopped,
            usage=self._clock.usage(
                prompt=usage.get("input_tokens", 0),
                cached=(usage.get("input_tokens_details") or {}).get("cached_tokens", 0),
                output=usage.get("output_tokens", 0),
                dropped_turns=len(self._prompt.dropped_turns),
            ),
            event=event,
        )

    def _described(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return vLLM's response object with what it does not know of, and without what was for us only."""
        conversation = self._turn.conversation
        is_made = conversation.settings.get("made_by") != BY_RESPONSES
        return {
            **{name: value for name, value in answer.items() if name not in ("input_messages", "output_messages")},
            "error": None,
            "background": bool(self._request.background),
            "conversation": {"id": public_id(conversation.id)} if is_made else None,
            "previous_response_id": self._request.previous_response_id,
            "store": self._request.store is not False,
            "truncation": "auto" if _may_drop(self._request) else "disabled",
            "dropped_turns": list(self._prompt.dropped_turns),
        }

    # -- what is kept -------------------------------------------------------------------------------------------

    def _keep_begin(self, body: dict[str, Any]) -> None:
        response = KeptResponse(self._id, self._turn.conversation.id, self._turn.id, body)
        self._turn.turns.store.served.add_response(response, owner=owner_of(self._raw_request))

    def _keep_end(self, answer: Message, error: ChatError | None) -> None:
        """Keep what has become of the response; called in a thread, before the lease is given back."""
        if self._body.get("status") not in FINAL:
            said = bool(answer.content or answer.reasoning)
            self._body = {
                **self._body,
                "status": "cancelled" if error is None else "failed",
                "output": to_items(answer) if said else [],
                "error": None if error is None else _described_error(error),
            }
        if self._kept is not None:
            self._kept.result()
            store = self._turn.turns.store
            store.served.update_response(self._id, self._body, owner=owner_of(self._raw_request))


def _may_drop(request: Any) -> bool:
    """Tell whether old turns may be left out: unless the client says that it wants an error instead."""
    return "truncation" not in request.model_fields_set or request.truncation == "auto"


def _as_read(output: Sequence[Mapping[str, Any]]) -> list[Any]:
    """Return the calls of an output as vLLM reads them from a request."""
    calls = [item for item in output if item["type"] in ("function_call", "custom_tool_call")]
    return read_items(calls) if calls else []


def _described_error(error: ChatError) -> dict[str, Any]:
    body = error_body(error, status_of(error))
    return {"code": "server_error", "message": body["message"]}
