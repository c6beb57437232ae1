"""Ask for tasks and watch them: one, or many in few requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from blocks_worker.client.params import submission
from blocks_worker.client.submitting import Submit, Submitter, Wanted
from blocks_worker.concurrency import Deadline
from blocks_worker.controlplane.files import patience, store_file
from blocks_worker.errors import RpcError, SomeRefusedError
from blocks_worker.protocol.files import RequestUpload
from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blocks_worker.client.params import SendMessageParams
    from blocks_worker.client.parts import FileKeeper, LargeFile
    from blocks_worker.client.session import TaskSession
    from blocks_worker.client.subscriptions import Subscriptions
    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.controlplane.tokens import ConsumerLogin
    from blocks_worker.protocol.events import ArtifactRef
    from blocks_worker.protocol.tasks import BillingMode, SubmitAnswer


class Asker(Protocol):
    """Be the client for which is sent."""

    def ready(self) -> None:
        """Check that calls can be made."""

    def new_session(self, task_id: str, params: SendMessageParams) -> TaskSession:
        """Return a session to which the events of its task are routed."""


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
        self._listen(asker)
        session, channel = asker.new_session(wanted.task_id, params), self._login.session_channel
        deadline = Deadline(params.timeout or self._timeout, self._clock)
        try:
            answer = self._submitter.submit(Submit(wanted, deadline))
        except BaseException:
            session.cut()
            raise
        return self._watched(wanted, session, answer, channel, asker)

    def send_many(self, many: Sequence[SendMessageParams], asker: Asker) -> list[TaskSession]:
        """Ask for tasks in as few requests as they fit in; all are checked before any is asked for.

        What can follow the check is done for one request after the other: the hub works on the first meanwhile.

        Raises:
            SomeRefusedError: the hub refused some; it holds the sessions of the others.
        """
        wanted = [self._wanted(params, asker) for params in many]
        if not wanted:
            return []
        self._listen(asker)
        deadline = Deadline(max(params.timeout or self._timeout for params in many), self._clock)
        results: list[TaskSession | RpcError] = []
        try:
            for batch in self._submitter.in_batches(Submit(each, deadline) for each in wanted):
                results += self._send_batch(batch, asker)
        except BaseException:
            _cut(results)
            raise
        refused = [result for result in results if isinstance(result, RpcError)]
        if refused:
            raise SomeRefusedError(results, refused)
        return [result for result in results if not isinstance(result, RpcError)]

    def _send_batch(self, batch: Sequence[Submit], asker: Asker) -> list[TaskSession | RpcError]:
        """Ask for tasks that fit into one request; return what came of each."""
        sessions = [asker.new_session(wanted.task_id, wanted.params) for wanted, _ in batch]
        channel = self._login.session_channel
        try:
            answers = self._submitter.submit_batch(batch)
        except BaseException:
            _cut(sessions)
            raise
        results: list[TaskSession | RpcError] = []
        for (wanted, _), session, answer in zip(batch, sessions, answers, strict=True):
            if isinstance(answer, RpcError):
                session.cut()
                results.append(answer)
            else:
                results.append(self._watched(wanted, session, answer, channel, asker))
        return results

    def _wanted(self, params: SendMessageParams, asker: Asker) -> Wanted:
        task_id = self._entropy.uuid7(self._clock.wall_ms())
        body, size = submission(
            params,
            task_id=task_id,
            billing_mode=self._billing_mode,
            idempotency_key=params.idempotency_key,
            inline_limit=self._inline_limit,
            keep=self._keeper(task_id, params, asker),
        )
        return Wanted(task_id, params, body, size)

    def _listen(self, asker: Asker) -> None:
        asker.ready()
        self._subscriptions.open()

    def _watched(
        self, wanted: Wanted, session: TaskSession, answer: SubmitAnswer, channel: str, asker: Asker
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

    def _keeper(self, task_id: str, params: SendMessageParams, asker: Asker) -> FileKeeper:
        """Return what stores the large files of one message, in one upload session of the task's name."""

        def keep(file: LargeFile) -> ArtifactRef:
            asker.ready()
            about = RequestUpload(
                role="consumer-input",
                file_name=file.file_name,
                mime_type=file.mime_type,
                agent_name=params.agent_name,
                upload_session_id=task_id,
                part_id=file.part_id,
            )
            again = patience(self._clock, self._entropy, params.timeout or self._timeout)
            return store_file(self._login.api, file.content, about, again).artifact_ref

        return keep


def _cut(results: Iterable[TaskSession | RpcError]) -> None:
    for result in results:
        if not isinstance(result, RpcError):
            result.cut()
