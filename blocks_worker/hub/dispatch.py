"""Hand what waits to who has room, in the order of its rank, inside the transaction that made room or work."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from blocks_worker.hub.routing import choose, choose_all

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
        return _allowed(ledger, ledger.agent(agent)) > 0 and bool(self._choose(ledger.candidates(agent), to_all=False))

    def route(self, ledger: Ledger, agent: str) -> None:
        """Have what waits for the agent offered, once all that this transaction does was done."""
        ledger.put_off(("route", agent), partial(self.route_now, ledger, agent))

    def route_now(self, ledger: Ledger, agent: str) -> None:
        """Offer what waits for the agent, lowest rank first, while there is room; of a broadcast one to all at once."""
        candidates = ledger.candidates(agent)
        room = sum(one.free for one in candidates if one.free > 0)
        if not self._choose(candidates, to_all=False):
            return
        facts = ledger.agent(agent)
        to_all = facts is not None and facts.is_broadcast
        left = MOST_OFFERS
        waiting = ledger.waiting(agent, self._steady.now_ms(), min(room, _allowed(ledger, facts)))
        self._turns.prepare(ledger, waiting)
        for row in waiting:
            to = self._choose(candidates, to_all=to_all)
            if not to or left <= 0:
                return
            if self._offer(ledger, row, to, to_all=to_all):
                left -= len(to)
                candidates = [_less(one) if one in to else one for one in candidates]

    def _offer(self, ledger: Ledger, row: TaskRecord, to: list[Candidate], *, to_all: bool) -> bool:
        if to_all:
            return self._turns.broadcast(ledger, row, to)
        self._remember(to[0])
        return self._turns.offer(ledger, row, to[0])

    def _choose(self, candidates: list[Candidate], *, to_all: bool) -> list[Candidate]:
        """Return whom the next task is offered to: nobody when nobody has room."""
        now = self._steady.now_ms()
        if self._cooling:
            self._cooling = {key: until for key, until in self._cooling.items() if until > now}
        if to_all:
            return choose_all(candidates, cooling=self._cooling)
        one = choose(candidates, last_offered=self._last_offered, cooling=self._cooling)
        return [] if one is None else [one]

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
