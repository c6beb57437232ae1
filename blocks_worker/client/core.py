"""The machinery of one client, apart from its face: what its sessions lean on."""

from __future__ import annotations

import threading
import weakref
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from blocks_worker.client.answering import answered
from blocks_worker.client.callbacks import CallbackPool
from blocks_worker.client.events import TaskEvent
from blocks_worker.client.openers import exchange_opener, session_opener
from blocks_worker.client.ordering import SESSION_POLL
from blocks_worker.client.pausing import paused
from blocks_worker.client.repeating import one_try, repeated
from blocks_worker.client.sending import Sender
from blocks_worker.client.session import TaskSession
from blocks_worker.client.session_feed import TELLING
from blocks_worker.client.settings import KeysTold
from blocks_worker.client.stream_access import ClientStreams
from blocks_worker.client.subscriptions import Subscriptions, decoded
from blocks_worker.client.tasks import task_named
from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.controlplane.api import HubApi
from blocks_worker.controlplane.cdm import CdmKeyset
from blocks_worker.controlplane.entrances import NoEntrance
from blocks_worker.controlplane.files import patience, pieces_of
from blocks_worker.controlplane.gate import Gate
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.tokens import ConsumerLogin
from blocks_worker.controlplane.whereabouts import Whereabouts
from blocks_worker.errors import AgentAuthFatalError, RpcError
from blocks_worker.protocol.tasks import BillingMode, CancelTask, EventsQuery, RetryTask
from blocks_worker.streams.options import USUAL as USUAL_STREAMS
from blocks_worker.streams.options import WriterOptions
from blocks_worker.transports.opening import Transports, open_link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from blocks_worker.client.params import SendMessageParams
    from blocks_worker.client.session_feed import SessionFeed
    from blocks_worker.client.settings import Place
    from blocks_worker.client.streams import StreamClient, StreamDescriptor
    from blocks_worker.controlplane.api import ItemResult
    from blocks_worker.controlplane.entrances import Entrance
    from blocks_worker.protocol.events import ArtifactRef
    from blocks_worker.protocol.tasks import EventsAnswer, TaskRole, TaskRow
    from blocks_worker.transports.hublink.link import Link

T = TypeVar("T")

#: Seconds that one look into the ledger may take: it runs on the thread which routes the events.
_POLL_TIMEOUT = 4.0
#: How much one client's poll interval differs from another's, so that they do not come together.
_JITTER = 0.2
#: Seconds for the end of a client.
_CLOSING = 5.0


