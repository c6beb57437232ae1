"""One side of a stream without a network: what comes, what is to be sent, when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support import FakeClock

from blocks_worker.protocol.codec import convert
from blocks_worker.protocol.streams import Ack
from blocks_worker.streams.book import WINDOW
from blocks_worker.streams.endpoint import (
    ACK_BYTES,
    AFTER_OUTAGE,
    CALLBACKS_FIRST,
    MOST_WRITERS,
    Endpoint,
)
from blocks_worker.streams.identity import StreamIdentity
from blocks_worker.streams.options import WriterOptions
from blocks_worker.streams.pace import ACK_EVERY, ACK_QUIET
from blocks_worker.streams.reader import BUFFER_BYTES
from blocks_worker.streams.silence import QUIET, QUIET_BEFORE_FIRST
from blocks_worker.streams.writer import StreamWriter

if TYPE_CHECKING:
    from blocks_worker.streams.trouble import StreamError

IDENTITY = StreamIdentity("t", "s", "stream.a.s")


class World:
    """An endpoint, and what it told."""

    def __init__(self, *, form: Any = "events", writes: bool = False, reads: bool = True, **more: Any) -> None:
        self.clock = FakeClock()
        self.kicks = 0
        self.errors: list[StreamError] = []
        self.ends = 0
        #: Whether callbacks hold the end up.
        self.is_slow = False
        writer = None
        if writes:
            writer = StreamWriter(
                stream_id="s",
                sender="me",
                form=form,
                options=WriterOptions(),
                kick=lambda: None,
                clock=self.clock,
                name=lambda: "n",
            )
        self.endpoint = Endpoint(
            identity=IDENTITY,
            is_agent=False,
            form=form,
            name="me",
            clock=self.clock,
            kick=self._kick,
            writer=writer,
            reads=reads,
            **more,
        )
        self.endpoint.listen(self)

    def _kick(self, _endpoint: Endpoint) -> None:
        self.kicks += 1

    def troubled(self, error: StreamError) -> None:
        """Note it."""
        self.errors.append(error)

    def closing(self) -> None:
        """Close, as one does whose callbacks have run."""
        if not self.is_slow:
            self.endpoint.close()

    def finished(self) -> None:
        """Note it."""
        self.ends += 1

    def frame(self, seq: int, *events: Any, sender: str = "w", kind: str = "stream_events") -> None:
        """Have a frame come."""
        body: dict[str, Any] = {"type": kind, "streamId": "s", "sender": sender, "seq": seq, "ts": 1}
        self.endpoint.take(body if kind == "stream_end" else {**body, "events": list(events) or [seq]})

    def taken(self) -> list[Any]:
        """Return what can be read, for an endpoint that has ended."""
        assert self.endpoint.reader is not None
        return list(self.endpoint.reader.items())

    def said(self) -> list[dict[str, Any]]:
        """Return what is to be published, as it was."""
        acks, frames = self.endpoint.outgoing()
        self.endpoint.sent(len(frames))
        return [*acks, *frames]


def test_a_reader_says_at_once_that_it_is_there() -> None:
    """The writer is to know who reads, and from where [R-20]."""
    world = World(only="w", first=5)

    assert world.said() == [{"type": "stream_ack", "streamId": "s", "sender": "me", "to": "w", "next": 5}]
    assert world.said() == []
    world.clock.advance(ACK_EVERY)
    assert len(world.said()) == 1


def test_a_reader_that_knows_no_writer_speaks_to_all() -> None:
    """The stream of another process names none."""
    assert World().said() == [{"type": "stream_ack", "streamId": "s", "sender": "me"}]


def test_frames_of_other_streams_and_writers_are_passed_over() -> None:
    """Only the announced writer is listened to."""
    world = World(only="w")
    world.frame(0, "mine")
    world.frame(0, "not mine", sender="x")
    world.endpoint.take({"type": "stream_events", "streamId": "z", "sender": "w", "seq": 1, "events": [1]})
    world.endpoint.take({"type": "stream_news"})
    world.frame(1, kind="stream_end")

    assert world.taken() == ["mine"]


def test_what_cannot_be_read_is_told() -> None:
    """A broken frame is no fatal error."""
    world = World()
    world.endpoint.take({"type": "stream_data", "streamId": "s", "sender": "w", "seq": -1})
    world.endpoint.take({"type": "stream_events", "streamId": "s", "sender": "w", "seq": 0, "events": []})

    assert [error.category for error in world.errors] == ["malformed_response"] * 2
    assert not any(error.fatal for error in world.errors)


def test_a_writer_hears_what_was_taken() -> None:
    """A word goes back after so many bytes, and at the end."""
    world = World(form="bytes", only="w")
    world.said()
    chunk = "x" * 16_000
    for seq in range(ACK_BYTES // 16_000 + 1):
        world.endpoint.take(
            {"type": "stream_data", "streamId": "s", "sender": "w", "seq": seq, "encoding": "utf8", "chunks": [chunk]}
        )
    assert [ack["next"] for ack in world.said()] == [ACK_BYTES // 16_000 + 1]

    world.frame(ACK_BYTES // 16_000 + 1, kind="stream_end")
    assert [ack["bye"] for ack in world.said()] == [True]
    assert world.endpoint.due() == float("inf")


@pytest.mark.parametrize(
    ("form", "item", "raw", "together"),
    [
        ("bytes", b"x", 256 * 1024, 1_000),
        ("bytes", b"x", 256 * 1024, 1),
        ("bytes", "x", 0, 1),
        ("bytes", "漢" * 1_000, 0, 1),
        ("events", "漢" * 1_000, 0, 1),
        ("events", 1, 0, 1),
    ],
)
def test_a_writer_hears_before_its_window_is_over(form: Any, item: Any, raw: int, together: int) -> None:
    """A reader counts as much as the writer, for the smallest pieces and frames and for what travels escaped, too."""
    world = World(form=form, only="w")
    writer = StreamWriter(
        stream_id="s",
        sender="w",
        form=form,
        options=WriterOptions(raw_bytes=raw),
        kick=lambda: None,
        clock=world.clock,
        name=lambda: "n",
    )
    while writer._book.made < 1.1 * WINDOW:
        for _ in range(together):
            writer.write(item, lambda: TimeoutError("there is no room"))
        frames = writer.take()
        writer.sent(len(frames))
        for frame in frames:
            world.endpoint.take(frame)
        for said in world.said():
            writer.acknowledged(convert(Ack, said), world.clock.monotonic())


def test_an_idle_stream_is_silent_until_something_comes() -> None:
    """Its reader speaks once a minute at the end; the next frame is acknowledged as soon as ever. [R-36]"""
    world = World(only="w")
    words = []
    for _ in range(400):
        words += [world.clock.monotonic()] * len(world.said())
        world.clock.advance(1.0)
    assert words[-1] - words[-2] == ACK_QUIET

    kicks = world.kicks
    world.frame(0)
    assert world.kicks == kicks + 1
    assert world.said() == []
    assert world.endpoint.due() == pytest.approx(world.clock.monotonic() + ACK_EVERY)
    world.clock.advance(ACK_EVERY)
    assert [said["next"] for said in world.said()] == [1]


def test_a_full_reader_tells_of_nothing_new() -> None:
    """The writer is slowed by it, and goes on when something was taken."""
    world = World(form="bytes", only="w")
    chunk = "x" * 16_000
    for seq in range(BUFFER_BYTES // 16_000 + 10):
        world.endpoint.take(
            {"type": "stream_data", "streamId": "s", "sender": "w", "seq": seq, "encoding": "utf8", "chunks": [chunk]}
        )
    world.clock.advance(ACK_EVERY)
    assert [ack["next"] for ack in world.said()] == [0]

    assert world.endpoint.reader is not None
    items = world.endpoint.reader.items()
    for _ in range(50):
        next(items)
        world.endpoint.consumed()
    assert [ack["next"] for ack in world.said()] == [BUFFER_BYTES // 16_000 + 10]


def test_what_is_missing_is_asked_for_and_then_told() -> None:
    """First the writer, then the user: nothing is lost in silence."""
    world = World(only="w", patience=0.75)
    world.said()
    world.frame(0)
    world.frame(2)
    world.clock.advance(0.2)
    world.endpoint.look()
    assert [ack["missing"] for ack in world.said()] == [[[1, 1]]]

    world.clock.advance(0.6)
    world.endpoint.look()
    assert [error.category for error in world.errors] == ["gap"]
    world.frame(3, kind="stream_end")
    assert world.taken() == [0, 2]


def test_a_hole_of_an_outage_is_waited_for_longer() -> None:
    """The writer may be found again later than we are."""
    world = World(only="w", patience=0.75)
    world.frame(1)
    world.endpoint.link(there=False)
    world.clock.advance(100)
    world.endpoint.look()
    world.endpoint.link(there=True)
    world.clock.advance(AFTER_OUTAGE - 1)
    world.endpoint.look()
    assert world.errors == []

    world.frame(0)
    world.frame(2, kind="stream_end")
    assert world.taken() == [0, 1]


def test_an_acknowledgement_that_was_not_sent_is_made_again() -> None:
    """A writer that waits for it must not wait for the next."""
    world = World(only="w")
    world.endpoint.outgoing()
    world.endpoint.unsent()

    assert len(world.said()) == 1


def test_the_end_that_the_task_tells_is_enough() -> None:
    """The frame that says it may be lost, or there is none [R-29]."""
    world = World(only="w")
    world.endpoint.end_at(2)
    world.frame(0)
    assert world.ends == 0
    world.frame(1)

    assert world.ends == 1
    assert world.taken() == [0, 1]


def test_a_stream_has_ended_when_both_halves_have() -> None:
    """One who reads no more may still write; the end is told once."""
    world = World(writes=True, only="w")
    world.frame(0, kind="stream_end")
    assert (world.ends, world.endpoint.is_over) == (0, False)
    assert world.taken() == []

    world.endpoint.close()
    world.endpoint.close()
    assert (world.ends, world.endpoint.is_over) == (1, True)


def test_an_ended_writer_still_answers() -> None:
    """What it kept is for those who miss something."""
    world = World(writes=True, reads=False)
    assert world.endpoint.writer is not None
    world.endpoint.writer.write("a")
    world.endpoint.close()
    world.said()
    word = {"type": "stream_ack", "streamId": "s", "sender": "r", "to": "me", "next": 0, "missing": [[0, 0]]}
    world.endpoint.take(word)

    assert world.ends == 1
    assert [frame["seq"] for frame in world.said()] == [0]


def test_a_fatal_error_ends_both_halves_after_it_was_told() -> None:
    """It is told once; the listener closes, or time does."""
    world = World(writes=True)
    world.said()
    world.endpoint.fail("access_denied", "revoked")
    world.endpoint.fail("access_denied", "revoked")
    assert [(error.category, error.fatal, error.channel) for error in world.errors] == [
        ("access_denied", True, "stream.a.s")
    ]
    assert world.ends == 0

    world.clock.advance(CALLBACKS_FIRST)
    world.endpoint.look()
    assert world.ends == 1
    assert world.said() == []
    assert world.endpoint.due() == float("inf")


def test_the_first_listener_hears_of_what_was_before() -> None:
    """Trouble and the end of a stream that nobody listened to yet are told when somebody does, once."""
    world = World(only="w")
    world.endpoint.unlisten(world)
    world.endpoint.fail("malformed_response", "broken")
    world.endpoint.close()
    assert (world.errors, world.ends) == ([], 0)

    world.endpoint.listen(world)
    assert ([error.error for error in world.errors], world.ends) == (["broken"], 1)


def test_a_stream_that_does_not_end_in_time_says_so() -> None:
    """What is cut off after the task is told as a timeout."""
    world = World(only="w")
    world.endpoint.close_within(30)
    world.clock.advance(30)
    world.endpoint.look()

    assert [error.category for error in world.errors] == ["timeout"]
    assert world.ends == 1


def test_a_stream_of_a_dead_writer_ends_when_all_of_it_came() -> None:
    """A second after the last frame: what was on its way is shown, and nothing waits for the drain window. [D-13]"""
    world = World(only="w")
    world.frame(0)
    world.endpoint.close_within(30)
    world.endpoint.writer_is_gone()
    for seq in (1, 2):
        world.clock.advance(QUIET - 0.1)
        world.frame(seq)
        world.endpoint.look()
    assert (world.errors, world.ends) == ([], 0)

    world.clock.advance(QUIET)
    assert world.endpoint.due() <= world.clock.monotonic()
    world.endpoint.look()
    assert world.taken() == [0, 1, 2]
    assert [(error.category, error.fatal) for error in world.errors] == [("other", False)]
    assert world.ends == 1


def test_who_reads_a_lost_stream_is_told_before_it_ends() -> None:
    """The error comes first, once; what then holds the callbacks up holds the end up for a few seconds only."""
    world = World(only="w")
    world.is_slow = True
    world.frame(0)
    world.endpoint.writer_is_gone()
    world.clock.advance(QUIET)
    for _ in range(2):
        world.endpoint.look()
        assert ([error.category for error in world.errors], world.ends) == (["other"], 0)
        world.said()
        assert world.endpoint.is_reading
        assert world.endpoint.due() > world.clock.monotonic()

    world.clock.advance(CALLBACKS_FIRST)
    world.endpoint.look()
    assert (len(world.errors), world.ends, world.taken()) == (1, 1, [0])


def test_a_lost_stream_that_nobody_listens_to_ends_at_once() -> None:
    """There is nobody to be told first; who listens later hears why."""
    world = World(only="w")
    world.endpoint.unlisten(world)
    world.endpoint.writer_is_gone()
    world.clock.advance(QUIET_BEFORE_FIRST)
    world.endpoint.look()
    assert world.endpoint.is_over

    world.endpoint.listen(world)
    assert ([error.category for error in world.errors], world.ends) == (["other"], 1)


def test_a_dead_writers_frames_are_waited_for_through_an_outage() -> None:
    """While the network is away, or something is missing, silence is no end; before the first frame it is long."""
    world = World(only="w")
    world.endpoint.writer_is_gone()
    world.clock.advance(QUIET + 1)
    world.endpoint.look()
    world.endpoint.link(there=False)
    world.clock.advance(60)
    world.endpoint.look()
    world.endpoint.link(there=True)
    world.frame(1)
    world.clock.advance(QUIET)
    world.endpoint.look()
    assert world.ends == 0

    world.frame(0)
    world.clock.advance(QUIET)
    world.endpoint.look()
    assert world.taken() == [0, 1]
    assert world.ends == 1


def test_a_writer_that_is_gone_and_never_said_a_word() -> None:
    """The stream ends after the time that its beginning may take to be fetched."""
    world = World(only="w")
    world.endpoint.writer_is_gone()
    world.clock.advance(QUIET_BEFORE_FIRST)
    world.endpoint.look()

    assert (world.taken(), world.ends) == ([], 1)


def test_events_that_are_not_as_declared_are_dropped_and_told() -> None:
    """The others of the same frame are shown."""

    def check(event: Any) -> None:
        if str(event).isalpha():
            raise ValueError("not a number")

    world = World(check=check)
    world.frame(0, 1, "two", 3)
    world.frame(1, "four")
    world.frame(2, kind="stream_end")

    assert world.taken() == [1, 3]
    assert [(error.category, error.error) for error in world.errors] == [("malformed_response", "not a number")] * 2


def test_only_so_many_writers_are_followed() -> None:
    """One more is not heard [R-41]."""
    world = World()
    for number in range(MOST_WRITERS + 5):
        world.frame(0, number, sender=f"w{number}")
    world.frame(1, kind="stream_end", sender="w0")

    assert world.taken() == list(range(MOST_WRITERS))


@pytest.mark.parametrize("is_agent", [True, False])
def test_each_side_reads_the_channel_that_the_other_writes(*, is_agent: bool) -> None:
    """The agent speaks down, the consumers up."""
    endpoint = Endpoint(
        identity=IDENTITY, is_agent=is_agent, form="events", name="me", clock=FakeClock(), kick=lambda _: None
    )

    channels = ("stream.a.s", "stream.a.s.up")
    assert (endpoint.write_channel, endpoint.read_channel) == (channels if is_agent else channels[::-1])
