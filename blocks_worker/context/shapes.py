"""The shapes of what a context lends a handler, for type checkers: what each call takes and gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from blocks_worker.client.params import RunOptions
    from blocks_worker.client.results import TaskResult
    from blocks_worker.protocol.events import ArtifactRef


class ReportProgress(Protocol):
    """Say how much is done, from 0 to 1, and in words if you like."""

    def __call__(self, fraction: float, message: str | None = None) -> None:
        """Say it."""


class PublishArtifact(Protocol):
    """Hand over an output."""

    def __call__(
        self,
        data: str | bytes | bytearray | memoryview,
        *,
        mime_type: str | None = None,
        file_name: str | None = None,
        output_id: str | None = None,
    ) -> ArtifactRef:
        """Return where it is."""
        ...


class DoStep(Protocol):
    """Do something once in a task, under a name."""

    def __call__(self, name: str, fn: Callable[[], object]) -> Any:
        """Return what is stored under the name."""


class CallAgent(Protocol):
    """Ask another agent; the options are those of ``TaskClient.run``."""

    def __call__(
        self, agent: str, parts: object = None, timeout: float | None = 60.0, **options: Unpack[RunOptions]
    ) -> TaskResult:
        """Return its result."""
        ...
