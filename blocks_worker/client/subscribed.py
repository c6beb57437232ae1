"""What a subscription to one task's events is made of: the callbacks, and the way to take it back."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from blocks_worker.client.callbacks import EVERY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

    from blocks_worker.client.callbacks import CallbackErrorContext
    from blocks_worker.client.events import TaskEvent
    from blocks_worker.client.session import TaskSession

    EventCallback = Callable[[TaskEvent], Any]

_KINDS = {
    "on_event": EVERY,
    "on_progress": "onProgress",
    "on_artifact": "onArtifact",
    "on_terminal": "onTerminal",
    "on_cancel_requested": "onCancelRequested",
    "on_system": "onSystem",
    "on_question": "onQuestion",
}


@dataclass(frozen=True)
class TaskEventCallbacks:
    """What is called with the events of a task; each is optional, and gets a `TaskEvent`.

    Attributes:
        on_event: every event, before the callback of its type.
        on_error: an exception of another callback, and a `CallbackErrorContext`; without it the log has them.
    """

    on_progress: EventCallback | None = None
    on_artifact: EventCallback | None = None
    on_terminal: EventCallback | None = None
    on_cancel_requested: EventCallback | None = None
    on_system: EventCallback | None = None
    on_event: EventCallback | None = None
    on_error: Callable[[Any, CallbackErrorContext], Any] | None = None
    on_question: EventCallback | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be called."""
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and not callable(value):
                raise TypeError(f"{one.name} has to be a function, not {value!r}")

    def give_to(self, session: TaskSession) -> None:
        """Register them with a session, before it hears anything."""
        for kind, callback in self.by_kind():
            session.register(kind, callback)
        if self.on_error is not None:
            session.on_error(self.on_error)

    def by_kind(self) -> Iterator[tuple[str, EventCallback]]:
        """Yield the callbacks of events that are there, with their kinds."""
        for name, kind in _KINDS.items():
            callback = getattr(self, name)
            if callback is not None:
                yield kind, callback


class TaskSubscription:
    """Be the events of one task on their way to callbacks; it ends by itself after the terminal event."""

    def __init__(self, task_id: str, end: Callable[[], None]) -> None:
        self.task_id = task_id
        self._end = end

    def unsubscribe(self) -> None:
        """Call nothing any more; a callback that is at work ends by itself. A second call changes nothing."""
        self._end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.unsubscribe()
