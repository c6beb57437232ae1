"""Where hub and network are now: found at the start, and found again, in the same way, when they seem to be gone."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from urllib.parse import urlsplit

from blocks_worker.concurrency import Periodic
from blocks_worker.config import is_loopback_url
from blocks_worker.errors import BlocksError, HubUnavailableError
from blocks_worker.state import StateFolder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.state import LocalHub

_logger = logging.getLogger(__name__)

CDM_PATH = "/api/v1/cdm"
#: Seconds that a trouble gets to pass by itself: what restarts where it was is mostly back by then.
PATIENCE = 1.0
#: Seconds between two looks: on this machine, and elsewhere, where a crowd of others looks too.
NEAR = 2.0
FAR = 8.0
#: Seconds of one look. With `FAR`, its jitter and the handshake of a transport less than 20 in all.
LOOK_TIMEOUT = 4.0
#: How much the pauses of one process differ from another's.
_JITTER = 0.2
#: Seconds until the next look when there is no trouble; it begins with `lose` or `ask`, which wake the thread.
_REST = 3600.0


class Place(Protocol):
    """Be a value that tells where everything is; two of them compare."""

    @property
    def hub_url(self) -> str:
        """The hub's base address."""

    @property
    def origin(self) -> str:
        """The network's address."""


Where = TypeVar("Where", bound=Place)


def document_now(told: str | None, state_dir: Path) -> str:
    """Return where the CDM document is to be looked for now.

    A hub that is entered with the key of the state folder is the hub of that folder (`told` is None): it counts where
    that hub says it is, and who else is at its old address does not.

    Raises:
        HubUnavailableError: no local hub runs.
    """
    if told is not None:
        return told
    hub = StateFolder(state_dir).discovered()
    if hub is None:
        raise HubUnavailableError(str(state_dir), "no local hub runs")
    return f"{hub.url}{CDM_PATH}"


def port_of(url: str) -> int:
    """Return the port of an address, written or not."""
    parts = urlsplit(url)
    return parts.port or (443 if parts.scheme == "https" else 80)


def not_there(told: str | None, hub: LocalHub | None) -> str:
    """Say that the local hub is not where the user says that it is; empty where it is, or where nobody said.

    Whoever then took the one that runs would have another hub than those who go by the address.
    """
    if told is None or hub is None or not is_loopback_url(told) or port_of(told) == port_of(hub.url):
        return ""
    return (
        f"no hub answers at {told}, and the local hub runs at {hub.url}; "
        f"unset BLOCKS_CDM_URL and BLOCKS_HUB_URL, or name port {port_of(hub.url)} there"
    )


class Whereabouts(Generic[Where]):
    """Know the place of now, and look for it again while there is reason to.

    1. `lose` and `regain` say that the network went away for somebody and came back: between the two it is
       looked for again and again. `ask` says that something was strange: it is looked for until it was found once.
    2. Who follows is told of another place, on the thread that found it.
    3. `look` looks at once, on the caller's thread.

    Without `find` the place was told by the user, and is never looked for. The thread "whereabouts" begins with the
    first trouble; it is a daemon, for what it asks may hang.
    """

    def __init__(
        self,
        found: Where,
        *,
        find: Callable[[], Where] | None,
        clock: Clock,
        entropy: Entropy,
        patience: float = PATIENCE,
        interval: float | None = None,
    ) -> None:
        self._now = found
        self._find = find
        self._clock = clock
        self._entropy = entropy
        self._patience = patience
        self._interval = interval or (NEAR if is_loopback_url(found.hub_url) else FAR)
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._followers: list[Callable[[], None]] = []
        self._losers: set[object] = set()
        self._asked = False
        self._due = 0.0
        self._looked = float("-inf")
        self._closed = False
        self._thread: Periodic | None = None

    @property
    def now(self) -> Where:
        """The place as far as it is known."""
        return self._now

    def follow(self, moved: Callable[[], None]) -> None:
        """Have this called after each change, in the order in which the followers came."""
        with self._lock:
            self._followers.append(moved)

    def leave(self, moved: Callable[[], None]) -> None:
        """Have it called no more."""
        with self._lock:
            self._followers = [one for one in self._followers if one != moved]

    def lose(self, who: object) -> None:
        """Say that the network is away for one of those who use it; returns at once."""
        if who not in self._losers:
            self._doubt(who)

    def regain(self, who: object) -> None:
        """Say that it is there for him, or that he uses it no more."""
        if who in self._losers:
            with self._lock:
                self._losers.discard(who)

    def ask(self) -> None:
        """Say that something is strange there; returns at once."""
        if not self._asked:
            self._doubt(None)

    def is_away(self) -> bool:
        """Tell whether the network is away for somebody."""
        return bool(self._losers)

    def tell(self, place: Where) -> None:
        """Know another place from now on, because the user says so; who follows is told before this returns."""
        self._takes(place)

    def look(self) -> bool:
        """Look now; tell whether something was found, and where it was before."""
        if self._find is None:
            return True
        with self._looking:
            try:
                found = self._find()
            except (BlocksError, ValueError) as error:
                _logger.debug("place_not_found", extra={"reason": str(error)})
                return False
            finally:
                self._looked = self._clock.monotonic()
            return not self._takes(found)

    def stop(self) -> None:
        """Look no more; a look that is under way is not waited for."""
        with self._lock:
            self._closed = True
            thread, self._followers = self._thread, []
            self._losers.clear()
        if thread is not None:
            thread.stop()

    def close(self, deadline: Deadline) -> None:
        """Look no more, and end the thread if it can end by then."""
        self.stop()
        if self._thread is not None:
            self._thread.join(deadline.remaining())

    def _doubt(self, loser: object | None) -> None:
        with self._lock:
            if self._find is None or self._closed:
                return
            if not (self._losers or self._asked):
                self._due = max(self._clock.monotonic() + self._patience, self._looked + self._interval)
            if loser is None:
                self._asked = True
            else:
                self._losers.add(loser)
            if self._thread is None:
                self._thread = Periodic("whereabouts", self._tick, self._patience, self._entropy, daemon=True)
                self._thread.start()
            self._thread.wake()

    def _tick(self) -> float:
        """Look when it is time; return the pause to the next time."""
        left = self._left()
        if left <= 0:
            self.look()
            with self._lock:
                self._due = self._clock.monotonic() + self._interval * self._entropy.uniform(1 - _JITTER, 1 + _JITTER)
            left = self._left()
        return left

    def _left(self) -> float:
        with self._lock:
            doubtful = self._losers or self._asked
            return self._due - self._clock.monotonic() if doubtful and not self._closed else _REST

    def _takes(self, found: Where) -> bool:
        """Know this place from now on; tell whether it is another one, after all who follow were told."""
        with self._lock:
            self._asked = False
            moved = found != self._now and not self._closed
            if moved:
                self._now = found
            followers = list(self._followers) if moved else []
        if moved:
            _logger.warning("place_changed", extra={"url": found.hub_url, "origin": found.origin})
        for follower in followers:
            try:
                follower()
            except Exception:  # the top of one follower: the others are told all the same
                _logger.exception("place_not_followed")
        return moved
