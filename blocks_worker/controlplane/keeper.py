"""One pair of tokens that stays fresh: renewed ahead of time, and once for all who were refused."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.concurrency import Backoff, Periodic
from blocks_worker.errors import AgentAuthFatalError, AuthRefreshFailedError, BlocksError, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.protocol.leases import ConnectAnswer, ConsumerToken, RefreshAnswer

_logger = logging.getLogger(__name__)

#: Statuses by which the hub says that it does not take this refresh token.
_USED_UP = frozenset({401, 404, 410})
#: Part of a token's life after which it is renewed, and the least pause, in seconds.
_RENEW_AT = 0.8
_LEAST_PAUSE = 1.0
#: Pauses in seconds after the first failures to renew, and the longest of those that follow.
_FIRST_PAUSES = (5.0, 10.0)
_LONGEST_PAUSE = 60.0
#: Failures in a row after which the owner is told.
_FAILURES = 3
#: Longest wait in seconds for a renewal which another thread began.
_SHARED_WAIT = 30.0
#: Whose tokens are being renewed here: a source of the user's may ask for one itself, from its own thread.
_RENEWED: ContextVar[TokenKeeper | None] = ContextVar("renewed", default=None)


@dataclass(frozen=True)
class TokenPair:
    """What is used and renewed together; `life` is the shorter of the two lives, in seconds.

    Without a refresh token the next pair is acquired anew.
    """

    access: str
    refresh: str
    grant: str
    life: float

    @classmethod
    def of(cls, answer: ConnectAnswer | ConsumerToken | RefreshAnswer) -> TokenPair:
        """Return the pair that an answer of the hub holds."""
        life = min(answer.expires_in, answer.pam_expires_in)
        return cls(answer.access_token, answer.refresh_token, answer.pam_token, life)


class TokenKeeper:
    """Hold one pair of tokens, renew it before it ends, and at once when it was refused.

    Of callers that come together one renews and all get its result. Trying never stops: after three
    failures in a row the error is recorded and the owner told once; success clears the record.
    """

    def __init__(
        self,
        *,
        acquire: Callable[[], TokenPair],
        renew: Callable[[str], TokenPair],
        clock: Clock,
        entropy: Entropy,
        on_auth_error: Callable[[Exception], None] | None = None,
        daemon: bool = False,
    ) -> None:
        self._acquire = acquire
        self._renew = renew
        self._clock = clock
        self._entropy = entropy
        self._on_auth_error = on_auth_error
        self._daemon = daemon
        self._lock = threading.Lock()
        self._pair: TokenPair | None = None
        self._renew_at = 0.0
        self._flight: Future[bool] | None = None
        #: Why the last try to renew failed, if it did.
        self._last: Exception | None = None
        self._thread: Periodic | None = None
        self._failures = 0
        self._late = Backoff(entropy, first=_LONGEST_PAUSE / 2, cap=_LONGEST_PAUSE)
        self._error: Exception | None = None

    def use(self, pair: TokenPair) -> None:
        """Use this pair from now on; an error that was recorded is forgotten."""
        with self._lock:
            self._pair = pair
            self._renew_at = self._clock.monotonic() + max(_LEAST_PAUSE, pair.life * _RENEW_AT)
            self._failures = 0
            self._error = self._last = None
            self._late.reset()

    def is_empty(self) -> bool:
        """Tell whether there was no pair yet."""
        with self._lock:
            return self._pair is None

    def pair(self) -> TokenPair:
        """Return the pair in use.

        Raises:
            AuthRefreshFailedError: there is none yet.
        """
        with self._lock:
            if self._pair is None:
                raise AuthRefreshFailedError("not logged in yet")
            return self._pair

    def error(self) -> Exception | None:
        """Return why the tokens could not be renewed for some time, if so."""
        with self._lock:
            return self._error

    def ensure_ready(self) -> None:
        """Try once more when renewing failed for some time, and raise what was recorded if it fails again."""
        recorded = self.error()
        if recorded is not None and not self.replace(None):
            raise recorded

    def replace(self, refused: str | None) -> bool:
        """Renew because this token was refused, or at any rate when None; tell whether there is a new pair."""
        with self._lock:
            if refused is not None and self._pair is not None and refused not in (self._pair.access, self._pair.grant):
                return True
            flight = self._flight
            leads = flight is None
            if flight is None:
                flight = self._flight = Future()
            elif _RENEWED.get() is self:
                # The source of the tokens asks for one itself: there is none before it has answered.
                return False
        return self._fly(flight) if leads else _shared(flight)

    def check_in_time(self) -> None:
        """Raise why there is no new token, when the user's own source of them did not answer in time."""
        with self._lock:
            last = self._last
        if isinstance(last, AuthRefreshFailedError) and last.timed_out:
            raise last

    def start(self) -> None:
        """Start to renew ahead of time."""
        with self._lock:
            if self._thread is not None:
                return
            pause = max(_LEAST_PAUSE, self._renew_at - self._clock.monotonic())
            self._thread = Periodic("token-refresh", self._tick, pause, self._entropy, jitter=0.0, daemon=self._daemon)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        if self._thread is not None:
            self._thread.stop()

    def close(self, deadline: Deadline) -> None:
        """End the thread; the tokens stay readable."""
        self.stop()
        if self._thread is not None:
            self._thread.join(deadline.remaining())

    def _fly(self, flight: Future[bool]) -> bool:
        done, told = False, None
        within = _RENEWED.set(self)
        try:
            self.use(self._fresh())
            done = True
        except Exception as error:  # noqa: BLE001 - tokens may come from a user's function: it is told, and tried again
            told = self._failed(error)
        finally:
            _RENEWED.reset(within)
            with self._lock:
                self._flight = None
            flight.set_result(done)
        # Only now: the callback may use what waits for this flight.
        if told is not None and self._on_auth_error is not None:
            self._tell(self._on_auth_error, told)
        return done

    def _fresh(self) -> TokenPair:
        """Return a new pair by the refresh token, or by the key where that is used up."""
        with self._lock:
            pair = self._pair
        if pair is None or not pair.refresh:
            return self._acquire()
        try:
            return self._renew(pair.refresh)
        except RpcError as error:
            if error.code != "REFRESH_TOKEN_INVALID" and error.status not in _USED_UP:
                raise
        return self._acquire()

    def _failed(self, error: Exception) -> Exception | None:
        """Count a failure; return it when the owner is to be told."""
        fatal = isinstance(error, AgentAuthFatalError)
        with self._lock:
            self._failures += 1
            self._last = error
            told = self._error is None and (fatal or self._failures >= _FAILURES)
            if told:
                self._error = error if fatal else _renewal_failed(error)
        # What somebody else's exception says may hold a secret.
        reason = str(error) if isinstance(error, BlocksError) else type(error).__name__
        _logger.warning("token_refresh_failed", extra={"reason": reason})
        return error if told else None

    @staticmethod
    def _tell(callback: Callable[[Exception], None], error: Exception) -> None:
        try:
            callback(error)
        except (Exception, SystemExit):  # a user's callback: report and go on; Ctrl-C may hit a thread of the user's
            _logger.exception("callback_failed")

    def _tick(self) -> float:
        with self._lock:
            left = self._renew_at - self._clock.monotonic()
        if left > 0:
            return left
        if self.replace(None):
            with self._lock:
                return max(_LEAST_PAUSE, self._renew_at - self._clock.monotonic())
        with self._lock:
            failures, asked = self._failures, getattr(self._last, "retry_after", None) or 0.0
        if 1 <= failures <= len(_FIRST_PAUSES):
            return max(asked, _FIRST_PAUSES[failures - 1])
        return self._late.next(max(asked, _FIRST_PAUSES[-1]))


def _shared(flight: Future[bool]) -> bool:
    """Return the result of a renewal that another thread began."""
    try:
        return flight.result(_SHARED_WAIT)
    except FutureTimeoutError:
        return False


def _renewal_failed(error: Exception) -> AuthRefreshFailedError:
    failed = AuthRefreshFailedError(f"the token could not be renewed {_FAILURES} times in a row: {error}")
    failed.__cause__ = error
    return failed
