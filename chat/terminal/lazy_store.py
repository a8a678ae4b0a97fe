"""The store, opened in another thread: importing a database library takes longer than everything before the prompt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from chatcore.errors import StoreError

if TYPE_CHECKING:
    from chat.store.base import Store, Summary

__all__ = ["Opening"]


class Opening:
    """A store that may still be closed. Whoever needs it waits for it.

    Args:
        store: the store, or what opens it.

    Attributes:
        unfinished: the newest conversation whose last turn was cut off, known once the store is open.
        error: why the store could not be opened; one in memory takes its place.
    """

    def __init__(self, store: Store | Callable[[], Store]) -> None:
        self.unfinished: Summary | None = None
        self.error: StoreError | None = None
        self._store: Store | None = None
        self._given = store
        self._thread = threading.Thread(target=self._open, name="store", daemon=True)
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Begin to open the store; returns at once."""
        with self._lock:
            if self._thread.ident is None:
                self._thread.start()

    @property
    def is_open(self) -> bool:
        """Whether nobody would have to wait."""
        return self._thread.ident is not None and not self._thread.is_alive()

    def get(self) -> Store:
        """Return the store; wait until it is open."""
        self.begin()
        self._thread.join()
        assert self._store is not None
        return self._store

    def _open(self) -> None:
        try:
            self._store = self._given() if callable(self._given) else self._given
            unfinished = self._store.unfinished(limit=1)
            self.unfinished = unfinished[0] if unfinished else None
        except StoreError as error:
            from chat.store.local import ConversationStore

            self.error = error
            self._store = self._store or ConversationStore.in_memory()
