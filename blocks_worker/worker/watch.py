"""Which of a few threads sleeps until something is due, and which of them only rest: whom to wake for what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.concurrency import Alarm

if TYPE_CHECKING:
    from blocks_worker.concurrency import Clock

_NEVER = float("inf")


def ring(alarm: Alarm | None) -> None:
    """Wake a thread, if there is one to wake."""
    if alarm is not None:
        alarm.ring()


class Watch:
    """Be the state of threads that share work; its lock is the owner's, and held in each verb but `behind`.

    One thread at most *watches*: it sleeps until something is due. The others are at work, or rest until they are
    called. Whoever is told an alarm rings it once the lock is free: the thread takes that lock as soon as it is awake.
    """

    def __init__(self, threads: int, clock: Clock) -> None:
        self._clock = clock
        self.alarms = [Alarm() for _ in range(threads)]
        #: When each began what it is at, or is to look next; infinity before its start, while it rests, and at its end.
        self._dues = dict.fromkeys(self.alarms, _NEVER)
        self._watching: Alarm | None = None
        self._resting: list[Alarm] = []

    def woke(self, alarm: Alarm, now: float) -> None:
        """A thread is awake, and looks what there is to do."""
        self._dues[alarm] = now
        if self._watching is alarm:
            self._watching = None
        elif alarm in self._resting:
            self._resting.remove(alarm)

    def sleeps(self, alarm: Alarm, until: float, *, may_watch: bool) -> bool:
        """A thread found nothing to do; tell whether it watches, until then, or only rests."""
        if self._watching is not None or not may_watch:
            self._dues[alarm] = _NEVER
            self._resting.append(alarm)
            return False
        self._dues[alarm] = until
        self._watching = alarm
        return True

    def ended(self, alarm: Alarm) -> None:
        """A thread ends."""
        self._dues[alarm] = _NEVER

    def alarm_for(self, due: float) -> Alarm | None:
        """Return whom to wake for what is due then: who watches, and would look later; None: nobody has to be."""
        watching = self._watching
        if watching is None or due >= self._dues[watching]:
            return None
        self._dues[watching] = max(due, self._clock.monotonic())
        return watching

    def another(self) -> Alarm | None:
        """Return somebody to wake who rests, although others are at work; None when nobody does, or one watches."""
        if self._watching is not None or not self._resting:
            return None
        return self._resting.pop()

    def behind(self) -> float:
        """Return for how many seconds a thread is at one thing, or late for the next."""
        return max(0.0, self._clock.monotonic() - min(self._dues.values()))
