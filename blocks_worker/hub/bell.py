"""The doorbell: control messages for one incarnation, signed, said after the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.hub.leases import lease_for, message_key
from blocks_worker.hub.store.transaction import Publication
from blocks_worker.protocol.channels import control_channel
from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.control import (
    CancelRun,
    ControlMessage,
    ExpireRun,
    GrantedLease,
    PauseRun,
    ResumeRun,
    StartTask,
    WithdrawOffer,
    sign,
)

if TYPE_CHECKING:
    from blocks_worker.concurrency import SteadyClock
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import Candidate, InstanceRecord, TaskRecord

#: A restart goes on so far above the last number that was saved: a minute's worth, should saving have failed for long.
SEQUENCE_MARGIN = 60_000_000
#: Largest control message as it travels, in bytes: it fits the network's limit with the envelope round it.
MAX_CONTROL = 20 * 1024


class Bell:
    """Ring for instances. A ring that nobody hears costs time only: every heartbeat answer says it again."""

    def __init__(self, steady: SteadyClock, secret: bytes) -> None:
        self._steady = steady
        self._secret = secret
        #: Number of the last message: microseconds of the hub's time, or above.
        self.sequence = 0

    def go_on_after(self, saved: int) -> None:
        """Number above what an earlier hub said, even if its clock was ahead of ours: lower ones are replays."""
        self.sequence = saved + SEQUENCE_MARGIN

    def offer(self, ledger: Ledger, to: Candidate, row: TaskRecord, start: bytes | None) -> None:
        """Offer a task; its input travels along when it is short enough."""
        bare = StartTask(task_id=row.id, epoch=row.epoch + 1, digest=row.digest)
        if start is not None:
            full = StartTask(task_id=row.id, epoch=row.epoch + 1, digest=row.digest, start=start.decode())
            if self._ring(ledger, to, full):
                return
        self._ring(ledger, to, bare)

    def granted(self, to: Candidate, row: TaskRecord, start: bytes, now: int) -> Publication | None:
        """Return the offer that gives a task at once, as it is to be said; None when it would be too large."""
        epoch = row.epoch + 1
        granted = GrantedLease(
            lease=lease_for(self._secret, row.id, epoch, to.incarnation),
            attempt=row.attempt + 1,
            max_runtime=row.max_runtime,
            hub_time=now,
            deadline=row.deadline,
            progress_timeout=row.progress_timeout,
        )
        message = StartTask(task_id=row.id, epoch=epoch, digest=row.digest, start=start.decode(), granted=granted)
        return self._said(to, message)

    def withdraw(self, ledger: Ledger, by: str, row: TaskRecord) -> None:
        """Tell an incarnation that its offer stands no more, before anything else is offered to it."""
        to = ledger.instance(by)
        if to is not None:
            self._ring(ledger, to, WithdrawOffer(task_id=row.id, epoch=row.epoch))

    def cancel(self, ledger: Ledger, row: TaskRecord, reason: str | None) -> None:
        """Ask the incarnation that the row names to stop the run."""
        self._tell(ledger, row, CancelRun(task_id=row.id, epoch=row.epoch, reason=reason))

    def expire(self, ledger: Ledger, row: TaskRecord, reason: str) -> None:
        """Tell the incarnation that the row names that the time of the task is over."""
        self._tell(ledger, row, ExpireRun(task_id=row.id, epoch=row.epoch, agent_name=row.agent, reason=reason))

    def pause(self, ledger: Ledger, row: TaskRecord) -> None:
        """Tell the incarnation that the row names whether the run is to wait."""
        kind = PauseRun if row.pause else ResumeRun
        self._tell(ledger, row, kind(task_id=row.id, epoch=row.epoch, pause_seq=row.pause_seq))

    def ring(self, ledger: Ledger, to: InstanceRecord, message: ControlMessage) -> None:
        """Say a control message."""
        self._ring(ledger, to, message)

    def _tell(self, ledger: Ledger, row: TaskRecord, message: ControlMessage) -> None:
        to = None if row.inc is None else ledger.instance(row.inc)
        if to is not None:
            self._ring(ledger, to, message)

    def _ring(self, ledger: Ledger, to: Candidate | InstanceRecord, message: ControlMessage) -> bool:
        said = self._said(to, message)
        if said is not None:
            ledger.outbox.append(said)
        return said is not None

    def _said(self, to: Candidate | InstanceRecord, message: ControlMessage) -> Publication | None:
        self.sequence = max(self.sequence + 1, self._steady.now_ms() * 1000)
        signed = encode(sign(encode(message), self.sequence, message_key(self._secret, to.incarnation)))
        if len(signed) > MAX_CONTROL:
            return None
        return Publication(control_channel(to.agent_id), signed, to.billing_mode)
