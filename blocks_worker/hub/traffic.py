"""The hub's HTTP requests, counted by route, class of status and time: a few additions a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.observability.families import OTHERS, Sample
from blocks_worker.observability.spread import Spread

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from blocks_worker.concurrency import Clock

#: Seconds that are told apart.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Traffic:
    """Count on the hub's loop; anybody may read.

    `verbs` are those that the hub has: what else callers make up counts as one.
    """

    def __init__(self, clock: Clock, verbs: Iterable[str]) -> None:
        #: The time from which a request counts.
        self.now = clock.monotonic
        self._verbs = frozenset(verbs)
        self._spreads: dict[tuple[str, str, int], Spread] = {}

    def answered(self, verb: str, route: str | None, status: int, begun: float) -> None:
        """Count a request whose answer is there; `route` is its template, None where no route was found."""
        key = (verb if verb in self._verbs else OTHERS, route or OTHERS, status // 100)
        spread = self._spreads.get(key)
        if spread is None:
            spread = self._spreads[key] = Spread(BUCKETS)
        spread.note(self.now() - begun)

    def samples(self) -> Iterator[Sample]:
        """Yield what was counted."""
        for (verb, route, status), spread in self._spreads.copy().items():
            yield Sample("blocks_hub_http_request_seconds", (verb, route, f"{status}xx"), spread.read())
