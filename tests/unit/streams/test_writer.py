"""The writing half: bounded, kept for those who miss something, slowed by those who read."""

from __future__ import annotations

from typing import Any

import pytest
from support import FakeClock, wait_until
from support_streams import in_background

from blocks_worker.config import StreamConfig
from blocks_worker.errors import StreamWriteError
from blocks_worker.protocol.streams import Ack
from blocks_worker.streams.book import WINDOW
from blocks_worker.streams.options import WriterOptions, writer_options
from blocks_worker.streams.writer import (
    BATCH_BYTES,
    FORGOTTEN,
    MOST_READERS,
    PROBE_AFTER,
    PROBES,
    READER_SILENCE,
    TAIL_AFTER,
    StreamWriter,
)

MIB = b"x" * (1024 * 1024)


class World:
    """One writer, and what it sent."""

    def __init__(self, form: Any = "bytes", **options: Any) -> None:
        self.clock = FakeClock()
        self.kicks = 0
        self.sent: list[dict[str, Any]] = []
        self.writer = StreamWriter(
            stream_id="s",
            sender="w",
            form=form,
            options=WriterOptions(**options),
            kick=self._kick,
            clock=self.clock,
            name=lambda: "n",
        )

    def _kick(self) -> None:
        self.kicks += 1

    def send(self, *, all_of_it: bool = True) -> list[dict[str, Any]]:
        """Have the network take what waits; return it."""
        found: list[dict[str, Any]] = []
        while True:
            frames = self.writer.take()
            found += frames
            if not self.writer.sent(len(frames)) or not (frames and all_of_it):
                break
        self.sent += found
        return found

    def ack(self, reader: str = "r", next_: int = 0, *missing: tuple[int, int], bye: bool = False) -> None:
        """Have a reader say something."""
        said = Ack(type="stream_ack", stream_id="s", sender=reader, to="w", next=next_, missing=list(missing), bye=bye)
        self.writer.acknowledged(said, self.clock.monotonic())


def test_a_write_does_not_wait_while_there_is_room() -> None:
    """What is written waits here for the network, not in the caller [R-37]."""
    world = World()
    for _ in range(100):
        world.writer.write(b"abc")

    assert world.kicks == 100
    assert sum(len(frame["chunks"]) for frame in world.send()) == 100


def test_a_batch_has_a_bound() -> None:
    """One publish takes so much, and the rest is the next."""
    world = World()
    world.writer.write(b"x" * (4 * BATCH_BYTES))

    first = world.send(all_of_it=False)
    assert BATCH_BYTES <= sum(len(frame["chunks"][0]) for frame in first) < 1.2 * BATCH_BYTES


def test_what_failed_is_sent_again_before_anything_else() -> None:
    """A publish whose end is unknown is repeated with the same frames."""
    world = World(raw_bytes=1)
    world.writer.write("a")
    first = world.writer.take()
    world.writer.write("b")
    second = world.writer.take()
    world.writer.unsent()

    assert world.writer.take() == [*first, *second]
    assert not world.writer.sent(2)


def test_what_is_written_while_something_is_under_way_goes_together() -> None:
    """The first goes at once; small pieces behind it gather until the network has it, or until they are a frame."""
    world = World()
    for text in "abc":
        world.writer.write(text)
        world.writer.take()

    assert (world.kicks, len(world.writer._in_flight)) == (1, 1)
    assert world.writer.sent(1)
    assert [frame["chunks"] for frame in world.writer.take()] == [["b", "c"]]
    world.writer.write(b"x" * 100_000)
    assert (world.kicks, len(world.writer.take())) == (2, 9)


