"""Pipes whose handlers have returned: their tasks go on, and end here."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from blocks_worker.concurrency import Deadline, ServiceThread
from blocks_worker.errors import TaskFinishedError
from blocks_worker.worker.middleware.base import Middleware
from blocks_worker.worker.run import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.run import Run, RunKey
    from blocks_worker.worker.running import Running

_logger = logging.getLogger(__name__)

#: Seconds for the streams of a pipe that a drain ends to be with the network.
DRAIN_FLUSH = 3.0


class Pipes(Middleware):
    """Keep what is open, and end it once: streams first, then the task.

    To end a stream takes time, so each end has a thread of its own; who asks for one is never held up.

    Args:
        end_streams: ends the streams of a run, with what is on its way; None: it may take its usual time.
        end: ends a run.
        parked: a run takes no slot any more: the hub is to hear of it.
        spawn: does something on another thread.
    """

    def __init__(
        self,
        *,
        running: Running,
        end_streams: Callable[[Run, float | None], None],
        end: Callable[[Run, Ending], bool],
        parked: Callable[[], None],
        clock: Clock,
        spawn: Callable[[str, Callable[[], None]], None] | None = None,
    ) -> None:
        self._running = running
        self._end_streams = end_streams
        self._end = end
        self._parked = parked
        self._clock = clock
        self._spawn = spawn or self._start
        self._lock = threading.Lock()
        self._open: dict[RunKey, Run] = {}
        self._threads: set[ServiceThread] = set()

    def returned(self, run: Run) -> None:
        """Go on without a handler: it has returned, and its task was not told to stop."""
        with self._lock:
            self._open[run.key] = run
        self._running.open_pipe(run)
        _logger.info("pipe_open", extra={"task": run.task_id})
        self._parked()
        # What came before it was open found nobody to end it.
        if run.ending is not None or run.is_fenced:
            self.after_run(run, Ending("fenced"))
        elif run.stopped_as is not None:
            self.on_cancel(run)
        elif run.gives_back:
            self.give_back(run)

    def on_cancel(self, run: Run) -> None:
        """End a pipe that was told to stop; one whose handler is at work ends when it returns."""
        ending = run.stopped_as
        if ending is not None and self._taken(run):
            self._spawn(f"pipe-{run.task_id}", lambda: self._finish(run, ending, None))

    def give_back(self, run: Run) -> None:
        """Give a pipe back, because the worker drains."""
        if self._taken(run):
            self._spawn(f"pipe-{run.task_id}", lambda: self._finish(run, Ending("released"), DRAIN_FLUSH))

    def after_run(self, run: Run, ending: Ending) -> None:  # noqa: ARG002 - the same for every ending
        """Keep it no more."""
        if run.is_pipe:
            self._taken(run)

    def publish(self, task_id: str, ending: Ending, timeout: float | None = None) -> None:
        """End a pipe as its agent wants; return once the hub has recorded that.

        Raises:
            RuntimeError: this instance does not hold the task, it is no pipe, or it has another end.
            TimeoutError: the hub has not answered yet; the end stays, and goes on being reported.
        """
        deadline = Deadline(timeout, self._clock)
        run = next((run for run in self._running.held() if run.task_id == task_id), None)
        if run is None or run.answer is None:
            raise RuntimeError(f"this instance does not hold task {task_id}")
        if not run.is_pipe:
            raise RuntimeError(f"task {task_id} is no pipe: it ends when its handler returns")
        self._taken(run)
        self._streams_ended(run, None)
        if not self._end(run, ending):
            raise RuntimeError(f"task {task_id} has ended already")
        run.wake()
        if not self._running.wait_answered(run.key, deadline):
            raise TimeoutError(f"the hub has not answered yet that task {task_id} has ended; it is told again")
        if run.is_fenced:
            raise RuntimeError(f"this instance does not hold task {task_id} any more")

    def join(self, deadline: Deadline) -> bool:
        """Wait for the ends that are under way; tell whether all are done."""
        with self._lock:
            threads = list(self._threads)
        ended = [thread.join(deadline.remaining()) for thread in threads]
        return all(ended)

    def _taken(self, run: Run) -> bool:
        """Take a pipe out; whoever gets it ends it."""
        with self._lock:
            return self._open.pop(run.key, None) is not None

    def _finish(self, run: Run, ending: Ending, flush: float | None) -> None:
        self._streams_ended(run, flush)
        self._end(run, ending)
        run.wake()

    def _streams_ended(self, run: Run, flush: float | None) -> None:
        try:
            self._end_streams(run, flush)
        except TaskFinishedError:
            _logger.debug("pipe_ended_meanwhile", extra={"task": run.task_id})
        except Exception:  # its task must come to an end, whatever its streams do
            _logger.exception("streams_not_ended", extra={"task": run.task_id})

    def _start(self, name: str, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    self._threads.discard(thread)

        # A daemon: it waits for the network, and the worker waits for it only so long.
        thread = ServiceThread(name, run, daemon=True)
        with self._lock:
            self._threads.add(thread)
        thread.start()
