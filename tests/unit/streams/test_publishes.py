"""Publishes of streams that go ahead of their answers: in order, each once as far as is known, none lost in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support import FakeClock

from blocks_worker.errors import BlocksError, PublishRefusedError, PublishTimeoutError, TransportClosedError
from blocks_worker.protocol.chunks import RAW
from blocks_worker.streams.endpoint import Endpoint
from blocks_worker.streams.identity import StreamIdentity
from blocks_worker.streams.options import WriterOptions
from blocks_worker.streams.pace import ACK_EVERY
from blocks_worker.streams.publishes import GIVE_UP, Publishes
from blocks_worker.streams.writer import StreamWriter
from blocks_worker.transports.memory import MemoryBus, MemoryTransport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.concurrency import Deadline
    from blocks_worker.streams.trouble import StreamError


class Said:
    """Be one publish whose end the test tells."""

    def __init__(self, messages: Sequence[dict[str, Any]]) -> None:
        self.numbers = [message[RAW].seq for message in messages if RAW in message]
        self.is_answered = False
        self.error: BlocksError | None = None

    def settle(self, _deadline: Deadline) -> None:
        """End as told."""
        if self.error is not None:
            raise self.error


class Ahead(MemoryTransport):
    """Be a transport that sends ahead; `said` is what was begun, `hints` what nobody hears of."""

    def __init__(self) -> None:
        super().__init__(MemoryBus(), producer="p")
        self.said: list[Said] = []
        self.hints: list[dict[str, Any]] = []
        self.is_there = True

    def begin(self, _channel: str, messages: Sequence[dict[str, Any]], _deadline: Deadline) -> Said:
        """Take it."""
        self.said.append(Said(messages))
        return self.said[-1]

    def hint(self, _channel: str, messages: Sequence[dict[str, Any]], _deadline: Deadline) -> bool:
        """Take it, if there is a connection."""
        if self.is_there:
            self.hints += messages
        return self.is_there


class World:
    """One stream and its publishes."""

    def __init__(self, *, reads: bool = False) -> None:
        self.clock = FakeClock()
        self.transport = Ahead()
        self.kicks = 0
        self.errors: list[StreamError] = []
        self.writer = StreamWriter(
            stream_id="s",
            sender="me",
            form="bytes",
            options=WriterOptions(raw_bytes=1),
            kick=lambda: None,
            clock=self.clock,
            name=lambda: "n",
        )
        self.endpoint = Endpoint(
            identity=StreamIdentity("t", "s", "stream.a.s"),
            is_agent=True,
            form="bytes",
            name="me",
            clock=self.clock,
            kick=self._kick,
            writer=None if reads else self.writer,
            reads=reads,
        )
        self.endpoint.listen(self)
        self.publishes = Publishes(self.transport, kick=self._kick, clock=self.clock)

    def _kick(self, _endpoint: Endpoint) -> None:
        self.kicks += 1

    def troubled(self, error: StreamError) -> None:
        """Note it."""
        self.errors.append(error)

    def closing(self) -> None:
        """Do nothing."""

    def finished(self) -> None:
        """Do nothing."""

    def write(self, *items: Any) -> None:
        """Write each and have it sent by itself."""
        for item in items:
            self.writer.write(item)
            self.publishes.begin(self.endpoint)

    def answer(self, *places: int, error: BlocksError | None = None) -> None:
        """Have the network answer some, and look what was answered."""
        for place in places:
            self.transport.said[place].is_answered = True
            self.transport.said[place].error = error
        self.publishes.settle(waits=False)

    def numbers(self) -> list[list[int]]:
        """Return the numbers of the frames of each publish."""
        return [each.numbers for each in self.transport.said]

    def speak(self) -> None:
        """Have a reader say something."""
        self.endpoint._speak()
        self.publishes.begin(self.endpoint)


def test_publishes_go_ahead_of_their_answers() -> None:
    """The next is sent before the last is answered; what was written is with the network when all are."""
    world = World()
    world.write("a", "b", "c")

    assert world.numbers() == [[0], [1], [2]]
    world.answer(1)
    assert not world.writer.flushed(0)
    world.answer(0, 2)
    assert world.writer.flushed(0)
    assert not world.publishes.are_underway


def test_after_one_that_failed_all_behind_it_is_sent_again() -> None:
    """Nobody knows what came of it: the order is kept, and nothing is lost."""
    world = World()
    world.write("a", "b", "c")
    world.answer(0)
    world.answer(1, error=PublishTimeoutError("late"))
    world.publishes.begin(world.endpoint)

    assert world.numbers() == [[0], [1], [2], [1, 2]]
    assert not world.writer.flushed(0)
    world.answer(3)
    assert world.writer.flushed(0)


def test_what_fails_for_long_is_told_to_the_writer() -> None:
    """Frames that are lost for good are lost aloud."""
    world = World()
    world.write("a")
    world.answer(0, error=PublishTimeoutError("late"))
    world.clock.advance(GIVE_UP + 1)
    world.publishes.begin(world.endpoint)
    world.answer(1, error=PublishTimeoutError("late again"))

    assert world.writer.why_broken == "late again"
    assert [error.category for error in world.errors] == ["network_down"]


def test_a_refusal_ends_the_stream() -> None:
    """What was sent behind it changes nothing."""
    world = World()
    world.write("a", "b")
    world.answer(0, error=PublishRefusedError("no right"))
    world.answer(1)

    assert [error.category for error in world.errors] == ["access_denied"]
    assert world.writer.why_broken == "no right"


def test_what_nobody_expects_loses_no_frame() -> None:
    """A fault of the transport is reported by the thread, and the frames are sent again."""
    world = World()
    world.write("a", "b")
    world.transport.said[0].is_answered = True
    world.transport.said[0].error = ValueError("a fault")  # type: ignore[assignment]
    kicks = world.kicks
    with pytest.raises(ValueError, match="a fault"):
        world.publishes.settle(waits=False)
    assert world.kicks == kicks + 1
    world.publishes.begin(world.endpoint)

    assert world.numbers() == [[0], [1], [0, 1]]


def test_a_closed_transport_ends_the_thread() -> None:
    """It is not taken for trouble of the stream."""
    world = World()
    world.write("a")
    with pytest.raises(TransportClosedError):
        world.answer(0, error=TransportClosedError("closed"))

    assert not world.errors


def test_acknowledgements_ask_for_an_answer_now_and_then() -> None:
    """A reader says the same again with the next one: an answer every five seconds shows whether it is heard."""
    world = World(reads=True)
    world.speak()
    world.answer(0)
    world.speak()
    world.speak()

    assert (len(world.transport.said), len(world.transport.hints)) == (1, 2)
    world.clock.advance(ACK_EVERY)
    world.speak()
    assert (len(world.transport.said), len(world.transport.hints)) == (2, 2)


def test_the_last_word_of_a_reader_is_answered() -> None:
    """It is not said again; so is what finds no connection."""
    world = World(reads=True)
    world.speak()
    world.answer(0)
    world.transport.is_there = False
    world.speak()
    world.transport.is_there = True
    world.endpoint.close()
    world.publishes.begin(world.endpoint)

    assert (len(world.transport.said), len(world.transport.hints)) == (3, 0)
