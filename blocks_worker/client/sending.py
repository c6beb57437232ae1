"""Ask for tasks and watch them: one, or many in few requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from blocks_worker.client.params import submission
from blocks_worker.client.submitting import Submitter
from blocks_worker.controlplane.files import patience, store_file
from blocks_worker.errors import RpcError, SomeRefusedError
from blocks_worker.protocol.files import RequestUpload
from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.client.params import SendMessageParams
    from blocks_worker.client.parts import FileKeeper, LargeFile
    from blocks_worker.client.session import TaskSession
    from blocks_worker.client.subscriptions import Subscriptions
    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.controlplane.tokens import ConsumerLogin
    from blocks_worker.protocol.events import ArtifactRef
    from blocks_worker.protocol.tasks import BillingMode, SubmitAnswer, SubmitTask


class Asker(Protocol):
    """Be the client for which is sent."""

    def ready(self) -> None:
        """Check that calls can be made."""

    def new_session(self, task_id: str, params: SendMessageParams) -> TaskSession:
        """Return a session to which the events of its task are routed."""


@dataclass(frozen=True)
class _Wanted:
    """One task that was checked, its files stored, and that nobody asked for yet."""

    task_id: str
    params: SendMessageParams
    body: SubmitTask
    size: int


class Sender:
    """Send for one client. It does not hold the client, which must be free to go when nobody needs it."""

    def __init__(
        self,
        login: ConsumerLogin,
        subscriptions: Subscriptions,
        *,
        billing_mode: BillingMode,
        inline_limit: int,
        timeout: float,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self._login = login
        self._subscriptions = subscriptions
        self._submitter = Submitter(login.api, clock=clock, entropy=entropy)
        self._billing_mode = billing_mode
        self._inline_limit = inline_limit
        self._timeout = timeout
        self._clock = clock
        self._entropy = entropy

    def send(self, params: SendMessageParams, asker: Asker) -> TaskSession:
        """Ask for a task and watch it: the session listens before the task is asked for."""
        wanted = self._wanted(params, asker)
        session, channel = self._listening([wanted], asker)[0], self._login.session_channel
        try:
            answer = self._submitter.submit(wanted.body, wanted.size, params.timeout or self._timeout)
        except BaseException:
            session.cut()
            raise
        return self._watched(wanted, session, answer, channel, asker)

    def send_many(self, many: Sequence[SendMessageParams], asker: Asker) -> list[TaskSession]:
        """Ask for tasks in as few requests as they fit in; all are checked before any is asked for.

        Raises:
            SomeRefusedError: the hub refused some; it holds the sessions of the others.
        """
        wanted = [self._wanted(params, asker) for params in many]
        if not wanted:
            return []
        sessions, channel = self._listening(wanted, asker), self._login.session_channel
        timeout = max(params.timeout or self._timeout for params in many)
        try:
            answers = self._submitter.submit_many([(each.body, each.size) for each in wanted], timeout)
        except BaseException:
            for session in sessions:
                session.cut()
            raise
        results: list[TaskSession | RpcError] = []
        for each, session, answer in zip(wanted, sessions, answers, strict=True):
            if isinstance(answer, RpcError):
                session.cut()
                results.append(answer)
            else:
                results.append(self._watched(each, session, answer, channel, asker))
        refused = [result for result in results if isinstance(result, RpcError)]
        if refused:
            raise SomeRefusedError(results, refused)
        return [result for result in results if not isinstance(result, RpcError)]

    def _wanted(self, params: SendMessageParams, asker: Asker) -> _Wanted:
        task_id = self._entropy.uuid7(self._clock.wall_ms())
        body, size = submission(
            params,
            task_id=task_id,
            billing_mode=self._billing_mode,
            idempotency_key=params.idempotency_key,
            inline_limit=self._inline_limit,
            keep=self._keeper(params, asker),
        )
        return _Wanted(task_id, params, body, size)

    def _listening(self, wanted: Sequence[_Wanted], asker: Asker) -> list[TaskSession]:
        asker.ready()
        self._subscriptions.open()
        return [asker.new_session(each.task_id, each.params) for each in wanted]

    def _watched(
        self, wanted: _Wanted, session: TaskSession, answer: SubmitAnswer, channel: str, asker: Asker
    ) -> TaskSession:
        """Return the session of the task that the hub took in, or had under the same key."""
        is_own = answer.task_id == wanted.task_id
        if is_own:
            session.heard_on = channel
        else:
            session.cut()
            session = asker.new_session(answer.task_id, wanted.params)
        session.accepted(answer, is_own=is_own)
        # A task that was there before has a past that the network does not tell again.
        if answer.idempotent or answer.state in SHOWN_TERMINAL:
            self._subscriptions.look(session)
        self._subscriptions.watch(session)
        return session

    def _keeper(self, params: SendMessageParams, asker: Asker) -> FileKeeper:
        """Return what stores the large files of one message, in one upload session."""
        session = self._entropy.name()

        def keep(file: LargeFile) -> ArtifactRef:
            asker.ready()
            about = RequestUpload(
                role="consumer-input",
                file_name=file.file_name,
                mime_type=file.mime_type,
                agent_name=params.agent_name,
                upload_session_id=session,
                part_id=file.part_id,
            )
            again = patience(self._clock, self._entropy, params.timeout or self._timeout)
            return store_file(self._login.api, file.content, about, again).artifact_ref

        return keep
