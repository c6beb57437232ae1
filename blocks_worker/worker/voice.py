"""The voice of one run: events as dicts, as they are shown to readers, put into its reports."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import InvalidMessageError, TaskFinishedError
from blocks_worker.protocol.codec import convert
from blocks_worker.protocol.events import ArtifactRef, EventBody
from blocks_worker.worker.terminals import ending_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.run import Ending, Run

#: Seconds after which who waits for a terminal looks again whether the run ended in another way.
_LOOK = 1.0


class Voice:
    """Speak for a run under its lease; a terminal ends it.

    Attributes:
        takes_over: the one who speaks publishes the terminal too: until then the run goes on.
    """

    def __init__(
        self,
        run: Run,
        *,
        channel: str,
        emit: Callable[[EventBody], None],
        finish: Callable[[Ending], bool],
        clock: Clock,
    ) -> None:
        self.channel = channel
        self.takes_over = False
        self._run = run
        self._emit = emit
        self._finish = finish
        self._clock = clock
        self._over = threading.Event()
        #: It spoke the terminal.
        self.ended = False

    def speak(self, message: Mapping[str, Any]) -> None:
        """Report one event.

        Raises:
            TaskFinishedError: the run is over.
            ValueError: it is no event of this task.
        """
        if message.get("taskId", self._run.task_id) != self._run.task_id:
            raise InvalidMessageError("shape", f"the event is of task {message['taskId']!r}, not {self._run.task_id}")
        if message.get("type") == "terminal":
            ending = ending_of(message)
            if not self._finish(ending):
                raise TaskFinishedError(self._run.task_id)
            self.ended = True
            self._over.set()
            return
        self._emit(_event_of(message))

    def has_ended(self) -> bool:
        """Tell whether the run was ended by its voice; one that takes over is waited for, unless the run is to stop."""
        if self.takes_over and not self._run.is_pipe and not self._over.is_set():
            self._run.on_cancel(self._over.set)
            while self._run.ending is None and not self._clock.wait(self._over, _LOOK):
                pass
        return self._run.ending is not None


def _event_of(message: Mapping[str, Any]) -> EventBody:
    kind = message.get("type")
    if kind == "progress":
        state = "running" if message.get("state") == "running" else None
        body = {"type": kind, "progress": message.get("progress"), "state": state, "message": message.get("message")}
    elif kind == "artifact":
        ref = message.get("artifactRef")
        found = ref.to_dict() if isinstance(ref, ArtifactRef) else ref
        body = {"type": kind, "artifactRef": found, "outputId": message.get("outputId")}
        if found is None:
            raise InvalidMessageError("shape", "an artifact event has 'artifactRef'; build_artifact_ref() makes one")
    elif kind == "system":
        body = {"type": kind, "status": message.get("status"), "message": message.get("message")}
    else:
        raise InvalidMessageError("shape", f"an event is progress, artifact, system or terminal, not {kind!r}")
    return convert(EventBody, {key: value for key, value in body.items() if value is not None})
