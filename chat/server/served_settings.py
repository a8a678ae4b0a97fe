"""What of conversations is kept how long, and how much of it: the settings, and how they reach vLLM's processes."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from errors import ConfigError

__all__ = ["SERVED_VARIABLE", "STORE_VARIABLE", "ServedSettings"]

# vLLM makes the plugin itself, without arguments, in each process that serves HTTP.
STORE_VARIABLE = "VLLM_DEPLOY_STORE"  # a file or a URL; empty: the terminal's own store
SERVED_VARIABLE = "VLLM_DEPLOY_SERVED"  # the settings below, as JSON


@dataclass(frozen=True, slots=True)
class ServedSettings:
    """How long and how much is kept.

    Attributes:
        retention_days: conversations in which nothing was said for so long are deleted; 0: never.
        retention_days_of: the same for single owners, by their names.
        session_idle_s: after so many seconds without a word the number of a session of ``/v1/chat/interactive`` is
            forgotten, its conversation is not; 0: never.
        max_conversations: the most that one owner may have; 0: any number.
        max_turns: the most answers that one owner is given at once; 0: any number.
    """

    retention_days: float = 0.0
    retention_days_of: Mapping[str, float] = field(default_factory=dict)
    session_idle_s: float = 30 * 24 * 3600.0  # 30 days
    max_conversations: int = 100_000
    max_turns: int = 0

    def to_json(self) -> str:
        """Return the text that ``SERVED_VARIABLE`` holds."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_environment(cls) -> ServedSettings:
        """Return what the variable says; the defaults if it is not set.

        Raises:
            ConfigError: it says something else.
        """
        text = os.environ.get(SERVED_VARIABLE)
        if not text:
            return cls()
        try:
            settings = cls(**json.loads(text))
            numbers = [settings.retention_days, *settings.retention_days_of.values(), settings.session_idle_s]
            if min(*numbers, settings.max_conversations, settings.max_turns) < 0:
                raise ValueError("a number is below 0")
        except (ValueError, TypeError, AttributeError) as error:
            raise ConfigError(f"{SERVED_VARIABLE} does not hold settings of conversations: {error}") from error
        return settings
