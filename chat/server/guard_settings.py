"""What the guard lets through: the settings, and how they reach the processes of vLLM."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass

from errors import ConfigError

__all__ = ["GUARD_VARIABLE", "GuardSettings"]

# vLLM makes the guard itself, without arguments, in each process that serves HTTP; this variable tells the guard what
# the command line said. No key is in it.
GUARD_VARIABLE = "VLLM_DEPLOY_GUARD"


@dataclass(frozen=True, slots=True)
class GuardSettings:
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

    def to_json(self) -> str:
        """Return the text that ``GUARD_VARIABLE`` holds."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_environment(cls) -> GuardSettings:
        """Return what the variable says; the defaults if it is not set.

        Raises:
            ConfigError: it says something else.
        """
        text = os.environ.get(GUARD_VARIABLE)
        if not text:
            return cls()
        import pydantic

        try:
            return pydantic.TypeAdapter(cls).validate_json(text, strict=True)
        except pydantic.ValidationError as error:
            wrong = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
            raise ConfigError(f"{GUARD_VARIABLE} does not hold the guard's settings: {wrong}") from error
