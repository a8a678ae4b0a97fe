"""How many requests the engine is asked to answer at once: all together, and of one owner.

Without a bound the engine's queue grows for as long as more is asked than it can answer, and whoever comes last waits
for ever. With one, a request that is taken is answered within a time that the bound gives, and the others are told at
once to come again.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from starlette.types import Scope

from chat.server.limits.metrics import REQUESTS_IN_FLIGHT
from chat.server.limits.refusal import RETRY_AFTER, Refusal
from chat.server.settings.guard import GuardSettings

__all__ = ["Place", "Places", "num_seqs_of"]

DEFAULT_NUM_SEQS = 256  # vLLM's own default on most hardware; for an application that does not tell


class Places:
    """The places of one process that serves HTTP.

    Args:
        settings: ``max_requests`` and ``max_requests_per_owner``; 0: twice as many as the engine answers at once, and
            three quarters of them for one owner, so that there is always room for somebody else.
        num_seqs: how many the engine answers at once.
    """

    def __init__(self, settings: GuardSettings, num_seqs: int = DEFAULT_NUM_SEQS) -> None:
        self.max_requests = settings.max_requests or 2 * num_seqs
        self.max_requests_per_owner = settings.max_requests_per_owner or max(1, self.max_requests * 3 // 4)
        self._taken: Counter[str] = Counter()

    def take(self, owner: str) -> Place:
        """Take a place.

        Raises:
            Refusal: 429 if the owner has as many as one may have, 503 if all are taken.
        """
        if self._taken[owner] >= self.max_requests_per_owner:
            said = f"{self.max_requests_per_owner} requests of yours are being answered, the limit of this server"
            raise Refusal(429, "owner_busy", said, code="rate_limit_exceeded", headers=[RETRY_AFTER])
        if self._taken.total() >= self.max_requests:
            said = f"{self.max_requests} requests are being answered, the limit of this server"
            raise Refusal(503, "busy", said, code="server_busy", headers=[RETRY_AFTER])
        self._taken[owner] += 1
        REQUESTS_IN_FLIGHT.inc()
        return Place(self, owner)

    def give_back(self, owner: str) -> None:
        """Free a place; called once for each by :class:`Place`."""
        REQUESTS_IN_FLIGHT.dec()
        self._taken[owner] -= 1
        if not self._taken[owner]:
            del self._taken[owner]  # or the names of all who ever asked would be kept


class Place:
    """A request's place, until its reply has ended.

    Attributes:
        stays: the answer goes on behind the reply: who gives it calls :meth:`leave` at its end.
    """

    def __init__(self, places: Places, owner: str) -> None:
        self.stays = False
        self._places: Places | None = places
        self._owner = owner

    def leave(self) -> None:
        """Give the place back; a second time changes nothing."""
        places, self._places = self._places, None
        if places is not None:
            places.give_back(self._owner)


def num_seqs_of(scope: Scope) -> int:
    """Return how many requests the engine behind an application answers at once, by vLLM's own settings.

    Several processes that serve HTTP share the engines: each has its part of the places.
    """
    config: Any = getattr(getattr(scope.get("app"), "state", None), "vllm_config", None)
    if config is None:
        return DEFAULT_NUM_SEQS
    parallel = config.parallel_config
    num_processes = getattr(parallel, "_api_process_count", 1)
    return max(1, int(config.scheduler_config.max_num_seqs) * int(parallel.data_parallel_size) // num_processes)
