"""Whether the bus really reaches us: the hub's nonces by heartbeat answer against those that came by bus."""

from __future__ import annotations

from collections import deque

#: So many nonces that the hub sent and that never came mean that the transport is deaf.
MISSES = 3
#: Nonces remembered; older ones prove nothing any more.
REMEMBERED = 32


class Nonces:
    """Compare what the hub says it sent with what was heard. Not for several threads at once."""

    def __init__(self) -> None:
        self._awaited: deque[str] = deque(maxlen=REMEMBERED)
        self._early: deque[str] = deque(maxlen=REMEMBERED)
        self.newest: str | None = None

    def heard(self, nonce: str) -> None:
        """Take note of a nonce that came by the bus: it proves those before it too."""
        self.newest = nonce
        if nonce not in self._awaited:
            self._early.append(nonce)
            return
        while self._awaited and self._awaited.popleft() != nonce:
            pass

    @property
    def hears(self) -> bool:
        """Whether what the hub sent lately came: one since the beginning, and not so many missing that it is deaf."""
        return self.newest is not None and len(self._awaited) < MISSES

    def announced(self, nonce: str) -> bool:
        """Take note of a nonce which the hub says it sent just now; tell whether the bus seems deaf."""
        deaf = len(self._awaited) >= MISSES
        if nonce in self._early:
            self._awaited.clear()
            self._early.clear()
            return False
        self._awaited.append(nonce)
        return deaf

    def restart(self) -> None:
        """Begin anew, as after a rebuilt transport or a new registration."""
        self._awaited.clear()
        self._early.clear()
        self.newest = None
