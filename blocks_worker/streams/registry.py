"""Things that several users share by name: made with the first user, let go with the last."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

T = TypeVar("T")

_logger = logging.getLogger(__name__)


@dataclass
class _Shared(Generic[T]):
    """One thing and who uses it."""

    value: T
    users: set[Hashable] = field(default_factory=set)


class StreamRegistry(Generic[T]):
    """Know the streams of a process by id, and who uses each.

    ``StreamRegistry(close=...)`` calls `close` with a stream that nobody uses any more. Safe from any thread.
    """

    def __init__(self, *, close: Callable[[T], object] = lambda _stream: None) -> None:
        self._close = close
        self._lock = threading.Lock()
        self._shared: dict[str, _Shared[T]] = {}

    def acquire(self, stream_id: str, user: Hashable, make: Callable[[], T]) -> T:
        """Return the stream of this id for one more user; `make` makes it for the first."""
        with self._lock:
            shared = self._shared.get(stream_id)
            if shared is None:
                shared = self._shared[stream_id] = _Shared(make())
            shared.users.add(user)
            return shared.value

    def find(self, stream_id: str) -> T | None:
        """Return the stream of this id, if it is there."""
        with self._lock:
            shared = self._shared.get(stream_id)
            return None if shared is None else shared.value

    def release(self, stream_id: str, user: Hashable) -> bool:
        """Let one user go; tell whether he was the last, with whom the stream is closed."""
        with self._lock:
            shared = self._shared.get(stream_id)
            if shared is None or user not in shared.users:
                return False
            shared.users.discard(user)
            if shared.users:
                return False
            del self._shared[stream_id]
        torn_down(stream_id)
        self._close(shared.value)
        return True

    def ids(self) -> list[str]:
        """Return the ids of all streams that are used."""
        with self._lock:
            return list(self._shared)


def torn_down(stream_id: str) -> None:
    """Say that the last user of a shared stream has gone."""
    _logger.info("stream_registry_last_ref_teardown", extra={"stream": stream_id})
