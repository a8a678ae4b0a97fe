"""Turns of conversations that are kept on the server: one at a time, committed when they are finished.

A turn takes the lease of its conversation, keeps what the user says, and then runs as a task of its own, so that
whatever becomes of the connection the store is left in order: a finished answer is committed before its last piece goes
out, and one that was cut off keeps what there is of it, marked so.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chat.conversations.conversation import Conversation, Message, make_id
from chat.server.limits.metrics import CONVERSATIONS_OPEN, REUSED_TOKENS, TURNS
from chat.server.settings.retention import ServedSettings
from chat.session.answer import SAVE_INTERVAL_S
from chat.store.leases import Lease
from chat.store.local import ConversationStore
from chatcore.errors import ChatError, EngineError, QuotaExceededError, StoreError

__all__ = ["Ending", "Piece", "RunningTurn", "RunningTurns", "behind"]

LOOK_INTERVAL_S = 0.25  # how often the marks are read that others leave to stop an answer
CANCEL_WAIT_S = 2.0  # for the process that generates to notice
RENEW_INTERVAL_S = 5.0  # a lease holds for chat.store.writer.LEASE_S
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of an answer.

    Attributes:
        token_ids: what was generated.
        tool_calls: the calls of the whole answer, once they are known.
        finish_reason: why the answer ended; only the last piece has one.
        usage: what it cost, under the names of :class:`chatcore.reply.Usage`; only the last piece has it.
        event: what the client is sent, if that is not made of the rest.
    """

    text: str = ""
    reasoning: str = ""
    token_ids: Sequence[int] = ()
    tool_calls: Sequence[Mapping[str, Any]] | None = None
    finish_reason: str | None = None
    usage: Mapping[str, float] | None = None
    event: Any = None


Ending = Callable[[Message, ChatError | None], None]


class RunningTurns:
    """The turns that this process is giving answers in.

    Args:
        store: where conversations are kept.
        settings: quotas.
        stop_token_ids: ids that end an answer and are no part of it.
    """

    def __init__(self, store: ConversationStore, settings: ServedSettings, stop_token_ids: Sequence[int] = ()) -> None:
        self.store = store
        self.settings = settings
        self.stop_token_ids = frozenset(stop_token_ids)
        self.running: dict[str, RunningTurn] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._saver: asyncio.Task[None] | None = None

    def create(self, *, owner: str, **fields: Any) -> Conversation:
        """Begin a conversation.

        Raises:
            QuotaExceededError: the owner has as many as are allowed.
        """
        self.check_room(owner)
        return self.store.create(owner=owner, **fields)

    def check_room(self, owner: str, num_new: int = 1) -> None:
        """Refuse further conversations of an owner who has as many as are allowed.

        Raises:
            QuotaExceededError: they would be too many.
        """
        limit = self.settings.max_conversations
        if limit and self.store.served.num_conversations(owner) + num_new > limit:
            raise QuotaExceededError(f"{limit} conversations are the most that this server keeps", hint="Delete some.")

    async def open(self, conversation_id: str, *, owner: str, name: str | None = None) -> RunningTurn:
        """Take the lease of a turn and load its conversation; :meth:`RunningTurn.close` it if it does not begin.

        Args:
            name: what nobody else may hold meanwhile; the conversation itself if left out.
        Raises:
            ConversationBusyError, ConversationNotFoundError, QuotaExceededError: it cannot be had.
        """
        return await asyncio.to_thread(self._open, conversation_id, owner, name)

    def _open(self, conversation_id: str, owner: str, name: str | None) -> RunningTurn:
        turn_id, leases = make_id(), self.store.leases
        lease = leases.take(conversation_id, turn_id, owner=owner, name=name, max_turns=self.settings.max_turns)
        try:
            return RunningTurn(self, self.store.load(conversation_id, owner=owner), lease)
        except BaseException:
            leases.release(lease)
            raise

    async def cancel(self, conversation_id: str, *, owner: str) -> None:
        """Stop the answer that is being given in a conversation, and wait a moment until it has ended."""
        leases = self.store.leases
        if not await asyncio.to_thread(leases.cancel, owner=owner, conversation_id=conversation_id):
            return
        deadline_s = time.monotonic() + CANCEL_WAIT_S
        while await asyncio.to_thread(leases.is_held, conversation_id) and time.monotonic() < deadline_s:
            await asyncio.sleep(0.05)

    def watch(self, turn: RunningTurn) -> None:
        """Keep from now on what there is of a turn's answer, and look whether somebody wants it to stop."""
        self.running[turn.id] = turn
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch(), name="turn-watcher")
        if self._saver is None or self._saver.done():
            self._saver = asyncio.create_task(self._save(), name="turn-saver")

    async def _watch(self) -> None:
        renewed_s = time.monotonic()
        while self.running:
            await asyncio.sleep(LOOK_INTERVAL_S)
            mine = dict(self.running)
            with contextlib.suppress(StoreError):  # the store may be busy: the next look will tell
                going_on = await asyncio.to_thread(self.store.leases.running)
                for turn in (turn for turn_id, turn in mine.items() if turn_id not in going_on):
                    turn.cancel()
                if time.monotonic() - renewed_s > RENEW_INTERVAL_S:
                    await asyncio.to_thread(self.store.leases.renew, list(mine))
                    renewed_s = time.monotonic()

    async def _save(self) -> None:
        """Keep what there is of the answers, also while the engine is silent."""
        while self.running:
            await asyncio.sleep(SAVE_INTERVAL_S)
            grown = [growth for turn in self.running.values() if (growth := turn.growth()) is not None]
            if not grown:
                continue
            saving = asyncio.create_task(asyncio.to_thread(self._keep, grown))
            for growth in grown:
                growth.turn.saving = saving
            try:
                await saving
            except Exception:
                logger.exception("answers were not kept while they grew")

    def _keep(self, grown: Sequence[Growth]) -> None:
        """Keep answers: those that are new each by itself, and the others, which are most, in one transaction."""
        known = [growth for growth in grown if growth.turn.num_kept]
        with contextlib.suppress(StoreError):  # the next time tries it again, and the end says so
            self.store.grow([growth.answer for growth in known])
            for growth in known:
                growth.turn.num_kept = growth.num_pieces
        for growth in grown:
            if not growth.turn.num_kept:
                with contextlib.suppress(StoreError):
                    self.store.add(growth.turn.conversation, growth.answer)
                    growth.turn.num_kept = growth.num_pieces


