"""Which channels a poll lists: what the owner wants, the private one that wakes it, less what is refused for now."""

from __future__ import annotations

import threading
import urllib.parse
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.transports.gaps import Window

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Bounds of one poll: the address is sent anew with each, and costs time for every name in it.
CHANNELS = 200
NAME_BYTES = 8 * 1024


@dataclass(frozen=True)
class Polled:
    """What one poll lists: `channels` of the owner, `names` with the wake channel.

    `missed`: what is to be read from history of those that return, or begin earlier than here; `begun`: the latter.
    """

    channels: tuple[str, ...]
    names: tuple[str, ...]
    missed: tuple[Window, ...]
    begun: tuple[str, ...] = ()


class ChannelSet:
    """Keep the set; every method may be called from every thread."""

    def __init__(self, channels: Iterable[str], wake_channel: str, since: Mapping[str, int] | None = None) -> None:
        self._lock = threading.Lock()
        self._wake_channel = wake_channel
        self._wanted = self._checked(channels)
        #: New channels that are read from an earlier position than the subscription's.
        self._starts = {name: start for name, start in (since or {}).items() if name in self._wanted}
        #: Refused channels, with the position up to which they were read.
        self._barred: dict[str, int] = {}
        self._barred_until = 0.0
        self._barred_token: str | None = None

    @property
    def wanted(self) -> tuple[str, ...]:
        """The channels of the owner."""
        return self._wanted

    def replace(self, channels: Iterable[str], since: Mapping[str, int] | None = None) -> tuple[frozenset[str], bool]:
        """Want exactly these channels; return those that left, and whether anything changed.

        A new channel is read from its position in `since`, where there is one.

        Raises:
            ValueError: they are too many for one poll, or no names of channels.
        """
        wanted = self._checked(channels)
        with self._lock:
            before, self._wanted = self._wanted, wanted
            new = {name: start for name, start in (since or {}).items() if name in wanted and name not in before}
            self._starts = {name: start for name, start in self._starts.items() if name in wanted} | new
            self._barred = {
                name: since for name, since in self._barred.items() if name in (*wanted, self._wake_channel)
            }
        return frozenset(before) - frozenset(wanted), before != wanted

    def snapshot(self, position: int, now: float, token: str | None) -> Polled:
        """Return what the next poll lists, read from this position on."""
        with self._lock:
            starts = self._starts if position else {}
            early = [
                Window(name, start, position)
                for name, start in starts.items()
                if start < position and name not in self._barred
            ]
            # Who was refused before there was a position misses what comes from the first one on.
            self._barred = {name: since or position for name, since in self._barred.items()}
            if self._barred and (now >= self._barred_until or token != self._barred_token):
                returning = {name: since for name, since in self._barred.items() if name != self._wake_channel}
                missed = [Window(name, since, position) for name, since in returning.items() if since < position]
                return Polled(self._wanted, (*self._wanted, self._wake_channel), (*missed, *early), tuple(starts))
            names = tuple(name for name in (*self._wanted, self._wake_channel) if name not in self._barred)
            channels = tuple(name for name in names if name != self._wake_channel)
            return Polled(channels, names, tuple(early), tuple(starts))

    def accepted(self, polled: Polled) -> None:
        """Say that the network answered this poll: nothing of it is refused any more."""
        if self._barred or polled.begun:
            with self._lock:
                self._starts = {name: start for name, start in self._starts.items() if name not in polled.begun}
                self._barred = {name: since for name, since in self._barred.items() if name not in polled.names}

    def bar(
        self, refused: Iterable[str], polled: Polled, *, position: int, until: float, token: str | None
    ) -> list[str]:
        """Leave refused channels out for a while; return which, none when nothing would be left to poll."""
        with self._lock:
            names = [name for name in polled.names if name in frozenset(refused)]
            if not names or len(names) == len(polled.names):
                return []
            for name in names:
                self._barred.setdefault(name, self._starts.pop(name, position))
            self._barred_until, self._barred_token = until, token
            return names

    def grew(self, polled: Polled) -> bool:
        """Tell whether channels were added since this poll was made."""
        return any(name not in polled.names and name not in self._barred for name in self._wanted)

    def next_return(self) -> float | None:
        """Return the monotonic time at which refused channels are tried again."""
        return self._barred_until if self._barred else None

    def _checked(self, channels: Iterable[str]) -> tuple[str, ...]:
        names = tuple(sorted(set(channels) - {self._wake_channel}))
        for name in names:
            if not name or name in {".", ".."} or name.endswith("-pnpres"):
                raise ValueError(f"{name!r} can not be a channel to subscribe to")
        size = sum(len(urllib.parse.quote(name, safe="~")) + 1 for name in names)
        if len(names) >= CHANNELS or size > NAME_BYTES:
            raise ValueError(f"{len(names)} channels of {size} bytes are too many for one subscription")
        return names
