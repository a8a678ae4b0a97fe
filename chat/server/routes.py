"""The routes that vLLM's server gets from us, through the entry point group ``vllm.endpoint_plugins``.

Every API server process of vLLM loads its own copy, so nothing is kept in memory but running turns and caches:
conversations, leases and marks are in the store, which several processes and several servers share.
"""

from __future__ import annotations

import argparse
import os
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.datastructures import State

from chat.server import store_routes
from chat.store import ConversationStore

__all__ = ["STORE_VARIABLE", "ChatRoutes", "open_store"]

STORE_VARIABLE = "VLLM_DEPLOY_STORE"  # a file or a URL; set by the launcher, the terminal's own store if empty


class ChatRoutes:
    """The plugin: conversations that are kept on the server."""

    name = "conversations"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Add the routes; called by vLLM once its own are there."""
        for router in routers():
            app.include_router(router)

    async def init_state(self, engine_client: Any, state: State, args: argparse.Namespace) -> None:
        """Open the store; called by vLLM in every process that serves HTTP.

        Raises:
            StoreError: it cannot be written.
        """
        state.conversation_store = open_store()


def routers() -> tuple[APIRouter, ...]:
    """Return the routers, each of which has the routes of one module."""
    return (store_routes.router,)


def open_store() -> ConversationStore:
    """Open the store that the environment names.

    Raises:
        StoreError: it cannot be opened or written.
    """
    return ConversationStore(os.environ.get(STORE_VARIABLE) or None)
