"""OpenAI's ``/v1/conversations``: conversations of the key that asks, kept in the store that the terminal uses too."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from chat.conversations.conversation import Conversation, Message, make_id
from chat.server.api.access import owner_of, store_of, turns_of
from chat.server.api.items import find_item, messages_of, path_items, read_items, without_item
from chat.server.api.problems import REFUSALS, OpenAIRoute, RequestError
from chat.store.base import Summary
from chatcore.errors import ConversationNotFoundError

__all__ = ["ConversationReply", "conversation_key", "load", "metadata_of", "page", "public_id", "router"]

CONVERSATION_ID = re.compile(r"(?:conv_)?([0-9a-f]{24})")
MAX_ITEMS = 20  # in one request, as OpenAI has it

router = APIRouter(prefix="/v1/conversations", route_class=OpenAIRoute, responses=REFUSALS, tags=["Conversations"])

MetadataKey = Annotated[str, StringConstraints(max_length=64)]
MetadataValue = Annotated[str, StringConstraints(max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
ConversationId = Annotated[str, Path(max_length=64)]
ItemId = Annotated[str, Path(max_length=64)]
Item = dict[str, Any]


class Body(BaseModel):
    """What is sent; an unknown field is refused."""

    model_config = ConfigDict(extra="forbid")


class CreateConversationRequest(Body):
    """A new conversation."""

    items: Annotated[list[Item], Field(max_length=MAX_ITEMS)] | None = Field(None, description="what was said before")
    metadata: Metadata | None = None


class UpdateConversationRequest(Body):
    """What changes."""

    metadata: Metadata | None


class CreateItemsRequest(Body):
    """What is added behind what was said."""

    items: Annotated[list[Item], Field(min_length=1, max_length=MAX_ITEMS)]


class ConversationReply(BaseModel):
    """A conversation."""

    id: str
    object: Literal["conversation"] = "conversation"
    created_at: int = Field(description="seconds since 1970")
    metadata: dict[str, str]


class ConversationLine(ConversationReply):
    """A line of the list."""

    title: str
    updated_at: int = Field(description="seconds since 1970")
    num_messages: int
    unfinished: bool = Field(description="the last answer was cut off, and nobody is giving it")


class ConversationPage(BaseModel):
    """A page of the list."""

    object: Literal["list"] = "list"
    data: list[ConversationLine]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ItemPage(BaseModel):
    """A page of items."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ConversationDeleted(BaseModel):
    """What was deleted."""

    id: str
    object: Literal["conversation.deleted"] = "conversation.deleted"
    deleted: Literal[True] = True


# -- conversations ----------------------------------------------------------------------------------------------------


@router.get("", summary="List or search conversations")
def list_conversations(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64, description="go on behind this conversation")] = None,
    q: Annotated[str | None, Query(max_length=1000, description="words in its title or in one message")] = None,
) -> ConversationPage:
    """Return the latest conversations first. Ours: OpenAI has no such list."""
    store, owner = store_of(request), owner_of(request)
    start = None if after is None else conversation_key(after)
    if q is None:
        found = store.recent(owner=owner, limit=limit + 1, after=start, with_empty=True)
    else:
        found = store.find_conversations(q, owner=owner, limit=limit + 1, after=start)
    lines = [_line(store.load_head(summary.id, owner=owner), summary) for summary in found[:limit]]
    return ConversationPage(
        data=lines,
        first_id=lines[0].id if lines else None,
        last_id=lines[-1].id if lines else None,
        has_more=len(found) > limit,
    )


@router.post("", summary="Create a conversation")
def create_conversation(request: Request, body: CreateConversationRequest | None = None) -> ConversationReply:
    """Begin a conversation, with what was said before if anything was."""
    body = body or CreateConversationRequest(items=None, metadata=None)
    said = messages_of(read_items(body.items)) if body.items else Conversation()
    settings = {"metadata": body.metadata} if body.metadata else {}
    conversation = turns_of(request).create(owner=owner_of(request), system=said.system, settings=settings)
    for message in said.path():
        store_of(request).add(conversation, message)
    return _reply(conversation)


@router.get("/{conversation_id}", summary="Retrieve a conversation")
def retrieve_conversation(request: Request, conversation_id: ConversationId) -> ConversationReply:
    """Return a conversation without what was said in it."""
    return _reply(store_of(request).load_head(conversation_key(conversation_id), owner=owner_of(request)))


@router.post("/{conversation_id}", summary="Update a conversation")
def update_conversation(
    request: Request, conversation_id: ConversationId, body: UpdateConversationRequest
) -> ConversationReply:
    """Replace a conversation's metadata."""
    conversation = load(request, conversation_id)
    conversation.settings = {**conversation.settings, "metadata": body.metadata or {}}
    store_of(request).save(conversation)
    return _reply(conversation)


