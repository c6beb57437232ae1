"""The event loop on which coroutines of handlers run, behind a blocking door; one that hears nothing is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from concurrent.futures import Future, InvalidStateError
from concurrent.futures import TimeoutError as NotYetError
from typing import TYPE_CHECKING, Any

from blocks_worker.concurrency import ServiceThread
from blocks_worker.errors import TaskCancelledError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from blocks_worker.concurrency import Deadline
    from blocks_worker.worker.run import Run

_logger = logging.getLogger(__name__)

#: Seconds in which a loop has to begin a coroutine; one that does not is blocked, and the next loop gets it.
PATIENCE = 2.0
#: Loops that were given up and are still blocked; beyond that no other is made, and coroutines wait for their limits.
HUNG = 8
#: A process that was stopped for a while has overslept one look, but not all of them.
_LOOKS = 4
#: Seconds that what is left on a loop has to hear that it ends.
_LAST_WORDS = 0.5


class CoroutineLoop:
    """Run coroutines on one loop, on a thread that is made with the first of them.

    A coroutine that blocks its loop stops all others on it. So a loop that begins nothing any more gets nothing
    more, and once a cancelled run on it is given up the others there are given back; who blocks it keeps his own limit.
    The threads are daemons, for they run users' code.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._lock = threading.Lock()
        self._host: _Host | None = None
        #: Loops that get nothing more and have not ended.
        self._left: list[_Host] = []
        self._closed = False

    def run(self, coroutine: Coroutine[Any, Any, object], run: Run) -> object:
        """Run it and return what it returns; a cancel of the run cancels it.

        Raises:
            TaskCancelledError: it was cancelled, and did not finish otherwise.
        """
        while True:
            job = self._placed(coroutine, run)
            run.on_cancel(job.cancel)
            try:
                if job.is_under_way(self._patience) or not self._moves(job):
                    return job.result()
            finally:
                self._gone(job)

    def abandon(self, run: Run) -> bool:
        """Wait no longer for a run that ignores its cancel; tell whether there was one here.

        A loop that did not even hear the cancel is blocked: what else waits on it is given back.
        """
        with self._lock:
            job = next((job for host in self._hosts() for job in host.jobs if job.run is run), None)
            if job is None:
                return False
            lost: list[_Job] = []
            if not job.heard and self._leave(job.host):
                lost = [other for other in job.host.jobs if other is not job and other.waits]
        for other in lost:
            other.give_back()
        job.finish(None, TaskCancelledError(run.task_id))
        return True

    def close(self, deadline: Deadline) -> bool:
        """End the loops; tell whether their threads ended in time."""
        with self._lock:
            self._closed = True
            hosts = self._hosts()
        for host in hosts:
            host.end()
        ended = [host.thread.join(deadline.remaining()) for host in hosts]
        return all(ended)

    def _hosts(self) -> list[_Host]:
        return self._left if self._host is None else [self._host, *self._left]

    def _placed(self, coroutine: Coroutine[Any, Any, object], run: Run) -> _Job:
        """Put a coroutine on the loop of today."""
        try:
            with self._lock:
                return self._current().take(coroutine, run)
        except BaseException:
            coroutine.close()
            raise

    def _current(self) -> _Host:
        if self._closed:
            raise RuntimeError("the worker has ended: it begins no coroutine any more")
        if self._host is None or not self._host.thread.is_alive():
            self._host = _Host.started()
        return self._host

    def _moves(self, job: _Job) -> bool:
        """Take a coroutine back that was not begun, because its loop is blocked; tell whether another may have it."""
        with self._lock:
            if not self._leave(job.host):
                return False
        return job.retract()

    def _leave(self, host: _Host) -> bool:
        """Use a loop no more; tell whether it is not in use."""
        if self._host is not host:
            return True
        self._left = [left for left in self._left if left.thread.is_alive()]
        if len(self._left) >= HUNG:
            return False
        _logger.error("handler_loop_blocked", extra={"coroutines": len(host.jobs)})
        self._left.append(host)
        self._host = None
        return True

    def _gone(self, job: _Job) -> None:
        with self._lock:
            job.host.jobs.discard(job)
            is_done_with = job.host is not self._host and not job.host.jobs
        if is_done_with:
            job.host.end()


