"""Conversations that are kept on a server of ours: a store like ``chat/store``, over HTTP.

Whose they are, the key says. Messages and conversations get their ids here, so a request that is sent again after a cut
connection doubles nothing. What the server cannot be told for the moment is kept in a file until it can be.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2

from chat.conversations.conversation import Conversation, Message
from chat.conversations.files import from_dict, message_to_dict
from chat.net.http_client import cause_of, make_client, root_of
from chat.store.base import Summary
from chat.store.changes import Changes, add_message, copy_with_new_ids, doubt, find_changes, kept_by, take_changes
from chat.store.outbox import Outbox
from chat.store.writer import Writer
from chatcore.errors import ConversationNotFoundError, StoreBusyError, StoreError, StoreUnreachableError

__all__ = ["RemoteStore", "find_store"]

VERSION = 1  # of the server's routes: chat/server/store_routes.py
TIMEOUT = httpx2.Timeout(15.0, connect=5.0)
LOAD_TIMEOUT = httpx2.Timeout(60.0, connect=5.0)  # a conversation of 100,000 messages takes its time
LEAVE_TIMEOUT = httpx2.Timeout(2.0)
PAUSE_S = 10.0  # after a time-out: nobody waits for a silent server at every message
LAST_ANSWER_S = 5.0  # how long the end of the program waits for an answer's last piece to be sent
MAX_SEARCH_CHARACTERS = 1000

T = TypeVar("T")


def find_store(url: str, *, api_key: str = "") -> RemoteStore | None:
    """Return the store of a server, or None if that server is not one of ours and keeps no conversations.

    Args:
        url: such as ``http://127.0.0.1:8000/v1``.
    Raises:
        StoreError: it does not answer, refuses the key, or is of a newer version.
    """
    store = RemoteStore(url, api_key=api_key)
    try:
        description = store.describe()
    except StoreError:
        store.close()
        raise
    if description is None:
        store.close()
        return None
    store.send_what_waits(str(description.get("owner")))
    return store


class RemoteStore:
    """Conversations on a server, owned by the key's owner. May be used from several threads.

    Args:
        url: such as ``http://127.0.0.1:8000/v1``; nothing is asked yet.
        api_key: empty if the server wants none.

    Example::

        store = RemoteStore("http://127.0.0.1:8000/v1", api_key=key)
        conversation = store.create(system="You are terse.")
        store.add(conversation, Message("user", "Hello"))
    """

    is_remote = True

    def __init__(self, url: str, *, api_key: str = "") -> None:
        self.name = root_of(url)
        self._link = _Link(self.name, api_key)
        self._writer = Writer()
        self._growing = _Growing(self._send)
        self._outbox = Outbox(self.name)

    def describe(self) -> Mapping[str, Any] | None:
        """Return what the server says of its store; None if it has none."""
        try:
            description = self._link.call("GET", "/v1/store")
        except ConversationNotFoundError:
            return None
        if not isinstance(description, Mapping) or description.get("object") != "conversation_store":
            return None
        if description.get("version") != VERSION:
            raise StoreError(
                f"{self.name} keeps conversations in another version ({description.get('version')}; known: {VERSION})",
                hint="Use the same version of this program on both sides.",
            )
        return description

    def close(self) -> None:
        """Let go of the connections. Questions that were left unanswered on purpose do not count as cut off."""
        self.flush(LAST_ANSWER_S)
        if self._link.is_used:
            with contextlib.suppress(StoreError):
                self._link.call("POST", "/v1/store/leave", {"writer": self._writer.name}, timeout=LEAVE_TIMEOUT)
        self._writer.leave()
        self._link.close()

    def flush(self, timeout_s: float) -> None:
        """Wait until the last piece of an answer has been sent, or the time is over."""
        self._growing.wait(timeout_s)

    # -- conversations ------------------------------------------------------------------------------------------

    def create(self, *, title: str = "", system: str = "") -> Conversation:
        """Begin a conversation."""
        conversation = Conversation(title=title, system=system)
        self.save(conversation)
        return conversation

    def load(self, conversation_id: str) -> Conversation:
        """Return a conversation with all of its messages, by its id or the beginning of it."""
        data = self._link.call("GET", f"/v1/store/conversations/{_quoted(conversation_id)}", timeout=LOAD_TIMEOUT)
        conversation = self._understood(lambda: from_dict(data))
        conversation.kept = kept_by(self, conversation)
        return conversation

    def recent(self, *, limit: int = 50) -> list[Summary]:
        """Return the conversations that have messages, the latest first."""
        return self._list(limit, unfinished=False)

    def unfinished(self, *, limit: int = 10) -> list[Summary]:
        """Return conversations whose last turn was cut off, the latest first."""
        return self._list(limit, unfinished=True)

    def settle(self, conversation_id: str) -> None:
        """Leave a cut-off turn as it is: the conversation is no longer among the unfinished."""
        path = f"/v1/store/conversations/{_quoted(conversation_id)}/settle"
        self._link.call("POST", path, {"writer": self._writer.name})

    def save(self, conversation: Conversation) -> None:
        """Keep whatever has changed. What another program has changed meanwhile stays.

        An answer that is being written is sent by another thread; if that fails, the next call says so.

        Raises:
            StoreUnreachableError: the server does not answer; the conversation is in a file on this machine, and is
                sent with the next call that gets through.
            ConversationNotFoundError: somebody has deleted it.
        """
        changes = take_changes(conversation, self)
        if changes is None:
            return
        try:
            if any(message.status == "partial" for message in changes.messages):
                self._growing.put(changes)
                return
            self._growing.forget(conversation.id)
            self._send([changes])
        except (StoreUnreachableError, StoreBusyError):
            doubt(conversation, changes)
            self._outbox.put(conversation)
            raise
        self._outbox.remove(conversation.id)
        conversation.kept = kept_by(self, conversation)

    def delete(self, conversation_id: str) -> str:
        """Delete a conversation for ever; return its title."""
        self._growing.forget(conversation_id)
        data = self._link.call("DELETE", f"/v1/store/conversations/{_quoted(conversation_id)}")
        self._outbox.remove(conversation_id)
        return self._understood(lambda: str(data["title"]))

    def insert(self, conversation: Conversation) -> Conversation:
        """Keep a whole conversation that was made elsewhere, under new ids; return it as it is kept."""
        return self.insert_all([conversation])[0]

    def insert_all(self, made_elsewhere: Sequence[Conversation]) -> list[Conversation]:
        """Keep several conversations as :meth:`insert` does: all of them, or none if the server fails."""
        copies = [copy_with_new_ids(conversation) for conversation in made_elsewhere]
        self._send([changes for copy in copies if (changes := find_changes(copy, self)) is not None], is_over=True)
        for copy in copies:
            copy.kept = kept_by(self, copy)
        return copies

    def add(self, conversation: Conversation, message: Message) -> Message:
        """Put a message behind the tip, on the server and in the conversation; return it with its place in the tree.

        If the server fails, the conversation is what it was.
        """
        return add_message(conversation, message, self.save)

    def find_conversations(self, words: str, *, limit: int = 20) -> list[Summary]:
        """Return the conversations that have all of these words in the title or in one message, the latest first.

        Raises:
            StoreError: the server is of an older version, which has no such search.
        """
        query = {"words": words[:MAX_SEARCH_CHARACTERS], "limit": limit}
        try:
            data = self._link.call("GET", "/v1/store/find", query=query)
        except ConversationNotFoundError as error:
            raise StoreError(
                f"{self.name} cannot search conversations: its version is older",
                hint="Use the same version of this program on both sides.",
            ) from error
        return self._understood(lambda: [Summary(**line) for line in data["data"]])

    # -- inside -------------------------------------------------------------------------------------------------

    def send_what_waits(self, owner: str) -> None:
        """Send what could not be sent before, in this run of the program or an earlier one."""
        self._outbox = Outbox(f"{self.name} {owner}")
        with contextlib.suppress(StoreUnreachableError, StoreBusyError):
            for conversation in self._outbox.waiting():
                if (changes := find_changes(conversation, self)) is not None:
                    self._send([changes], is_over=True)
                self._outbox.remove(conversation.id)

    def _list(self, limit: int, *, unfinished: bool) -> list[Summary]:
        query = {"limit": limit, "unfinished": "true" if unfinished else "false"}
        data = self._link.call("GET", "/v1/store/conversations", query=query)
        return self._understood(lambda: [Summary(**line) for line in data["data"]])

    def _send(self, changes: Sequence[Changes], *, is_over: bool = False) -> None:
        if changes:
            body = {"writer": self._writer.name, "changes": [_to_dict(one) for one in changes], "is_over": is_over}
            self._link.call("POST", "/v1/store/changes", body)

    def _understood(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except (KeyError, TypeError, ValueError, StoreError) as error:
            raise StoreError(
                f"{self.name} answers something else than a conversation: {cause_of(error)}",
                hint="Use the same version of this program on both sides.",
            ) from error


class _Growing:
    """Answers that are being written: sent by a thread of its own, so that no screen waits for the network.

    Of each conversation only the newest state waits; what it replaces was its beginning.
    """

    def __init__(self, send: Callable[[Sequence[Changes]], None]) -> None:
        self._send = send
        self._changed = threading.Condition()
        self._waiting: dict[str, Changes] = {}
        self._sending = ""
        self._errors: dict[str, StoreError] = {}  # why the last try failed, by conversation
        self._thread: threading.Thread | None = None

    def put(self, changes: Changes) -> None:
        """Have changes sent.

        Raises:
            StoreError: why those before could not be.
        """
        with self._changed:
            self._waiting[changes.conversation_id] = changes
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="remote-store", daemon=True)
                self._thread.start()
            self._changed.notify_all()
            if (error := self._errors.pop(changes.conversation_id, None)) is not None:
                raise error

    def forget(self, conversation_id: str) -> None:
        """Send no more of a conversation; wait for what is on its way, so that nothing older comes after."""
        with self._changed:
            self._waiting.pop(conversation_id, None)
            self._errors.pop(conversation_id, None)
            self._changed.wait_for(lambda: self._sending != conversation_id)

    def wait(self, timeout_s: float) -> None:
        """Wait until everything has been sent, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: not self._waiting and not self._sending, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                self._sending, changes = self._waiting.popitem()
            error: StoreError | None = None
            try:
                self._send([changes])
            except StoreError as caught:
                error = caught
            with self._changed:
                if error is not None:
                    self._errors[self._sending] = error
                self._sending = ""
                self._changed.notify_all()