@router.delete("/{conversation_id}", summary="Delete a conversation")
def delete_conversation(request: Request, conversation_id: ConversationId) -> ConversationDeleted:
    """Delete a conversation for ever, and its items and responses with it; an answer that is being given ends."""
    key, owner = conversation_key(conversation_id), owner_of(request)
    store_of(request).leases.cancel(owner=owner, conversation_id=key)
    store_of(request).delete(key, owner=owner)
    return ConversationDeleted(id=public_id(key))


# -- items ------------------------------------------------------------------------------------------------------------


@router.post("/{conversation_id}/items", summary="Add items")
def create_items(request: Request, conversation_id: ConversationId, body: CreateItemsRequest) -> ItemPage:
    """Add items behind what was said."""
    said, store = messages_of(read_items(body.items)), store_of(request)
    with alone(request, conversation_id) as conversation:
        before = len(path_items(conversation))
        if said.system and not conversation.messages and not conversation.system:
            conversation.system, before = said.system, 0
            store.save(conversation)
        elif said.system:
            store.add(conversation, Message("system", said.system))
        for message in said.path():
            store.add(conversation, message)
    return _item_page(path_items(conversation)[before:], has_more=False)


@router.get("/{conversation_id}/items", summary="List items")
def list_items(
    request: Request,
    conversation_id: ConversationId,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    after: Annotated[str | None, Query(max_length=64, description="go on behind this item")] = None,
    order: Literal["asc", "desc"] = "desc",
) -> ItemPage:
    """Return what was said, the newest first unless asked otherwise."""
    return page(path_items(load(request, conversation_id)), limit=limit, after=after, order=order)


@router.get("/{conversation_id}/items/{item_id}", summary="Retrieve an item")
def retrieve_item(request: Request, conversation_id: ConversationId, item_id: ItemId) -> Item:
    """Return one item."""
    return find_item(load(request, conversation_id), item_id)[1]


@router.delete("/{conversation_id}/items/{item_id}", summary="Delete an item")
def delete_item(request: Request, conversation_id: ConversationId, item_id: ItemId) -> ConversationReply:
    """Delete an item for ever; what follows it stays."""
    store = store_of(request)
    with alone(request, conversation_id) as conversation:
        message, _ = find_item(conversation, item_id)
        left = without_item(message, item_id)
        if message.id == conversation.id:
            conversation.system = ""
            store.save(conversation)
        elif left is None:
            store.delete_message(conversation, message.id)
        else:
            conversation.messages[message.id] = left
            store.save(conversation)
    return _reply(conversation)


@contextlib.contextmanager
def alone(request: Request, conversation_id: str) -> Iterator[Conversation]:
    """Load a conversation in which nobody is given an answer meanwhile: what is added would end up beside that.

    Raises:
        ConversationBusyError: somebody is.
    """
    key, owner, leases = conversation_key(conversation_id), owner_of(request), store_of(request).leases
    lease = leases.take(key, make_id(), owner=owner)
    try:
        yield store_of(request).load(key, owner=owner)
    finally:
        leases.release(lease)


# -- what others use too ----------------------------------------------------------------------------------------------


def conversation_key(conversation_id: str) -> str:
    """Return the store's id for one of the API's.

    Raises:
        ConversationNotFoundError: it can be none.
    """
    match = CONVERSATION_ID.fullmatch(conversation_id)
    if match is None:
        raise ConversationNotFoundError(f"there is no conversation {conversation_id}", hint="")
    return match[1]


def public_id(key: str) -> str:
    """Return the API's id for one of the store's."""
    return f"conv_{key}"


def load(request: Request, conversation_id: str) -> Conversation:
    """Return a conversation of the key that asks."""
    return store_of(request).load(conversation_key(conversation_id), owner=owner_of(request))


def metadata_of(conversation: Conversation) -> dict[str, str]:
    """Return what a client attached to a conversation."""
    return dict(conversation.settings.get("metadata") or {})


def page(items: Sequence[Item], *, limit: int, after: str | None, order: str) -> ItemPage:
    """Return a page of items.

    Raises:
        RequestError: there is no item ``after`` (404).
    """
    ordered = list(items) if order == "asc" else list(items)[::-1]
    start = 0
    if after is not None:
        places = [index for index, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise RequestError(f"there is no item {after}", param="after", status=404)
        start = places[0] + 1
    return _item_page(ordered[start : start + limit], has_more=len(ordered) > start + limit)


def _item_page(items: Sequence[Item], *, has_more: bool) -> ItemPage:
    first, last = (items[0]["id"], items[-1]["id"]) if items else (None, None)
    return ItemPage(data=list(items), first_id=first, last_id=last, has_more=has_more)


def _reply(conversation: Conversation) -> ConversationReply:
    return ConversationReply(
        id=public_id(conversation.id),
        created_at=int(conversation.created_at_utc),
        metadata=metadata_of(conversation),
    )


def _line(conversation: Conversation, summary: Summary) -> ConversationLine:
    return ConversationLine(
        **_reply(conversation).model_dump(),
        title=summary.title,
        updated_at=int(summary.updated_at_utc),
        num_messages=summary.num_messages,
        unfinished=summary.unfinished,
    )
