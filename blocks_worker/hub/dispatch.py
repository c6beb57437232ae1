"""Hand what waits to who has room, in the order of its rank, inside the transaction that made room or work."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from blocks_worker.hub.routing import Line

if TYPE_CHECKING:
    from blocks_worker.concurrency import SteadyClock
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import AgentFacts, Candidate, TaskRecord
    from blocks_worker.hub.turns import Turns

#: No offer to an incarnation that has just refused one.
NACK_COOLDOWN_MS = 1_000
#: Most offers of one pass: the rest is offered by the next one.
MOST_OFFERS = 256
#: What is remembered of so many incarnations; the oldest are forgotten, which costs a little fairness.
_REMEMBERED = 10_000


class Dispatch:
    """Route tasks. What it remembers are hints: losing them costs nothing but fairness."""

    def __init__(self, turns: Turns, steady: SteadyClock) -> None:
        self._turns = turns
        self._steady = steady
        self._offers = 0
        self._last_offered: dict[str, int] = {}
        self._cooling: dict[str, int] = {}

    def refused(self, incarnation: str) -> None:
        """Remember that an incarnation refused an offer."""
        self._cooling[incarnation] = self._steady.now_ms() + NACK_COOLDOWN_MS

    def forget(self, incarnation: str) -> None:
        """Drop what is remembered of an incarnation that is gone."""
        self._last_offered.pop(incarnation, None)
        self._cooling.pop(incarnation, None)

    def has_room(self, ledger: Ledger, agent: str) -> bool:
        """Tell whether somebody could take a task of the agent now."""
        return _allowed(ledger, ledger.agent(agent)) > 0 and bool(self._open(ledger.candidates(agent)))

    def route(self, ledger: Ledger, agent: str) -> None:
        """Have what waits for the agent offered, once all that this transaction does was done."""
        ledger.put_off(("route", agent), partial(self.route_now, ledger, agent))

    def route_now(self, ledger: Ledger, agent: str) -> None:
        """Offer what waits for the agent, lowest rank first, while there is room; of a broadcast one to all at once."""
        candidates = ledger.candidates(agent)
        open_to = self._open(candidates)
        if not open_to:
            return
        facts = ledger.agent(agent)
        room = sum(one.free for one in candidates if one.free > 0)
        waiting = ledger.waiting(agent, self._steady.now_ms(), min(room, _allowed(ledger, facts)))
        self._turns.prepare(ledger, waiting)
        if facts is not None and facts.is_broadcast:
            self._offer_to_all(ledger, waiting, candidates)
        else:
            self._offer_each(ledger, waiting, Line(open_to, self._last_offered))

    def _offer_to_all(self, ledger: Ledger, waiting: list[TaskRecord], candidates: list[Candidate]) -> None:
        left = MOST_OFFERS
        for row in waiting:
            to = self._open(candidates)
            if not to or left <= 0:
                return
            if self._turns.broadcast(ledger, row, to):
                left -= len(to)
                candidates = [_less(one) if one in to else one for one in candidates]

    def _offer_each(self, ledger: Ledger, waiting: list[TaskRecord], line: Line) -> None:
        for row in waiting:
            to = line.first
            if to is None:
                return
            self._remember(to)
            line.offered(self._offers, taken=self._turns.offer(ledger, row, to))

    def _open(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return who has room and has not just refused an offer."""
        if self._cooling:
            now = self._steady.now_ms()
            self._cooling = {key: until for key, until in self._cooling.items() if until > now}
        return [one for one in candidates if one.free > 0 and one.incarnation not in self._cooling]

    def _remember(self, to: Candidate) -> None:
        self._offers += 1
        self._last_offered[to.incarnation] = self._offers
        if len(self._last_offered) > _REMEMBERED:
            self._last_offered.pop(next(iter(self._last_offered)))


def _allowed(ledger: Ledger, facts: AgentFacts | None) -> int:
    """Return how many tasks of an agent may be offered in one pass."""
    limit = None if facts is None else ledger.below_limit(facts)
    return MOST_OFFERS if limit is None else min(limit, MOST_OFFERS)


def _less(one: Candidate) -> Candidate:
    return type(one)(one.agent_id, one.incarnation, one.billing_mode, one.free - 1)
