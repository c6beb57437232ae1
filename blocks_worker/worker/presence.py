"""Being there: connect, listen, then beat for ever; and again from the start when the hub has forgotten us."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

from blocks_worker.concurrency import Backoff, Deadline, Periodic
from blocks_worker.errors import AgentAuthFatalError, BlocksError, HubUnavailableError, RpcError
from blocks_worker.worker.leases import beat_interval
from blocks_worker.worker.reach import Reach

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.protocol.leases import ConnectAnswer
    from blocks_worker.worker.heartbeat import Beat
    from blocks_worker.worker.ports import Login
    from blocks_worker.worker.standing import Standing

_logger = logging.getLogger(__name__)

#: Longest pause between two tries, in seconds; all that follows a connect has to fit into 20 with it.
CONNECT_CAP = 10.0
BEAT_CAP = 4.0
#: Seconds by which a heartbeat has to be late for somebody to be told.
STARVED = 2.0

_UNKNOWN_TOKEN = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})
_TRY_AGAIN = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True)
class Turns:
    """Whom presence tells of its turns.

    Attributes:
        connecting: a connect is about to be tried.
        connected: a connect was answered: listen on its channel.
        forgotten: the hub knows nothing of us any more: nothing that we hold is ours.
        proved: the hub answered, and knows that the bus reaches us.
        recovered: the hub answers again after it did not.
        fatal: we were refused for good.
    """

    connecting: Callable[[], object]
    connected: Callable[[ConnectAnswer], None]
    forgotten: Callable[[], None]
    proved: Callable[[], None]
    recovered: Callable[[], None]
    fatal: Callable[[BlocksError], None]


class Pulse(NamedTuple):
    """How an instance is: free slots, and for how many seconds one of its threads is overdue or at one turn.

    `worn_out`: only a new process helps, for more threads hang in handlers than are replaced.
    """

    free: int
    behind: float
    worn_out: bool = False


class Presence:
    """Own the thread "heartbeat": first it gets us in, then it keeps us there."""

    def __init__(
        self,
        *,
        login: Login,
        beat: Beat,
        standing: Standing,
        turns: Turns,
        interval: float,
        clock: Clock,
        entropy: Entropy,
        reach: Reach | None = None,
    ) -> None:
        self._login = login
        self._reach = reach or Reach()
        self._beat = beat
        self._standing = standing
        self._turns = turns
        self._interval = interval
        self._clock = clock
        self._entropy = entropy
        self._connecting = Backoff(entropy, cap=CONNECT_CAP)
        self._beating = Backoff(entropy, cap=BEAT_CAP)
        self._is_in = threading.Event()
        #: The first try to get in is over, whatever came of it.
        self.asked = threading.Event()
        self._is_over = False
        self._login_runs = False
        self._failing = False
        #: By the monotonic clock: when the present turn began, or the next one is to.
        self._due = float("inf")
        self._periodic = Periodic("heartbeat", self._turn, interval, entropy)

    @property
    def is_in(self) -> bool:
        """Tell whether the hub knows this incarnation."""
        return self._is_in.is_set()

    @property
    def hears(self) -> bool:
        """Whether what the hub sends by the network comes here, as far as anybody knows."""
        return self._beat.hears and self._reach.has("network")

    def start(self) -> None:
        """Begin; the first try is at once."""
        self._due = self._clock.monotonic()
        self._periodic.start()
        self._periodic.wake()

    def wake(self) -> None:
        """Beat now."""
        self._periodic.wake()

    def stop(self, deadline: Deadline) -> bool:
        """Beat no more; tell whether the thread ended."""
        self._due = float("inf")
        self._periodic.stop()
        return self._periodic.join(deadline.remaining())

    def farewell(self, deadline: Deadline) -> None:
        """Tell the hub that this instance ends, if it knows of it and answers."""
        if not self.is_in:
            return
        try:
            self._beat.farewell(max(0.2, deadline.within(2.0)))
        except BlocksError as error:
            _logger.debug("farewell_failed", extra={"error": str(error)})

    def behind(self) -> float:
        """Return for how many seconds its thread is at one turn, or late for the next: one that gets on is little."""
        return max(0.0, self._clock.monotonic() - self._due)

    def _turn(self) -> float:
        """Take a turn, and note when it began and when the next one is to; say so when it comes late."""
        if self._due < float("inf"):
            self._look_at_the_clock()
            self._due = self._clock.monotonic()
        pause = self._tick()
        if self._due < float("inf"):
            self._due = self._clock.monotonic() + pause
        return pause

    def _look_at_the_clock(self) -> None:
        """Say so when this turn comes late: the process was stopped, or its threads do not get their turns."""
        late = self._clock.monotonic() - self._due
        if late >= STARVED:
            self._beat.starved()
            _logger.warning("heartbeat_starved", extra={"seconds_late": round(late, 1)})

    def _tick(self) -> float:
        if self._is_over:
            return self._interval
        if not self.is_in:
            if self._beat.draining:  # who leaves does not come in again
                return self._interval
            try:
                return self._try(self._connect, self._connecting)
            finally:
                self.asked.set()
        return self._try(self._exchange, self._beating)

    def _try(self, step: Callable[[], float], backoff: Backoff) -> float:
        try:
            pause = step()
        except AgentAuthFatalError as error:
            self._is_over = True
            self._turns.fatal(error)
            return self._interval
        except BlocksError as error:
            return self._failed(error, backoff)
        except Exception as error:  # the top of a thread: our own mistake must not make us deaf
            _logger.exception("presence_broken")
            return self._failed(error, backoff)
        self._recovered()
        backoff.reset()
        return pause

    def _connect(self) -> float:
        self._turns.connecting()
        begun = self._clock.monotonic()
        answer = self._registered()
        self._standing.connected(answer, begun)
        if not self._login_runs:
            self._login.start()
            self._login_runs = True
        self._turns.connected(answer)
        self._beat.restart()
        self._is_in.set()
        _logger.info("registered", extra={"agent_id": answer.agent_id})
        return 0.0

    def _registered(self) -> ConnectAnswer:
        """Connect; a refusal that no repeat will change is fatal."""
        try:
            return self._login.connect()
        except RpcError as error:
            if error.status == HTTPStatus.GONE:
                self._renew(error)
                raise
            refused = HTTPStatus.BAD_REQUEST <= error.status < HTTPStatus.INTERNAL_SERVER_ERROR
            if refused and error.status not in _TRY_AGAIN:
                raise AgentAuthFatalError(error.rpc_message, code=error.code) from error
            raise

    def _exchange(self) -> float:
        try:
            proved = self._beat.exchange()
        except RpcError as error:
            return self._refused(error)
        if proved:
            self._turns.proved()
        return self._pause()

    def _refused(self, error: RpcError) -> float:
        """Deal with a hub that answers but does not know us as we are."""
        if error.status == HTTPStatus.GONE:
            self._renew(error)
            return 0.0
        if error.status in _UNKNOWN_TOKEN:
            # The token cannot be renewed; a new connect keeps the incarnation, and with it the leases.
            self._is_in.clear()
        raise error

    def _renew(self, error: RpcError) -> None:
        """Drop what we hold and take a new incarnation, unless a newer process has our place."""
        self._is_in.clear()
        self._turns.forgotten()
        self._standing.trust.forgotten()
        if error.code == "Superseded":
            raise AgentAuthFatalError(
                "a newer process with this instance id has taken over; start it only once, or give each its own id",
                code="Superseded",
            ) from error
        self._login.renew_incarnation()

    def _pause(self) -> float:
        interval = beat_interval(self._interval, self._standing.numbers)
        return min(interval * self._entropy.uniform(0.8, 1.2), self._standing.numbers.lease_ttl / 3)

    def _failed(self, error: Exception, backoff: Backoff) -> float:
        if not self._failing:
            self._failing = True
            unanswered = isinstance(error, HubUnavailableError)
            self._reach.lost("hub", error=str(error), unanswered=unanswered)
        if self.is_in and self._standing.trust.is_suspect(self._clock.monotonic()):
            _logger.debug("leases_suspect")
        asked = getattr(error, "retry_after", None) or 0.0
        # Neither may the hub ask for a pause that would cost the leases it gave, nor is one made that does.
        third = self._standing.numbers.lease_ttl / 3
        return min(backoff.next(min(asked, third)), third) if self.is_in else backoff.next(asked)

    def _recovered(self) -> None:
        if self._failing:
            self._failing = False
            self._reach.found("hub")
            self._turns.recovered()
