"""Settings of what runs inside vLLM's processes: there and back through one variable of the environment.

vLLM makes guard and plugin itself, without arguments, in each process that serves HTTP; the variable tells them what
the command line said.
"""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import TypeAdapter, ValidationError

from chat.environment import read_variable
from chatcore.errors import ConfigError

__all__ = ["PROMPT_CACHE_MB", "PROMPT_CACHE_VARIABLE", "EnvironmentSettings", "prompt_cache_bytes"]

PROMPT_CACHE_VARIABLE = "VLLMDEPLOY_PROMPT_CACHE_MB"
PROMPT_CACHE_MB = 64  # about a million tokens


class EnvironmentSettings:
    """What frozen dataclasses of settings inherit from.

    Attributes:
        variable: the name of the variable, which holds JSON.
        meaning: what it holds, for people.
    """

    __slots__ = ()
    variable: ClassVar[str]
    meaning: ClassVar[str]

    def to_json(self) -> str:
        """Return the text that the variable holds."""
        return TypeAdapter(type(self)).dump_json(self).decode()

    @classmethod
    def from_environment(cls) -> Self:
        """Return what the variable says; the defaults if it is not set.

        Raises:
            ConfigError: it says something else: an unknown name, a value of a wrong kind or out of range.
        """
        text = read_variable(cls.variable)
        if not text:
            return cls()
        try:
            return TypeAdapter(cls).validate_json(text, strict=True)
        except ValidationError as error:
            wrong = "; ".join(": ".join([*map(str, one["loc"]), one["msg"]]) for one in error.errors())
            raise ConfigError(f"{cls.variable} does not hold {cls.meaning}: {wrong}") from error


def prompt_cache_bytes() -> int:
    """Return how much memory each process that serves HTTP may take for prompts that it has encoded, in bytes.

    Raises:
        ConfigError: the variable holds no number.
    """
    text = read_variable(PROMPT_CACHE_VARIABLE) or str(PROMPT_CACHE_MB)
    if not text.isdecimal() or int(text) < 1:
        raise ConfigError(f"{PROMPT_CACHE_VARIABLE} is {text!r}", hint="It is a number of megabytes, 1 or more.")
    return int(text) << 20