@dataclass(frozen=True, slots=True)
class Growth:
    """What there is of an answer at a moment.

    Attributes:
        num_pieces: so many pieces are in it.
    """

    turn: RunningTurn
    answer: Message
    num_pieces: int


@dataclass(slots=True)
class RunningTurn:
    """One turn of a conversation, from its lease to its end.

    Attributes:
        conversation: as the store holds it, now that nobody else writes.
        on_end: called in a thread with the answer, as it is kept, and with what went wrong if something did, before
            the lease is given back.
        stays: go on when nobody listens any more.
        num_kept: pieces of the answer that are in the store.
        saving: whoever writes this answer at the moment, or did so last.
    """

    turns: RunningTurns
    conversation: Conversation
    lease: Lease
    on_end: Ending | None = None
    stays: bool = False
    num_kept: int = 0
    saving: asyncio.Task[None] | None = None
    _answer: Message = field(init=False)
    _token_ids: list[int] = field(default_factory=list)
    _text: list[str] = field(default_factory=list)
    _reasoning: list[str] = field(default_factory=list)
    _pieces: asyncio.Queue[Piece | ChatError | None] = field(default_factory=asyncio.Queue)
    _task: asyncio.Task[None] | None = None
    _is_over: bool = False

    def __post_init__(self) -> None:
        self._answer = Message("assistant", "", id=self.lease.turn_id, status="partial")

    @property
    def id(self) -> str:
        """The id of the answer's message."""
        return self.lease.turn_id

    async def say(self, messages: Sequence[Message], *, window_start_id: str | None) -> None:
        """Keep what comes before the answer, and where the window begins."""
        await asyncio.to_thread(self._say, messages, window_start_id)

    def _say(self, messages: Sequence[Message], window_start_id: str | None) -> None:
        for message in messages:
            self.turns.store.add(self.conversation, message)
        self.conversation.window_start_id = window_start_id
        self.turns.store.save(self.conversation)

    async def close(self) -> None:
        """Give back the lease of a turn that was not begun."""
        await asyncio.to_thread(self.turns.store.leases.release, self.lease)

    def begin(self, source: AsyncIterator[Piece], *, num_reused_tokens: int = 0) -> None:
        """Let the answer come; :meth:`pieces` gives it.

        Args:
            num_reused_tokens: of the prompt, what was said before and is not encoded again.
        """
        REUSED_TOKENS.inc(num_reused_tokens)
        CONVERSATIONS_OPEN.inc()
        self._task = asyncio.create_task(self._run(source), name=f"turn-{self.id}")
        self.turns.watch(self)

    def when_over(self, call: Callable[[], None]) -> None:
        """Have something called once the answer has ended and is kept."""
        assert self._task is not None
        self._task.add_done_callback(lambda _: call())

    def cancel(self) -> None:
        """End the answer now; what there is of it is kept."""
        if self._task is not None:
            self._task.cancel()

    def growth(self) -> Growth | None:
        """Return the answer as it is now, if it goes on and more of it has come than the store has."""
        if self._is_over or len(self._text) == self.num_kept:
            return None
        return Growth(self, self._so_far(), len(self._text))

    async def pieces(self) -> AsyncIterator[Piece]:
        """Give the answer piece by piece; when the last comes, everything is kept. Leaving early ends the answer.

        Raises:
            ChatError: the engine or the store failed. What there was of the answer is kept.
        """
        try:
            while (piece := await self._pieces.get()) is not None:
                if isinstance(piece, ChatError):
                    raise piece
                yield piece
        finally:
            if not self.stays:
                self.cancel()

    # -- the task -----------------------------------------------------------------------------------------------

    async def _run(self, source: AsyncIterator[Piece]) -> None:
        last, error = Piece(finish_reason="abort"), None
        try:
            async for piece in source:
                self._take(piece)
                if piece.finish_reason is not None:
                    last = piece
                    break
                self._pieces.put_nowait(piece)
        except asyncio.CancelledError:
            pass  # the engine has been told by the source; what there is of the answer is kept below
        except ChatError as raised:
            logger.error("turn %s failed: %s", self.id, raised)
            error = raised
        except Exception:
            logger.exception("turn %s failed", self.id)
            error = ChatError("the server failed while it was answering", hint="What came is kept: try again.")
        ending = asyncio.create_task(self._end(last, error))
        while not ending.done():  # a second cancellation does not stop the keeping
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.shield(ending)

    def _take(self, piece: Piece) -> None:
        self._text.append(piece.text)
        self._reasoning.append(piece.reasoning)
        self._token_ids += piece.token_ids
        if piece.tool_calls is not None:
            self._answer = replace(self._answer, tool_calls=tuple(piece.tool_calls))

    def _so_far(self) -> Message:
        text, reasoning = "".join(self._text), "".join(self._reasoning)
        return replace(
            self._answer,
            content=text.lstrip("\n") if reasoning else text,  # the blank lines between belong to the markup
            reasoning=reasoning.strip("\n"),
            token_ids=tuple(self._token_ids),
        )

    async def _end(self, last: Piece, error: ChatError | None) -> None:
        """Keep the answer, give back the lease, and only then let the last piece out."""
        self._is_over = True
        if self.saving is not None:
            await asyncio.wait([self.saving])
        try:
            await asyncio.to_thread(self._finish, self._whole(last, error), error)
        except ChatError as raised:
            error = error or raised
        except Exception:
            logger.exception("turn %s was not kept", self.id)
            error = error or EngineError("the answer could not be kept")
        self.turns.running.pop(self.id, None)
        CONVERSATIONS_OPEN.dec()
        TURNS.labels("failed" if error else "cut_off" if last.finish_reason == "abort" else "finished").inc()
        self._pieces.put_nowait(error or last)
        self._pieces.put_nowait(None)

    def _whole(self, last: Piece, error: ChatError | None) -> Message:
        answer = replace(self._so_far(), usage=dict(last.usage or {}))
        if error is not None or last.finish_reason == "abort":
            # A call that was cut off is no call.
            return replace(answer, finish_reason="abort", tool_calls=())
        ids = list(answer.token_ids)
        while ids and ids[-1] in self.turns.stop_token_ids:
            ids.pop()
        return replace(answer, token_ids=tuple(ids), finish_reason=last.finish_reason, status="complete")

    def _finish(self, answer: Message, error: ChatError | None) -> None:
        store = self.turns.store
        try:
            if answer.status == "complete" or answer.content or answer.reasoning:
                store.add(self.conversation, answer)
            if self.on_end is not None:
                self.on_end(answer, error)
        finally:
            store.leases.release(self.lease)


def behind(conversation: Conversation, said: Conversation) -> list[Message]:
    """Return what was said as messages behind a conversation, whose system message it brings if there is none yet."""
    new = list(said.path())
    if not said.system or said.system == conversation.system:
        return new
    if conversation.tip_id is None and not conversation.system:
        conversation.system = said.system
        return new
    return [Message("system", said.system), *new]