class ClientCore:
    """Own what a client is made of: connections, login, subscription, callback threads.

    Its sessions keep it alive, and so do open ones on their own. When nobody holds it any more it lets go of
    everything without waiting.
    """

    def __init__(  # noqa: PLR0913 - this is where a client comes together
        self,
        place: Place,
        *,
        entrance: Callable[[HubApi], Entrance],
        find: Callable[[], Place] | None = None,
        billing_mode: BillingMode,
        timeout: float,
        inline_limit: int,
        stream_options: WriterOptions = USUAL_STREAMS,
        headers: Mapping[str, str],
        on_auth_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self.clock = Clock()
        self.timeout = timeout
        self.closed = False
        self.pool = CallbackPool()
        #: Sessions that nothing is routed to any more, as long as somebody holds them.
        self._over: weakref.WeakSet[SessionFeed] = weakref.WeakSet()
        self._over_lock = threading.Lock()
        self._entropy = Entropy()
        self._poll = SESSION_POLL * self._entropy.uniform(1 - _JITTER, 1 + _JITTER)
        #: Who the client is for its maker, whatever its login says.
        self.default_owner: str | None = None
        self._keys_told = told = KeysTold()
        find_told = None if find is None else (lambda: told.over(find()))
        where = self._where = Whereabouts(place, find=find_told, clock=self.clock, entropy=self._entropy)
        gate = Gate(self.clock, self._entropy)
        http = self._http = Http(place.hub_url, timeout=timeout, headers=headers, on_doubt=where.ask, gate=gate)
        where.follow(lambda: http.move(where.now.hub_url))
        door = HubApi(self._http)
        way_in = entrance(door)
        self.has_credentials = not isinstance(way_in, NoEntrance)
        self.login = ConsumerLogin(
            http=self._http, entrance=way_in, clock=self.clock, entropy=self._entropy, on_auth_error=on_auth_error
        )
        self.api = self.login.api
        #: For what everybody may read.
        self.public_api = self.api if self.has_credentials else door
        link = self._link = open_link(where, self.login, clock=self.clock, entropy=self._entropy)
        if link is not None:
            http.carry_by(link.call)
        transports = Transports(where, link, clock=self.clock, entropy=self._entropy)
        self._subscriptions = Subscriptions(
            open_transport=session_opener(where, transports, self.login, self._entropy),
            channel=_channel_of(self.login),
            ask=_asker(self.login),
            billing_mode=billing_mode,
            clock=self.clock,
            entropy=self._entropy,
        )
        self._sender = Sender(
            self.login,
            self._subscriptions,
            billing_mode=billing_mode,
            inline_limit=inline_limit,
            timeout=timeout,
            clock=self.clock,
            entropy=self._entropy,
        )
        self._streams = ClientStreams(
            exchange_opener(where, transports, self.login, self.clock, self._entropy),
            options=stream_options,
            clock=self.clock,
            entropy=self._entropy,
        )
        self._finalizer = weakref.finalize(
            self, _let_go, self._subscriptions, self._streams, self.login, self.pool, self._http, where, link
        )
        # At the end of the process the threads end with it: they are daemons.
        self._finalizer.atexit = False

    def connect(self) -> None:
        """Log in."""
        try:
            self.login.connect()
        except BaseException:
            self._where.stop()
            self.login.close(Deadline(0.0, self.clock))
            self._http.close()
            raise
        self.login.start()

    def ready(self) -> None:
        """Check that calls can be made.

        Raises:
            RuntimeError: the client was destroyed.
            AuthRefreshFailedError: its login could not be renewed for some time, or it has no credentials.
        """
        self.check_open()
        self.login.ensure_ready()

    def check_open(self) -> None:
        """Check that the client was not destroyed."""
        if self.closed:
            raise RuntimeError("the client was destroyed; create another one")

    @property
    def user_id(self) -> str:
        """Who this client is: as its maker said, else as its login says."""
        if self.default_owner is not None:
            return self.default_owner
        if not self.login.is_in:
            self.login.ensure_ready()
        return self.login.user_id

    def use_keys(self, subscribe_key: str, publish_key: str | None) -> None:
        """Listen with other keys of the network from now on; what was missed meanwhile, the hub is asked for."""
        self.check_open()
        now = self._where.now
        self._keys_told.keys = CdmKeyset(publish_key or now.keys.publish_key, subscribe_key)
        self._where.tell(self._keys_told.over(now))

    def send(self, params: SendMessageParams) -> TaskSession:
        """Ask for a task and watch it."""
        return self._sender.send(params, self)

    def send_many(self, many: Sequence[SendMessageParams]) -> list[TaskSession]:
        """Ask for many tasks at once and watch them."""
        return self._sender.send_many(many, self)

    def attach(
        self,
        task_id: str,
        *,
        auto_drain: bool = True,
        drain_window: float | None = None,
        role: TaskRole = "consumer",
        prepare: Callable[[TaskSession], object] | None = None,
    ) -> TaskSession:
        """Watch a task that exists, whoever asked for it; `prepare` a session that is told all from the beginning.

        Its past is read first, for a task that is over needs no more. Of one that goes on, the hub then tells
        this client; what came between the two is read once that is arranged.
        """
        session = TaskSession(
            self,
            task_id,
            poll=self._poll,
            joined=prepare is None,
            auto_drain=auto_drain,
            drain_window=drain_window,
            role=role,
            entry_point="taskSession" if prepare is None else "subscribeToTask",
        )
        if prepare is not None:
            prepare(session)
        deadline = Deadline(self.timeout, self.clock)
        row = self._patiently(lambda: self._subscriptions.read(session), deadline)
        if row is not None:
            session.found(row)
        if session.due() is None:
            session.was_over()
            return session
        self._subscriptions.open()
        self._subscriptions.add(session)
        try:
            self._patiently(lambda: self._subscriptions.read(session), deadline)
        except BaseException:
            session.cut()
            raise
        self._subscriptions.watch(session)
        return session

    def stored_events(self, task_id: str, after: int, *, role: TaskRole) -> Iterator[TaskEvent]:
        """Yield what the hub stored of a task after a sequence number, page by page."""
        while True:
            query = EventsQuery(task_id=task_id, after=after, role=role)
            page = self._patiently(partial(self._page, query), Deadline(self.timeout, self.clock))
            events = [TaskEvent.of(raw) for raw in decoded(page)]
            yield from events
            if not page.more:
                return
            after = max(event.seq or 0 for event in events)

    def file_pieces(self, ref: ArtifactRef) -> Iterator[bytes]:
        """Yield a stored file by pieces, checked at its end."""
        self.ready()
        return pieces_of(self.api, ref, patience(self.clock, self._entropy, self.timeout))

    def read_token(self, task_id: str, *, role: TaskRole = "consumer") -> str:
        """Return a grant to read the task's channel on the network."""
        self.ready()
        return self.api.read_token(task_id, role).pam_token

    def stop_task(self, task_id: str, *, reason: str | None, terminated: bool) -> bool:
        """Ask the hub that a task stop; tell whether it still ran."""
        deadline = Deadline(self.timeout, self.clock)
        request = CancelTask(reason=reason, terminated=terminated)
        with task_named(task_id):
            answer = self._patiently(
                lambda: self.api.cancel_task(task_id, request, timeout=one_try(deadline)), deadline
            )
        return not answer.already_ended

    def open_stream(self, about: StreamDescriptor, patience: float | None) -> StreamClient:
        """Return a stream of a task, opened; `patience`: seconds that a missing piece is waited for."""
        self.ready()
        return self._streams.open(about, patience)

    def pause_task(self, task_id: str, *, on: bool) -> TaskRow:
        """Ask the hub that a task wait, or go on; return its row as it is then."""
        deadline = Deadline(self.timeout, self.clock)
        with task_named(task_id):
            return paused(self.api, task_id, on=on, deadline=deadline, patiently=self._patiently)

    def answer_task(self, task_id: str, value: Any, ask_id: str | None = None) -> str:
        """Answer the question of a task; return its state as it is then."""
        deadline = Deadline(self.timeout, self.clock)
        with task_named(task_id):
            return answered(self.api, task_id, value, ask_id, deadline=deadline, patiently=self._patiently)

    def retry_task(
        self, task_id: str, key: str | None = None, *, keep_steps: bool = True, keep_answers: bool = True
    ) -> str:
        """Ask the hub that a task be sent again; return the id of the new one, which repeats do not change."""
        new_id = self._entropy.uuid7(self.clock.wall_ms())
        wish = RetryTask(task_id=new_id, idempotency_key=key, keep_steps=keep_steps, keep_answers=keep_answers)
        deadline = Deadline(self.timeout, self.clock)
        with task_named(task_id):
            new = self._patiently(lambda: self.api.retry_task(task_id, wish, timeout=one_try(deadline)), deadline)
        return new.task_id

    def purge_task(self, task_id: str) -> None:
        """Ask the hub to delete a task that has ended."""
        deadline = Deadline(self.timeout, self.clock)
        with task_named(task_id):
            self._patiently(lambda: self.api.purge_task(task_id, timeout=one_try(deadline)), deadline)

    def forget(self, session: SessionFeed) -> None:
        """Route nothing to this session any more."""
        with self._over_lock:
            self._over.add(session)
        self._subscriptions.forget(session)

    def hand_out(self) -> None:
        """Have the callbacks of sessions whose task is over hear the rest of it."""
        if self.closed:
            return
        deadline = Deadline(TELLING, self.clock)
        # In this order: none is on its way from the one to the other unseen.
        sessions = self._subscriptions.sessions()
        with self._over_lock:
            sessions += self._over
        for session in sessions:
            session.hand_out(deadline)

    def destroy(self) -> None:
        """Close all sessions, then the transport, the callback threads, the login and the connections."""
        if self.closed:
            return
        self.closed = True
        self._finalizer.detach()
        deadline = Deadline(_CLOSING, self.clock)
        # Sessions first: whoever waits is woken before anything else takes time.
        for session in self._subscriptions.sessions():
            session.cut()
        self._where.stop()
        self._streams.close(deadline)
        self._subscriptions.close(deadline)
        self.pool.stop()
        self.login.close(deadline)
        if self._link is not None:
            self._link.close(deadline)
        self._http.close()
        self._where.close(deadline)

    def _patiently(self, act: Callable[[], T], deadline: Deadline) -> T:
        """Do what may be done twice until it was answered, as long as the client is open."""

        def checked() -> T:
            self.ready()
            return act()

        return repeated(checked, deadline, clock=self.clock, entropy=self._entropy)

    def _page(self, query: EventsQuery) -> EventsAnswer:
        (answer,) = self.api.events([query], timeout=_POLL_TIMEOUT)
        return answer.value()

    def new_session(self, task_id: str, params: SendMessageParams) -> TaskSession:
        """Return a session to which the events of its task are routed."""
        session = TaskSession(
            self, task_id, poll=self._poll, auto_drain=params.auto_drain, drain_window=params.drain_window_s
        )
        self._subscriptions.add(session)
        return session


def _channel_of(login: ConsumerLogin) -> Callable[[], str]:
    return lambda: login.session_channel


def _asker(login: ConsumerLogin) -> Callable[[Sequence[EventsQuery]], list[ItemResult[EventsAnswer]]]:
    def ask(queries: Sequence[EventsQuery]) -> list[ItemResult[EventsAnswer]]:
        try:
            return login.api.events(queries, timeout=_POLL_TIMEOUT)
        except RpcError as error:
            # One refused call may be mended by the next; a refused key is not.
            refused = login.error
            if isinstance(refused, AgentAuthFatalError):
                raise refused from error
            raise

    return ask


def _let_go(
    subscriptions: Subscriptions,
    streams: ClientStreams,
    login: ConsumerLogin,
    pool: CallbackPool,
    http: Http,
    where: Whereabouts[Place],
    link: Link | None,
) -> None:
    where.stop()
    streams.stop()
    subscriptions.stop()
    if link is not None:
        link.stop()
    login.stop()
    pool.stop()
    http.close()
