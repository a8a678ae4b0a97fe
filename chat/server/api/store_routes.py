"""A server's conversations as a store: what a terminal elsewhere reads and writes (``chat/remote_store``).

Every route works on the conversations of the key that asks; those of others are not there (404). All writing goes
through one route, in which a request that is sent again changes nothing: clients make the ids.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from chat.conversations import files
from chat.conversations.conversation import MAX_TIME_S, Message
from chat.server.api.access import owner_of, store_of, turns_of
from chat.server.api.problems import OpenAIRoute, RequestError
from chat.store.changes import Changes
from chatcore.errors import StoreError

__all__ = ["router"]

VERSION = 1  # of these routes; a client refuses those that it does not know
MAX_LISTED = 100_000  # conversations in one reply: 20 MB

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
Count32 = Annotated[int, Field(ge=0, lt=1 << 32)]
Seconds = Annotated[float, Field(ge=0, lt=MAX_TIME_S, allow_inf_nan=False)]
# chat.store.writer: machine, its present run, process, when that started, a number of its own.
WriterName = Annotated[str, Field(pattern=r"^[^ ]{1,200} [^ ]{1,80} [0-9]{1,7} [0-9-]{1,20} [0-9a-f]{8}$")]

router = APIRouter(prefix="/v1/store", tags=["Store"], route_class=OpenAIRoute)


class StrictModel(BaseModel):
    """What is sent or answered; an unknown field is refused."""

    model_config = ConfigDict(extra="forbid")


class StoreDescription(StrictModel):
    """What tells a client that a server keeps conversations."""

    object: Literal["conversation_store"] = "conversation_store"
    version: int = VERSION
    owner: str = Field(description="whose conversations the key sees")


class StoredConversationLine(StrictModel):
    """One line of a list of conversations."""

    id: str
    title: str
    num_messages: int
    num_turns: int
    updated_at_utc: float
    unfinished: bool = False


class ConversationList(StrictModel):
    """The latest conversations first."""

    object: Literal["list"] = "list"
    data: list[StoredConversationLine]


class FoundConversationLine(StoredConversationLine):
    """A conversation that was found. ``excerpt``: from the newest message that has the words; empty if none has."""

    excerpt: str


class FoundConversations(StrictModel):
    """The latest conversations first."""

    object: Literal["list"] = "list"
    data: list[FoundConversationLine]


class HitLine(StrictModel):
    """A message that was found."""

    conversation_id: str
    title: str
    message_id: str
    role: str
    excerpt: str


class HitList(StrictModel):
    """The latest messages first."""

    object: Literal["list"] = "list"
    data: list[HitLine]


class StoredMessage(StrictModel):
    """A message as it is kept."""

    id: Id
    parent_id: Id | None
    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = []
    tool_call_id: str | None = None
    token_ids: list[Count32] = []
    finish_reason: Annotated[str, Field(max_length=64)] | None = None
    usage: dict[str, float] = {}
    status: Literal["complete", "partial"] = "complete"
    created_at_utc: Seconds


class ConversationFields(StrictModel):
    """Fields of a conversation; of changes only those that have changed."""

    title: Annotated[str, Field(max_length=1000)] = ""
    system: str = ""
    settings: dict[str, Any] = {}
    tip_id: Id | None = None
    redo_ids: list[Id | None] = []
    window_start_id: Id | None = None
    created_at_utc: Seconds = 0.0
    updated_at_utc: Seconds = 0.0


class WholeConversation(ConversationFields):
    """A conversation with all of its messages."""

    id: Id
    pinned_ids: list[Id]
    messages: list[StoredMessage]


class ConversationDocument(StrictModel):
    """The JSON that ``conversations export`` writes."""

    format: str
    version: int
    conversation: WholeConversation


class ConversationChanges(StrictModel):
    """What is new of one conversation. ``tip_id``: the last message of the path that the writer is on."""

    conversation_id: Id
    is_new: bool = False
    fields: ConversationFields = ConversationFields()
    pinned: list[Id] = []
    unpinned: list[Id] = []
    messages: list[StoredMessage] = []
    tip_id: Id | None = None


class ChangesRequest(StrictModel):
    """Changes of one writer, all of which are kept or none. ``is_over``: nobody is at work on these conversations."""

    writer: WriterName
    changes: Annotated[list[ConversationChanges], Field(min_length=1, max_length=10_000)]
    is_over: bool = False


class WriterRequest(StrictModel):
    """Who asks for it."""

    writer: WriterName


class Deleted(StrictModel):
    """What was deleted."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    title: str
    deleted: Literal[True] = True


