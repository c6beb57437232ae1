"""Granted offers: who may be given a task with its offer, and which of them nobody has acknowledged yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.protocol.channels import control_channel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from blocks_worker.concurrency import SteadyClock
    from blocks_worker.hub.store.records import Candidate, TaskRecord
    from blocks_worker.protocol.leases import Numbers

#: One offer: its task and its epoch.
OfferKey = tuple[str, int]


def nobody_follows(_billing_mode: str, _channel: str) -> bool:
    """Be the answer of a hub without links."""
    return False


class Granted:
    """Remember granted offers until something is heard of them.

    Whoever holds a link is there, so the hub may give the lease at once and save the claim. Any report, claim or list
    that names the offer acknowledges it. What is remembered here lives in memory and on the writer's thread only: what
    it forgets, two lists of the instance in a row find.
    """

    def __init__(
        self, numbers: Numbers, steady: SteadyClock, follows: Callable[[str, str], bool] = nobody_follows
    ) -> None:
        self._numbers = numbers
        self._steady = steady
        self._follows = follows
        #: Whose channel it was said on, and until when something has to be heard.
        self._unheard: dict[OfferKey, tuple[str, int]] = {}
        #: Channels whose link has ended. Filled on the hub's loop: adding to a set, and taking from it, is one step.
        self._left: set[str] = set()

    def allows(self, row: TaskRecord, to: Candidate) -> bool:
        """Tell whether the task may be run again, should nothing be heard of it, and its worker is there."""
        return row.may_run_again and self._follows(to.billing_mode, control_channel(to.agent_id))

    def gave(self, key: OfferKey, to: Candidate) -> None:
        """Wait for a sign that a granted offer has come."""
        until = self._steady.now_ms() + int(self._numbers.offer_timeout * 1000)
        self._unheard[key] = (control_channel(to.agent_id), until)

    def heard(self, keys: Iterable[OfferKey]) -> None:
        """Take a sign for these."""
        if self._unheard:
            for key in keys:
                self._unheard.pop(key, None)

    def left(self, channels: Iterable[str]) -> None:
        """Wait no longer for who had one of these channels: his link is gone."""
        self._left.update(channels)

    def lost(self) -> list[OfferKey]:
        """Return those of which nothing was heard in time, or nothing can be; they are not waited for any more."""
        now, left = self._steady.now_ms(), set()
        while self._left:
            left.add(self._left.pop())
        found = [key for key, (channel, until) in self._unheard.items() if until <= now or channel in left]
        for key in found:
            del self._unheard[key]
        return found
