"""The life of a `blocks-run` process: start, say so, wait for a signal, drain, end with the right code."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from queue import Empty
from typing import TYPE_CHECKING, Any

import click

from blocks_worker.cli.exits import Exit, exit_of_worker
from blocks_worker.cli.output import as_typed_here, counted, program, say, sentence
from blocks_worker.concurrency import Backoff, Deadline, Entropy, ServiceThread
from blocks_worker.errors import HubUnavailableError
from blocks_worker.observability.logs import name_process, told_by_program
from blocks_worker.observability.notify import Notifier
from blocks_worker.observability.redact import one_line
from blocks_worker.runtime.instance import AgentInstance, start_agent_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from blocks_worker.cli.signals import Signals
    from blocks_worker.config import WorkerConfig
    from blocks_worker.runtime.options import AgentInstanceOptions

_logger = logging.getLogger(__name__)

#: Seconds that a start which is under way gets to end when a signal comes first.
_START_PATIENCE = 5.0
#: Seconds between two lines that say on a terminal what a drain waits for.
_DRAIN_LOOK = 3.0
#: Tasks that such a line names.
_NAMED = 3
#: Seconds that handlers get after a second signal.
_HURRY = 5.0
#: Counters of the worker, and the words for them.
_COUNTED = {
    "tasks_completed": "completed",
    "tasks_failed": "failed",
    "tasks_canceled": "canceled",
    "tasks_released": "given back",
}


class Serving:
    """Act on what happens, on the main thread, one thing after another; everything comes by one queue.

    1. A thread starts the instance and tells ``started``, ``ready``, ``ended`` or ``failed``. It is a daemon:
       it waits in the instance, and the process must be able to end meanwhile.
    2. The signal handlers tell ``signal``.
    3. A thread made at the first signal drains and tells ``drained``: a second signal has to be heard then.
    """

    def __init__(self, options: AgentInstanceOptions, config: WorkerConfig, signals: Signals) -> None:
        self._options = options
        self._config = config
        self._happened = signals.heard
        self._entropy = Entropy()
        self._notifier = Notifier(config.notify_socket)
        self._instance: AgentInstance | None = None
        self._given_up = threading.Event()
        self._drain: ServiceThread | None = None
        self._drain_end = Deadline(None)

    def run(self) -> Exit:
        """Serve until the end; return the exit code."""
        told_by_program("registered", "ready")
        say(f"starting {self._options.agent_name}")
        ServiceThread("instance-watch", self._watch, daemon=True).start()
        acts: dict[str, Callable[[Any], Exit | None]] = {
            "signal": self._on_signal,
            "started": self._on_started,
            "waiting": self._on_waiting,
            "ready": self._on_ready,
            "ended": self._on_ended,
            "failed": self._on_failed,
            "drained": self._on_drained,
        }
        code: Exit | None = None
        while code is None:
            what, detail = self._next()
            code = acts[what](detail)
        self._name_left_threads()
        return code

    def _next(self) -> tuple[str, Any]:
        """Wait for what happens next; on a terminal, say meanwhile what a drain waits for."""
        while True:
            try:
                is_watched = self._drain is not None and sys.stdout.isatty()
                return self._happened.get(timeout=_DRAIN_LOOK if is_watched else None)
            except Empty:
                say(waiting(self._known().active_tasks, self._drain_end.remaining() or 0.0))

    def _watch(self) -> None:
        try:
            instance = self._started()
            if instance is None:
                return
            self._happened.put(("started", instance))
            instance.wait_ready()
            self._happened.put(("ready", None))
            instance.wait()
            self._happened.put(("ended", None))
        except BaseException as error:  # noqa: BLE001 - the top of a thread: the main thread reports it
            self._happened.put(("failed", error))

    def _started(self) -> AgentInstance | None:
        """Start the instance, again and again while no hub answers; None when a signal came first."""
        backoff = Backoff(self._entropy, first=1.0, cap=15.0)
        while not self._given_up.is_set():
            instance = self._try_start()
            if instance is not None:
                return instance
            self._given_up.wait(backoff.next())
        return None

    def _try_start(self) -> AgentInstance | None:
        try:
            return start_agent_instance(self._options, config=self._config)
        except HubUnavailableError as error:
            self._happened.put(("waiting", error))
            return None

    def _on_waiting(self, error: HubUnavailableError) -> None:
        say(f"{as_typed_here(str(error))}; trying again")
        self._notifier.send("STATUS=no hub answers, trying again")

    def _on_started(self, instance: AgentInstance) -> None:
        self._instance = instance
        name_process(agent=instance.agent_name, instance=instance.instance_id)
        say(f"hub {instance.hub_url}")
        say(f"concurrency {instance.concurrency}")
        say(f"instance {instance.instance_id}")

    def _on_ready(self, _detail: None) -> None:
        if self._drain is not None:
            return
        instance = self._known()
        say("ready: registered and listening")
        say(f"try it from a second terminal: {program('blocks')} send {instance.agent_name} Hello")
        self._notifier.send("READY=1", f"STATUS=serving {instance.agent_name}")

    def _on_signal(self, name: str) -> Exit | None:
        if self._drain is not None:
            say(f"{name} received again: cancelling what runs")
            self._drain_end = Deadline(_HURRY)
            self._known().hurry()
            return None
        if self._instance is None and not self._catch_start():
            say(f"{name} received before the start was done: stopped")
            return Exit.OK
        limit = self._config.drain_timeout
        say(f"{name} received: draining, at most {limit:g} s; once more cancels, a third time ends at once")
        self._drain_end = Deadline(limit)
        self._notifier.send("STOPPING=1", "STATUS=draining")
        self._drain = ServiceThread("signal-drain", self._stop)
        self._drain.start()
        return None

    def _catch_start(self) -> bool:
        """Wait a little for a start under way; tell whether there is an instance to drain."""
        self._given_up.set()
        with contextlib.suppress(Empty):
            while self._instance is None:
                what, detail = self._happened.get(timeout=_START_PATIENCE)
                if what in {"failed", "signal"}:
                    return False
                if what == "started":
                    self._on_started(detail)
        return self._instance is not None

    def _stop(self) -> None:
        try:
            self._known().stop()
        finally:
            self._happened.put(("drained", None))

    def _on_drained(self, _detail: None) -> Exit:
        say(drained(self._known().counters))
        return Exit.OK

    def _on_ended(self, _detail: None) -> Exit | None:
        """End with an instance that stopped by itself, because the hub asked it to."""
        if self._drain is not None:
            return None
        self._known().stop()
        return self._on_drained(None)

    def _on_failed(self, error: BaseException) -> Exit | None:
        if self._drain is not None:
            return None
        if self._instance is not None:
            self._instance.stop()
        text = as_typed_here(sentence(error)) or type(error).__name__
        click.echo(f"blocks-run: {one_line(text)}", err=True)
        return exit_of_worker(error, started=self._instance is not None)

    def _known(self) -> AgentInstance:
        if self._instance is None:
            raise RuntimeError("there is no instance yet")
        return self._instance

    @staticmethod
    def _name_left_threads() -> None:
        mine = {threading.main_thread(), threading.current_thread()}
        left = [thread.name for thread in threading.enumerate() if thread not in mine and not thread.daemon]
        if left:
            _logger.warning("threads_left", extra={"threads": left})


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
