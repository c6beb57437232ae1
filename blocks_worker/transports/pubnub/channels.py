"""Channels that many listen to with one client of the PubNub SDK: counted, so that nobody leaves the others deaf."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self


class ChannelManager:
    """Subscribe a client to channels as long as anybody wants them.

    ``ChannelManager(client)`` takes a client as `create_pubnub_client` makes it, and leaves it open: listeners are
    added to the client itself. Safe from any thread; as a context manager it leaves all channels at the end.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._wanted: dict[str, int] = {}

    @property
    def channels(self) -> list[str]:
        """The channels that are wanted now."""
        with self._lock:
            return list(self._wanted)

    def acquire(self, *channels: str) -> None:
        """Want channels once more; new ones are subscribed to."""
        with self._lock:
            new = [channel for channel in dict.fromkeys(channels) if channel not in self._wanted]
            for channel in channels:
                self._wanted[channel] = self._wanted.get(channel, 0) + 1
            if new:
                self._client.subscribe().channels(new).execute()

    def release(self, *channels: str) -> None:
        """Want channels once less; those that nobody wants are left. One that is not wanted is passed over."""
        with self._lock:
            gone: list[str] = []
            for channel in channels:
                left = self._wanted.get(channel, 0) - 1
                if left > 0:
                    self._wanted[channel] = left
                elif self._wanted.pop(channel, None) is not None:
                    gone.append(channel)
            self._leave(gone)

    def close(self) -> None:
        """Leave all channels."""
        with self._lock:
            gone = list(self._wanted)
            self._wanted.clear()
            self._leave(gone)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _leave(self, channels: Iterable[str]) -> None:
        named = list(channels)
        if named:
            self._client.unsubscribe().channels(named).execute()


def create_channel_manager(client: Any) -> ChannelManager:
    """Return a manager of the channels of one client."""
    return ChannelManager(client)
