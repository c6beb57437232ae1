"""What an `on_start_task` gets in place of a client of the network: the SDK's chain of calls, reported to the hub."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import PublishRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.context.messages import StartTaskMessage
    from blocks_worker.worker.voice import Voice


class TaskPubNub:
    """Publish for one task: ``pubnub.publish().channel(c).message(m).sync()``.

    What goes to the task's channel is reported to the hub under the run's lease, and shown from there. Everything
    else goes to the client that was given as `pubnub=`, if one was.
    """

    def __init__(self, voice: Voice, network: Any = None) -> None:
        self._voice = voice
        self._network = network

    def publish(self) -> TaskPublish:
        """Begin a publish."""
        return TaskPublish(self._voice, self._network)

    def __getattr__(self, name: str) -> Any:
        if self._network is None or name.startswith("_"):
            raise AttributeError(f"{name!r}: only publish() is offered here; give pubnub= to have a whole client")
        return getattr(self._network, name)


class TaskPublish:
    """One publish: its channel and message, and then `sync` or `pn_async`."""

    def __init__(self, voice: Voice, network: Any) -> None:
        self._voice = voice
        self._network = network
        self._channel = ""
        self._message: Any = None

    def channel(self, name: str) -> TaskPublish:
        """Say where."""
        self._channel = name
        return self

    def message(self, message: Any) -> TaskPublish:
        """Say what."""
        self._message = message
        return self

    def meta(self, _meta: Any) -> TaskPublish:
        """Leave aside what only the network knows, as the next four do."""
        return self

    def should_store(self, _wanted: bool) -> TaskPublish:  # noqa: FBT001 - as the SDK has it
        """Go on: what the hub records is stored."""
        return self

    def use_post(self, _wanted: bool) -> TaskPublish:  # noqa: FBT001 - as the SDK has it
        """Go on."""
        return self

    def ttl(self, _hours: int) -> TaskPublish:
        """Go on."""
        return self

    def custom_message_type(self, _name: str) -> TaskPublish:
        """Go on."""
        return self

    def sync(self) -> Published:
        """Publish.

        Raises:
            TaskFinishedError: the task is over.
            ValueError: the message is no event of this task.
            PublishRefusedError: another channel than the task's, and no client of the network was given.
        """
        if self._channel == self._voice.channel:
            if not hasattr(self._message, "get"):
                raise TypeError(f"an event is a dict, not {type(self._message).__name__}")
            self._voice.speak(self._message)
            return Published()
        if self._network is None:
            text = f"only {self._voice.channel} can be published to, not {self._channel!r}; give pubnub= for others"
            raise PublishRefusedError(text)
        answer: Published = self._network.publish().channel(self._channel).message(self._message).sync()
        return answer

    def pn_async(self, callback: Callable[[Any, Any], object]) -> None:
        """Publish, and call back with result and status."""
        published = self.sync()
        callback(published.result, published.status)


@dataclass(frozen=True)
class PublishResult:
    """What the SDK tells of a publish; the hub counts events by themselves, so there is no time of the network."""

    timetoken: int = 0


@dataclass(frozen=True)
class PublishStatus:
    """How it went: well, for what did not go well was raised."""

    error: bool = False
    status_code: int = 200

    def is_error(self) -> bool:
        """Tell whether it failed."""
        return self.error


@dataclass(frozen=True)
class Published:
    """The answer to a publish, in the SDK's form."""

    result: PublishResult = PublishResult()
    status: PublishStatus = PublishStatus()


def override(function: Callable[[StartTaskMessage, Any], object], network: Any) -> Callable[..., object]:
    """Return the handler that calls an `on_start_task`; what it returns counts for nothing."""

    def handler(task: StartTaskMessage, ctx: Any) -> object:
        voice: Voice | None = getattr(ctx, "voice", None)
        if voice is None:
            raise RuntimeError("on_start_task runs in a worker only")
        voice.takes_over = True
        return _nothing(function(task, TaskPubNub(voice, network)))

    return handler


def _nothing(returned: object) -> object:
    """Return a coroutine, which is still the function at work, with its result left out, else None."""
    if hasattr(returned, "__await__"):

        async def awaited() -> None:
            await returned

        return awaited()
    return None
