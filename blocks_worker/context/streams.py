"""A stream as a handler holds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeAlias

from blocks_worker.streams.live import LiveStream

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

    from blocks_worker.streams.endpoint import Endpoint

#: Told of a stream that is live, on a thread of its own.
OnActivateCallback: TypeAlias = Callable[["StreamObject"], None]


class CheckEvent(Protocol):
    """Check one event against what the card declares."""

    def __call__(self, event: Any) -> None:
        """Return for an event that fits.

        Raises:
            ValueError: it does not; the text names the rule.
        """


class StreamObject(LiveStream):
    """Write to, or read from, the consumers of a task; `with stream:` ends it."""

    external = False

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        call: Callable[[Callable[[], None]], None],
        leave: Callable[[Endpoint], None],
        check: CheckEvent | None = None,
    ) -> None:
        super().__init__(endpoint, call=call, leave=leave)
        self._check = check

    def write(self, data: Any) -> None:
        """Send data: text or bytes on a bytes stream, any JSON value on an events stream.

        Returns at once while there is room; waits while 1 MiB is on its way to the network, or to readers that
        are there.

        Raises:
            RuntimeError: the stream has ended, or this side only reads.
            StreamWriteError: earlier data could not be delivered after all tries.
            TypeError, ValueError: this stream does not carry such data, or the card does not allow it.
            TaskCancelledError: the task is to stop, and there was no room.
        """
        if self._check is not None:
            self._check(data)
        super().write(data)

    def __enter__(self) -> Self:
        return self


class ExternalStreamObject:
    """A stream that another process reads or writes: hand it `channel` and `token`, then `activate`.

    Attributes:
        stream_id, channel: which stream.
        token: lets its bearer be the agent's side of this one stream.
    """

    external = True

    def __init__(self, *, stream_id: str, channel: str, token: str, announce: Callable[[dict[str, Any]], None]) -> None:
        self.stream_id = stream_id
        self.channel = channel
        self.token = token
        self._announce = announce
        self._ended = False
        self._end_callbacks: list[Callable[[], None]] = []

    @property
    def is_active(self) -> bool:
        """Tell whether it has not ended."""
        return not self._ended

    def activate(self, metadata: dict[str, Any] | None = None) -> None:
        """Announce the stream to the consumers of the task: call it when the other process is ready."""
        self._announce(metadata or {})

    def end(self) -> None:
        """Use the stream no more; a second call changes nothing."""
        if not self._ended:
            self._ended = True
            callbacks, self._end_callbacks = self._end_callbacks, []
            for callback in callbacks:
                callback()

    def on_end(self, callback: Callable[[], None]) -> None:
        """Call this when the stream has ended; at once when it has."""
        if self._ended:
            callback()
        else:
            self._end_callbacks.append(callback)

    def write(self, data: Any) -> NoReturn:  # noqa: ARG002 - as a stream of this process has it
        """Refuse: the other process writes."""
        self._refuse("written")

    def on_error(self, callback: Any) -> NoReturn:  # noqa: ARG002 - as a stream of this process has it
        """Refuse: the other process hears of trouble."""
        self._refuse("watched")

    def bytes(self) -> Iterator[bytes]:
        """Refuse: the other process reads."""
        self._refuse("read")

    def events(self) -> Iterator[Any]:
        """Refuse: the other process reads."""
        self._refuse("read")

    def as_file(self) -> NoReturn:
        """Refuse: the other process reads."""
        self._refuse("read")

    @property
    def inbound(self) -> NoReturn:
        """Refuse: the other process reads."""
        self._refuse("read")

    @property
    def uuid(self) -> NoReturn:
        """Refuse: the other process has its own."""
        self._refuse("named")

    def _refuse(self, act: str) -> NoReturn:
        raise RuntimeError(
            f"the stream {self.stream_id} is external: it is {act} by the process that holds its token, not here"
        )
