"""The client's end of a link: it is kept open for ever, and carries calls and channels of one process."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from blocks_worker.concurrency import Backoff, ServiceThread
from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.chunks import BROUGHT, Brought, read_brought
from blocks_worker.protocol.link import BEAT, Answer, Ask, Beat, Denied, Followed, Leave, Lost, Said, from_hub
from blocks_worker.transports.hublink.connection import LinkConnection, LinkDownError
from blocks_worker.transports.hublink.wire import Question, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.concurrency import Clock, Deadline, Entropy
    from blocks_worker.protocol.link import ToHub

_logger = logging.getLogger(__name__)

#: Seconds of silence after which a link is dead.
SILENCE = 2.5 * BEAT
#: Longest pause between two tries, in seconds; a hub on loopback is looked for more often.
CAP = 30.0
NEAR_CAP = 2.0
#: Seconds for which a link stays away that a newer one of its own identity took the place of: two that came again
#: at once would take it from each other for ever.
AWAY = 60.0

What = TypeVar("What")

_NULL = msgspec.Raw(b"null")


class Bearing(Protocol):
    """Where the token comes from that opens the link."""

    def access_token(self) -> str:
        """Return the token to use now."""

    def on_unauthorized(self, refused: str) -> bool:
        """Get a new token because this one was refused; tell whether there is another one now."""


class Following(Protocol):
    """Who hears of channels; its methods are called by the link's thread and return at once."""

    def up(self) -> None:
        """A new connection is there: say what is followed."""

    def down(self, reason: str) -> None:
        """The connection is gone."""

    def hear(self, operation: Followed | Denied | Said | Lost | Brought) -> None:
        """Take what the hub says to this follower."""


@dataclass(frozen=True)
class Carried:
    """What the hub answered to a call."""

    status: int
    body: bytes
    retry_after: str | None


class Asked:
    """Be a question that was sent."""

    def __init__(self, wire: Wire, number: int, question: Question) -> None:
        self._wire = wire
        self._number = number
        self._question = question

    @property
    def is_answered(self) -> bool:
        """Whether `answer` would not wait; for who did not call it yet."""
        return not self._question.done.locked()

    def answer(self, timeout: float | None) -> Answer | None:
        """Wait for the answer; None when the link broke before it came. Once.

        Raises:
            TimeoutError: it did not come in time.
        """
        if not self._question.done.acquire(timeout=-1 if timeout is None else timeout):
            self._wire.forget(self._number)
            raise TimeoutError
        return self._question.answer


