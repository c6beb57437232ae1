"""What endpoints say on its way to the network: some publishes ahead of their answers, and what became of each."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakKeyDictionary

from blocks_worker.concurrency import Deadline
from blocks_worker.errors import BlocksError, PublishRefusedError, TransportClosedError, TransportError
from blocks_worker.streams.pace import ACK_EVERY
from blocks_worker.transports.base import AheadTransport

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from blocks_worker.concurrency import Clock
    from blocks_worker.streams.endpoint import Endpoint
    from blocks_worker.transports.base import Transport, Underway

#: Seconds that one publish may take before the others get their turn.
PUBLISH_TIMEOUT = 5.0
#: Seconds of publishes in a row that failed, after which a writer is given up.
GIVE_UP = 60.0


class _Sent(NamedTuple):
    """Be one publish that is under way, and how many frames are in it."""

    endpoint: Endpoint
    frames: int
    underway: Underway


@dataclass
class _Standing:
    """How publishes of one endpoint went: since when they fail, and when the network had the last."""

    failing_since: float | None = None
    answered_at: float = float("-inf")


class Publishes:
    """Publish what endpoints say, and tell each what became of it, on one thread.

    Where the transport can, the next publish does not wait for the answer to the last: what one endpoint has under
    way is bounded by its writer's window. After one that failed, whatever its endpoint has sent counts as failed, and
    is sent again in order; readers know frames by their numbers.
    """

    def __init__(self, transport: Transport, *, kick: Callable[[Endpoint], None], clock: Clock) -> None:
        self._transport = transport
        self._ahead = transport if isinstance(transport, AheadTransport) else None
        self._kick = kick
        self._clock = clock
        self._underway: deque[_Sent] = deque()
        self._standings: WeakKeyDictionary[Endpoint, _Standing] = WeakKeyDictionary()

    @property
    def are_underway(self) -> bool:
        """Whether something was sent and is not settled."""
        return bool(self._underway)

    def begin(self, endpoint: Endpoint) -> None:
        """Send what it has to say.

        Raises:
            TransportClosedError: the transport was closed here.
        """
        acks, frames = endpoint.outgoing()
        messages = [*acks, *frames]
        if not messages:
            return
        channel, deadline = endpoint.write_channel, Deadline(PUBLISH_TIMEOUT, self._clock)
        with self._told(endpoint):
            if self._ahead is None:
                self._transport.publish(channel, messages, deadline)
                self._succeeded(endpoint, len(frames))
            elif frames or not self._is_light(endpoint, acks) or not self._ahead.hint(channel, acks, deadline):
                self._underway.append(_Sent(endpoint, len(frames), self._ahead.begin(channel, messages, deadline)))
                if frames:
                    self._kick(endpoint)

    def settle(self, *, waits: bool) -> None:
        """Tell of what was answered, in order; `waits`: for one answer at least.

        Raises:
            TransportClosedError: the transport was closed here.
        """
        while self._underway and (waits or self._underway[0].underway.is_answered):
            sent = self._underway.popleft()
            with self._told(sent.endpoint):
                sent.underway.settle(Deadline(PUBLISH_TIMEOUT, self._clock))
                self._succeeded(sent.endpoint, sent.frames)
            waits = False

    def _is_light(self, endpoint: Endpoint, acks: list[dict[str, object]]) -> bool:
        """Tell whether it may get lost: it is said again with the next one, which is answered now and then."""
        standing = self._standing(endpoint)
        return self._clock.monotonic() - standing.answered_at < ACK_EVERY and not any("bye" in ack for ack in acks)

    def _standing(self, endpoint: Endpoint) -> _Standing:
        return self._standings.setdefault(endpoint, _Standing())

    @contextmanager
    def _told(self, endpoint: Endpoint) -> Iterator[None]:
        """Tell the endpoint of what goes wrong."""
        try:
            yield
        except TransportClosedError:
            raise
        except PublishRefusedError as error:
            endpoint.fail("access_denied", str(error))
        except TransportError as error:
            self._failed(endpoint, str(error))
        except BlocksError as error:  # what it has to say cannot travel, now or later
            endpoint.fail("bad_request", str(error))
        except Exception:
            self._unsent(endpoint)
            self._kick(endpoint)
            raise

    def _succeeded(self, endpoint: Endpoint, frames: int) -> None:
        standing = self._standing(endpoint)
        standing.failing_since, standing.answered_at = None, self._clock.monotonic()
        if endpoint.sent(frames):
            self._kick(endpoint)

    def _failed(self, endpoint: Endpoint, why: str) -> None:
        """Try the same frames again at the next turn, unless it went on for too long."""
        self._unsent(endpoint)
        now, standing = self._clock.monotonic(), self._standing(endpoint)
        standing.failing_since = standing.failing_since or now
        lost = now - standing.failing_since >= GIVE_UP
        if lost and endpoint.writer is not None and endpoint.writer.why_broken is None:
            endpoint.writer.break_off(why)
            endpoint.fail("network_down", f"frames were lost for good: {why}")
            endpoint.settle()
        self._kick(endpoint)

    def _unsent(self, endpoint: Endpoint) -> None:
        """Have all that it sent, and that is not known to have come, sent again."""
        self._underway = deque(sent for sent in self._underway if sent.endpoint is not endpoint)
        endpoint.unsent()
