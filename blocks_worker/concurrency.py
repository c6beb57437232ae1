"""Time, chance and threads: the one place that touches them, so that a test can hand over others.

Everybody else takes a `Clock`, an `Entropy` or a `spawn` function through the constructor.
"""

from __future__ import annotations

import contextlib
import logging
import random
import secrets
import threading
import time
from typing import TYPE_CHECKING, Protocol, TypeVar

from blocks_worker import whose

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Clock:
    """Tell the time: intervals by `monotonic`, moments for people and the wire by `wall_ms`."""

    def monotonic(self) -> float:
        """Return seconds that never go back."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Return unix milliseconds, which may jump when somebody sets the clock."""
        return time.time_ns() // 1_000_000

    def wall_ticks(self) -> int:
        """Return unix time in steps of 100 ns."""
        return time.time_ns() // 100

    def wait(self, event: threading.Event, timeout: float | None) -> bool:
        """Wait for the event; tell whether it is set."""
        return event.wait(timeout)

    def pause(self, timeout: float) -> None:
        """Let `timeout` seconds pass."""
        threading.Event().wait(timeout)


class SteadyClock:
    """Tell unix milliseconds that never jump: the wall's time at birth, carried on by the monotonic clock.

    A hub keeps its ledger by this one, so that nobody who sets the machine's clock ends a lease.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset = clock.wall_ms() - clock.monotonic() * 1000

    def now_ms(self) -> int:
        """Return unix milliseconds."""
        return int(self._clock.monotonic() * 1000 + self._offset)


class Entropy:
    """Draw what nobody can foresee: ids, secrets, jitter."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        #: Millisecond and place in it of the last id.
        self._last = 0

    def uuid7(self, wall_ms: int) -> str:
        """Return a UUID of version 7: ids made later sort later, in the same millisecond too."""
        drawn = secrets.randbits(73)
        with self._lock:
            # Half of the places of a millisecond are left to what comes behind.
            self._last = max(self._last + 1, (wall_ms & 0xFFFFFFFFFFFF) << 12 | drawn >> 62)
            value = (self._last >> 12) << 80 | 0x7 << 76 | (self._last & 0xFFF) << 64
        value |= 0b10 << 62 | drawn & (1 << 62) - 1
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

    def token(self, size: int = 32) -> str:
        """Return `size` random bytes as text that is safe in an address."""
        return secrets.token_urlsafe(size)

    def name(self, size: int = 16) -> str:
        """Return `size` random bytes as lower-case letters and digits, fit for a channel name."""
        return secrets.token_hex(size)

    def bytes(self, size: int = 32) -> bytes:
        """Return random bytes."""
        return secrets.token_bytes(size)

    def uniform(self, low: float, high: float) -> float:
        """Return a number between the two, for jitter."""
        return random.uniform(low, high)  # noqa: S311 - jitter keeps no secret

    def below(self, bound: int) -> int:
        """Return a whole number from 0 up to but not including `bound`."""
        return secrets.randbelow(bound)


