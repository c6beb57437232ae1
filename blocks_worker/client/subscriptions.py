"""One subscription for all sessions of a client, and one thread that routes, repairs and polls for them."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from typing import TYPE_CHECKING, Any

from blocks_worker.client.events import TaskEvent
from blocks_worker.concurrency import Backoff, Deadline, ServiceThread
from blocks_worker.errors import BlocksError, InvalidMessageError, TransportClosedError
from blocks_worker.protocol.codec import decode_trusted
from blocks_worker.protocol.tasks import MAX_BATCH, EventsAnswer, EventsQuery
from blocks_worker.transports.base import Gap, Link, Message, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.client.session_feed import SessionFeed
    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.controlplane.api import ItemResult
    from blocks_worker.protocol.tasks import BillingMode, TaskRow
    from blocks_worker.transports.base import AtOnce, Received, Subscription, Transport

    AskEvents = Callable[[Sequence[EventsQuery]], list[ItemResult[EventsAnswer]]]

_logger = logging.getLogger(__name__)

#: Longest time in seconds that the thread waits for the network before it looks at its sessions again.
_LONGEST_WAIT = 5.0
#: Entries for which nothing is to be looked at any more, before they are swept when they are the larger half too.
SWEEP = 256
#: Seconds for closing a transport that was replaced or given up.
_CLOSING = 2.0


class Subscriptions:
    """Own the transport of a client, its one subscription, and the thread "client-events".

    1. Route each message to the session of its task; on the transport's own thread where that brings them `AtOnce`.
    2. Ask the hub, for many sessions in one request, where something is missing or nothing was heard.
    3. Have the hub tell a session's events on this client's channel, where it does not yet.
    4. Open another transport when the login got another channel.

    The thread is a daemon: it is blocked in a queue that foreign code feeds, and a client that was
    forgotten must not keep a process alive.
    """

    def __init__(
        self,
        *,
        open_transport: Callable[[AtOnce], Transport],
        channel: Callable[[], str],
        ask: AskEvents,
        billing_mode: BillingMode,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._open_transport = open_transport
        self._channel = channel
        self._ask_events = ask
        self._billing_mode = billing_mode
        self._clock = clock
        self._backoff = Backoff(entropy, first=0.5, cap=5.0)
        self._ask_after = 0.0
        # Tasks in one question: fewer after each that failed, for the answer may have been too much.
        self._most = MAX_BATCH
        self._is_failing = False
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._sessions: dict[str, list[SessionFeed]] = {}
        # When to look at which session: a heap of (due, number), and what the numbers stand for. An entry
        # that was replaced by an earlier one, or whose session was forgotten, stands for nothing.
        self._due: list[tuple[float, int]] = []
        self._entries: dict[int, SessionFeed] = {}
        self._planned: dict[SessionFeed, tuple[float, int]] = {}
        self._numbers = itertools.count()
        # Up to when the thread waits at the most.
        self._waits_until = 0.0
        self._transport: Transport | None = None
        self._subscription: Subscription | None = None
        self._listened = ""
        self._thread: ServiceThread | None = None
        self._stopping = False
        #: Messages that were no events, by reason.
        self.refused: dict[str, int] = {}

    # ------------------------------------------------------------ for the client

    def open(self) -> None:
        """Listen, if not yet: a task is submitted only after this."""
        with self._opening:
            if self._thread is not None:
                return
            if self._stopping:
                raise RuntimeError("the client was destroyed")
            self._listen()
            self._thread = ServiceThread("client-events", self._run, daemon=True)
            self._thread.start()

    def add(self, session: SessionFeed) -> None:
        """Route the events of its task to this session."""
        with self._lock:
            self._sessions.setdefault(session.task_id, []).append(session)

    def watch(self, session: SessionFeed) -> None:
        """Look at the session when it is due, from now on: the hub knows its task."""
        due = session.due()
        if due is None:
            return
        with self._lock:
            planned = self._planned.get(session)
            if planned is not None and planned[0] <= due:
                return
            self._unplan(session)
            number = next(self._numbers)
            self._planned[session] = (due, number)
            self._entries[number] = session
            heapq.heappush(self._due, (due, number))

    def forget(self, session: SessionFeed) -> None:
        """Route nothing to the session any more."""
        with self._lock:
            group = self._sessions.get(session.task_id, [])
            if session in group:
                group.remove(session)
                if not group:
                    del self._sessions[session.task_id]
            self._unplan(session)

    def sessions(self) -> list[SessionFeed]:
        """Return every session that is routed to."""
        with self._lock:
            return [session for group in self._sessions.values() for session in group]

    def look(self, session: SessionFeed) -> None:
        """Ask the hub about this session now, on the caller's thread; if that fails it is asked later."""
        try:
            self.read(session)
        except BlocksError as error:
            _logger.debug("client_look_failed", extra={"reason": str(error)})
            session.doubt(self._clock.monotonic())

    def read(self, session: SessionFeed) -> TaskRow | None:
        """Take in all that the hub stored about this session, on the caller's thread.

        Returns the task's row; None when the session was over before.

        Raises:
            RpcError: the hub refused.
            HubUnavailableError: it did not answer.
        """
        row = None
        session.doubt(self._clock.monotonic())
        after = session.question(self._clock.monotonic())
        while after is not None:
            channel, query = self._listened, self._query(session, after)
            (answer,) = self._ask_events([query])
            row = self._take_page(session, query, answer.value(), channel)
            after = session.question(self._clock.monotonic())
        return row

    def stop(self) -> None:
        """Have the thread end and close the transport on its way out, without waiting for it."""
        self._stopping = True

    def close(self, deadline: Deadline) -> None:
        """Close the transport and end the thread."""
        self._stopping = True
        with self._opening:
            # First the transport: its closing is what wakes the thread.
            if self._transport is not None:
                self._transport.close(deadline)
            if self._thread is not None and not self._thread.is_current():
                self._thread.join(deadline.remaining())

    # ------------------------------------------------------------ the thread

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._turn()
        except TransportClosedError:
            if not self._stopping:
                _logger.warning("client_transport_closed")
        finally:
            if self._stopping and self._transport is not None:
                self._transport.close(Deadline(_CLOSING, self._clock))

    def _turn(self) -> None:
        if self._subscription is None:
            return
        received = self._subscription.receive(self._wait())
        try:
            self._route([item for item in received if isinstance(item, Message)])
            if any(map(_is_doubtful, received)):
                self._doubt_all()
            self._follow_login()
            self._ask(self._due_now())
        except TransportClosedError:
            raise
        except Exception:  # the top of a thread: one bad turn must not leave every session deaf
            _logger.exception("client_events_failed")

    def _wait(self) -> float:
        now = self._clock.monotonic()
        with self._lock:
            self._waits_until = min(self._next_look(), now + _LONGEST_WAIT)
            return max(0.0, self._waits_until - now)

    def _next_look(self) -> float:
        """Return when a session wants to be looked at, and drop what stands for nothing; the lock is held."""
        while self._due and self._due[0][1] not in self._entries:
            heapq.heappop(self._due)
        return max(self._due[0][0], self._ask_after) if self._due else float("inf")

    def _take(self, messages: Sequence[Message]) -> bool:
        """Route what the transport brings on a thread of its own; tell whether there is something to do before long."""
        try:
            self._route(messages)
        except Exception:  # that thread serves others too
            _logger.exception("client_events_failed")
        with self._lock:
            return self._next_look() < self._waits_until

    def _route(self, messages: Sequence[Message]) -> None:
        """Give events to the sessions of their tasks; nothing here waits for the network."""
        events: dict[str, list[TaskEvent]] = {}
        for event in self._readable([message.body for message in messages]):
            events.setdefault(event.task_id, []).append(event)
        now = self._clock.monotonic()
        for task_id, group in events.items():
            for session in self._sessions_of(task_id):
                session.feed(group, now)
                self.watch(session)  # earlier, when what came made it wait for something

    def _sessions_of(self, task_id: str) -> list[SessionFeed]:
        with self._lock:
            return list(self._sessions.get(task_id, ()))

    def _doubt_all(self) -> None:
        now = self._clock.monotonic()
        for session in self.sessions():
            session.doubt(now)
            self.watch(session)

    def _due_now(self) -> list[SessionFeed]:
        now = self._clock.monotonic()
        found: list[SessionFeed] = []
        while now >= self._ask_after and len(found) < self._most:
            session = self._next_due(now)
            if session is None:
                break
            due = session.due()
            if due is not None and due <= now:
                found.append(session)
            else:
                self.watch(session)
        return found

    def _next_due(self, now: float) -> SessionFeed | None:
        with self._lock:
            while self._due and self._due[0][0] <= now:
                session = self._entries.get(heapq.heappop(self._due)[1])
                if session is not None:
                    self._unplan(session)
                    return session
            return None

    def _unplan(self, session: SessionFeed) -> None:
        planned = self._planned.pop(session, None)
        if planned is None:
            return
        del self._entries[planned[1]]
        if len(self._due) - len(self._entries) > max(SWEEP, len(self._entries)):
            self._due = [entry for entry in self._due if entry[1] in self._entries]
            heapq.heapify(self._due)

    def _follow_login(self) -> None:
        """Listen on the login's channel of now; what came on the old one meanwhile, the hub is asked for."""
        if self._channel() == self._listened:
            return
        with self._opening:
            old = self._transport
            self._listen()
        if old is not None:
            old.close(Deadline(_CLOSING, self._clock))
        self._doubt_all()

    def _listen(self) -> None:
        self._listened = self._channel()
        self._transport = self._open_transport(self._take)
        self._subscription = self._transport.subscribe([self._listened])

    # ------------------------------------------------------------ asking the hub

    def _ask(self, sessions: Sequence[SessionFeed]) -> None:
        now = self._clock.monotonic()
        asked = []
        for session in sessions:
            session.tick(now)
            after = session.question(now)
            if after is not None:
                asked.append((session, self._query(session, after)))
        try:
            self._take_in(asked)
        finally:
            for session in sessions:
                self.watch(session)

    def _query(self, session: SessionFeed, after: int) -> EventsQuery:
        """Return what to ask; the hub is to tell this client of the task if it does not yet."""
        unheard = self._listened not in {"", session.heard_on}
        listen = self._billing_mode if unheard else None
        return EventsQuery(task_id=session.task_id, after=after, listen=listen, role=session.role)

    def _take_in(self, asked: Sequence[tuple[SessionFeed, EventsQuery]]) -> None:
        if not asked:
            return
        channel = self._listened
        try:
            answers = self._ask_events([query for _, query in asked])
        except BlocksError as error:
            self._put_off([session for session, _ in asked], error)
            return
        self._backoff.reset()
        self._is_failing = False
        self._most = min(MAX_BATCH, self._most * 2)
        for (session, query), answer in zip(asked, answers, strict=True):
            self._feed(session, query, answer, channel)

    def _put_off(self, sessions: Sequence[SessionFeed], error: BlocksError) -> None:
        """Have the hub asked about them later, and about fewer at once; say so once in a run of failures."""
        now = self._clock.monotonic()
        self._ask_after = now + self._backoff.after(error)
        self._most = max(1, len(sessions) // 2)
        for session in sessions:
            session.not_told(error, now)
        level = logging.DEBUG if self._is_failing else logging.WARNING
        _logger.log(level, "client_poll_failed", extra={"tasks": len(sessions), "reason": str(error)})
        self._is_failing = True

    def _feed(self, session: SessionFeed, query: EventsQuery, answer: ItemResult[EventsAnswer], channel: str) -> None:
        if answer.status != 200 or answer.body is None:  # noqa: PLR2004 - OK
            _logger.debug("client_poll_refused", extra={"task": session.task_id, "status": answer.status})
            return
        self._take_page(session, query, answer.body, channel)

    def _take_page(self, session: SessionFeed, query: EventsQuery, page: EventsAnswer, channel: str) -> TaskRow:
        if query.listen is not None:
            session.heard_on = channel
        events = self._readable(decoded(page))
        session.feed_ledger(page.task, events, self._clock.monotonic(), after=query.after, more=page.more)
        return page.task

    def _readable(self, travelled: Sequence[dict[str, Any]]) -> list[TaskEvent]:
        """Return the events; one that cannot be read is counted and hides no other."""
        events = []
        for raw in travelled:
            try:
                events.append(TaskEvent.of(raw))
            except InvalidMessageError as error:
                self.refused[error.reason] = self.refused.get(error.reason, 0) + 1
        return events


def decoded(page: EventsAnswer) -> list[dict[str, Any]]:
    """Return the events of a page of the ledger as they travelled."""
    return [decode_trusted(dict, bytes(stored)) for stored in page.events]


def _is_doubtful(item: Received) -> bool:
    """Tell whether messages may have been lost."""
    if isinstance(item, Gap):
        return not item.filled
    is_back = isinstance(item, Status) and item.link is Link.RECOVERED
    if is_back:
        _logger.info("transport_recovered")
    return is_back
