"""Where runs end: the first ending counts, the hooks hear of it once, and what the hub said about runs is obeyed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from blocks_worker.worker.run import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    import msgspec

    from blocks_worker.concurrency import Clock
    from blocks_worker.protocol.leases import AnswerFlag, PauseFlag
    from blocks_worker.worker.counters import Counters
    from blocks_worker.worker.dispatcher import Dispatcher
    from blocks_worker.worker.hooks import Hooks
    from blocks_worker.worker.run import Run, RunKey
    from blocks_worker.worker.running import Running

    class Flags(Protocol):
        """What the hub says of a task whenever a run speaks."""

        cancel: bool
        expire: bool
        reason: str | None
        pause: bool
        pause_seq: int
        answers: list[AnswerFlag] | msgspec.UnsetType


_logger = logging.getLogger(__name__)

_FENCED = Ending("fenced")


class Endings:
    """End, cancel and fence runs. Safe from any thread.

    `decide` is the publisher's: under its lock exactly one ending of a run is the first. Without `cancel_wakes` a
    hook tells a run of its cancel, and its cancel event stays as it is.
    """

    def __init__(
        self,
        *,
        decide: Callable[[Run, Ending, Callable[[Run], None] | None], bool],
        running: Running,
        dispatcher: Dispatcher,
        hooks: Callable[[], Hooks],
        clock: Clock,
        counters: Counters,
        cancel_wakes: bool = True,
    ) -> None:
        self._decide = decide
        self._running = running
        self._dispatcher = dispatcher
        self._hooks = hooks
        self._clock = clock
        self._counters = counters
        self._cancel_wakes = cancel_wakes

    def end(self, run: Run, ending: Ending, *, leaves: bool = False) -> bool:
        """End a run that way, unless it has ended; tell whether this ending is the one that counts.

        `leaves`: its thread is done with it, so the slot comes back with the ending.
        """
        if not self._decide(run, ending, self._running.slot_back if leaves else None):
            return False
        run.ending = ending
        self._counters.count(f"tasks_{ending.state}")
        self._hooks().after_run(run, ending)
        return True

    def answered(self, key: RunKey) -> None:
        """Hold the task no more: the hub has its ending."""
        self._running.answered(key)

    def fenced(self, key: RunKey) -> None:
        """Stop a run whose task is not ours any more; its thread is asked to return."""
        run = self._running.find(key)
        if run is None:
            return
        # Before it leaves the list: whoever waits for that looks at it then.
        run.is_fenced = True
        self._running.answered(key)
        if self._decide(run, _FENCED, None):
            run.ending = _FENCED
            self._note_loss(run)
            self._hooks().after_run(run, _FENCED)
        else:
            # Its ending was on the way, and crossed this: either it is recorded or it comes too late.
            _logger.debug("ending_dropped", extra={"task": run.task_id, "epoch": run.epoch})
        run.wake()

    def withdrawn(self, key: RunKey) -> None:
        """Give back the slot of an offer that stands no more; if it is not here, it is not taken when it comes.

        The next offer may be right behind: the slot does not wait for the answer to the claim.
        """
        run = self._running.find(key)
        if run is None:
            self._dispatcher.cancelled(key, self._clock.monotonic())
        elif run.answer is None:
            self.fenced(key)
            self._running.slot_back(run)

    def _note_loss(self, run: Run) -> None:
        """Note that a run ends for others; one that had no lease yet has lost nothing but a race."""
        about = {"task": run.task_id, "epoch": run.epoch}
        if run.answer is None:
            self._counters.count("offers_lost")
            _logger.debug("offer_lost", extra=about)
        else:
            self._counters.count("leases_lost")
            _logger.info("lease_lost", extra=about)

    def fence_all(self) -> None:
        """Stop every run: the hub knows none of them any more."""
        for run in self._running.held():
            self.fenced(run.key)

    def cancel(self, key: RunKey, reason: str | None) -> None:
        """Ask a run to stop; if it is not here, its offer is not taken when it comes."""
        run = self._running.find(key)
        if run is None:
            self._dispatcher.cancelled(key, self._clock.monotonic())
        elif run.cancel(reason, wakes=self._cancel_wakes):
            self._hooks().on_cancel(run)

    def told(self, key: RunKey, flags: Flags) -> None:
        """Obey what the hub's answer to a claim or report says besides."""
        if flags.cancel:
            self.cancel(key, flags.reason)
        if flags.expire:
            self.expire(key, flags.reason)
        if flags.pause_seq:
            self.pause(key, flags.pause_seq, on=flags.pause)
        for flag in flags.answers or ():
            self.answered_ask(flag)

    def expire(self, key: RunKey, limit: str | None) -> None:
        """Tell a run that its time is over; if it is not here, its offer is not taken when it comes."""
        run = self._running.find(key)
        if run is None:
            self._dispatcher.cancelled(key, self._clock.monotonic())
        else:
            self.run_out(run, limit or run.limit)

    def run_out(self, run: Run, limit: str) -> None:
        """End a request whose time is over; have a pipe end, which has a grace for it."""
        if run.expire(limit):
            # The hooks first: a request is ended by one of them before its handler is woken.
            self._hooks().on_cancel(run)
            run.wake()

    def answered_ask(self, flag: AnswerFlag) -> None:
        """Bring a run the answer to its question, or that nobody gave one."""
        run = self._running.find((flag.task_id, flag.epoch))
        if run is not None:
            run.answers.take(flag)

    def paused(self, flag: PauseFlag) -> None:
        """Take a turn of the pause flag that came by heartbeat or network."""
        self.pause((flag.task_id, flag.epoch), flag.pause_seq, on=flag.pause)

    def pause(self, key: RunKey, seq: int, *, on: bool) -> None:
        """Tell a run that it is to wait, or to go on; the answer to its claim tells one that is not here yet."""
        run = self._running.find(key)
        if run is not None:
            run.pause(seq, on=on)