class Deadline:
    """Share one budget of time among several waits."""

    def __init__(self, timeout: float | None, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._end = None if timeout is None else self._clock.monotonic() + max(0.0, timeout)

    def remaining(self) -> float | None:
        """Return the seconds left, never below zero; None when there is no end."""
        return None if self._end is None else max(0.0, self._end - self._clock.monotonic())

    def expired(self) -> bool:
        """Tell whether no time is left."""
        return self._end is not None and self._clock.monotonic() >= self._end

    def within(self, timeout: float) -> float:
        """Return `timeout`, or the time left when that is less."""
        left = self.remaining()
        return timeout if left is None else min(timeout, left)


class Alarm:
    """Wake one thread; a ring that comes before it sleeps counts, and several of them as one.

    Whoever rings holds no lock that the thread takes next: else it would wake only to wait for that.
    """

    def __init__(self) -> None:
        self._silence = threading.Lock()
        self._silence.acquire()

    def sleep(self, seconds: float | None) -> None:
        """Sleep until it rings, at most so long; None: for as long as that takes."""
        self._silence.acquire(timeout=-1 if seconds is None else min(seconds, threading.TIMEOUT_MAX))

    def ring(self) -> None:
        """Wake the thread."""
        with contextlib.suppress(RuntimeError):  # it rings already
            self._silence.release()


class Backoff:
    """Say how long to wait before the next try: full jitter, doubling from `first` up to `cap` seconds."""

    def __init__(self, entropy: Entropy, *, first: float = 0.2, cap: float = 30.0) -> None:
        self._entropy = entropy
        self._first = first
        self._cap = cap
        self._failures = 0

    def next(self, at_least: float = 0.0) -> float:
        """Return the next pause in seconds; `at_least` is what the other side asked for, of many at once perhaps."""
        ceiling = min(self._cap, self._first * 2 ** min(self._failures, 30))
        self._failures += 1
        return min(at_least + self._entropy.uniform(0.0, ceiling), max(at_least, self._cap))

    def after(self, error: Exception) -> float:
        """Return the next pause in seconds after a failure, which may say for how long the other side wants one."""
        return self.next(getattr(error, "retry_after", None) or 0.0)

    def reset(self) -> None:
        """Start again from the shortest pause."""
        self._failures = 0


class Stoppable(Protocol):
    """Be something that is stopped and joined by a deadline."""

    def stop(self) -> None:
        """Ask it to end."""

    def join(self, timeout: float | None) -> bool:
        """Wait for its end; tell whether it came."""


class _Made(threading.Thread):
    """Be a thread that a `ServiceThread` made."""


class ServiceThread:
    """Be a thread with a name, an owner and a report when it dies; it works for the agent for which it was made.

    A daemon is allowed for code that is not ours: blocked in a foreign library, or a user's.
    """

    def __init__(self, name: str, target: Callable[[], None], *, daemon: bool = False) -> None:
        self.name = name
        self._target = target
        self._names = whose.names()
        self._thread = _Made(target=self._run, name=name, daemon=daemon)

    @staticmethod
    def made(thread: threading.Thread) -> bool:
        """Tell whether a thread is one of these."""
        return isinstance(thread, _Made)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def join(self, timeout: float | None) -> bool:
        """Wait for its end, at most `timeout` seconds; tell whether it ended."""
        if self._thread.ident is None or self._thread is threading.current_thread():
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def is_alive(self) -> bool:
        """Tell whether it runs."""
        return self._thread.is_alive()

    def is_current(self) -> bool:
        """Tell whether the caller runs on this thread."""
        return self._thread is threading.current_thread()

    def _run(self) -> None:
        with whose.working_for(self._names):
            try:
                self._target()
            except BaseException:
                _logger.exception("thread_died", extra={"thread_name": self.name})


class Periodic:
    """Call `tick` every `interval` seconds, give or take `jitter`, on a thread of its own until stopped.

    `tick` may return the seconds to wait before the next call. `wake` calls it at once.
    """

    def __init__(
        self,
        name: str,
        tick: Callable[[], float | None],
        interval: float,
        entropy: Entropy,
        *,
        jitter: float = 0.2,
        daemon: bool = False,
    ) -> None:
        self._tick = tick
        self._interval = interval
        self._entropy = entropy
        self._jitter = jitter
        self._wake = threading.Event()
        self._stopping = False
        self._thread = ServiceThread(name, self._loop, daemon=daemon)

    def start(self) -> None:
        """Start; the first call comes after one interval."""
        self._thread.start()

    def wake(self) -> None:
        """Call `tick` now instead of later."""
        self._wake.set()

    def stop(self) -> None:
        """Ask the thread to end after the call that runs."""
        self._stopping = True
        self._wake.set()

    def join(self, timeout: float | None) -> bool:
        """Wait for the end; tell whether it came."""
        return self._thread.join(timeout)

    def _loop(self) -> None:
        pause = self._next_pause(None)
        while True:
            self._wake.wait(pause)
            self._wake.clear()
            if self._stopping:
                return
            pause = self._next_pause(self._guarded())

    def _guarded(self) -> float | None:
        try:
            return self._tick()
        except Exception:  # the top of a thread: report and go on
            _logger.exception("periodic_failed")
            return None

    def _next_pause(self, asked: float | None) -> float:
        if asked is not None:
            return max(0.0, asked)
        return self._interval * self._entropy.uniform(1 - self._jitter, 1 + self._jitter)
