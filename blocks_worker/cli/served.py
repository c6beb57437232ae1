"""One agent of a `blocks-run` process: started until a hub answers, looked on, drained, let go."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from blocks_worker.cli.allocator import give_back
from blocks_worker.concurrency import Backoff, ServiceThread
from blocks_worker.errors import HubUnavailableError
from blocks_worker.runtime.instance import AgentInstance, start_agent_instance
from blocks_worker.whose import working_for

if TYPE_CHECKING:
    from collections.abc import Mapping
    from queue import SimpleQueue
    from typing import Any

    from blocks_worker.cli.signals import Signals
    from blocks_worker.concurrency import Entropy
    from blocks_worker.config import WorkerConfig
    from blocks_worker.runtime.options import AgentInstanceOptions

#: Seconds between two looks whether an instance needs a new process: while tasks run, and while none does.
_LOOK = 1.0
_QUIET_LOOK = 5.0
#: Seconds for a thread that is done to end.
_LAST_STEP = 1.0


class Served:
    """Tell the main thread by its queue what becomes of one agent; each entry has this object as its detail.

    1. A thread starts the instance and tells ``waiting``, ``started``, ``ready``, ``worn_out``,
       ``ended``, ``failed`` or ``dropped``. It is a daemon: it waits in the instance, and the process must be able to
       end meanwhile.
    2. A thread made by `drain` tells ``drained``: a second signal has to be heard then.

    Attributes:
        instance: as soon as ``started`` was told; written by the thread, read behind that entry.
        error: what ``waiting`` and ``failed`` are about.
        is_starting, is_ready, is_over: what the main thread has heard; only it writes them.
    """

    def __init__(self, options: AgentInstanceOptions, config: WorkerConfig, signals: Signals, entropy: Entropy) -> None:
        self.agent_name = str(options.agent_name)
        self.instance: AgentInstance | None = None
        self.error: BaseException | None = None
        self.is_starting = True
        self.is_ready = False
        self.is_over = False
        self._options = options
        self._config = config
        self._happened: SimpleQueue[tuple[str, Any]] = signals.heard
        self._entropy = entropy
        self._given_up = threading.Event()
        #: Nobody waits for a start any more.
        self._abandoned = threading.Event()
        self._drain: ServiceThread | None = None
        self._told_worn_out = False

    @property
    def names(self) -> dict[str, str]:
        """The names of the agent and, once it was started, of its instance."""
        instance = {} if self.instance is None else {"instance": self.instance.instance_id}
        return {"agent": self.agent_name, **instance}

    @property
    def active_tasks(self) -> list[str]:
        """Ids of the tasks that it holds."""
        return [] if self.instance is None else self.instance.active_tasks

    @property
    def counters(self) -> dict[str, int]:
        """What was counted so far, by name."""
        return {} if self.instance is None else self.instance.counters

    @property
    def tasks_of_threads(self) -> dict[int, str]:
        """Which task each thread of its slots is at, by the thread's number."""
        return {} if self.instance is None else self.instance.insight.tasks_of_threads()

    @property
    def slots(self) -> int:
        """How many tasks it runs at the same time; none before it is started and once it is over."""
        return 0 if self.instance is None or self.is_over else self.instance.concurrency

    @property
    def free(self) -> int:
        """How many of its slots are free."""
        return 0 if self.instance is None or self.is_over else self.instance.pulse.free

    @property
    def is_draining(self) -> bool:
        """Whether it finishes what it has, and takes nothing new."""
        return self.instance is not None and self.instance.state == "draining"

    @property
    def behind(self) -> float:
        """For how many seconds its heartbeat does not get on."""
        return 0.0 if self.instance is None or self.is_over else self.instance.pulse.behind

    @property
    def runs_hub(self) -> bool:
        """Whether the local hub runs in its instance."""
        return self.instance is not None and self.instance.runs_hub

    def start(self) -> None:
        """Begin to start the instance."""
        ServiceThread("instance-watch", self._watch, daemon=True).start()

    def give_up(self) -> None:
        """Try no further start; one that is under way goes on."""
        self._given_up.set()

    def abandon(self) -> None:
        """Stop what a start that is still under way will have made: its threads would keep the process alive."""
        self.give_up()
        # Set first, then looked: whichever of the two threads comes second stops it.
        self._abandoned.set()
        if self.instance is not None:
            self.instance.stop(0)

    def drain(self) -> None:
        """Begin to drain what was started; a second call is harmless."""
        if self._drain is not None:
            return
        with working_for(self.names):
            self._drain = ServiceThread("signal-drain", self._drain_instance)
        self._drain.start()

    def hurry(self) -> None:
        """Cancel what runs."""
        if self.instance is not None:
            with working_for(self.names):
                self.instance.hurry()

    def let_go(self) -> None:
        """Close the rest of the instance, the hub in it last."""
        if self._drain is not None:
            # It has told that it is done, and may not have ended yet.
            self._drain.join(_LAST_STEP)
        if self.instance is not None:
            with working_for(self.names):
                self.instance.stop()

    def _watch(self) -> None:
        try:
            self.instance = instance = self._started()
            if instance is None:
                self._tell("dropped")
                return
            if self._abandoned.is_set():
                instance.stop(0)
                return
            self._tell("started")
            instance.wait_ready()
            self._tell("ready")
            self._look_after(instance)
            self._tell("ended")
        except BaseException as error:  # noqa: BLE001 - the top of a thread: the main thread reports it
            self.error = error
            self._tell("failed")

    def _look_after(self, instance: AgentInstance) -> None:
        """Look from time to time what an instance needs, until it has stopped."""
        was_busy, ended = False, 0
        while not instance.wait(_LOOK if was_busy else _QUIET_LOOK):
            ended_before, ended = ended, tasks_ended(instance.counters)
            is_busy = bool(instance.active_tasks) or ended != ended_before
            if was_busy and not is_busy:
                give_back()
            was_busy = is_busy
            if instance.pulse.worn_out and not self._told_worn_out:
                self._told_worn_out = True
                self._tell("worn_out")

    def _started(self) -> AgentInstance | None:
        """Start the instance, again and again while no hub answers; None when a signal came first."""
        backoff = Backoff(self._entropy, first=1.0, cap=15.0)
        while not self._given_up.is_set():
            try:
                return start_agent_instance(self._options, config=self._config)
            except HubUnavailableError as error:
                self.error = error
                self._tell("waiting")
            self._given_up.wait(backoff.next())
        return None

    def _drain_instance(self) -> None:
        try:
            if self.instance is not None:
                self.instance.drain()
        finally:
            self._tell("drained")

    def _tell(self, what: str) -> None:
        self._happened.put((what, self))


def tasks_ended(counters: Mapping[str, int]) -> int:
    """Return how many runs have ended, however they did."""
    return sum(count for name, count in counters.items() if name.startswith("tasks_"))