class _Host:
    """One loop on its thread, and the coroutines that somebody waits for there."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.jobs: set[_Job] = set()
        self.thread = ServiceThread("handler-loop", self._serve, daemon=True)
        self._ending = False

    @classmethod
    def started(cls) -> _Host:
        """Return one whose thread runs."""
        host = cls()
        try:
            host.thread.start()
        except BaseException:
            host.loop.close()
            raise
        return host

    def take(self, coroutine: Coroutine[Any, Any, object], run: Run) -> _Job:
        """Begin a coroutine as soon as the loop is free."""
        job = _Job(self, coroutine, run)
        self.jobs.add(job)
        if not self.tell(job.begin):
            job.give_back()
        return job

    def tell(self, act: Any) -> bool:
        """Have the loop's thread call this; tell whether the loop is open."""
        try:
            self.loop.call_soon_threadsafe(act)
        except RuntimeError:
            return False
        return True

    def end(self) -> None:
        """Ask the loop to end, as soon as it hears it."""
        self._ending = True
        self.tell(self.loop.stop)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            while not self._ending:
                self._turn()
            self._dismiss()
        finally:
            for job in list(self.jobs):
                job.give_back()
            self.loop.close()

    def _turn(self) -> None:
        """Run until somebody stops the loop: who may not, a handler, has only interrupted it."""
        try:
            self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            # Out of a task that a handler made: asyncio lets these two through, and the loop can go on.
            _logger.exception("handler_loop_interrupted")

    def _dismiss(self) -> None:
        """Cancel what is left, and let it say its last words."""
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks, timeout=_LAST_WORDS))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())


class _Job:
    """One coroutine on one loop, for which a thread waits."""

    def __init__(self, host: _Host, coroutine: Coroutine[Any, Any, object], run: Run) -> None:
        self.host = host
        self.run = run
        #: The loop heard of the cancel.
        self.heard = False
        self._coroutine = coroutine
        self._task: asyncio.Task[tuple[object, BaseException | None]] | None = None
        #: Set by whoever is first: the loop that begins it, or the thread that takes it back.
        self._claim = threading.Lock()
        self._done: Future[tuple[object, BaseException | None]] = Future()

    @property
    def waits(self) -> bool:
        """Tell whether it was begun, and the loop is not inside it right now."""
        return self._task is not None and asyncio.current_task(self.host.loop) is not self._task

    def begin(self) -> None:
        """Begin, on the loop's thread, unless it was taken back."""
        if self._claim.acquire(blocking=False):
            self._task = self.host.loop.create_task(_contained(self._coroutine))
            self._task.add_done_callback(self._ended)

    def retract(self) -> bool:
        """Take the coroutine back; tell whether it was not begun."""
        return self._claim.acquire(blocking=False)

    def cancel(self) -> None:
        """Cancel it, as soon as the loop hears it."""
        self.host.tell(self._heed)

    def is_under_way(self, patience: float) -> bool:
        """Tell whether it was begun, or is over, within that time."""
        for _ in range(_LOOKS):
            with contextlib.suppress(NotYetError):
                self._done.result(patience / _LOOKS)
            if self._done.done() or self._claim.locked():
                return True
        return False

    def result(self) -> object:
        """Wait for what it returns or raises."""
        returned, error = self._done.result()
        if error is not None:
            raise error
        return returned

    def give_back(self) -> None:
        """End the wait because the loop is lost: the task goes elsewhere."""
        self.run.give_back()
        if self.retract():
            self._coroutine.close()
        self.finish(None, TaskCancelledError(self.run.task_id))

    def finish(self, returned: object, error: BaseException | None) -> None:
        """End the wait; the first end counts."""
        with contextlib.suppress(InvalidStateError):
            self._done.set_result((returned, error))

    def _heed(self) -> None:
        self.heard = True
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[tuple[object, BaseException | None]]) -> None:
        # One that was cancelled before its first step was not begun inside.
        self._coroutine.close()
        if task.cancelled():
            self.finish(None, TaskCancelledError(self.run.task_id))
        else:
            self.finish(*task.result())


async def _contained(coroutine: Coroutine[Any, Any, object]) -> tuple[object, BaseException | None]:
    """Hand an exception over as a value: a SystemExit that left a coroutine would end the loop of all."""
    try:
        return await coroutine, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - raised again on the slot's thread
        return None, error
