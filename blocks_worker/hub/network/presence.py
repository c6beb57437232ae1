"""Who is present on which channel, until when, and with which state; what happened comes back as a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Seconds that a presence lasts without renewal, unless the client says otherwise.
TIMEOUT = 300


class Happening(NamedTuple):
    """Be one event of presence, with how many were there after it."""

    channel: str
    action: str
    user_id: str
    occupancy: int
    data: Any = None

    def event(self, timestamp: int) -> dict[str, Any]:
        """Return it as it is published; `timestamp` is unix seconds."""
        body: dict[str, Any] = {
            "action": self.action,
            "timestamp": timestamp,
            "uuid": self.user_id,
            "occupancy": self.occupancy,
        }
        if self.data is not None:
            body["data"] = self.data
        return body


@dataclass(slots=True)
class _Occupant:
    """Be one user on one channel; who only set a state there is not present."""

    expires: float
    present: bool
    state: Any = None


class Presence:
    """Keep the occupants of channels; nothing in here knows a clock."""

    def __init__(self) -> None:
        self._rooms: dict[str, dict[str, _Occupant]] = {}
        self._places: dict[str, set[str]] = {}
        #: No presence ends before this moment, so looking earlier is no use.
        self._soonest = float("inf")

    def arrive(
        self, user_id: str, channels: Iterable[str], *, until: float, states: Mapping[str, Any] | None = None
    ) -> list[Happening]:
        """Add or renew a user on channels; only the first arrival is a join."""
        happened = []
        self._soonest = min(self._soonest, until)
        for channel in channels:
            occupant = self._rooms.get(channel, {}).get(user_id)
            if occupant is None:
                occupant = self._enter(channel, user_id, until)
            occupant.expires = until
            if states is not None and channel in states:
                occupant.state = states[channel]
            if not occupant.present:
                occupant.present = True
                happened.append(Happening(channel, "join", user_id, self.occupancy(channel), occupant.state))
        return happened

    def leave(self, user_id: str, channels: Iterable[str]) -> list[Happening]:
        """Remove a user from channels."""
        return [each for channel in channels for each in self._exit(channel, user_id, "leave")]

    def expire(self, now: float) -> list[Happening]:
        """Remove everyone whose time is over."""
        if now < self._soonest:
            return []
        over = [
            (channel, user_id)
            for channel, room in self._rooms.items()
            for user_id, occupant in room.items()
            if occupant.expires <= now
        ]
        happened = [each for channel, user_id in over for each in self._exit(channel, user_id, "timeout")]
        self._soonest = min(
            (occupant.expires for room in self._rooms.values() for occupant in room.values()), default=float("inf")
        )
        return happened

    def set_state(self, user_id: str, channels: Iterable[str], state: Any, *, until: float) -> list[Happening]:
        """Set the state of a user, present or not; a state of the absent is forgotten after a while."""
        happened = []
        for channel in channels:
            occupant = self._rooms.get(channel, {}).get(user_id)
            if occupant is None:
                occupant = self._enter(channel, user_id, until)
                self._soonest = min(self._soonest, until)
            occupant.state = state
            happened.append(Happening(channel, "state-change", user_id, self.occupancy(channel), state))
        return happened

    def state(self, user_id: str, channel: str) -> Any:
        """Return the state of a user on a channel, an empty one when none was set."""
        occupant = self._rooms.get(channel, {}).get(user_id)
        return {} if occupant is None or occupant.state is None else occupant.state

    def occupancy(self, channel: str) -> int:
        """Return how many are present."""
        return sum(occupant.present for occupant in self._rooms.get(channel, {}).values())

    def here(self, channel: str) -> list[tuple[str, Any]]:
        """Return who is present, each with the state or None."""
        room = self._rooms.get(channel, {})
        return [(user_id, occupant.state) for user_id, occupant in room.items() if occupant.present]

    def where(self, user_id: str) -> list[str]:
        """Return the channels on which a user is present."""
        return sorted(place for place in self._places.get(user_id, ()) if self._rooms[place][user_id].present)

    def channels(self) -> list[str]:
        """Return the channels on which somebody is present."""
        return [channel for channel in self._rooms if self.occupancy(channel)]

    def _enter(self, channel: str, user_id: str, until: float) -> _Occupant:
        occupant = self._rooms.setdefault(channel, {})[user_id] = _Occupant(until, present=False)
        self._places.setdefault(user_id, set()).add(channel)
        return occupant

    def _exit(self, channel: str, user_id: str, action: str) -> list[Happening]:
        room = self._rooms.get(channel, {})
        occupant = room.pop(user_id, None)
        if occupant is None:
            return []
        if not room:
            del self._rooms[channel]
        places = self._places[user_id]
        places.discard(channel)
        if not places:
            del self._places[user_id]
        return [Happening(channel, action, user_id, self.occupancy(channel))] if occupant.present else []
