"""What a request may ask for: which paths there are, which fields, how much of each.

vLLM offers paths and fields that administer the engine, or carry ready token ids and raw text around the renderer that
keeps text text. They are off unless somebody asks for them, and so is every path that is not in the lists here: what a
later vLLM adds is closed until it has been looked at.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from chat.server.guard.body import containers
from chat.server.guard.keys import Caller
from chat.server.limits.refusal import Refusal
from chat.server.settings.guard import GuardSettings

__all__ = ["OPEN_PATHS", "READING_PATHS", "Policy"]

# Health, for whatever restarts this server: they tell nothing but that.
OPEN_PATHS = frozenset({"/health", "/ping"})
# Pages that a browser shows; it sends HTTP Basic there.
READING_PATHS = frozenset({"/", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
STATIC_PREFIX = "/static/docs/"

CHAT = {"/v1/chat/completions", "/v1/chat/completions/batch", "/v1/responses", "/v1/messages", "/invocations"}
RAW = {"/v1/completions"}
POOLING = {"/v1/embeddings", "/v2/embed", "/classify", "/pooling"}
POOLING |= {"/score", "/v1/score", "/rerank", "/v1/rerank", "/v2/rerank"}
AUDIO = {"/v1/audio/transcriptions", "/v1/audio/translations", "/v1/realtime"}
ABOUT = {"/v1/models", "/version", "/load", "/metrics", "/tokenizer_info"}
COUNTING = {"/tokenize", "/detokenize", "/v1/messages/count_tokens"}
INTERACTIVE = "/v1/chat/interactive"
VLLM_PATHS = frozenset(CHAT | RAW | POOLING | AUDIO | ABOUT | COUNTING | OPEN_PATHS | READING_PATHS)
STORE_PREFIX = "/v1/store/"  # what is kept there is no prompt yet: whole conversations, with whatever they hold
STORED_RESPONSE = re.compile(r"/v1/responses/[^/]+(/cancel)?")

# The prefix cache is split by owner where prompts are built.
SALTED_PATHS = frozenset(CHAT | RAW)
# The engine has to work for these; all others are answered whatever it is busy with.
ENGINE_PATHS = frozenset(CHAT | RAW | POOLING | AUDIO | {INTERACTIVE})

# Ready token ids and engine state from elsewhere; names under which another's request could be cancelled or mixed up;
# a place in front of the others.
CLOSED_FIELDS = frozenset(
    {"kv_transfer_params", "ec_transfer_params", "vllm_xargs", "prompt_embeds", "previous_input_messages"}
    | {"request_id", "priority"}
)
CLOSED_PARTS = frozenset({"prompt_embeds", "image_embeds", "audio_embeds", "video_embeds"})
CLOSED_HEADERS = {b"x-request-id": "request_id", b"x-vllm-priority": "priority"}

TOKEN_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "max_new_tokens", "request_output_len")
# What a request that says nothing is given, where there is a limit.
TOKEN_FIELD = dict.fromkeys(SALTED_PATHS, "max_tokens")
TOKEN_FIELD |= {"/v1/responses": "max_output_tokens", INTERACTIVE: "request_output_len"}
LISTS = (
    "messages",
    "input",
    "inputs",
    "prompt",
    "documents",
    "texts",
    "queries",
    "text_1",
    "text_2",
    "data_1",
    "data_2",
)
MEDIA = ("image_url", "audio_url", "video_url", "file_url", "source")


class Policy:
    """What these settings let through.

    Args:
        settings: of the guard.
        own_paths: patterns of the paths that this package adds.
    """

    def __init__(self, settings: GuardSettings, own_paths: Sequence[re.Pattern[str]] = ()) -> None:
        self.settings = settings
        self._own_paths = tuple(own_paths)
        self._exact = frozenset(path for path in settings.allowed_paths if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in settings.allowed_paths if path.endswith("*"))
        self._closed = CLOSED_FIELDS - set(settings.allowed_fields)
        self._closed_parts = CLOSED_PARTS - set(settings.allowed_fields)
        self.closed_headers = frozenset(name for name, field in CLOSED_HEADERS.items() if field in self._closed)

    def is_open(self, path: str) -> bool:
        """Tell whether a path answers without a key."""
        return path in OPEN_PATHS or (self.settings.open_metrics and path == "/metrics")

    def is_reading(self, path: str) -> bool:
        """Tell whether a path is a page for browsers."""
        return path in READING_PATHS or path.startswith(STATIC_PREFIX)

    def asks_engine(self, path: str, body: dict[str, Any]) -> bool:
        """Tell whether the engine has to work for a request; stopping an answer must be possible at any time."""
        return path in ENGINE_PATHS and not (path == INTERACTIVE and body.get("cancel") is True)

    def check_path(self, path: str) -> None:
        """Refuse a path that is closed.

        Raises:
            Refusal: it is unknown, or off.
        """
        if path in self._exact or path.startswith(self._prefixes):
            return
        if path in RAW and not self.settings.completions:
            raise Refusal(403, "path", f"{path} takes raw prompts and is switched off here", code="path_off")
        if path in VLLM_PATHS or path.startswith(STATIC_PREFIX) or STORED_RESPONSE.fullmatch(path):
            return
        if any(pattern.fullmatch(path) for pattern in self._own_paths):
            return
        message = f"{path[:200]} is not open on this server"
        raise Refusal(404, "path", message, code="path_off")

    def check_body(self, path: str, body: dict[str, Any], caller: Caller) -> None:
        """Refuse what a body may not ask for; put in what it must carry.

        Raises:
            Refusal: a field is closed, a number too high, a list too long, or media are to be fetched.
        """
        for name in self._closed & body.keys():
            if body[name] is not None:
                raise Refusal(400, "field", f"{name} is switched off on this server", code="field_off", param=name)
        if path == "/invocations" and "prompt" in body:
            self.check_path("/v1/completions")
        kept = path.startswith(STORE_PREFIX)
        self._check_inside(body, media=self.settings.media_urls or kept)
        if kept:
            return
        self._check_numbers(path, body)
        self._check_lists(body)
        if path in SALTED_PATHS:
            _put_salt(body, caller)

    def _check_numbers(self, path: str, body: dict[str, Any]) -> None:
        _check_number(body, "n", self.settings.max_n)
        limit = self.settings.max_tokens
        if not limit:
            return
        said = [_check_number(body, name, limit) for name in TOKEN_LIMITS]
        if path in TOKEN_FIELD and not any(said):
            body[TOKEN_FIELD[path]] = limit

    def _check_lists(self, body: dict[str, Any]) -> None:
        limit = self.settings.max_messages
        for name in LISTS:
            value = body.get(name)
            if isinstance(value, list) and _num_items(value) > limit:
                message = f"{name} holds {_num_items(value)} items; {limit} are the limit of this server"
                raise Refusal(400, "cap", message, code="too_many_items", param=name)

    def _check_inside(self, body: dict[str, Any], *, media: bool) -> None:
        for holder in containers(body):
            kind = holder.get("type")
            if isinstance(kind, str) and kind in self._closed_parts:
                raise Refusal(400, "field", f"{kind} is switched off on this server", code="field_off", param=kind)
            if not media:
                _check_media(holder)


def _check_number(body: dict[str, Any], name: str, limit: int) -> bool:
    """Refuse a number above the limit; tell whether there is one.

    Only a plain integer is one here: vLLM would also read "100" and 100.0.
    """
    value = body.get(name)
    if value is None:
        return False
    if type(value) is not int:
        raise Refusal(400, "cap", f"{name} is not an integer", code="invalid_type", param=name)
    if value > limit:
        message = f"{name} is {value}; {limit} is the limit of this server"
        raise Refusal(400, "cap", message, code="limit_exceeded", param=name)
    return True


def _num_items(value: list[Any]) -> int:
    """Return how many items a list holds: of a list of token ids one, of a list of lists all of theirs."""
    num_inner = sum(len(item) if isinstance(item, list) and not _is_token_ids(item) else 1 for item in value)
    return 1 if _is_token_ids(value) else num_inner


def _is_token_ids(value: list[Any]) -> bool:
    return bool(value) and type(value[0]) is int


def _check_media(holder: dict[str, Any]) -> None:
    """Refuse an address that the server would fetch: it may be one that only this machine can reach."""
    for name in MEDIA:
        if name in holder:
            value = holder[name]
            address = value.get("url") if isinstance(value, dict) else value if name != "source" else None
            if isinstance(address, str) and ":" in address and not address.startswith("data:"):
                message = f"{name} names an address; this server fetches none: send the data (data:...;base64,...)"
                raise Refusal(400, "media", message, code="media_url_off", param=name)


def _put_salt(body: dict[str, Any], caller: Caller) -> None:
    chosen = body.pop("cache_salt", None)
    if not isinstance(chosen, str | None):
        raise Refusal(400, "field", "cache_salt is not a text", code="invalid_type", param="cache_salt")
    if (salt := caller.cache_salt(chosen or "")) is not None:
        body["cache_salt"] = salt
    elif chosen:
        body["cache_salt"] = chosen