def test_more_is_given_before_the_network_has_the_first() -> None:
    """Frames go ahead of the answers, up to a window; the oldest are answered first."""
    world = World()
    world.writer.write(b"x" * (WINDOW // 2))
    taken: list[list[dict[str, Any]]] = []
    while frames := world.writer.take():
        taken.append(frames)

    assert len(taken) > 2
    assert [frame["seq"] for frames in taken for frame in frames] == list(range(sum(map(len, taken))))
    assert world.writer.sent(len(taken[0]))
    world.writer.unsent()
    assert world.writer.take() == taken[1]


def test_a_writer_without_room_waits_for_the_network() -> None:
    """One MiB waits at most; a writer goes on when the network took some [R-41]."""
    world = World()
    done = in_background(lambda: [world.writer.write(MIB) for _ in range(2)])
    wait_until(lambda: world.writer._packer.waiting >= WINDOW)

    assert world.writer._packer.waiting < WINDOW + 32_768
    wait_until(lambda: world.send() is not None and world.writer._taken > 170)
    assert done(10) == [None, None]


def test_who_waits_for_room_is_woken_for_more_than_a_frame() -> None:
    """It sleeps until half a window is free, and then writes for a while."""
    world = World()
    world.writer.write(b"x" * (WINDOW * 3 // 4 - 4096))
    while world.writer.take():
        pass
    frames = world.writer._given
    done = in_background(lambda: [world.writer.write(b"x" * (WINDOW // 8)) for _ in range(4)])
    wait_until(lambda: world.writer._room_left() <= 0)
    before = world.writer._taken
    world.writer.sent(1)

    assert (world.writer._taken, world.writer._room_left() > 0) == (before, True)
    world.writer.sent(frames - 1)
    assert done(10) == [None] * 4


def test_a_reader_that_is_there_slows_the_writer() -> None:
    """What a reader has not taken counts, however fast the network is."""
    world = World()
    world.ack()
    done = in_background(lambda: [world.writer.write(MIB) for _ in range(3)])
    wait_until(lambda: not world.send() and len(world.sent) > 20)
    before = world.writer.next_seq

    assert sum(len(frame["chunks"][0]) for frame in world.sent) < 1.5 * WINDOW
    world.ack(next_=before)
    wait_until(lambda: world.send() and world.writer.next_seq > before)

    def take_all() -> bool:
        world.send()
        world.ack(next_=world.writer.next_seq)
        return world.writer._taken == 3 * -(-len(MIB) // 11_805)

    wait_until(take_all)
    assert done(10) == [None, None, None]


def test_a_reader_that_fell_silent_slows_nobody() -> None:
    """It counts as gone after a while, and one that leaves at once."""
    world = World()
    for reader in ("r", "q"):
        world.ack(reader)
    assert world.writer.readers() == 2
    world.ack("q", bye=True)
    assert world.writer.readers() == 1
    world.writer.write("x" * (WINDOW * 3 // 4))
    world.send()
    world.clock.advance(READER_SILENCE + 1)

    world.writer.write("x" * (WINDOW // 2))
    assert world.writer.readers() == 0


def test_a_reader_that_has_all_may_be_silent() -> None:
    """It is not forgotten for it; once there is something for it, it has the same time as any other."""
    world = World()
    world.writer.write("a")
    world.send()
    world.ack("r", 1)
    world.clock.advance(10 * READER_SILENCE)
    world.writer.write("x" * WINDOW)
    world.send()

    waits = in_background(lambda: world.writer.write("b"))
    wait_until(lambda: world.writer.readers() == 1)
    world.clock.advance(READER_SILENCE + 1)
    world.writer.wake()
    waits()
    assert world.writer.readers() == 0


def test_the_last_frame_is_sent_again_when_nobody_says_that_he_has_it() -> None:
    """A reader on a quiet stream does not know that there is one; after some times it is left to him to ask."""
    world = World()
    world.ack("r")
    world.writer.write("a")
    world.send()
    again = []
    for _ in range(PROBES + 2):
        world.clock.advance(PROBE_AFTER)
        world.writer.look(world.clock.monotonic())
        again.append([frame["seq"] for frame in world.send()])
    assert again == [[0]] * PROBES + [[], []]
    assert world.writer.due() == float("inf")

    world.writer.write("b")
    world.send()
    world.ack("r", 2)
    world.clock.advance(PROBE_AFTER)
    world.writer.look(world.clock.monotonic())
    assert world.send() == []


def test_only_so_many_readers_count() -> None:
    """One more slows nobody, until another was not heard of for long. [R-41]"""
    world = World()
    for number in range(MOST_READERS + 1):
        world.ack(f"r{number}")
    assert world.writer.readers() == MOST_READERS

    world.clock.advance(FORGOTTEN)
    world.ack("late")
    world.writer.write("x" * WINDOW)
    world.send()
    assert world.writer.readers() == MOST_READERS


def test_the_slowest_reader_counts() -> None:
    """A fast one does not make room for a slow one."""
    world = World()
    world.ack("fast")
    world.ack("slow")
    waits = in_background(lambda: [world.writer.write(MIB), world.writer.write("more")])
    wait_until(lambda: not world.send() and len(world.sent) > 60)
    world.ack("fast", world.writer.next_seq)
    with pytest.raises(AssertionError, match="still at work"):
        waits(0.2)

    world.ack("slow", world.writer.next_seq)
    assert waits(5) == [None, None]


def test_who_is_to_stop_waits_no_more() -> None:
    """A cancel ends the wait with its error; while there is room it changes nothing."""
    world = World()
    world.ack()
    stop: list[BaseException] = []
    waits = in_background(lambda: world.writer.write(MIB + MIB, lambda: stop[0] if stop else None))
    wait_until(lambda: not world.send() and len(world.sent) > 20)
    stop.append(InterruptedError("stop"))
    world.writer.wake()

    assert isinstance(waits(5), InterruptedError)
    world.ack(next_=world.writer.next_seq)
    world.writer.write("x", lambda: stop[0])


def test_frames_that_were_lost_for_good_are_told_to_the_writer() -> None:
    """Once it was given up, each write says why, also one that waits [R-17]."""
    world = World()
    world.ack()
    waits = in_background(lambda: world.writer.write(MIB + MIB))
    wait_until(lambda: not world.send() and len(world.sent) > 20)
    world.writer.break_off("no network")

    assert isinstance(waits(5), StreamWriteError)
    with pytest.raises(StreamWriteError, match="no network"):
        world.writer.write("x")
    assert not world.writer.flushed(5)
    assert world.writer.why_broken == "no network"


def test_what_is_missing_is_sent_again() -> None:
    """A reader names ranges, and gets what is kept of them, each frame once."""
    world = World(bundle_bytes=1)
    for number in range(10):
        world.writer.write(str(number))
    world.send()
    world.ack("r", 3, (3, 4), (7, 7))
    world.ack("q", 3, (4, 4))

    assert [frame["seq"] for frame in world.send()] == [3, 4, 7]


def test_as_much_as_a_window_is_kept() -> None:
    """The oldest frames go: a reader that comes later is told of a gap [R-19]."""
    world = World()
    for _ in range(6):
        world.writer.write("x" * (WINDOW // 2))
        world.send()
    world.ack("late", 0, (0, 10_000))

    again = world.send()
    assert WINDOW <= sum(len(frame["chunks"][0]) for frame in again) < 1.1 * WINDOW
    assert again[-1]["seq"] == world.writer.next_seq - 1


def test_a_reader_that_knows_nothing_of_the_last_frame_gets_it_again() -> None:
    """The end of a burst may be lost without a frame behind it that would show the hole."""
    world = World(bundle_bytes=1)
    for number in range(3):
        world.writer.write(str(number))
    world.send()
    world.ack("r", 1)
    assert [frame["seq"] for frame in world.send()] == [2]
    world.ack("r", 1)
    assert world.send() == []

    world.clock.advance(TAIL_AFTER)
    world.ack("r", 1)
    assert [frame["seq"] for frame in world.send()] == [2]
    world.ack("r", 3)
    assert world.send() == []


def test_the_end_is_the_last_frame() -> None:
    """It has the number behind the data, and nothing is taken after it."""
    world = World()
    world.writer.write("a")
    world.writer.end()
    world.writer.end()
    frames = world.send()

    assert [(frame["type"], frame["seq"]) for frame in frames] == [("stream_data", 0), ("stream_end", 1)]
    assert world.writer.next_seq == 1
    assert world.writer.flushed(1)
    with pytest.raises(RuntimeError, match="has ended"):
        world.writer.write("b")


def test_a_shared_stream_says_no_end() -> None:
    """Its readers are ended by their own tasks."""
    world = World(ends=False)
    world.writer.write("a")
    world.writer.end()

    assert [frame["type"] for frame in world.send()] == ["stream_data"]
    assert world.send() == []


def test_what_one_call_writes_stays_together() -> None:
    """Two threads that write large events do not mix their slices."""
    world = World("events")
    results = [in_background(lambda: world.writer.write({"x": "y" * 200_000})) for _ in range(2)]
    for result in results:
        result(10)

    parts = [frame["multipart"]["part"] for frame in world.send()]
    half = len(parts) // 2
    assert parts == [*range(1, half + 1)] * 2


def test_a_number_behind_what_was_written_so_far() -> None:
    """Who leaves a shared stream knows where his part ends, while others go on writing."""
    world = World(bundle_bytes=1)
    world.writer.write("a")
    world.writer.write("b")
    waits = in_background(lambda: world.writer.framed(10))
    wait_until(world.send)

    assert waits(5) == 2


def test_a_first_reader_is_waited_for() -> None:
    """No longer than told, and not at all when one is there [R-19]."""
    world = World()
    assert not world.writer.wait_for_reader(0.0)
    waits = in_background(lambda: world.writer.wait_for_reader(30))
    world.ack()
    world.writer.wake()

    assert waits(5) is True


def test_options_come_from_the_surroundings() -> None:
    """What the environment says of frames and bundles is what writers do."""
    options = writer_options(StreamConfig(frame_bytes=2_000, bundle_bytes=7))

    assert (options.frame_bytes, options.bundle_bytes, options.ends) == (2_000, 7, True)
