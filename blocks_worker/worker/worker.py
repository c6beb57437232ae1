"""The worker: makes its parts, starts them in order, and drains and stops them in the order that loses nothing."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from blocks_worker.concurrency import Deadline, ServiceThread
from blocks_worker.worker.closing import end_parts
from blocks_worker.worker.drain import Drain
from blocks_worker.worker.engine import Engine
from blocks_worker.worker.heartbeat import Beat, Orders
from blocks_worker.worker.insight import Insight
from blocks_worker.worker.leftovers import Leftovers
from blocks_worker.worker.listener import Ears, Listener
from blocks_worker.worker.presence import Presence, Pulse, Turns
from blocks_worker.worker.reach import Reach
from blocks_worker.worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from blocks_worker.concurrency import Clock, Entropy
    from blocks_worker.errors import BlocksError
    from blocks_worker.handlers.base import Handler
    from blocks_worker.protocol.leases import ConnectAnswer
    from blocks_worker.transports.base import Grants, Subscription, Transport
    from blocks_worker.worker.middleware.base import Middleware
    from blocks_worker.worker.ports import Login, StreamDoor
    from blocks_worker.worker.run import Ending

__all__ = ["Worker", "WorkerSettings"]

_logger = logging.getLogger(__name__)

#: Seconds for what comes after the runs: flush, farewell, closing.
CLOSING = 3.0
#: Seconds of them for the last reports: a hub that is away must leave some for the spool, the farewell and the threads.
LAST_REPORTS = 2.0
#: Seconds of them that a thread gets to return from its last request.
_LEAVING = 0.5


class Worker:
    """Serve one agent as one instance.

    Duties: own every part and thread, know the instance's state, and end it in order. `start` returns at
    once; getting in goes on in the background until it succeeds or is refused for good.
    """

    def __init__(  # noqa: PLR0913 - the worker is where everything comes together
        self,
        *,
        settings: WorkerSettings,
        handler: Handler,
        login: Login,
        open_transport: Callable[[ConnectAnswer, Grants], Transport],
        streams: StreamDoor,
        clock: Clock,
        entropy: Entropy,
        task_client: Callable[[], object] | None = None,
        middleware: Sequence[Middleware] = (),
        on_fatal: Callable[[BaseException], None] | None = None,
        on_end: Callable[[], None] | None = None,
        network_counters: Mapping[str, int] | None = None,
    ) -> None:
        self.settings = settings
        self.error: BlocksError | None = None
        self.was_asked_to_drain = False
        self._login = login
        self._open_transport = open_transport
        self._clock = clock
        self._on_fatal = on_fatal
        self._on_end = on_end
        self._lock = threading.Lock()
        self._phase = "new"
        self._ready = threading.Event()
        self._stopped = threading.Event()
        self._transport: Transport | None = None
        self._subscription: Subscription | None = None
        self._ender: ServiceThread | None = None
        self._engine = Engine(
            settings,
            handler,
            login,
            task_client=task_client,
            middleware=middleware,
            streams=streams,
            # The hub hears soon that a run takes no slot any more, or takes one again.
            parked=lambda: self._presence.wake(),  # noqa: PLW0108 - it is made after this
            clock=clock,
            entropy=entropy,
        )
        self._leftovers = Leftovers(
            settings.spool,
            send=lambda items, timeout: login.report_late(items, timeout=timeout),
            clock=clock,
            entropy=entropy,
        )
        self._reach = Reach()
        self._beat = self._make_beat()
        self._presence = self._make_presence(entropy)
        self._listener = Listener(self._ears(), self._engine.counters, self._reach)
        self._drain = Drain(
            running=self._engine.running,
            dispatcher=self._engine.dispatcher,
            beat=self._beat,
            presence=self._presence,
            pipes=self._engine.pipes,
            end=self._engine.endings.end,
            tasks_of_threads=self._engine.tasks_of_threads,
            clock=clock,
        )
        self.insight = Insight(settings, self._engine, self._presence, self._drain, self, clock, network_counters or {})

    def _make_beat(self) -> Beat:
        engine = self._engine
        orders = Orders(
            offer=engine.intake.offer,
            cancel=engine.endings.cancel,
            expire=engine.endings.expire,
            pause=engine.endings.paused,
            fence=engine.endings.fenced,
            drain=self._asked_to_drain,
            rebuild=self._rebuild,
        )
        return Beat(
            self._login.api,
            running=engine.running,
            standing=engine.standing,
            orders=orders,
            clock=self._clock,
            counters=engine.counters,
            active_streams=lambda: engine.streams.active,
            is_strained=lambda: engine.strain.is_strained,
        )

    def _make_presence(self, entropy: Entropy) -> Presence:
        turns = Turns(
            # A registration ends the leases by which the outcomes of the last process still count.
            connecting=self._leftovers.wait,
            connected=self._connected,
            forgotten=self._engine.endings.fence_all,
            proved=self._proved,
            recovered=self._engine.publisher.hub_is_back,
            fatal=self._fail,
        )
        return Presence(
            login=self._login,
            beat=self._beat,
            standing=self._engine.standing,
            turns=turns,
            interval=self.settings.heartbeat_interval,
            clock=self._clock,
            entropy=entropy,
            reach=self._reach,
        )

    def _ears(self) -> Ears:
        return Ears(
            offer=self._engine.intake.offer,
            withdraw=self._engine.endings.withdrawn,
            cancel=self._engine.endings.cancel,
            expire=self._engine.endings.expire,
            pause=self._engine.endings.paused,
            probe=self._probed,
            drain=self._asked_to_drain,
            reconcile=self._presence.wake,
        )

    @property
    def state(self) -> str:
        """Where the instance stands: starting, ready, full, draining, stopped or failed."""
        with self._lock:
            phase = self._phase
        if phase == "new":
            return "starting"
        if phase == "ready" and self._engine.running.free() == 0:
            return "full"
        return phase

    @property
    def active_tasks(self) -> list[str]:
        """The ids of the tasks at work."""
        return self._engine.running.active_tasks()

    @property
    def pulse(self) -> Pulse:
        """How busy it is, and whether it gets on."""
        return self._engine.pulse(self._presence.behind())

    @property
    def agent_id(self) -> str:
        """The hub's id of this instance; empty before it is known."""
        return self._engine.standing.agent_id

    @property
    def counters(self) -> dict[str, int]:
        """What happened how often, by name."""
        return self.insight.counters()

    def start(self) -> None:
        """Start the threads and return; may be called once."""
        with self._lock:
            if self._phase != "new":
                raise RuntimeError("this worker was started before; make another one")
            self._phase = "starting"
        self._engine.start()
        self._leftovers.start()
        self._presence.start()

    def wait_asked(self, timeout: float) -> None:
        """Wait until the hub was asked once to let this instance in, at most so long.

        Raises:
            BlocksError: it was refused for good.
        """
        self._presence.asked.wait(timeout)
        if self.error is not None:
            raise self.error

    def wait_ready(self, timeout: float | None = None) -> None:
        """Wait until the instance is registered and hears its hub.

        Raises:
            TimeoutError: not within the time.
            BlocksError: it was refused for good.
            RuntimeError: it was stopped.
        """
        if not self._ready.wait(timeout):
            raise TimeoutError(f"{self.settings.agent_name} is not ready after {timeout} s; its state is {self.state}")
        if self.error is not None:
            raise self.error
        if self._stopped.is_set():
            raise RuntimeError(f"{self.settings.agent_name} was stopped")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the worker has stopped; tell whether it has.

        Raises:
            BlocksError: it stopped because it was refused for good.
        """
        stopped = self._stopped.wait(timeout)
        if stopped and self.error is not None:
            raise self.error
        return stopped

    def stop(self, timeout: float | None = None) -> None:
        """Take nothing new, let runs finish, give the rest back and end; a second call waits for the first."""
        limit = self.settings.drain_timeout if timeout is None else timeout
        if not self._enter("draining"):
            self._stopped.wait(limit + Drain.GRACE + CLOSING)
            return
        end_parts([("drain", lambda: self._drain.run(limit))])
        self._close(says_farewell=True)

    def kill(self) -> None:
        """End as a process does that is killed: nothing is given back, and nobody is told."""
        if self._enter("draining"):
            self._engine.endings.fence_all()
            self._engine.dispatcher.close()
            self._close(says_farewell=False)

    def recheck(self) -> None:
        """Ask the hub now instead of later: it may have come back, or be elsewhere."""
        self._presence.wake()

    def publish_terminal(self, task_id: str, ending: Ending, timeout: float | None = None) -> None:
        """End a pipe as its agent wants; return once the hub has recorded that.

        Raises:
            RuntimeError: this instance does not hold the task, it is no pipe, or it has another end.
            TimeoutError: the hub has not answered within the time; the end stays, and goes on being reported.
        """
        self._engine.pipes.publish(task_id, ending, timeout)

    def fail_stream(self, stream_id: str, reason: str) -> bool:
        """End a stream for a reason, and with it every task that uses it; tell whether there was one."""
        return self._engine.streams.fail(stream_id, reason)

    def hurry(self) -> None:
        """Cut a drain short: cancel all at once, at most five seconds more."""
        self._drain.hurry()

    def _enter(self, phase: str) -> bool:
        """Begin to end, once; a worker that never started is stopped at once."""
        with self._lock:
            if self._phase in {"draining", "stopped", "failed"}:
                return False
            if self._phase == "new":
                self._phase = "stopped"
                self._stopped.set()
                return False
            self._phase = phase
            return True

    def _connected(self, answer: ConnectAnswer) -> None:
        """Listen where the hub will speak; the transport stays over a new registration."""
        self._engine.use(answer.numbers)
        if self._transport is None:
            self._transport = self._open_transport(answer, self._login)
        if self._subscription is None:
            self._subscription = self._transport.subscribe([answer.control_channel])
            self._listener.listen(self._subscription, answer.message_key)
            return
        self._listener.rekey(answer.message_key)
        self._subscription.set_channels([answer.control_channel])

    def _probed(self, nonce: str) -> None:
        if self._beat.heard(nonce):
            # The hub offers nothing before it has this proof: it need not wait for the next beat.
            self._presence.wake()

    def _proved(self) -> None:
        with self._lock:
            if self._phase == "starting":
                self._phase = "ready"
        if not self._ready.is_set():
            _logger.info("ready", extra={"agent": self.settings.agent_name, "instance": self.settings.instance_id})
            self._ready.set()

    def _rebuild(self, reason: str) -> None:
        if self._transport is not None:
            self._transport.rebuild(reason)

    def _asked_to_drain(self) -> None:
        """Stop on a thread made for it: whoever heard the order is one of those that are joined."""
        with self._lock:
            if self._phase not in {"starting", "ready"} or self._ender is not None:
                return
            self.was_asked_to_drain = True
            self._ender = ServiceThread("drain", lambda: self._end_itself(self.stop))
        self._ender.start()

    def _fail(self, error: BlocksError) -> None:
        if not self._enter("failed"):
            return
        event = "agent_auth_fatal" if self.agent_id else "agent_registration_failed"
        _logger.error(event, extra={"error": str(error), "code": getattr(error, "code", "")})
        self.error = error
        self._engine.endings.fence_all()
        self._engine.dispatcher.close()
        self._ready.set()
        if self._on_fatal is not None:
            try:
                self._on_fatal(error)
            except BaseException:  # the callback is the user's: its trouble goes no further, nor does its sys.exit
                _logger.exception("on_fatal_failed")
        self._ender = ServiceThread("drain", lambda: self._end_itself(lambda: self._close(says_farewell=False)))
        self._ender.start()

    def _end_itself(self, end: Callable[[], None]) -> None:
        """End although nobody called `stop`, and tell the owner: perhaps nobody will."""
        end()
        if self._on_end is not None:
            self._on_end()

    def _close(self, *, says_farewell: bool) -> None:
        """End the parts, each in its own guard, under one deadline.

        Reports go out before the farewell, for the farewell ends our leases; the heartbeat goes on until
        then. The transport is last but the login, whose token both need.
        """
        deadline, reports = Deadline(CLOSING, self._clock), Deadline(LAST_REPORTS, self._clock)
        steps: list[tuple[str, Callable[[], object]]] = [
            ("deadlines", self._engine.stop_watching),
            ("pipes", lambda: self._engine.pipes.join(Deadline(_LEAVING, self._clock))),
            ("executor", lambda: self._engine.executor.shutdown(wait=False)),
            ("leftovers", lambda: self._leftovers.stop(Deadline(_LEAVING, self._clock))),
            ("publisher", lambda: self._engine.publisher.stop(reports, Deadline(LAST_REPORTS + _LEAVING, self._clock))),
            ("spool", lambda: self._engine.spool.stop(deadline)),
            ("heartbeat", lambda: self._presence.stop(deadline)),
            ("farewell", lambda: self._presence.farewell(deadline) if says_farewell else None),
            ("streams", lambda: self._engine.streams.close(deadline)),
            ("subscription", lambda: self._subscription.close(deadline) if self._subscription else None),
            ("transport", lambda: self._transport.close(deadline) if self._transport else None),
            ("listener", lambda: self._listener.join(deadline.remaining())),
            ("login", lambda: self._login.close(deadline)),
            ("loop", lambda: self._engine.loop.close(deadline)),
            ("deadlines", lambda: self._engine.join_watches(deadline.remaining())),
        ]
        end_parts(steps)
        self._engine.running.close()
        self._name_survivors(deadline)
        with self._lock:
            if self._phase == "draining":
                self._phase = "stopped"
        self._stopped.set()
        self._ready.set()

    def _name_survivors(self, deadline: Deadline) -> None:
        """Wait a little for idle slots, and name the tasks whose threads are left behind."""
        running = self._engine.running
        left = [run.task_id for run in (*running.busy(), *running.waiting())]
        if not left:
            self._engine.executor.join(deadline.within(1.0))
        for task_id in left:
            _logger.warning("thread_left_behind", extra={"task": task_id})
