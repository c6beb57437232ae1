"""What the hub keeps in memory of the instances that live: when each was heard, and what its lists lacked.

All of it is by the monotonic clock of this hub, and may be forgotten: an instance of which nothing is known
counts as heard when the hub began, so that a hub that was away ends nobody's leases too early.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from blocks_worker.hub.appearance import Appearance

if TYPE_CHECKING:
    from blocks_worker.concurrency import Clock

#: More incarnations of one name than these that spoke again after they were superseded, within so many
#: seconds, are two processes under one name.
FLAPS = 5
FLAP_WINDOW = 300.0

Name = tuple[str, str]


@dataclass
class Pulse:
    """One live incarnation."""

    heard: float
    heard_ms: int = 0
    active_streams: int = 0
    #: Release of its package, as it says itself.
    sdk_version: str = ""
    #: Id of the API key under which it speaks.
    key: str = ""
    #: Lists in a row that lacked a running task, by task and epoch.
    missing: dict[tuple[str, int], int] = field(default_factory=dict)
    #: How it looks from outside.
    appearance: Appearance = field(default_factory=Appearance)

    def count_missing(self, lacking: set[tuple[str, int]]) -> set[tuple[str, int]]:
        """Count one more list that lacked these; return those that two in a row lacked."""
        self.missing = {key: self.missing.get(key, 0) + 1 for key in lacking}
        return {key for key, lists in self.missing.items() if lists > 1}


class Pulses:
    """Keep the pulses, and who speaks under a name that is not his any more."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._pulses: dict[str, Pulse] = {}
        self._flaps: dict[Name, dict[str, float]] = {}

    def of(self, incarnation: str) -> Pulse:
        """Return the pulse of an incarnation; one that was not heard yet counts as heard when the hub began."""
        known = self._pulses.get(incarnation)
        return Pulse(self._began) if known is None else known

    def beat(self, incarnation: str, now_ms: int) -> Pulse:
        """Note that it was heard now."""
        pulse = self._pulses.setdefault(incarnation, Pulse(0.0))
        pulse.heard, pulse.heard_ms = self._clock.monotonic(), now_ms
        return pulse

    def see(self, incarnation: str, state: str) -> None:
        """Note how it stands in the ledger now."""
        pulse = self._pulses.setdefault(incarnation, Pulse(self._began))
        pulse.appearance.see(state, self._clock.monotonic())

    def silence(self, incarnation: str) -> float:
        """Return for how many seconds it was not heard."""
        return self._clock.monotonic() - self.of(incarnation).heard

    def begin_again(self) -> None:
        """Count everybody as heard now, as when the hub began."""
        self._began = self._clock.monotonic()
        for pulse in self._pulses.values():
            pulse.heard = self._began

    def forget(self, incarnation: str) -> None:
        """Drop an incarnation that is gone."""
        self._pulses.pop(incarnation, None)

    def spoke_again(self, name: Name, incarnation: str) -> None:
        """Note that an incarnation spoke after a newer one had taken its place."""
        self._flaps.setdefault(name, {})[incarnation] = self._clock.monotonic()

    def is_flapping(self, name: Name) -> bool:
        """Tell whether several processes fight for one name."""
        since = self._clock.monotonic() - FLAP_WINDOW
        recent = {key: at for key, at in self._flaps.pop(name, {}).items() if at >= since}
        if recent:
            self._flaps[name] = recent
        return len(recent) > FLAPS
