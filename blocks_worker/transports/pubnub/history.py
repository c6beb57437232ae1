"""Finding in history what a poll left out: whole windows, page by page, checked against the network's own counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from blocks_worker.concurrency import Deadline
from blocks_worker.transports.gaps import Search, Window
from blocks_worker.transports.pubnub.client import PAGE_ROWS
from blocks_worker.transports.pubnub.outcomes import REPEATABLE, CallFailedError, Kind

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Sequence

    from blocks_worker.concurrency import Clock
    from blocks_worker.transports.pubnub.client import NetworkClient
    from blocks_worker.transports.replies import Event

Answer = TypeVar("Answer")

#: Seconds that one fill may take in all.
FILL_SECONDS = 30.0
#: Seconds to wait before asking again for rows that are counted but not yet shown: storage lags behind delivery.
LAGS = (0.2, 0.5, 1.0, 2.0)
#: Seconds before each further try of one call.
TRIES = (0.1, 0.4)


@dataclass
class Found:
    """What history had of one window; `complete`: nothing of it is known to be missing."""

    window: Window
    events: list[Event] = field(default_factory=list)
    complete: bool = True


class History:
    """Read windows of channels; safe from one thread at a time."""

    def __init__(
        self,
        client: Callable[[], NetworkClient],
        *,
        clock: Clock,
        stopping: threading.Event,
        counters: dict[str, int],
    ) -> None:
        self._client = client
        self._clock = clock
        self._stopping = stopping
        self._counters = counters

    def fill(self, windows: Sequence[Window]) -> list[Found]:
        """Return what history has of each window.

        Raises:
            CallFailedError: the network is not there; the whole is to be repeated later.
        """
        deadline = Deadline(FILL_SECONDS, self._clock)
        return [self._checked(window, deadline) for window in windows]

    def has(self, channel: str, position: int) -> bool:
        """Tell whether the row at this position is still kept."""
        rows = self._try(lambda: self._client().page(channel, position - 1, position))
        return any(row.position == position for row in rows)

    def now(self) -> int:
        """Return the network's present position."""
        return self._try(lambda: self._client().time())

    def _checked(self, window: Window, deadline: Deadline) -> Found:
        """Read one window, again while the network counts more rows than it shows."""
        found = Found(window)
        self._count("fills")
        try:
            for pause in (*LAGS, None):
                found = self._read(window, deadline)
                if not found.complete or self._counted(window) <= len(found.events):
                    break
                if pause is None or self._wait(min(pause, deadline.within(pause))) or deadline.expired():
                    found.complete = False
                    break
        except CallFailedError as error:
            if error.kind in REPEATABLE and error.kind is not Kind.BAD_REPLY:
                raise
            found.complete = False
        self._count("fill_rows", len(found.events))
        return found

    def _read(self, window: Window, deadline: Deadline) -> Found:
        """Read one window backwards, round whatever cannot be read."""
        found, search = Found(window), Search(window)
        while (part := search.next()) is not None:
            if deadline.expired():
                found.complete = False
                break
            try:
                rows = self._page(part)
            except CallFailedError as error:
                if error.kind is not Kind.BAD_REPLY:
                    raise
                search.unreadable(part)
                continue
            found.events.extend(rows)
            if len(rows) >= PAGE_ROWS:
                search.add(Window(part.channel, part.since, rows[0].position - 1))
        found.events.sort(key=lambda event: event.position)
        self._give_up(found, search)
        return found

    def _give_up(self, found: Found, search: Search) -> None:
        """Note what of a window was never read; rows that cannot be read are counted, pages too many are not."""
        left = search.left()
        if left:
            found.complete = False
        if left and search.salvaging:
            self._count("dead_letters", left)
            self._count("dead_letter.unreadable", left)

    def _page(self, part: Window) -> list[Event]:
        """Return the newest rows of a window; a reply that cannot be read is not asked for twice here."""
        rows = self._try(lambda: self._client().page(part.channel, part.since, part.until))
        # What lies outside was not asked for, and would be taken for a full page.
        return [row for row in rows if part.since < row.position <= part.until]

    def _counted(self, window: Window) -> int:
        """Return how many rows the network counts in a window; fewer while others are just being added."""
        since = self._try(lambda: self._client().count(window.channel, window.since))
        until = self._try(lambda: self._client().count(window.channel, window.until)) if since else 0
        return since - until

    def _try(self, act: Callable[[], Answer]) -> Answer:
        """Make one call, twice more when that may help."""
        for pause in TRIES:
            try:
                return act()
            except CallFailedError as error:
                refused = error.kind is Kind.DENIED and self._client().renew()
                if not refused and (error.kind not in REPEATABLE or error.kind is Kind.BAD_REPLY):
                    raise
                if self._wait(pause):
                    raise
        return act()

    def _wait(self, pause: float) -> bool:
        """Wait; tell whether everything is to stop."""
        return self._clock.wait(self._stopping, pause)

    def _count(self, name: str, number: int = 1) -> None:
        self._counters[name] = self._counters.get(name, 0) + number
