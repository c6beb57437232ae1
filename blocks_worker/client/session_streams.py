"""The streams of one session: announced, waited for, opened, and ended with the task."""

from __future__ import annotations

import logging
import threading
from functools import partial
from typing import TYPE_CHECKING

from blocks_worker.client.streams import StreamRef, descriptors_of
from blocks_worker.concurrency import ServiceThread
from blocks_worker.errors import StreamUnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.owner import SessionOwner
    from blocks_worker.client.streams import StreamClient

_logger = logging.getLogger(__name__)

#: Seconds that open streams of a task that is over are waited for, unless told otherwise.
DRAIN_WINDOW = 30.0
#: Why a task failed whose worker died: what that one has not said of its streams, nobody says.
_LOST = "lease_lost"


class SessionStreams:
    """Keep what was announced and what is open.

    The session's lock guards everything but `open`; the session hands events in as it shows them.
    """

    def __init__(self, owner: SessionOwner, *, auto_drain: bool, drain_window: float | None) -> None:
        self._owner = owner
        #: Seconds for open streams to end by themselves after the task.
        self._window = (DRAIN_WINDOW if drain_window is None else drain_window) if auto_drain else 0.0
        self._refs: dict[str, StreamRef] = {}
        self._open: dict[str, StreamClient] = {}
        self._ends: dict[str, int] = {}
        self._terminal: TaskEvent | None = None
        self._open_until = float("inf")
        #: The user was told that the task is over: what he did not open before is gone.
        self._is_known = False
        #: Streams of which callbacks are being told: those may still open them.
        self._telling: dict[str, int] = {}
        self._counting = threading.Lock()
        self._closed = False

    # ------------------------------------------------------------ with the session's lock

    def take(self, events: Sequence[TaskEvent]) -> list[StreamRef]:
        """Take in events that are shown; return the streams that they announce."""
        new = []
        for event in events:
            if event.type == "terminal":
                self._terminal = event
                self._open_until = self._owner.clock.monotonic() + self._window
            elif event.type == "system" and event.status == "restarted":
                self._begin_anew()
            elif event.stream_event == "stream_started":
                new += [self._announced(StreamRef(descriptor, self)) for descriptor in descriptors_of(event)]
            elif event.stream_event == "stream_ended":
                self._ends.update({name: end for name, end in (event.streams or {}).items() if isinstance(end, int)})
        return new

    def refs(self) -> list[StreamRef]:
        """Return what was announced, in order."""
        return list(self._refs.values())

    def has_open(self) -> bool:
        """Tell whether one that was opened has not ended."""
        return any(client.is_active for client in self._open.values())

    def was_over(self) -> None:
        """Note that the task had ended before this session began: its streams are gone."""
        self._open_until = float("-inf")

    # ------------------------------------------------------------ without it

    def end_is_known(self) -> None:
        """Note that the user was told that the task is over."""
        self._is_known = self._terminal is not None

    def settle(self) -> None:
        """Let open streams drain once the task is over and told so."""
        if self._terminal is not None:
            for stream_id, client in list(self._open.items()):
                client.close_within(self._window)
                if self._terminal.error_code == _LOST and stream_id not in self._ends:
                    client.endpoint.writer_is_gone()

    def settle_ends(self) -> None:
        """Tell open streams where they end."""
        for stream_id, client in list(self._open.items()):
            if stream_id in self._ends:
                client.end_at(self._ends[stream_id])

    def opened(self, ref: StreamRef) -> StreamClient | None:
        """Return the open stream of a reference."""
        return self._open.get(ref.descriptor.stream_id)

    def open(self, ref: StreamRef, reorder_timeout_ms: int | None) -> StreamClient:
        """Return the open stream of a reference, opened now if it never was."""
        about = ref.descriptor
        client = self._open.get(about.stream_id)
        if client is not None and self._refs.get(about.stream_id) is ref:
            if not client.is_active:
                raise RuntimeError(f"the stream {about.stream_id} has ended")
            return client
        if self._closed:
            raise RuntimeError(f"the session of task {about.task_id} was closed")
        if self._terminal is not None and not self._may_open(about.stream_id):
            raise StreamUnavailableError(
                task_id=about.task_id,
                stream_id=about.stream_id,
                declared_stream=about.declared_stream,
                terminal_state=self._terminal.state or "failed",
            )
        patience = None if reorder_timeout_ms is None else max(0, reorder_timeout_ms) / 1000
        client = self._owner.open_stream(about, patience)
        known = self._open.setdefault(about.stream_id, client)
        if known is not client:  # another thread was faster
            client.close()
        self.settle_ends()
        self.settle()
        return known

    def close(self) -> None:
        """End all that is open."""
        self._closed = True
        for client in list(self._open.values()):
            client.close()

    def tell(self, refs: Sequence[StreamRef], call: Callable[[StreamRef], None], *, are_new: bool) -> None:
        """Call this with each, on threads of their own: a callback may read its stream to the end."""
        for ref in refs:
            told = partial(self._told, ref, call, is_new=are_new or not self._is_known)
            ServiceThread(f"on-stream-{ref.descriptor.stream_id}", told, daemon=True).start()

    def _told(self, ref: StreamRef, call: Callable[[StreamRef], None], *, is_new: bool) -> None:
        stream_id, weight = ref.descriptor.stream_id, int(is_new)
        with self._counting:
            self._telling[stream_id] = self._telling.get(stream_id, 0) + weight
        try:
            call(ref)
        finally:
            with self._counting:
                self._telling[stream_id] -= weight

    def _may_open(self, stream_id: str) -> bool:
        """Tell whether a stream of a task that is over may be opened: its frames are kept for a while."""
        is_late = self._owner.clock.monotonic() >= self._open_until
        return not is_late and (not self._is_known or self._telling.get(stream_id, 0) > 0)

    def _announced(self, ref: StreamRef) -> StreamRef:
        """Note a stream; one of an earlier run under the same id has ended."""
        stream_id = ref.descriptor.stream_id
        self._end_old(self._open.pop(stream_id, None))
        self._ends.pop(stream_id, None)
        self._refs[stream_id] = ref
        return ref

    def _begin_anew(self) -> None:
        """Forget the streams of a run that is gone: nothing more comes from it."""
        for stream_id in list(self._open):
            self._end_old(self._open.pop(stream_id))
        self._refs.clear()
        self._ends.clear()

    def _end_old(self, client: StreamClient | None) -> None:
        if client is not None and client.is_active:
            client.report("other", "the task was started again, and this stream of the run before has ended")
            client.close()


def readable(refs: Sequence[StreamRef]) -> int:
    """Return how many of these can be read here: who only writes to one does so for as long as he likes."""
    return sum(ref.descriptor.local_direction != "outbound" for ref in refs)


def find_stream(refs: Sequence[StreamRef], name: str | None) -> StreamRef | None:
    """Return the stream of this declared name or id; without a name the only one.

    Raises:
        RuntimeError: there are several, and no name was given.
    """
    if name is None:
        if len(refs) > 1:
            ids = ", ".join(ref.descriptor.stream_id for ref in refs)
            raise RuntimeError(f"the task has several streams: say which of {ids}")
        return refs[0] if refs else None
    declared = (ref for ref in refs if ref.descriptor.declared_stream == name)
    return next(declared, None) or next((ref for ref in refs if ref.descriptor.stream_id == name), None)