ConversationId = Annotated[str, Path(max_length=64, description="an id, or its beginning if only one fits")]
Limit = Annotated[int, Query(ge=1, le=MAX_LISTED)]
Words = Annotated[str, Query(max_length=1000)]


@router.get("", summary="Describe the store")
def describe_store(request: Request) -> StoreDescription:
    """Tell that this server keeps conversations, and whose they are that the key sees."""
    store_of(request)
    return StoreDescription(owner=owner_of(request))


@router.get("/conversations", summary="List conversations")
def list_conversations(request: Request, limit: Limit = 50, unfinished: bool = False) -> ConversationList:
    """Return the latest conversations, or the latest whose last turn was cut off."""
    store, owner = store_of(request), owner_of(request)
    found = store.unfinished(owner=owner, limit=limit) if unfinished else store.recent(owner=owner, limit=limit)
    return ConversationList(data=[StoredConversationLine.model_validate(line, from_attributes=True) for line in found])


@router.get(
    "/conversations/{conversation_id}",
    summary="Load a conversation",
    response_class=Response,
    responses={200: {"model": ConversationDocument}},
)
def load_conversation(request: Request, conversation_id: ConversationId) -> Response:
    """Return a conversation with all of its messages: variants, branches, pins and token ids."""
    conversation = store_of(request).load(conversation_id, owner=owner_of(request))
    document = json.dumps(files.to_dict(conversation), ensure_ascii=False)
    return Response(document, media_type="application/json")


@router.post("/changes", summary="Write changes", status_code=204)
def write_changes(request: Request, body: ChangesRequest) -> None:
    """Keep what is new of conversations: all of it, or nothing. Sent twice, it is kept once."""
    store, owner = store_of(request), owner_of(request)
    changes = [_to_changes(one) for one in body.changes]
    if num_new := sum(one.is_new for one in changes):
        turns_of(request).check_room(owner, num_new)
    try:
        store.apply(changes, owner=owner, writer=body.writer, is_over=body.is_over)
    except StoreError as error:
        if type(error) is StoreError and error.__cause__ is None:  # nothing that a database said
            raise RequestError(str(error), status=409) from error
        raise


@router.post("/conversations/{conversation_id}/settle", summary="Settle a conversation", status_code=204)
def settle_conversation(request: Request, conversation_id: ConversationId, body: WriterRequest) -> None:
    """Leave a cut-off turn as it is: the conversation is no longer among the unfinished."""
    store_of(request).settle(conversation_id, owner=owner_of(request), writer=body.writer)


@router.delete("/conversations/{conversation_id}", summary="Delete a conversation")
def delete_conversation(request: Request, conversation_id: ConversationId) -> Deleted:
    """Delete a conversation for ever."""
    title = store_of(request).delete(conversation_id, owner=owner_of(request))
    return Deleted(id=conversation_id, title=title)


@router.get("/find", summary="Search conversations")
def find_conversations(request: Request, words: Words, limit: Limit = 20) -> FoundConversations:
    """Return the conversations that have all of these words in the title or in one message."""
    found = store_of(request).find_conversations(words, owner=owner_of(request), limit=limit)
    return FoundConversations(data=[FoundConversationLine.model_validate(line, from_attributes=True) for line in found])


@router.get("/search", summary="Search messages")
def search_messages(request: Request, text: Words, limit: Annotated[int, Query(ge=1, le=10_000)] = 20) -> HitList:
    """Return the messages that hold all words of a text."""
    hits = store_of(request).search(text, owner=owner_of(request), limit=limit)
    return HitList(data=[HitLine.model_validate(hit, from_attributes=True) for hit in hits])


@router.post("/leave", summary="Say that a writer has ended", status_code=204)
def leave(request: Request, body: WriterRequest) -> None:
    """Note that a client has ended: questions that it left unanswered were left so on purpose."""
    store_of(request).leave(body.writer, owner=owner_of(request))


def _to_changes(body: ConversationChanges) -> Changes:
    values = {message.id: message.model_dump() for message in body.messages}
    if len(values) < len(body.messages):
        raise RequestError("two messages have the same id", param="messages")
    try:
        json.dumps([body.fields.settings, [value["tool_calls"] for value in values.values()]], allow_nan=False)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"settings or tool calls cannot be kept: {error}") from error
    messages = tuple(Message(**value | {"tool_calls": tuple(value["tool_calls"])}) for value in values.values())
    return Changes(
        conversation_id=body.conversation_id,
        is_new=body.is_new,
        fields=body.fields.model_dump() if body.is_new else body.fields.model_dump(exclude_unset=True),
        pinned=frozenset(body.pinned),
        unpinned=frozenset(body.unpinned),
        messages=messages,
        tip_id=body.tip_id,
    )
