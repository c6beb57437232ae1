"""What a session needs of the client that it belongs to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from blocks_worker.artifacts import FileReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blocks_worker.client.callbacks import CallbackPool
    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.session_feed import SessionFeed
    from blocks_worker.client.streams import StreamClient, StreamDescriptor
    from blocks_worker.concurrency import Clock
    from blocks_worker.protocol.tasks import TaskRole


class SessionOwner(FileReader, Protocol):
    """Be the client of a session, as far as the session needs it."""

    pool: CallbackPool
    clock: Clock

    def stop_task(self, task_id: str, *, reason: str | None, terminated: bool) -> bool:
        """Ask the hub that a task stop; tell whether it still ran."""

    def answer_task(self, task_id: str, value: Any, ask_id: str | None = None) -> str:
        """Answer the question of a task; return its state as it is then."""

    def read_token(self, task_id: str, *, role: TaskRole) -> str:
        """Return a grant to read the task's channel."""

    def stored_events(self, task_id: str, after: int, *, role: TaskRole) -> Iterator[TaskEvent]:
        """Return what the hub stored of a task after a sequence number."""

    def open_stream(self, about: StreamDescriptor, patience: float | None) -> StreamClient:
        """Return a stream, opened; `patience`: seconds that a missing piece is waited for."""

    def forget(self, session: SessionFeed) -> None:
        """Route nothing to this session any more."""
