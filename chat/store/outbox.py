"""What a server could not be told: whole conversations as files on this machine, until it can be."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from chat.conversations import files
from chat.conversations.conversation import Conversation
from chatcore.errors import StoreError

__all__ = ["Outbox"]

MAX_NAME = 64  # characters; ids have 24


class Outbox:
    """The files of one server and owner. Writing them may fail: the store's own error is the one to tell.

    Args:
        address: what tells servers and owners apart.
    """

    def __init__(self, address: str) -> None:
        self._name = hashlib.sha256(address.encode()).hexdigest()[:16]

    def put(self, conversation: Conversation) -> None:
        """Keep a conversation as it is now."""
        with contextlib.suppress(StoreError, OSError):
            files.write(self._file(conversation.id), files.to_json(conversation), overwrite=True)

    def remove(self, conversation_id: str) -> None:
        """Let go of a conversation: the server has it."""
        with contextlib.suppress(OSError):
            self._file(conversation_id).unlink(missing_ok=True)

    def waiting(self) -> Iterator[Conversation]:
        """Return what has not been sent. A file that cannot be read stays where it is."""
        for file in sorted(self._folder().glob("*.json")):
            with contextlib.suppress(StoreError, OSError, ValueError):
                yield files.from_dict(json.loads(file.read_text("utf-8")))

    def _file(self, conversation_id: str) -> Path:
        name = quote(conversation_id, safe="")  # a server may have made it up
        return self._folder() / f"{name[:MAX_NAME]}.json"

    def _folder(self) -> Path:
        import platformdirs

        return platformdirs.user_data_path("vllm-deploy") / "unsent" / self._name
