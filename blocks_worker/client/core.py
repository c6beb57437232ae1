"""The machinery of one client, apart from its face: what its sessions lean on."""

from __future__ import annotations

import weakref
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from blocks_worker.client.callbacks import CallbackPool
from blocks_worker.client.events import TaskEvent
from blocks_worker.client.ordering import SESSION_POLL
from blocks_worker.client.params import submission
from blocks_worker.client.repeating import one_try, repeated
from blocks_worker.client.session import TaskSession
from blocks_worker.client.submitting import Submitter
from blocks_worker.client.subscriptions import Subscriptions, decoded
from blocks_worker.concurrency import Clock, Deadline, Entropy
from blocks_worker.config import bypass_proxy_on_loopback, is_loopback_url
from blocks_worker.controlplane.files import patience, pieces_of, store_file
from blocks_worker.controlplane.http import Http
from blocks_worker.controlplane.tokens import ConsumerLogin
from blocks_worker.protocol.files import RequestUpload
from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL
from blocks_worker.protocol.tasks import BillingMode, CancelTask, EventsQuery
from blocks_worker.transports.pubnub.transport import PubNubSettings, PubNubTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from blocks_worker.client.params import SendMessageParams
    from blocks_worker.client.parts import FileKeeper, LargeFile
    from blocks_worker.client.settings import Place
    from blocks_worker.controlplane.api import ItemResult
    from blocks_worker.protocol.events import ArtifactRef
    from blocks_worker.protocol.tasks import EventsAnswer
    from blocks_worker.transports.base import Transport

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

    def __init__(
        self,
        place: Place,
        *,
        billing_mode: BillingMode,
        timeout: float,
        inline_limit: int,
        headers: Mapping[str, str],
        on_auth_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self.clock = Clock()
        self.timeout = timeout
        self.closed = False
        self.pool = CallbackPool()
        self._entropy = Entropy()
        self._billing_mode = billing_mode
        self._inline_limit = inline_limit
        self._poll = SESSION_POLL * self._entropy.uniform(1 - _JITTER, 1 + _JITTER)
        self._http = Http(place.hub_url, timeout=timeout, headers=headers)
        self.login = ConsumerLogin(
            http=self._http, api_key=place.api_key, clock=self.clock, entropy=self._entropy, on_auth_error=on_auth_error
        )
        self.api = self.login.api
        self._submitter = Submitter(self.api, clock=self.clock, entropy=self._entropy)
        self._subscriptions = Subscriptions(
            open_transport=_opener(place, self.login, self.clock, self._entropy),
            channel=_channel_of(self.login),
            ask=_asker(self.login),
            billing_mode=billing_mode,
            clock=self.clock,
            entropy=self._entropy,
        )
        self._finalizer = weakref.finalize(self, _let_go, self._subscriptions, self.login, self.pool, self._http)
        # At the end of the process the threads end with it: they are daemons.
        self._finalizer.atexit = False

    def connect(self) -> None:
        """Log in."""
        try:
            self.login.connect()
        except BaseException:
            self._http.close()
            raise
        self.login.start()

    def ready(self) -> None:
        """Check that calls can be made.

        Raises:
            RuntimeError: the client was destroyed.
            AuthRefreshFailedError: its login could not be renewed for some time.
        """
        if self.closed:
            raise RuntimeError("the client was destroyed; create another one")
        self.login.ensure_ready()

    def send(self, params: SendMessageParams) -> TaskSession:
        """Ask for a task and watch it: the session listens before the task is asked for."""
        task_id = self._entropy.uuid7(self.clock.wall_ms())
        body, size = submission(
            params,
            task_id=task_id,
            billing_mode=self._billing_mode,
            idempotency_key=params.idempotency_key or task_id,
            inline_limit=self._inline_limit,
            keep=self._keeper(params),
        )
        self.ready()
        self._subscriptions.open()
        channel = self.login.session_channel
        session = self._session(task_id)
        try:
            answer = self._submitter.submit(body, size, params.timeout or self.timeout)
        except BaseException:
            session.close()
            raise
        is_own = answer.task_id == task_id
        if is_own:
            session.heard_on = channel
        else:
            session.close()
            session = self._session(answer.task_id)
        session.accepted(answer, is_own=is_own)
        # A task that was there before has a past that the network does not tell again.
        if answer.idempotent or answer.state in SHOWN_TERMINAL:
            self._subscriptions.look(session)
        self._subscriptions.watch(session)
        return session

    def attach(self, task_id: str) -> TaskSession:
        """Watch a task that exists, whoever asked for it.

        Its past is read first, for a task that is over needs no more. Of one that goes on, the hub then tells
        this client; what came between the two is read once that is arranged.
        """
        session = TaskSession(self, task_id, poll=self._poll, joined=True)
        deadline = Deadline(self.timeout, self.clock)
        row = self._patiently(lambda: self._subscriptions.read(session), deadline)
        if row is not None:
            session.found(row)
        if session.due() is None:
            return session
        self._subscriptions.open()
        self._subscriptions.add(session)
        try:
            self._patiently(lambda: self._subscriptions.read(session), deadline)
        except BaseException:
            session.close()
            raise
        self._subscriptions.watch(session)
        return session

    def stored_events(self, task_id: str, after: int) -> Iterator[TaskEvent]:
        """Yield what the hub stored of a task after a sequence number, page by page."""
        while True:
            query = EventsQuery(task_id=task_id, after=after)
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

    def read_token(self, task_id: str) -> str:
        """Return a grant to read the task's channel on the network."""
        self.ready()
        return self.api.read_token(task_id).pam_token

    def stop_task(self, task_id: str, *, reason: str | None, terminated: bool) -> bool:
        """Ask the hub that a task stop; tell whether it still ran."""
        deadline = Deadline(self.timeout, self.clock)
        request = CancelTask(reason=reason, terminated=terminated)
        answer = self._patiently(lambda: self.api.cancel_task(task_id, request, timeout=one_try(deadline)), deadline)
        return not answer.already_ended

    def forget(self, session: TaskSession) -> None:
        """Route nothing to this session any more."""
        self._subscriptions.forget(session)

    def destroy(self) -> None:
        """Close all sessions, then the transport, the callback threads, the login and the connections."""
        if self.closed:
            return
        self.closed = True
        self._finalizer.detach()
        deadline = Deadline(_CLOSING, self.clock)
        # Sessions first: whoever waits is woken before anything else takes time.
        for session in self._subscriptions.sessions():
            session.close()
        self._subscriptions.close(deadline)
        self.pool.stop()
        self.login.close(deadline)
        self._http.close()

    def _patiently(self, act: Callable[[], T], deadline: Deadline) -> T:
        """Do what may be done twice until it was answered, as long as the client is open."""

        def checked() -> T:
            self.ready()
            return act()

        return repeated(checked, deadline, clock=self.clock, entropy=self._entropy)

    def _keeper(self, params: SendMessageParams) -> FileKeeper:
        """Return what stores the large files of one message, in one upload session."""
        session = self._entropy.name()

        def keep(file: LargeFile) -> ArtifactRef:
            self.ready()
            about = RequestUpload(
                role="consumer-input",
                file_name=file.file_name,
                mime_type=file.mime_type,
                agent_name=params.agent_name,
                upload_session_id=session,
                part_id=file.part_id,
            )
            again = patience(self.clock, self._entropy, params.timeout or self.timeout)
            return store_file(self.api, file.content, about, again).artifact_ref

        return keep

    def _page(self, query: EventsQuery) -> EventsAnswer:
        (answer,) = self.api.events([query], timeout=_POLL_TIMEOUT)
        return answer.value()

    def _session(self, task_id: str) -> TaskSession:
        session = TaskSession(self, task_id, poll=self._poll)
        self._subscriptions.add(session)
        return session


def _opener(place: Place, login: ConsumerLogin, clock: Clock, entropy: Entropy) -> Callable[[], Transport]:
    """Return what opens the transport; it holds no reference to the core, which must be free to go."""

    def open_transport() -> Transport:
        if is_loopback_url(place.origin):
            bypass_proxy_on_loopback()
        settings = PubNubSettings(
            origin=place.origin,
            publish_key=place.keys.publish_key,
            subscribe_key=place.keys.subscribe_key,
            user_id=login.session_channel.partition(".")[2],
            hold=place.network.hold,
            retention_limit=place.network.retention_limit,
            retention_age=place.network.retention_age,
        )
        return PubNubTransport(settings, grants=login, producer=entropy.name(), clock=clock, entropy=entropy)

    return open_transport


def _channel_of(login: ConsumerLogin) -> Callable[[], str]:
    return lambda: login.session_channel


def _asker(login: ConsumerLogin) -> Callable[[Sequence[EventsQuery]], list[ItemResult[EventsAnswer]]]:
    return lambda queries: login.api.events(queries, timeout=_POLL_TIMEOUT)


def _let_go(subscriptions: Subscriptions, login: ConsumerLogin, pool: CallbackPool, http: Http) -> None:
    subscriptions.stop()
    login.stop()
    pool.stop()
    http.close()
