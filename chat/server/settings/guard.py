"""What the guard lets through: the settings. No key is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import with_config

from chat.server.settings.environment import EnvironmentSettings

__all__ = ["GuardSettings"]


@with_config(extra="forbid")
@dataclass(frozen=True, slots=True)
class GuardSettings(EnvironmentSettings):
    """What the guard lets through.

    Attributes:
        key_file: where the keys are; empty: the user's own file.
        unauthenticated: everybody is ``local`` and no key is asked for.
        open_metrics: ``/metrics`` answers without a key.
        completions: ``/v1/completions`` answers, whose prompts are raw text or ready token ids.
        media_urls: the server fetches images, sounds and videos from addresses that requests name.
        allowed_paths: paths beside those that are known to be safe; one that ends with ``*`` stands for all that begin
            so.
        allowed_fields: fields of a request that are refused otherwise, such as ``priority``.
        max_body_bytes: the longest body of a request.
        max_body_s: how long a body may take to arrive.
        max_n: the most answers to one request.
        max_tokens: the most tokens of one answer; 0: what the window holds.
        max_messages: the most messages, prompts or documents in one request.
        max_requests: the most requests that are answered or wait for it, in one process that serves HTTP; 0: twice as
            many as the engine answers at once.
        max_requests_per_owner: the most of them that are one owner's; 0: three quarters.
    """

    variable: ClassVar[str] = "VLLMDEPLOY_GUARD"
    meaning: ClassVar[str] = "the guard's settings"

    key_file: str = ""
    unauthenticated: bool = False
    open_metrics: bool = False
    completions: bool = True
    media_urls: bool = False
    allowed_paths: tuple[str, ...] = ()
    allowed_fields: tuple[str, ...] = ()
    max_body_bytes: int = 32 << 20
    max_body_s: float = 60.0
    max_n: int = 16
    max_tokens: int = 0
    max_messages: int = 4096
    max_requests: int = 0
    max_requests_per_owner: int = 0
