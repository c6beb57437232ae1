"""The half of a worker that carries out tasks: from an offer that came in to the report that was answered."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from blocks_worker.worker.asking import Asking
from blocks_worker.worker.calls import Calls
from blocks_worker.worker.claims import Claims
from blocks_worker.worker.counters import Counters
from blocks_worker.worker.deadlines import Deadlines
from blocks_worker.worker.dispatcher import Dispatcher
from blocks_worker.worker.drain import Drain
from blocks_worker.worker.endings import Endings
from blocks_worker.worker.executor import SlotExecutor
from blocks_worker.worker.hooks import Hooks
from blocks_worker.worker.intake import Intake
from blocks_worker.worker.loop import CoroutineLoop
from blocks_worker.worker.middleware.cancel_told import CancelTold
from blocks_worker.worker.middleware.census import ThreadCensus, foreign_threads
from blocks_worker.worker.middleware.logs import TaskLog
from blocks_worker.worker.middleware.silence import SilenceLimit
from blocks_worker.worker.middleware.streams import StreamEnds
from blocks_worker.worker.middleware.time_limit import TimeLimit
from blocks_worker.worker.pausing import Pauses
from blocks_worker.worker.pipes import Pipes
from blocks_worker.worker.presence import Pulse
from blocks_worker.worker.publisher import Publisher
from blocks_worker.worker.run import Ending, Run
from blocks_worker.worker.run_files import RunFiles
from blocks_worker.worker.run_steps import FETCH_TIMEOUT, RunSteps
from blocks_worker.worker.running import Running
from blocks_worker.worker.spool import Spool
from blocks_worker.worker.standing import Standing
from blocks_worker.worker.strain import Strain
from blocks_worker.worker.stream_checks import StreamChecks
from blocks_worker.worker.streams import WorkerStreams
from blocks_worker.worker.task_run import TaskRun
from blocks_worker.worker.tick import Tick

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.handlers.base import Handler
    from blocks_worker.protocol.leases import Numbers, Report
    from blocks_worker.worker.heartbeat import Beat
    from blocks_worker.worker.middleware.base import Middleware
    from blocks_worker.worker.ports import Standpoint, StreamDoor
    from blocks_worker.worker.presence import Presence
    from blocks_worker.worker.run import RunKey
    from blocks_worker.worker.settings import WorkerSettings


class Engine:
    """Make and hold the parts of the data walk: dispatcher, slots, claims, runs, reports, limits."""

    def __init__(  # noqa: PLR0913 - where the parts of a worker meet
        self,
        settings: WorkerSettings,
        handler: Handler,
        login: Standpoint,
        *,
        task_client: Callable[[], object] | None,
        middleware: Sequence[Middleware],
        streams: StreamDoor,
        parked: Callable[[], None],
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.counters = Counters()
        self.standing = Standing()
        self.running = Running(settings.concurrency)
        self.executor = SlotExecutor(settings.concurrency)
        self.strain = Strain(
            executor=self.executor, foreign_threads=foreign_threads, max_rss=settings.max_rss, clock=clock
        )
        self.dispatcher = Dispatcher(self.running, lambda: self.strain.reason is not None)
        self.tick = Tick(
            look=lambda: self.strain.reason,
            is_busy=lambda: not self.running.is_empty(),
            clock=clock,
            entropy=entropy,
            counters=self.counters,
        )
        self.deadlines = Deadlines(clock)
        self.loop = CoroutineLoop()
        self.endings = self._endings(settings, clock)
        api = login.api
        self.spool = Spool(
            settings.spool, incarnation=lambda: login.incarnation, unanswered=self._unanswered, clock=clock
        )
        claims = Claims(api, clock=clock, entropy=entropy, counters=self.counters)
        self.publisher = Publisher(
            api,
            heard=self.endings,
            nack=claims.refuse,
            clock=clock,
            entropy=entropy,
            counters=self.counters,
            spool=self.spool,
        )
        self._time_limit = self._limits(clock)
        self.streams = self._make_streams(settings, streams, clock, entropy)
        self.pipes = Pipes(
            running=self.running,
            end_streams=self.streams.end,
            end=self.endings.end,
            parked=parked,
            clock=clock,
        )
        self._pauses = Pauses(running=self.running, executor=self.executor, parked=parked)
        self._asking = Asking(running=self.running, pauses=self._pauses, close=self.publisher.close_ask, clock=clock)
        told = [] if settings.on_cancel_task is None else [CancelTold(settings.on_cancel_task, settings.network)]
        silence = SilenceLimit(deadlines=self.deadlines, run_out=self.endings.run_out, clock=clock)
        self._hooks = Hooks(
            [
                TaskLog(clock),
                ThreadCensus(self.counters),
                self._time_limit,
                silence,
                StreamEnds(self.streams),
                self.pipes,
                *told,
                *middleware,
            ]
        )
        files = partial(RunFiles, api, inline_limit=settings.inline_limit, clock=clock, entropy=entropy)
        steps = partial(
            RunSteps,
            publisher=self.publisher,
            fetch=partial(api.steps, timeout=FETCH_TIMEOUT),
            clock=clock,
            entropy=entropy,
        )
        self._task_run = self._runs(settings, handler, claims, files, steps, task_client, clock)
        self.intake = Intake(
            self.dispatcher, begin=self._begin, refuse=self.publisher.refuse, clock=clock, counters=self.counters
        )

    def _make_streams(
        self, settings: WorkerSettings, door: StreamDoor, clock: Clock, entropy: Entropy
    ) -> WorkerStreams:
        return WorkerStreams(
            open_exchange=door.open_exchange,
            hand_out=door.hand_out,
            declared=settings.card.streams,
            checks=StreamChecks(settings.card),
            failed=self._stream_failed,
            options=settings.stream_options,
            clock=clock,
            entropy=entropy,
        )

    def _stream_failed(self, run: Run, reason: str) -> None:
        """Fail the run whose stream was failed, and ask its handler to return."""
        self.endings.end(run, Ending("failed", error=reason, error_code="stream_crashed"))
        run.wake()

    def start(self) -> None:
        """Start the threads: the first offer must find them."""
        self.executor.open()
        self.deadlines.start()
        self.tick.start()
        self.spool.start()
        self.publisher.start()

    def pulse(self, heartbeat_behind: float) -> Pulse:
        """Return how busy it is, and for how long one of the threads that everything waits for does not get on."""
        behind = max(heartbeat_behind, self.tick.behind(), self.deadlines.behind(), self.publisher.behind())
        return Pulse(self.running.free(), behind, self.strain.is_worn_out)

    def tasks_of_threads(self) -> dict[int, str]:
        """Return which task each thread of a slot is at, given up ones too, by the thread's number."""
        return {number: item.task_id for number, item in self.executor.items().items() if isinstance(item, Run)}

    def stop_watching(self) -> None:
        """End no run for its time, and measure nothing, any more."""
        self.deadlines.stop()
        self.tick.stop()

    def join_watches(self, timeout: float | None) -> bool:
        """Wait for the threads of both; tell whether they ended."""
        return self.deadlines.join(timeout) and self.tick.join(timeout)

    def drain(self, beat: Beat, presence: Presence, clock: Clock) -> Drain:
        """Return what empties the slots when the worker is to end."""
        return Drain(
            running=self.running,
            dispatcher=self.dispatcher,
            beat=beat,
            presence=presence,
            pipes=self.pipes,
            asking=self._asking,
            end=self.endings.end,
            tasks_of_threads=self.tasks_of_threads,
            clock=clock,
        )

    def use(self, numbers: Numbers) -> None:
        """Take over the hub's numbers."""
        self.publisher.use(numbers)
        self._time_limit.cancel_grace = numbers.cancel_grace
        self._time_limit.terminate_grace = numbers.terminate_grace
        self._time_limit.expire_grace = numbers.expire_grace

    def _endings(self, settings: WorkerSettings, clock: Clock) -> Endings:
        return Endings(
            decide=self._decide,
            running=self.running,
            dispatcher=self.dispatcher,
            hooks=lambda: self._hooks,
            clock=clock,
            counters=self.counters,
            cancel_wakes=settings.on_cancel_task is None,
        )

    def _limits(self, clock: Clock) -> TimeLimit:
        return TimeLimit(
            deadlines=self.deadlines,
            executor=self.executor,
            running=self.running,
            end=self.endings.end,
            run_out=self.endings.run_out,
            clock=clock,
            counters=self.counters,
            abandon_coroutine=self.loop.abandon,
        )

    def _runs(
        self,
        settings: WorkerSettings,
        handler: Handler,
        claims: Claims,
        files: Callable[[Run], RunFiles],
        steps: Callable[[Run], RunSteps],
        task_client: Callable[[], object] | None,
        clock: Clock,
    ) -> TaskRun:
        return TaskRun(
            settings=settings,
            handler=handler,
            standing=self.standing,
            claims=claims,
            files=files,
            steps=steps,
            streams=self.streams,
            pipes=self.pipes,
            pauses=self._pauses,
            asking=self._asking,
            publisher=self.publisher,
            endings=self.endings,
            running=self.running,
            dispatcher=self.dispatcher,
            hooks=self._hooks,
            loop=self.loop,
            calls=Calls(task_client, pauses=self._pauses, clock=clock),
            clock=clock,
            counters=self.counters,
        )

    def _begin(self, run: Run) -> None:
        self.executor.start(self._task_run, run)

    def _unanswered(self, keys: Iterable[RunKey]) -> list[Report]:
        return self.publisher.unanswered(keys)

    def _decide(self, run: Run, ending: Ending, leave: Callable[[Run], None] | None) -> bool:
        return self.publisher.end(run, ending, leave)
