"""The routes that vLLM's server gets from us, through the entry point group ``vllm.endpoint_plugins``.

Every API server process of vLLM loads its own copy, so nothing is kept in memory but running turns and caches:
conversations, leases and marks are in the store, which several processes and several servers share.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.datastructures import State

from chat.environment import read_variable
from chat.server.api.described import describe_uniquely
from chat.server.api.problems import REFUSALS
from chat.server.settings.retention import STORE_VARIABLE, ServedSettings
from chat.server.vllm_plugin.compatibility import check_vllm
from chat.store.local import ConversationStore
from chat.store.maintenance import expire
from chatcore.errors import StoreError
from chatcore.models.hub import resolve_model

__all__ = ["ChatRoutes", "open_store"]

EXPIRE_INTERVAL_S = 3600.0
logger = logging.getLogger(__name__)


class ChatRoutes:
    """The plugin: conversations that are kept on the server."""

    name = "conversations"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Add the routes; called by vLLM once its own are there.

        Raises:
            ServerError: this vLLM is not known here.
        """
        check_vllm()
        for router in routers():
            app.include_router(router, responses=REFUSALS)
        describe_uniquely(app)

    async def init_state(self, engine_client: Any, state: State, args: argparse.Namespace) -> None:
        """Open the store; called by vLLM in every process that serves HTTP.

        Raises:
            StoreError: it cannot be written.
            ConfigError: the settings cannot be read.
        """
        from chat.server.api.prompts import PromptMaker
        from chat.server.api.turns import RunningTurns
        from chat.server.vllm_plugin.renderer import builder_for

        settings = ServedSettings.from_environment()
        state.conversation_store = await asyncio.to_thread(open_store)
        folder = await asyncio.to_thread(resolve_model, state.vllm_config.model_config.tokenizer)
        builder = await asyncio.to_thread(builder_for, folder, state.online_renderer.chat_template)
        state.conversation_prompts = PromptMaker(
            builder,
            state.vllm_config.model_config.max_model_len,
            state.online_renderer.default_chat_template_kwargs,
            _bos_token_ids(state.online_renderer.renderer.tokenizer),
        )
        state.conversation_turns = RunningTurns(state.conversation_store, settings, builder.stop_token_ids)
        state.conversation_upkeep = asyncio.create_task(_expire_for_ever(state.conversation_store, settings))


def routers() -> tuple[APIRouter, ...]:
    """Return the routers, each of which has the routes of one module."""
    from chat.server.api import conversations, encode, interactive, responses, store_routes

    return interactive.router, conversations.router, responses.router, encode.router, store_routes.router


def open_store() -> ConversationStore:
    """Open the store that the environment names, and make sure that it can be written.

    Raises:
        StoreError: it cannot be opened or written.
    """
    store = ConversationStore(read_variable(STORE_VARIABLE) or None)
    try:
        store.check_writable()
    except StoreError:
        store.close()
        raise
    return store


def _bos_token_ids(tokenizer: Any) -> list[int]:
    """Return what a Hugging Face tokenizer puts before a text."""
    return [token_id for token_id in tokenizer.encode("") if token_id == tokenizer.bos_token_id]


async def _expire_for_ever(store: ConversationStore, settings: ServedSettings) -> None:
    """Delete what has been kept long enough, at the start and then once an hour."""
    while True:
        with contextlib.suppress(StoreError):  # the next hour tries it again
            found = await asyncio.to_thread(expire, store, settings)
            if found.num_conversations or found.num_sessions:
                logger.info("deleted after their time: %s", found)
        await asyncio.sleep(EXPIRE_INTERVAL_S)
