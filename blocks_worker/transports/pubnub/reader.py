"""The loop that polls: the reader never ends but for being told to, whatever the network sends or does."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.concurrency import ServiceThread
from blocks_worker.transports.base import Link, Status
from blocks_worker.transports.pubnub.flow import NOTE_SIZE
from blocks_worker.transports.pubnub.health import BAD_REPLIES, REFUSALS, TIMEOUTS
from blocks_worker.transports.pubnub.outcomes import CallFailedError, Kind
from blocks_worker.transports.replies import Reply, ReplyRefusedError, read_reply

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.transports.channel_set import ChannelSet, Polled
    from blocks_worker.transports.inbox import Inbox
    from blocks_worker.transports.pubnub.client import NetworkClient
    from blocks_worker.transports.pubnub.flow import Flow
    from blocks_worker.transports.pubnub.health import Health
    from blocks_worker.transports.pubnub.history import History

_logger = logging.getLogger(__name__)

#: Age of the position, as a share of what the network keeps for pollers, from which history is asked first.
STALE = 0.75
#: Seconds between two looks at the token while a refusal is waited out.
TOKEN_LOOK = 1.0


@dataclass
class Parts:
    """What one reader hands on to the next: everything but the connection."""

    channels: ChannelSet
    flow: Flow
    health: Health
    history: History
    inbox: Inbox
    clock: Clock
    counters: dict[str, int]
    retention_age: float
    #: Set when a pause is to end early.
    nudge: threading.Event
    #: The reader is about to poll what is wanted now.
    heard: Callable[[], None]
    #: Something may be due earlier than the watch knows.
    look: Callable[[], None]
    rebuild: Callable[[str], None]
    #: The handshake came: returns the saved position, and whether the owner was told already that reading began.
    begun: Callable[[], tuple[int | None, bool]]

    def count(self, name: str) -> None:
        """Count one more of something."""
        self.counters[name] = self.counters.get(name, 0) + 1


class Reader:
    """Poll with one connection until retired; its successor goes on from the same position."""

    def __init__(self, parts: Parts, client: NetworkClient, generation: int) -> None:
        self.client = client
        self.retired = False
        #: Since when a poll is under way, monotonic.
        self.polling_since: float | None = None
        self._listed: tuple[str, ...] = ()
        self._parts = parts
        # A daemon: it waits in foreign code, and is left behind when that does not return.
        self._thread = ServiceThread(f"pubnub-reader-{generation}", self._run, daemon=True)

    def start(self) -> None:
        """Start polling."""
        self._thread.start()

    def join(self, timeout: float | None) -> bool:
        """Wait for the end; tell whether it came."""
        return self._thread.join(timeout)

    def interrupt(self) -> None:
        """End a poll that is under way, where that can be done."""
        if self.client.interruptible:
            self.client.stop()

    def is_alive(self) -> bool:
        """Tell whether it has not ended."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while not self.retired:
            self._guarded_turn()
        # Here and by nobody else: a connection that is closed under a poll of the SDK leaves the poll waiting.
        self.client.stop()

    def _guarded_turn(self) -> None:
        try:
            self._turn()
        except BaseException as error:  # noqa: BLE001 - deaf for good is worse than whatever this was
            self._after(error)

    def _turn(self) -> None:
        """Make one poll and hand over what it brings."""
        parts, flow = self._parts, self._parts.flow
        parts.heard()
        polled = self._snapshot()
        if not flow.position:
            self._begin(polled)
            return
        self._catch_up_if_stale(polled)
        if parts.health.link_lost or polled.missed:
            self._greet(polled)
            polled = self._snapshot()
        reply = self._poll(polled, flow.position, flow.region)
        # The machine may have slept during the poll, for longer than the network keeps messages for it.
        self._catch_up_if_stale(polled)
        with flow.lock:
            if self.retired:
                return
            flow.take(reply, polled.channels, advance=not parts.channels.grew(polled))
        self._well(polled)

    def _snapshot(self) -> Polled:
        parts = self._parts
        return parts.channels.snapshot(parts.flow.position, parts.clock.monotonic(), self.client.current_token())

    def _begin(self, polled: Polled) -> None:
        """Ask where the network is, and start there."""
        reply = self._poll(polled, 0, 0)
        with self._parts.flow.lock:
            if self.retired:
                return
            saved, late = self._parts.begun()
            self._parts.flow.start(reply, polled.channels, saved=saved, late=late)
        self._parts.health.failures = 0
        self._well(polled)
        self._tell(Link.CONNECTED, channels=polled.channels)

    def _greet(self, polled: Polled) -> None:
        """Have an answer at once where a poll would be held.

        After a lost connection the network may be another; channels that were refused may be allowed again.
        """
        reply = self._poll(polled, 0, 0)
        with self._parts.flow.lock:
            if self.retired:
                return
            self._parts.flow.greet(reply, polled.channels, polled.missed)
        self._well(polled)

    def _catch_up_if_stale(self, polled: Polled) -> None:
        if self._parts.health.age() > STALE * self._parts.retention_age:
            self._catch_up(polled)

    def _catch_up(self, polled: Polled) -> None:
        """Read from history what the network no longer keeps for pollers."""
        until = self._parts.history.now()
        with self._parts.flow.lock:
            if self.retired:
                return
            self._parts.flow.jump(until, polled.channels)
        self._parts.count("jumps")

    def _poll(self, polled: Polled, position: int, region: int) -> Reply:
        """Make one request; the reply is checked field by field."""
        self.polling_since, self._listed = self._parts.clock.monotonic(), polled.names
        try:
            value = self.client.poll(polled.names, position, region)
        finally:
            self.polling_since = None
        if self.retired:
            # Its messages belong to the next reader; counting them here would count them twice.
            raise CallFailedError(Kind.BROKEN, "another reader took over")
        self._parts.count("polls")
        refuse = self._parts.flow.dead_letter
        try:
            return read_reply(value, since=position, channels=frozenset(polled.names), refuse=refuse)
        except ReplyRefusedError as error:
            raise CallFailedError(Kind.BAD_REPLY, str(error)) from error

    def _well(self, polled: Polled) -> None:
        """Note a good poll."""
        self._parts.channels.accepted(polled)
        if self._parts.health.good():
            _logger.debug("transport_recovered")
            self._tell(Link.RECOVERED)
        if self._parts.flow.next_look() is not None:
            self._parts.look()

    def _after(self, error: BaseException) -> None:
        """Deal with whatever a turn raised, and wait as long as it asks for."""
        if not self.retired:
            self._pause(self._failed(error) if isinstance(error, CallFailedError) else self._unexpected(error))

    def _failed(self, error: CallFailedError) -> float:
        """Decide what a failure asks for; return the seconds to wait."""
        parts, health = self._parts, self._parts.health
        pause = health.bad(error.kind)
        parts.count(f"failed.{error.kind.value}")
        if error.kind is Kind.DENIED:
            return self._refused(error, pause)
        if health.failures == 1:
            _logger.warning("transport_retry", extra={"why": str(error)})
            self._tell(Link.RETRYING, str(error))
        if health.lost():
            _logger.error("transport_failed", extra={"why": str(error)})
            self._tell(Link.FAILED, f"nobody there for long: {error}")
        if health.bad_replies >= BAD_REPLIES and self._go_round():
            return 0.0
        if health.timeouts >= TIMEOUTS:
            health.timeouts = 0
            parts.rebuild("timeouts")
        return pause

    def _refused(self, error: CallFailedError, pause: float) -> float:
        """Get another token first; then go on with what is not refused, and try the rest now and then."""
        parts = self._parts
        if parts.health.refusals == 1 and self.client.renew():
            return 0.0
        polled, until = self._snapshot(), parts.clock.monotonic() + pause
        if self._left(error.channels, polled):
            return 0.0
        position, token = parts.flow.position, self.client.token
        barred = parts.channels.bar(error.channels, polled, position=position, until=until, token=token)
        if barred:
            parts.count("barred")
            self._tell(Link.UNAUTHORIZED, str(error), tuple(barred))
            parts.look()
            return 0.0
        if parts.health.refusals <= REFUSALS:
            self._tell(Link.UNAUTHORIZED, str(error), polled.channels)
        return pause

    def _left(self, refused: tuple[str, ...], polled: Polled) -> bool:
        """Tell whether all that was refused was listed by the last poll, and is not wanted any more."""
        named = set(refused)
        return bool(named) and named <= set(self._listed) and not named & set(polled.names)

    def _go_round(self) -> bool:
        """Read round a reply that cannot be read; tell whether the position moved."""
        parts = self._parts
        if not parts.flow.position:
            return False
        try:
            self._catch_up(self._snapshot())
        except CallFailedError:
            return False
        parts.health.bad_replies = 0
        return True

    def _unexpected(self, error: BaseException) -> float:
        number = self._parts.counters.get("unexpected", 0)
        self._parts.count("unexpected")
        if number == 0:
            _logger.error("transport_unexpected", exc_info=error)
        return self._parts.health.bad(Kind.BUG)

    def _pause(self, pause: float) -> None:
        """Wait before the next try; a nudge, or another token, ends it."""
        clock, nudge = self._parts.clock, self._parts.nudge
        end, token = clock.monotonic() + pause, self.client.current_token()
        while not self.retired:
            left = end - clock.monotonic()
            if left <= 0 or clock.wait(nudge, min(left, TOKEN_LOOK)):
                break
            if self.client.current_token() != token:
                break
        nudge.clear()

    def _tell(self, link: Link, detail: str = "", channels: tuple[str, ...] = ()) -> None:
        if not self.retired:
            self._parts.inbox.put([(Status(link, detail, channels), NOTE_SIZE)])