class Link:
    """Keep one connection to the hub open, wherever it is.

    Args:
        hub_url: the hub's address of now.
        bearing: where the token comes from.
        near: whether the hub is on this machine.
        clock: the time.
        entropy: jitter.
        doubt: called when the hub cannot be reached; returns at once.
    """

    def __init__(
        self,
        *,
        hub_url: Callable[[], str],
        bearing: Bearing,
        near: bool,
        clock: Clock,
        entropy: Entropy,
        doubt: Callable[[], None] = lambda: None,
    ) -> None:
        self._hub_url = hub_url
        self._bearing = bearing
        self._clock = clock
        self._doubt = doubt
        self._backoff = Backoff(entropy, cap=NEAR_CAP if near else CAP)
        self._lock = threading.Lock()
        self._wire: Wire | None = None
        self._followers: dict[int, Following] = {}
        self._last_follower = 0
        self._stopping = threading.Event()
        #: Set when a link that stays away is to come again.
        self._wanted = threading.Event()
        self._there = threading.Event()
        # A daemon: a forgotten client keeps no process alive.
        self._thread = ServiceThread("hub-link", self._run, daemon=True)
        self._started = False
        self.counters: dict[str, int] = {}

    def start(self) -> None:
        """Begin to connect; once."""
        with self._lock:
            if self._started or self._stopping.is_set():
                return
            self._started = True
        self._thread.start()

    def wait_there(self, timeout: float | None) -> bool:
        """Wait until a connection is there; tell whether it is."""
        return self._there.wait(timeout)

    def call(self, method: str, path: str, body: bytes | None, bearer: str | None, timeout: float) -> Carried | None:
        """Return what the hub answers; None when there is no link, or it broke before the answer came.

        Then the call may or may not have been carried out, and is to be made again elsewhere.

        Raises:
            TimeoutError: no answer came in time.
        """
        raw = _NULL if body is None else msgspec.Raw(body)
        answer = self.ask(lambda number, token: Ask(number, method, path, token, raw), bearer, timeout)
        return None if answer is None else Carried(answer.status, bytes(answer.body), answer.retry_after)

    def ask(self, make: Callable[[int, int], ToHub], token: str | None, timeout: float | None) -> Answer | None:
        """Return the answer to a question; None when there is no link, or it broke before the answer came.

        Raises:
            TimeoutError: no answer came in time.
        """
        asked = self.begin(make, token)
        return None if asked is None else asked.answer(timeout)

    def begin(self, make: Callable[[int, int], ToHub], token: str | None) -> Asked | None:
        """Send a question; None when there is no link."""
        return self._asked(Wire.ask, make, token)

    def pour(self, frames: Sequence[Callable[[int, int], bytes]], token: str | None) -> Asked | None:
        """Send frames of bytes, each made of a number and its token's, the last as a question; None as in `begin`."""
        return self._asked(Wire.pour, frames, token)

    def _asked(
        self, say: Callable[[Wire, What, str | None], tuple[int, Question]], what: What, token: str | None
    ) -> Asked | None:
        wire = self._wire
        if wire is None:
            return None
        try:
            return Asked(wire, *say(wire, what, token))
        except LinkDownError:
            return None

    def tell(self, make: Callable[[int], ToHub], token: str | None = None) -> bool:
        """Send what has no answer; tell whether the link is there."""
        wire = self._wire
        if wire is None:
            return False
        try:
            wire.tell(make, token)
        except LinkDownError:  # the link's thread meets it too
            return False
        return True

    def new_number(self) -> int:
        """Return the number of one more who will hear of channels."""
        with self._lock:
            self._last_follower += 1
            return self._last_follower

    def add(self, number: int, following: Following) -> None:
        """Have somebody hear of channels; he is told of each new connection, not of the one of now."""
        with self._lock:
            self._followers[number] = following

    def remove(self, number: int) -> None:
        """Have it hear no more."""
        with self._lock:
            self._followers.pop(number, None)
        self.tell(lambda _token: Leave(number))

    def renew(self) -> None:
        """Throw the connection away and go on with a new one."""
        self._wanted.set()
        wire = self._wire
        if wire is not None:
            wire.connection.end()

    def stop(self) -> None:
        """Ask it to end, without waiting."""
        self._stopping.set()
        self.renew()

    def close(self, deadline: Deadline) -> None:
        """End the link."""
        self.stop()
        if self._started and not self._thread.join(deadline.remaining()):
            _logger.warning("link_thread_abandoned")

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wanted.clear()
            try:
                self._serve()
            except LinkDownError as error:
                self._lose(error)
                if error.replaced and not self._stopping.is_set():
                    self._clock.wait(self._wanted, AWAY)
            except InvalidMessageError as error:
                self._lose(LinkDownError(f"what the hub says cannot be understood: {error}"))
            if not self._stopping.is_set():
                self._clock.wait(self._stopping, self._backoff.next())

    def _serve(self) -> None:
        bearer = self._bearing.access_token()
        try:
            connection = LinkConnection.open(self._hub_url(), bearer)
        except LinkDownError as error:
            if error.unauthorized:
                self._bearing.on_unauthorized(bearer)
            raise
        wire = Wire(connection)
        with self._lock:
            self._wire = wire
            followers = list(self._followers.values())
        self._there.set()
        self._count("links")
        try:
            if self._stopping.is_set():
                return
            for following in followers:
                following.up()
            while True:
                frame = connection.receive(SILENCE)
                self._backoff.reset()
                if frame.startswith(BROUGHT):
                    self._hear(read_brought(frame))
                    continue
                for operation in from_hub(bytes(frame)):
                    if isinstance(operation, Answer):
                        wire.settle(operation)
                    elif not isinstance(operation, Beat):
                        self._hear(operation)
        finally:
            with self._lock:
                self._wire = None
            self._there.clear()
            # In this order: who sends to a hub that takes nothing holds the wire until the connection is cut.
            connection.close()
            wire.end()

    def _hear(self, said: Followed | Denied | Said | Lost | Brought) -> None:
        following = self._followers.get(said.follower)
        if following is not None:
            following.hear(said)

    def _lose(self, error: LinkDownError) -> None:
        if self._stopping.is_set():
            return
        self._count("links_lost")
        if error.replaced:
            self._count("links_replaced")
            _logger.warning("link_replaced", extra={"reason": "this incarnation has opened a newer one", "away": AWAY})
        _logger.debug("link_down", extra={"reason": str(error)})
        with self._lock:
            followers = list(self._followers.values())
        for following in followers:
            following.down(str(error))
        if not error.replaced:
            self._doubt()

    def _count(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1
