"""The thread that reads the control channel: decodes, checks and hands over; it never calls the network."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from blocks_worker.concurrency import ServiceThread
from blocks_worker.errors import InvalidMessageError, TransportClosedError
from blocks_worker.protocol.codec import inspect
from blocks_worker.protocol.control import (
    AnswerRun,
    CancelRun,
    ControlMessage,
    Drain,
    ExpireRun,
    PauseRun,
    Probe,
    ResumeRun,
    StartTask,
    WithdrawOffer,
    open_signed,
)
from blocks_worker.protocol.leases import AnswerFlag, PauseFlag
from blocks_worker.transports.base import Gap, Link, Message, Status
from blocks_worker.worker.reach import Reach
from blocks_worker.worker.replay import ReplayWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.transports.base import Received, Subscription
    from blocks_worker.worker.counters import Counters
    from blocks_worker.worker.run import RunKey

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ears:
    """Whom the listener tells of what it heard; each returns at once.

    Attributes:
        reconcile: something may have been missed: the hub is to be asked.
    """

    offer: Callable[[StartTask], None]
    withdraw: Callable[[RunKey], None]
    cancel: Callable[[RunKey, str | None], None]
    expire: Callable[[RunKey, str | None], None]
    pause: Callable[[PauseFlag], None]
    answer: Callable[[AnswerFlag], None]
    probe: Callable[[str], None]
    drain: Callable[[], None]
    reconcile: Callable[[], None]


class Listener:
    """Own the thread "listener" over one subscription; every message is hostile until its signature was checked."""

    def __init__(self, ears: Ears, counters: Counters, reach: Reach | None = None) -> None:
        self._ears = ears
        self._counters = counters
        self._reach = reach or Reach()
        self._subscription: Subscription | None = None
        self._thread: ServiceThread | None = None
        self._key = ""
        self._window = ReplayWindow()

    def listen(self, subscription: Subscription, key: str) -> None:
        """Begin to read; messages must be signed with this key."""
        self.rekey(key)
        self._subscription = subscription
        self._thread = ServiceThread("listener", self._serve)
        self._thread.start()

    def rekey(self, key: str) -> None:
        """Expect another key from now on, whose numbers begin anew."""
        if key != self._key:
            # The window first: a message of the new key must not meet the numbers of the old one.
            self._window = ReplayWindow()
            self._key = key

    def join(self, timeout: float | None) -> bool:
        """Wait until the closed subscription has ended the thread; tell whether it did."""
        return self._thread is None or self._thread.join(timeout)

    def _serve(self) -> None:
        subscription = self._subscription
        while subscription is not None:
            try:
                received = subscription.receive()
            except TransportClosedError:
                return
            last = None
            for item in received:
                self._guarded(item)
                if isinstance(item, Message):
                    last = item
            if last is not None:
                subscription.commit(last.position)

    def _guarded(self, item: Received) -> None:
        try:
            self._hear(item)
        except InvalidMessageError as error:
            self._counters.count(f"messages_refused_{error.reason}")
            _logger.debug("message_refused", extra={"reason": error.reason})
        except Exception:  # one message must never end the thread that hears all others
            self._counters.count("messages_failed")
            _logger.exception("message_failed")

    def _hear(self, item: Received) -> None:
        if isinstance(item, Status):
            self._note(item)
        elif isinstance(item, Gap):
            self._counters.count("gaps_repaired" if item.filled else "gaps_open")
            if not item.filled:
                self._ears.reconcile()
        else:
            sequence, control = open_signed(item.body, self._key)
            if not self._window.is_new(sequence):
                raise InvalidMessageError("replay", "this message was here before")
            self._hand_over(control)

    def _hand_over(self, control: ControlMessage) -> None:
        if isinstance(control, StartTask):
            self._ears.offer(control)
        elif isinstance(control, WithdrawOffer):
            self._ears.withdraw((control.task_id, control.epoch))
        elif isinstance(control, CancelRun):
            self._ears.cancel((control.task_id, control.epoch), control.reason)
        elif isinstance(control, ExpireRun):
            self._ears.expire((control.task_id, control.epoch), control.reason)
        elif isinstance(control, (PauseRun, ResumeRun)):
            self._ears.pause(_flag_of(control))
        elif isinstance(control, AnswerRun):
            self._answer(control)
        elif isinstance(control, Probe):
            self._ears.probe(control.nonce)
        elif isinstance(control, Drain):
            self._ears.drain()

    def _answer(self, control: AnswerRun) -> None:
        """Bring an answer; one that was too long to travel is asked for."""
        if control.value is None:
            self._ears.reconcile()
            return
        value = control.value.encode()
        inspect(value)
        flag = AnswerFlag(task_id=control.task_id, epoch=control.epoch, ask_id=control.ask_id, value=msgspec.Raw(value))
        self._ears.answer(flag)

    def _note(self, status: Status) -> None:
        self._counters.count(f"transport_{status.link.value}")
        if status.link is Link.RECOVERED:
            self._ears.reconcile()
        if status.link in {Link.CONNECTED, Link.RECOVERED}:
            self._reach.found("network")
        else:
            self._reach.lost("network", link=status.link.value, detail=status.detail)


def _flag_of(control: PauseRun | ResumeRun) -> PauseFlag:
    return PauseFlag(
        task_id=control.task_id,
        epoch=control.epoch,
        pause=isinstance(control, PauseRun),
        pause_seq=control.pause_seq,
    )
