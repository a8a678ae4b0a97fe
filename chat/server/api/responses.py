"""OpenAI's ``/v1/responses`` with ``conversation`` and ``previous_response_id``, kept in the store.

vLLM's own serving object answers, on a prompt that is made here of what is kept, and its events go out as they come.
A request that wants nothing kept and names nothing that is goes to vLLM's own route untouched. A response that names no
conversation begins one, in which ``previous_response_id`` goes on: answers to one response stand side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, Field

from chat.conversations.conversation import make_id
from chat.server.api.access import owner_of, prompts_of, store_of, turns_of
from chat.server.api.conversations import ItemPage, conversation_key, page
from chat.server.api.items import has_media, messages_of, to_items
from chat.server.api.problems import REFUSALS, OpenAIRoute, RequestError
from chat.server.api.response_turn import BY_RESPONSES, FINAL, ResponseTurn, response_key
from chat.server.api.turns import behind
from chat.server.vllm_plugin.compatibility import (
    ResponsesRequest,
    ResponsesResponse,
    load_aware_call,
    validate_json_request,
    with_cancellation,
)
from chat.server.vllm_plugin.compatibility import create_responses as create_response_by_vllm
from chatcore.errors import ConversationNotFoundError, ResponseNotFoundError

__all__ = ["router"]

CANCEL_WAIT_S = 5.0  # for the process that answers to notice
router = APIRouter(prefix="/v1/responses", route_class=OpenAIRoute, responses=REFUSALS, tags=["Responses"])
ResponseId = Annotated[str, Path(max_length=64)]


class ConversationReference(BaseModel):
    """A conversation by its id."""

    id: str


class CreateResponseRequest(ResponsesRequest):  # type: ignore[misc]  # vLLM's classes are not followed
    """vLLM's request, and the conversation that it goes on in."""

    conversation: str | ConversationReference | None = Field(
        None, description="go on in this conversation, and keep there what is said"
    )

    @property
    def conversation_id(self) -> str | None:
        """The id of the conversation that is named."""
        named = self.conversation
        return named.id if isinstance(named, ConversationReference) else named


class ResponseDeleted(BaseModel):
    """What was deleted."""

    id: str
    object: Literal["response"] = "response"
    deleted: Literal[True] = True


@router.post(
    "",
    summary="Create a response",
    dependencies=[Depends(validate_json_request)],
    responses={200: {"model": ResponsesResponse, "content": {"text/event-stream": {}}}},
)
async def create_response(request: CreateResponseRequest, raw_request: Request) -> Any:
    """Answer; keep what was said unless ``store`` is false."""
    named = request.conversation_id or request.previous_response_id
    if request.conversation_id and request.previous_response_id:
        raise RequestError("name a conversation or a previous response, not both", param="previous_response_id")
    is_told = "store" in request.model_fields_set
    if not named and (request.store is False or (not is_told and has_media(request.input))):
        return await create_response_by_vllm(request, raw_request)
    if request.store is False and not request.conversation_id:
        return await _answer_unkept(request, raw_request)
    return await _answer(request, raw_request=raw_request)


@with_cancellation  # type: ignore[untyped-decorator]  # vLLM's are not followed
@load_aware_call  # type: ignore[untyped-decorator]
async def _answer(request: CreateResponseRequest, raw_request: Request) -> Response:
    """Answer in a conversation, and keep the turn."""
    said = messages_of(request.input)
    turn = await _open_turn(request, raw_request)
    refusal = await turn.begin(said)
    if refusal is not None:
        return refusal
    if request.stream:
        return StreamingResponse(_as_sse(turn.events()), media_type="text/event-stream", headers=turn.headers)
    events = turn.events()
    if request.background:
        body = (await anext(events))["response"]
        return JSONResponse(body, headers=turn.headers)
    body = {}
    async with contextlib.aclosing(events) as coming:  # type: ignore[type-var]
        async for event in coming:
            body = event.get("response") or body
    return JSONResponse(body, headers=turn.headers)


async def _open_turn(request: CreateResponseRequest, raw_request: Request) -> ResponseTurn:
    """Open a turn in the conversation that is named, behind the response that is named, or in a new conversation."""
    turns, owner, response_id = turns_of(raw_request), owner_of(raw_request), make_id()
    if request.conversation_id:
        turn = await turns.open(conversation_key(request.conversation_id), owner=owner)
        return ResponseTurn(request, raw_request, turn, response_id)
    if request.previous_response_id is None:
        conversation = await asyncio.to_thread(turns.create, owner=owner, settings={"made_by": BY_RESPONSES})
        turn = await turns.open(conversation.id, owner=owner)
        return ResponseTurn(request, raw_request, turn, response_id, begins=True)
    conversation_id, tip_id, is_copy = await asyncio.to_thread(_place_behind, raw_request, request.previous_response_id)
    # Answers to one response do not wait for one another: the lease is the response's.
    turn = await turns.open(conversation_id, owner=owner, name=response_id)
    turn.conversation.tip_id = tip_id
    return ResponseTurn(request, raw_request, turn, response_id, begins=is_copy)