class _Link:
    """Requests to the server: sent again where a kept connection was stale, errors in plain words."""

    def __init__(self, root: str, api_key: str) -> None:
        self._root = root
        self._client = make_client(root, api_key=api_key, timeout=TIMEOUT)
        self._pause_until_s = 0.0
        self.is_used = False

    def close(self) -> None:
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        query: Mapping[str, Any] | None = None,
        timeout: httpx2.Timeout | None = None,
    ) -> Any:
        """Send a request; return what the answer's JSON says, None for an empty one.

        ``timeout``: ``TIMEOUT`` if left out.

        Raises:
            StoreUnreachableError: nobody answers.
            ConversationNotFoundError: there is no such conversation, or no such route.
            StoreError: the server refuses, or fails.
        """
        if time.monotonic() < self._pause_until_s:
            raise self._unreachable("it was silent a moment ago")
        timeout = timeout or TIMEOUT
        response = self._send(self._client.build_request(method, path, json=body, params=query, timeout=timeout))
        self.is_used = True
        if not response.is_success:
            raise self._refusal(response)
        if not response.content:
            return None
        try:
            return response.json()
        except ValueError:
            return None

    def _send(self, request: httpx2.Request) -> httpx2.Response:
        """Send a request, once more if the connection was cut: all of them may be sent twice."""
        for is_last in (False, True):
            try:
                return self._client.send(request)
            except httpx2.TimeoutException as error:
                self._pause_until_s = time.monotonic() + PAUSE_S
                raise self._unreachable("it is silent") from error
            except httpx2.ConnectError as error:
                raise self._unreachable(cause_of(error)) from error
            except (httpx2.TransportError, RuntimeError) as error:  # RuntimeError: closed by another thread
                if is_last or isinstance(error, RuntimeError):
                    raise self._unreachable(cause_of(error)) from error
        raise AssertionError("the loop returns or raises")

    def _unreachable(self, cause: str) -> StoreUnreachableError:
        return StoreUnreachableError(f"{self._root} does not answer ({cause})")

    def _refusal(self, response: httpx2.Response) -> StoreError:
        said, status = _words_of(response), response.status_code
        if status in (401, 403):
            return StoreError(f"{self._root} refuses the key", hint="Name a file that holds it: --api-key-file FILE.")
        if status in (404, 405):
            return ConversationNotFoundError(said or "there is no such conversation")
        if status == 413:
            return StoreError(f"{self._root} does not take so much at once: {said}", hint="Split what you import.")
        if status in (502, 503, 504):
            return StoreBusyError(f"{self._root}: {said or status}")
        hint = "The server's log tells more." if status >= 500 else None
        return StoreError(f"{self._root} answers {status}: {said}", hint=hint)


def _words_of(response: httpx2.Response) -> str:
    try:
        body = response.json()
        error = body.get("error") if isinstance(body.get("error"), dict) else body
        said = str(error.get("message") or error.get("detail") or "")
    except (ValueError, AttributeError):
        said = ""
    return (said.splitlines() or [""])[0][:300]


def _quoted(conversation_id: str) -> str:
    return quote(conversation_id, safe="") or "-"


def _to_dict(changes: Changes) -> dict[str, Any]:
    data = dataclasses.asdict(dataclasses.replace(changes, messages=()))
    return data | {
        "pinned": sorted(changes.pinned),
        "unpinned": sorted(changes.unpinned),
        "messages": [message_to_dict(message) for message in changes.messages],
    }
