"""What of conversations is kept how long, and how much of it: the settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field, with_config

from chat.server.settings.environment import EnvironmentSettings

__all__ = ["STORE_VARIABLE", "ServedSettings"]

STORE_VARIABLE = "VLLMDEPLOY_STORE"  # a file or a URL; empty: the terminal's own store

Amount = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]


@with_config(extra="forbid")
@dataclass(frozen=True, slots=True)
class ServedSettings(EnvironmentSettings):
    """How long and how much is kept.

    Attributes:
        retention_days: conversations in which nothing was said for so long are deleted; 0: never.
        retention_days_of: the same for single owners, by their names.
        session_idle_s: after so many seconds without a word the number of a session of ``/v1/chat/interactive`` is
            forgotten, its conversation is not; 0: never.
        max_conversations: the most that one owner may have; 0: any number.
        max_turns: the most answers that one owner is given at once; 0: any number.
    """

    variable: ClassVar[str] = "VLLMDEPLOY_SERVED"
    meaning: ClassVar[str] = "settings of conversations"

    retention_days: Amount = 0.0
    retention_days_of: Mapping[str, Amount] = field(default_factory=dict)
    session_idle_s: Amount = 30 * 24 * 3600.0  # 30 days
    max_conversations: Count = 100_000
    max_turns: Count = 0