def _place_behind(request: Request, response_id: str) -> tuple[str, str, bool]:
    """Return the conversation in which what follows a response is said, the message that it follows, and if it is new.

    A conversation that somebody made stays as it is: what follows its response is said in a copy of it.
    """
    store, owner = store_of(request), owner_of(request)
    found = store.served.find_response(response_key(response_id), owner=owner)
    conversation = store.load(found.conversation_id, owner=owner)
    if found.body.get("status") not in FINAL:
        raise RequestError("the previous response is not complete", param="previous_response_id", status=409)
    if found.message_id not in conversation.messages:
        raise ResponseNotFoundError(response_id)
    if conversation.settings.get("made_by") == BY_RESPONSES:
        return conversation.id, found.message_id, False
    conversation.tip_id = found.message_id
    path = conversation.path()
    begun = turns_of(request).create(owner=owner, system=conversation.system, settings={"made_by": BY_RESPONSES})
    for message in path:
        begun.add(replace(message, id=make_id()))
    store.save(begun)
    assert begun.tip_id is not None
    return begun.id, begun.tip_id, True


async def _answer_unkept(request: CreateResponseRequest, raw_request: Request) -> Response:
    """Answer behind a response, and keep nothing."""

    def make() -> list[int]:
        store, owner = store_of(raw_request), owner_of(raw_request)
        found = store.served.find_response(response_key(str(request.previous_response_id)), owner=owner)
        conversation = store.load(found.conversation_id, owner=owner)
        conversation.tip_id = found.message_id
        new = behind(conversation, messages_of(request.input))
        return ResponseTurn.make_prompt(request, prompts_of(raw_request), conversation, new).token_ids

    token_ids = await asyncio.to_thread(make)
    unkept = ResponseTurn.for_vllm(request, token_ids, {"stream": request.stream})
    answer: Response = await create_response_by_vllm(unkept, raw_request)
    return answer


async def _as_sse(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[str]:
    async with contextlib.aclosing(events) as coming:  # type: ignore[type-var]
        async for event in coming:
            yield f"event: {event['type']}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n"


# -- responses that are kept ------------------------------------------------------------------------------------------


@router.get("/{response_id}", summary="Retrieve a response", responses={200: {"model": ResponsesResponse}})
def retrieve_response(
    request: Request,
    response_id: ResponseId,
    stream: Annotated[bool, Query(description="refused: a stream cannot be read twice")] = False,
) -> Response:
    """Return a response, as far as it has come."""
    if stream:
        raise RequestError("a stream cannot be read twice: leave stream out", param="stream")
    return JSONResponse(_body(request, response_id))


@router.delete("/{response_id}", summary="Delete a response")
def delete_response(request: Request, response_id: ResponseId) -> ResponseDeleted:
    """Delete a response for ever, and with the last one its conversation, unless somebody made that."""
    store, owner, key = store_of(request), owner_of(request), response_key(response_id)
    found = store.served.find_response(key, owner=owner)
    store.leases.cancel(owner=owner, turn_id=found.message_id)
    conversation_id, num_left = store.served.delete_response(key, owner=owner)
    if num_left == 0:
        with contextlib.suppress(ConversationNotFoundError):
            if store.load_head(conversation_id, owner=owner).settings.get("made_by") == BY_RESPONSES:
                store.delete(conversation_id, owner=owner)
    return ResponseDeleted(id=f"resp_{key}")


@router.post(
    "/{response_id}/cancel",
    summary="Cancel a response",
    responses={200: {"model": ResponsesResponse}},
)
def cancel_response(request: Request, response_id: ResponseId) -> Response:
    """Stop a response that is being given, by whichever process; what there is of it is kept."""
    store, owner = store_of(request), owner_of(request)
    body = _body(request, response_id)
    if body["status"] in FINAL:
        raise RequestError(f"the response is {body['status']}: there is nothing to cancel", param="response_id")
    found = store.served.find_response(response_key(response_id), owner=owner)
    store.leases.cancel(owner=owner, turn_id=found.message_id)
    deadline_s = time.monotonic() + CANCEL_WAIT_S
    while (body := _body(request, response_id))["status"] not in FINAL and time.monotonic() < deadline_s:
        time.sleep(0.05)
    return JSONResponse(body)


@router.get("/{response_id}/input_items", summary="List what a response answers")
def list_input_items(
    request: Request,
    response_id: ResponseId,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64)] = None,
    order: Literal["asc", "desc"] = "desc",
) -> ItemPage:
    """Return what was said before a response, the newest first unless asked otherwise."""
    store, owner = store_of(request), owner_of(request)
    found = store.served.find_response(response_key(response_id), owner=owner)
    conversation = store.load(found.conversation_id, owner=owner)
    if found.message_id in conversation.messages:
        conversation.tip_id = conversation.messages[found.message_id].parent_id
    items = [item for message in conversation.path() for item in to_items(message)]
    return page(items, limit=limit, after=after, order=order)


def _body(request: Request, response_id: str) -> Mapping[str, Any]:
    """Return a response; one whose server has died is failed."""
    store, owner, key = store_of(request), owner_of(request), response_key(response_id)
    found = store.served.find_response(key, owner=owner)
    if found.body["status"] in FINAL or store.leases.are_held([found.message_id]):
        return found.body
    body = store.served.find_response(key, owner=owner).body  # it may just have ended
    if body["status"] in FINAL:
        return body
    error = {"code": "server_error", "message": "the server ended before the answer was complete"}
    return {**body, "status": "failed", "error": error}
