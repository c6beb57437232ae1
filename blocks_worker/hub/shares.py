"""What one owner may have of a hub: so many new tasks a second, open tasks, bytes of inputs; refused is the rest."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.hub.answers import Reply
from blocks_worker.hub.problems import TOO_LARGE, TOO_MANY, RefusalError
from blocks_worker.protocol.leases import EVENT_QUOTA
from blocks_worker.protocol.tasks import Problem

if TYPE_CHECKING:
    from blocks_worker.concurrency import SteadyClock
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.quotas import Quotas

#: What a quota is refused with.
CODE = "QuotaExceeded"
QUOTAS = ("submits", "openTasks", "inputBytes", "runEvents", "runEventBytes")
#: Seconds after which it is worth to ask again where many tasks would have to end, or much to be purged.
LATER = 5.0
#: Milliseconds for which bytes that left no room are believed.
BELIEVED_MS = 1_000
#: A count of open tasks that left no room is believed for a millisecond for so many, and one of fewer not at all: it
#: takes 0.07 ms for a hundred, and whoever floods a hub asks often.
COUNTED_A_MS = 100
#: Owners whose shares are remembered; all are counted anew beyond.
MOST_OWNERS = 10_000


@dataclass(frozen=True)
class Refused(Reply):
    """Be a reply that is a refusal."""

    body: Problem


class _Share:
    """What is known of one owner: never less than he has of tasks, exactly what he has of bytes but for purges."""

    def __init__(self, tokens: float, now: int) -> None:
        self.tokens = tokens
        self.filled_at = now
        self.open_tasks: int | None = None
        self.input_bytes: int | None = None
        self.full_until = {"openTasks": 0, "inputBytes": 0}


class Shares:
    """Count what owners have; everything here runs on the store's writer thread."""

    def __init__(self, quotas: Quotas, steady: SteadyClock) -> None:
        self.quotas = quotas
        self._steady = steady
        self._shares: dict[str, _Share] = {}
        #: What was refused since the start, by quota.
        self.refused = Counter[str]()

    def refusal(self, ledger: Ledger, owner: str, size: int) -> Refused | None:
        """Return the refusal of a new task whose input is of this size; None when there is room, which is taken."""
        share = self._of(owner)
        refused = self._too_many(ledger, owner, share) or self._too_much(ledger, owner, share, size)
        refused = refused or self._too_fast(share)
        if refused is not None:
            return refused
        share.tokens -= 1
        if share.open_tasks is not None:
            share.open_tasks += 1
        self._keep(ledger, owner, share, size)
        return None

    def take_file(self, ledger: Ledger, owner: str, size: int) -> None:
        """Take room for a file that is an input.

        Raises:
            RefusalError: 429 there is none, 413 there never is so much.
        """
        share = self._of(owner)
        refused = self._too_much(ledger, owner, share, size)
        if refused is None:
            self._keep(ledger, owner, share, size)
            return
        told = refused.body
        raise RefusalError(refused.status, told.code, told.message, details=told.details)

    def refusal_of_events(self, row: TaskRecord, count: int, size: int) -> Refused | None:
        """Return the refusal of events beyond what one run may store; None when there is room for them."""
        most, room = self.quotas.run_events, self.quotas.run_event_bytes
        if count and most and row.last_n + count > most:
            text = f"a run may store {most} events, and this one has stored {row.last_n}"
            return self._refused("runEvents", most, text, status=TOO_LARGE, code=EVENT_QUOTA)
        if count and room and row.event_bytes + size > room:
            text = f"a run may store {room} bytes of events, and this one has stored {row.event_bytes}"
            return self._refused("runEventBytes", room, text, status=TOO_LARGE, code=EVENT_QUOTA)
        return None

    def _of(self, owner: str) -> _Share:
        share = self._shares.get(owner)
        if share is None:
            if len(self._shares) >= MOST_OWNERS:
                self._shares.clear()
            share = self._shares[owner] = _Share(2.0 * self.quotas.submits, self._steady.now_ms())
        return share

    def _keep(self, ledger: Ledger, owner: str, share: _Share, size: int) -> None:
        ledger.use_room(owner, size)
        if share.input_bytes is not None:
            share.input_bytes += size

    def _too_fast(self, share: _Share) -> Refused | None:
        """Fill the owner's bucket by the time that has passed; refuse what finds no token in it."""
        rate, now = self.quotas.submits, self._steady.now_ms()
        if not rate:
            share.tokens = 1.0
            return None
        share.tokens = min(2.0 * rate, share.tokens + rate * max(0, now - share.filled_at) / 1000)
        share.filled_at = now
        if share.tokens >= 1:
            return None
        text = f"more than {rate} new tasks in a second: the rest comes later"
        return self._refused("submits", rate, text, later=max(0.05, (1 - share.tokens) / rate))

    def _too_many(self, ledger: Ledger, owner: str, share: _Share) -> Refused | None:
        """Take what is known where it leaves room; whoever would be refused has his tasks counted anew."""
        limit, now = self.quotas.open_tasks, self._steady.now_ms()
        if not limit or (share.open_tasks is not None and share.open_tasks < limit):
            return None
        if share.full_until["openTasks"] <= now:
            share.open_tasks = ledger.count_open(owner, limit + 1)
            if share.open_tasks < limit:
                return None
            share.full_until["openTasks"] = now + limit // COUNTED_A_MS
        text = f"{limit} tasks that have not ended are the most of one owner: wait until some have, or cancel some"
        return self._refused("openTasks", limit, text, later=LATER)

    def _too_much(self, ledger: Ledger, owner: str, share: _Share, size: int) -> Refused | None:
        limit, now = self.quotas.input_bytes, self._steady.now_ms()
        if not limit:
            return None
        if size > limit:
            text = f"an input of {size} bytes is more than the {limit} of one owner"
            return self._refused("inputBytes", limit, text, status=TOO_LARGE)
        if share.input_bytes is not None and share.input_bytes + size <= limit:
            return None
        if share.full_until["inputBytes"] <= now:
            share.input_bytes = ledger.room_used(owner)
            if share.input_bytes + size <= limit:
                return None
            share.full_until["inputBytes"] = now + BELIEVED_MS
        text = (
            f"inputs of {limit} bytes are the most that is kept of one owner: purge ended tasks, or wait until some go"
        )
        return self._refused("inputBytes", limit, text, later=LATER)

    def _refused(
        self, quota: str, limit: int, text: str, *, later: float | None = None, status: int = TOO_MANY, code: str = CODE
    ) -> Refused:
        self.refused[quota] += 1
        when = {} if later is None else {"retryAfter": round(later, 3)}
        return Refused(status, Problem(code=code, message=text, details={"quota": quota, "limit": limit, **when}))
