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
    """Route tasks. What it remembers are hints: losing them costs nothing but fairness, and a look."""

    def __init__(self, turns: Turns, steady: SteadyClock) -> None:
        self._turns = turns
        self._steady = steady
        self._offers = 0
        self._last_offered: dict[str, int] = {}
        self._cooling: dict[str, int] = {}
        #: Agents for which nothing waits but what the open transaction takes in, as the last look left it. Whoever puts
        #: a task back calls `route`, which looks again, and so does each sweep.
        self._quiet: set[str] = set()

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

    def route(self, ledger: Ledger, agent: str, *, put_back: bool = True) -> None:
        """Have what waits for the agent offered, once all that this transaction does was done.

        `put_back`: a task that was somebody's, or was not to be offered, may wait now. Without, only what this
        transaction takes in can have come to what waited.
        """
        if put_back:
            self._note(ledger, agent, is_quiet=False)
        ledger.put_off(("route", agent), partial(self._hand_out, ledger, agent))

    def route_now(self, ledger: Ledger, agent: str) -> None:
        """Offer what waits for the agent, lowest rank first, while there is room; of a broadcast one to all at once."""
        self._note(ledger, agent, is_quiet=False)
        self._hand_out(ledger, agent)

    def _hand_out(self, ledger: Ledger, agent: str) -> None:
        new = ledger.newcomers(agent, self._steady.now_ms()) if agent in self._quiet else None
        if new == []:
            return
        candidates = ledger.candidates(agent)
        open_to = self._open(candidates)
        if not open_to:
            self._note(ledger, agent, is_quiet=False)
            return
        facts = ledger.agent(agent)
        room = sum(one.free for one in candidates if one.free > 0)
        most = min(room, _allowed(ledger, facts))
        waiting = ledger.waiting(agent, self._steady.now_ms(), most) if new is None else new[:most]
        self._turns.prepare(ledger, waiting)
        if facts is not None and facts.is_broadcast:
            self._offer_to_all(ledger, waiting, candidates)
            return
        offered = self._offer_each(ledger, waiting, Line(open_to, self._last_offered))
        self._note(ledger, agent, is_quiet=offered and (len(waiting) < most if new is None else len(new) <= most))

    def _offer_to_all(self, ledger: Ledger, waiting: list[TaskRecord], candidates: list[Candidate]) -> None:
        left = MOST_OFFERS
        for row in waiting:
            to = self._open(candidates)
            if not to or left <= 0:
                return
            if self._turns.broadcast(ledger, row, to):
                left -= len(to)
                candidates = [_less(one) if one in to else one for one in candidates]

    def _offer_each(self, ledger: Ledger, waiting: list[TaskRecord], line: Line) -> bool:
        """Offer each to who has room; tell whether all were taken."""
        taken = 0
        for row in waiting:
            to = line.first
            if to is None:
                break
            self._remember(to)
            is_taken = self._turns.offer(ledger, row, to)
            line.offered(self._offers, taken=is_taken)
            taken += is_taken
        return taken == len(waiting)

    def _note(self, ledger: Ledger, agent: str, *, is_quiet: bool) -> None:
        """Remember whether nothing waits for the agent: that nothing does, once the transaction stands."""
        if is_quiet and agent in self._quiet:
            return
        self._quiet.discard(agent)
        ledger.when_it_stands(("quiet", agent), partial(self._quiet.add, agent) if is_quiet else None)

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
