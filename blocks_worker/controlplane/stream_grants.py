"""The grant for streams: one over all that a process has open, asked for anew when one is added or it runs out."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from blocks_worker.errors import BlocksError, RpcError
from blocks_worker.protocol.streams import StreamName

if TYPE_CHECKING:
    from collections.abc import Iterable

    from blocks_worker.concurrency import Clock
    from blocks_worker.controlplane.api import HubApi
    from blocks_worker.protocol.streams import GrantedStream, StreamGrant

#: Share of a grant's life after which it is asked for anew before it is used.
RENEW_AT = 0.8
#: Seconds until a renewal that failed is tried again: it holds up whoever reads or sends.
TRY_AGAIN = 30.0


class HubStreamGrants:
    """Hold the grant; it is the `Grants` of the transport for streams."""

    def __init__(self, api: HubApi, *, clock: Clock) -> None:
        self._api = api
        self._clock = clock
        #: Held while the hub is asked: who comes meanwhile gets the same answer.
        self._asking = threading.Lock()
        self._lock = threading.Lock()
        #: Task and id of each stream, the one that was wanted last at the end.
        self._streams: dict[tuple[str, str], None] = {}
        self._grant: StreamGrant | None = None
        self._renew_at = 0.0

    @property
    def user_id(self) -> str:
        """Who the grant is bound to."""
        return self._grant.user_id if self._grant is not None else ""

    @property
    def wake_channel(self) -> str:
        """The channel that wakes the poll of its holder."""
        return self._grant.wake_channel if self._grant is not None else ""

    def want(self, new: StreamName) -> GrantedStream:
        """Have the grant cover one more.

        Raises:
            RpcError: the hub refused it.
            HubUnavailableError: it does not answer.
        """
        key = (new.task_id, new.stream_id)
        with self._asking:
            with self._lock:
                others = [name for name in self._streams if name != key]
            granted = self._ask([*_names(others), new])
            if granted.refused is not None:
                raise RpcError(granted.message or granted.refused, code=granted.refused)
            with self._lock:
                self._streams.pop(key, None)
                self._streams[key] = None
        return granted

    def drop(self, task_id: str, stream_id: str) -> None:
        """Let the next grant cover this one no more."""
        with self._lock:
            self._streams.pop((task_id, stream_id), None)

    def rename(self, stream_id: str, old: str, new: str) -> None:
        """Have a stream for another task from the next grant on."""
        with self._lock:
            if (old, stream_id) in self._streams:
                del self._streams[old, stream_id]
                self._streams[new, stream_id] = None

    def token(self) -> str | None:
        """Return the token to use now."""
        grant = self._grant
        if grant is not None and self._clock.monotonic() >= self._renew_at:
            self._renew_at = self._clock.monotonic() + TRY_AGAIN
            self.refresh(grant.token)
        return self._grant.token if self._grant is not None else None

    def refresh(self, refused: str | None) -> bool:
        """Ask for another grant because this one was refused; tell whether there is another one now."""
        with self._asking:
            if self._grant is not None and self._grant.token != refused:
                return True
            with self._lock:
                streams = list(self._streams)
            try:
                if streams:
                    self._ask(_names(streams))
            except BlocksError:
                return False
            return self._grant is not None and self._grant.token != refused

    def _ask(self, names: list[StreamName]) -> GrantedStream:
        """Get a grant over these; return what it says of the last."""
        grant = self._api.stream_grant(names)
        self._grant = grant
        self._renew_at = self._clock.monotonic() + RENEW_AT * grant.expires_in
        return grant.streams[-1]


def _names(streams: Iterable[tuple[str, str]]) -> list[StreamName]:
    return [StreamName(task_id=task, stream_id=stream) for task, stream in streams]
