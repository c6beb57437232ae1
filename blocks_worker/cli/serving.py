"""The life of a `blocks-run` process: start its agents, say so, wait for a signal, drain, end with the right code."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from collections import Counter
from queue import Empty
from typing import TYPE_CHECKING, Any

import click

from blocks_worker.cli.exits import Exit, exit_of_worker
from blocks_worker.cli.giving_way import GivingWay
from blocks_worker.cli.output import as_typed_here, counted, program, say, sentence
from blocks_worker.cli.reporting import Reporter
from blocks_worker.cli.served import Served
from blocks_worker.concurrency import Clock, Deadline, Entropy, ServiceThread
from blocks_worker.observability.logs import name_process, tell_agents_apart, told_by_program
from blocks_worker.observability.redact import one_line
from blocks_worker.observability.stacks import log_stacks
from blocks_worker.whose import working_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from blocks_worker.cli.signals import Signals
    from blocks_worker.config import WorkerConfig
    from blocks_worker.runtime.options import AgentInstanceOptions

_logger = logging.getLogger(__name__)

#: Seconds that a start which is under way gets to end when a signal comes first, and after which the process is over,
#: whatever hangs: the hub notices by itself who is gone.
_START_PATIENCE = 1.0
_START_END = 2.0
#: Seconds after which the main thread comes round: a signal that another thread was given, or that came just before a
#: wait began, does not end that wait.
_LOOK = 1.0
#: Seconds between two lines that say on a terminal what a drain waits for.
_DRAIN_LOOK = 3.0
#: Tasks that such a line names.
_NAMED = 3
#: Seconds that handlers get after a second signal.
_HURRY = 5.0
#: What an agent that is only starting tells when nothing comes of it.
_ENDS = {"failed", "dropped"}
#: Counters of the worker, and the words for them.
_COUNTED = {
    "tasks_completed": "completed",
    "tasks_failed": "failed",
    "tasks_canceled": "canceled",
    "tasks_released": "given back",
}


class Serving:
    """Act on what happens, on the main thread, one thing after another; everything comes by one queue.

    1. Each agent tells how it does: see `Served`.
    2. The signal handlers tell ``signal``.

    The agents end together: by a signal, or because one of them cannot go on, whose exit code counts then.
    """

    def __init__(self, agents: Sequence[AgentInstanceOptions], config: WorkerConfig, signals: Signals) -> None:
        entropy = Entropy()
        if len(agents) > 1:
            tell_agents_apart()
        self.agents = [Served(options, config, signals, entropy) for options in agents]
        self._config = config
        self._signals = signals
        self._happened = signals.heard
        self._giving_way = GivingWay()
        self._reporter = Reporter(config)
        #: What is told of it while it is not ready.
        self._trouble = "starting"
        self._is_draining = False
        self._drain_end = Deadline(None)
        self._code = Exit.OK

    def run(self) -> Exit:
        """Serve until the end; return the exit code."""
        self._signals.begin()
        for served in self.agents:
            told_by_program("registered", "ready")
            served.start()
        say(f"starting {self._names}")
        acts: dict[str, Callable[[Any], Exit | None]] = {
            "signal": self._on_signal,
            "stacks": self._on_stacks,
            "started": self._on_started,
            "waiting": self._on_waiting,
            "ready": self._on_ready,
            "worn_out": self._on_worn_out,
            "ended": self._on_ended,
            "failed": self._on_failed,
            "dropped": self._on_dropped,
            "drained": self._on_drained,
        }
        code: Exit | None = None
        while code is None:
            what, detail = self._next()
            code = acts[what](detail)
        self._name_left_threads()
        return code

    @property
    def _names(self) -> str:
        return ", ".join(served.agent_name for served in self.agents)

    def _of(self, served: Served, text: str) -> str:
        """Return what is said of one agent, with its name where there are others."""
        return text if len(self.agents) == 1 else f"{served.agent_name}: {text}"

    def _say(self, served: Served, text: str) -> None:
        """Say how one agent does."""
        with working_for(served.names):
            say(self._of(served, text))

    def _next(self) -> tuple[str, Any]:
        """Wait for what happens next; report meanwhile, and on a terminal say what a drain waits for."""
        told = Deadline(_DRAIN_LOOK)
        while True:
            self._report()
            is_watched = self._is_draining and sys.stdout.isatty()
            pauses = [told.remaining() if is_watched else None, self._reporter.interval, _LOOK]
            pause = min(each for each in pauses if each is not None)
            due = Clock().monotonic() + pause
            try:
                return self._happened.get(timeout=pause)
            except Empty:
                self._giving_way.came_round(late=Clock().monotonic() - due)
                if is_watched and told.expired():
                    told = Deadline(_DRAIN_LOOK)
                    say(waiting(self._active_tasks, self._drain_end.remaining() or 0.0))

    @property
    def _active_tasks(self) -> list[str]:
        return [task for served in self.agents for task in served.active_tasks]

    def _report(self) -> None:
        if self._reporter.interval is not None:
            self._reporter.tell(self._status, behind=max(served.behind for served in self.agents))

    @property
    def _status(self) -> str:
        if self._is_draining or any(served.is_draining for served in self.agents):
            return f"draining, {counted(len(self._active_tasks), 'task')} left"
        if self._trouble:
            return self._trouble
        slots = sum(served.slots for served in self.agents)
        return f"ready, {slots - sum(served.free for served in self.agents)} of {counted(slots, 'slot')} busy"

    def _on_waiting(self, served: Served) -> None:
        self._say(served, f"{as_typed_here(str(served.error))}; trying again")
        self._trouble = "no hub answers, trying again"

    def _on_started(self, served: Served) -> None:
        served.is_starting = False
        self._trouble = "starting"
        instance = served.instance
        if instance is None:
            return
        if len(self.agents) == 1:
            name_process(agent=instance.agent_name, instance=instance.instance_id)
        self._say(served, f"hub {instance.hub_url}")
        self._say(served, f"concurrency {instance.concurrency}")
        self._say(served, f"instance {instance.instance_id}")
        if self._is_draining:
            served.drain()

    def _on_ready(self, served: Served) -> None:
        served.is_ready = True
        if self._is_draining or not all(each.is_ready or each.is_over for each in self.agents):
            return
        as_whom = "" if len(self.agents) == 1 else f" as {self._names}"
        say(f"ready: registered and listening{as_whom}")
        say(f"try it from a second terminal: {program('blocks')} send {self.agents[0].agent_name} Hello")
        self._trouble = ""
        self._reporter.ready(self._status)

    def _on_signal(self, name: str) -> Exit | None:
        if self._is_draining:
            say(f"{name} received again: cancelling what runs")
            self._drain_end = Deadline(_HURRY)
            for served in self.agents:
                served.hurry()
            return None
        if not any(served.is_ready for served in self.agents) and not self._active_tasks:
            # A daemon: it waits only so that the process ends although something else hangs.
            ServiceThread("start-end", _end_in_time, daemon=True).start()
        self._catch_starts()
        if not self._running():
            say(f"{name} received before the start was done: stopped")
            return Exit.OK
        limit = self._config.drain_timeout
        say(f"{name} received: draining, at most {limit:g} s; once more cancels, a third time ends at once")
        self._drain_all()
        return None

    def _on_stacks(self, _nothing: None) -> None:
        """Log the stacks once more, with the tasks: what was written below Python does not know of them."""
        self._signals.stacks_wanted = False
        tasks: dict[int, str] = {}
        for served in self.agents:
            tasks |= served.tasks_of_threads
        log_stacks("SIGUSR1", tasks)

    def _on_worn_out(self, served: Served) -> None:
        """End for a new process to begin: threads that hang in handlers keep slots, and nothing here gets them back."""
        if self._is_draining:
            return
        limit = self._config.drain_timeout
        self._say(served, f"handlers hang and keep their slots: draining, at most {limit:g} s, for a new start")
        self._code = Exit.RESTART
        self._catch_starts()
        self._drain_all()

    def _catch_starts(self) -> None:
        """Try no further starts; wait a little for those that are under way, and no longer once a signal comes."""
        for served in self.agents:
            served.give_up()
        deadline = Deadline(_START_PATIENCE)
        with contextlib.suppress(Empty):
            while any(served.is_starting for served in self.agents):
                what, detail = self._happened.get(timeout=deadline.remaining())
                if what == "signal":
                    break
                if what == "started":
                    self._on_started(detail)
                elif what in _ENDS:
                    detail.is_starting, detail.is_over = False, True
        for served in self.agents:
            if served.is_starting:
                served.is_starting, served.is_over = False, True
                served.abandon()

    def _running(self) -> list[Served]:
        return [served for served in self.agents if served.instance is not None and not served.is_over]

    def _drain_all(self) -> None:
        """Drain all at the same time, so that one deadline counts for all."""
        self._is_draining = True
        self._drain_end = Deadline(self._config.drain_timeout)
        self._reporter.stopping(self._status)
        for served in self._running():
            served.drain()

    def _on_drained(self, served: Served) -> Exit | None:
        served.is_over = True
        return None if self._running() else self._end()

    def _end(self) -> Exit:
        """Let go of all, of the hub in this process last: the others speak to it, and would start it again."""
        for served in sorted(self.agents, key=lambda each: each.runs_hub):
            served.let_go()
        counters: Counter[str] = Counter()
        for served in self.agents:
            counters.update(served.counters)
        say(drained(counters))
        return self._code

    def _on_ended(self, served: Served) -> Exit | None:
        """Note an agent that stopped by itself, because the hub asked it to; the process ends with the last one."""
        if self._is_draining:
            return None
        served.is_over = True
        if self._running() or any(each.is_starting for each in self.agents):
            self._say(served, "stopped, as the hub asked; the others go on")
            return None
        say("drained, as the hub asked")
        self._reporter.stopping("drained, as the hub asked")
        return self._end()

    def _on_dropped(self, served: Served) -> None:
        served.is_starting, served.is_over = False, True

    def _on_failed(self, served: Served) -> Exit | None:
        """Say why an agent cannot go on, and drain the others: whoever started the process counts on all of them."""
        if self._is_draining or served.error is None:
            return None
        served.is_starting, served.is_over = False, True
        self._code = exit_of_worker(served.error, started=served.instance is not None)
        text = as_typed_here(sentence(served.error)) or type(served.error).__name__
        click.echo(f"blocks-run: {one_line(self._of(served, text))}", err=True)
        self._catch_starts()
        others = ", ".join(each.agent_name for each in self._running())
        if others:
            say(f"{served.agent_name} cannot go on: draining {others}, at most {self._config.drain_timeout:g} s")
            self._drain_all()
            return None
        for each in self.agents:
            each.let_go()
        return self._code

    @staticmethod
    def _name_left_threads() -> None:
        mine = {threading.main_thread(), threading.current_thread()}
        left = [thread.name for thread in threading.enumerate() if thread not in mine and not thread.daemon]
        if left:
            _logger.warning("threads_left", extra={"threads": left})


def _end_in_time() -> None:
    """End the process when its time is over, and say what hangs; who ends by himself is gone before."""
    Clock().pause(_START_END)
    left = [thread.name for thread in threading.enumerate() if not thread.daemon]
    _logger.warning("start_left_behind", extra={"threads": left})
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(Exit.OK)


def waiting(tasks: Sequence[str], seconds: float) -> str:
    """Return what is said while a worker drains: the tasks it waits for, and for how long at most."""
    if not tasks:
        return "draining: no task runs any more; the last words go out"
    named = ", ".join(tasks[:_NAMED]) + (", …" if len(tasks) > _NAMED else "")
    return f"draining: waiting for {counted(len(tasks), 'task')} ({named}), {seconds:.0f} s left"


def drained(counters: Mapping[str, int]) -> str:
    """Return what is said at the end of a worker: how its runs ended, and of how many the hub has not heard."""
    counts = ", ".join(f"{counters.get(name, 0)} {word}" for name, word in _COUNTED.items())
    unheard, spooled = counters.get("outcomes_unheard", 0), counters.get("outcomes_spooled", 0)
    rest = f"; {unheard} of them unheard by the hub, {spooled} kept in the spool for the next start" if unheard else ""
    return f"drained: {counts}{rest}"
