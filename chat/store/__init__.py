"""Where conversations are kept: SQLite, Postgres, or another server of this program.

::

    from chat.store import ConversationStore

    store = ConversationStore()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chat.store.local import ConversationStore

__all__ = ["ConversationStore"]


def __getattr__(name: str) -> Any:
    """Import the store only when it is used: it brings SQLAlchemy."""
    if name != "ConversationStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from chat.store.local import ConversationStore

    return ConversationStore
