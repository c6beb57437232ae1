"""The writing half of a stream: bounded, numbered, kept until readers have it, slowed by those that are there."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from blocks_worker.concurrency import Deadline
from blocks_worker.errors import StreamWriteError
from blocks_worker.streams.book import LEAST, WINDOW, Book, Kept
from blocks_worker.streams.packing import Packer, Piece, pieces_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.protocol.streams import Ack, Format
    from blocks_worker.streams.options import WriterOptions

    #: Tells whether a wait is to end: with which error.
    Stopped = Callable[[], BaseException | None]

#: Seconds without a word, while there is something that it has not taken, after which a reader counts as gone.
READER_SILENCE = 15.0
#: Seconds after the last frame in which a reader says that it has it; else the frame is sent again, so many times.
PROBE_AFTER = 7.0
PROBES = 2
#: Readers that one writer listens to; more read, but do not slow it. One that said nothing for so many seconds makes
#: room for another.
MOST_READERS = 256
FORGOTTEN = 150.0
#: Bytes of frames that one publish takes, and of those that are not JSON.
BATCH_BYTES = 128 * 1024
RAW_BATCH_BYTES = 512 * 1024
#: Bytes of room for which a writer that waits is woken: it then writes for a while, instead of waking for each frame.
#: Readers say what they have taken after fewer, so as much comes.
EASE = WINDOW // 2
#: Longest single wait in seconds for room: readers that fell silent are looked for this often.
_LOOK = 1.0
#: Seconds after its last frame in which a writer takes for granted that it is still on its way to known readers.
TAIL_AFTER = 1.0
#: Seconds that a flush waits on once the task is to stop.
HURRY = 5.0


@dataclass
class _Reader:
    next: int
    heard_at: float


def _goes_on() -> None:
    """Say that nobody is to stop."""


class StreamWriter:
    """Take data from any thread and give frames to the sender.

    `kick` is called, without the lock, whenever there is something to send. Several may write at the same time: what
    one call is given stays together. A call that may wait is handed `stopped`, which returns the error to raise, or
    None; after a change of that, `wake` is to be called.
    """

    def __init__(
        self,
        *,
        stream_id: str,
        sender: str,
        form: Format,
        options: WriterOptions,
        kick: Callable[[], None],
        clock: Clock,
        name: Callable[[], str],
    ) -> None:
        self.sender = sender
        self._stream_id = stream_id
        self._format = form
        self._options = options
        self._kick = kick
        self._clock = clock
        self._name = name
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        #: For those that wait for room, and for all others.
        self._room = threading.Condition(self._lock)
        self._changed = threading.Condition(self._lock)
        self._packer = Packer(
            stream_id=stream_id,
            sender=sender,
            bundle=options.bundle_bytes,
            limit=options.frame_bytes,
            raw=options.raw_bytes,
        )
        self._book = Book()
        self._readers: dict[str, _Reader] = {}
        self._resend: deque[Kept] = deque()
        #: What the network is to have, in order; the first of them it was given.
        self._in_flight: deque[Kept] = deque()
        self._in_flight_bytes = 0
        self._given = 0
        self._batch = RAW_BATCH_BYTES if options.raw_bytes else BATCH_BYTES
        self._gathers = min(self._batch, options.raw_bytes or self._batch)
        self._ended = False
        self._end_made = False
        self._broken: str | None = None
        self._made_at = float("-inf")
        self._probe_at = float("inf")
        self._probes = 0
        #: Pieces that were taken so far, and that are in frames.
        self._taken = 0
        self._framed = 0

    @property
    def is_active(self) -> bool:
        """Tell whether it takes more."""
        return not self._ended and self._broken is None

    @property
    def next_seq(self) -> int:
        """The number of the next frame; once ended, the number behind the last."""
        with self._lock:
            return self._next_seq()

    @property
    def why_broken(self) -> str | None:
        """Why it was given up; None while it was not."""
        return self._broken

    def write(self, data: Any, stopped: Stopped = _goes_on) -> None:
        """Take data; wait while a window of earlier ones is not with the network, or with readers that are there.

        Raises:
            RuntimeError: the stream has ended.
            StreamWriteError: earlier frames could not be delivered.
            TypeError, ValueError: not what this stream carries.
            BaseException: what `stopped` returns, while there is no room.
        """
        with self._lock:
            self._check_active()
        options = self._options
        pieces = pieces_of(data, self._format, limit=options.frame_bytes, name=self._name, raw=options.raw_bytes)
        with self._turn:
            for piece in pieces:
                self._add(piece, stopped)

    def wait_for_reader(self, timeout: float, stopped: Stopped = _goes_on) -> bool:
        """Wait until somebody reads; tell whether somebody does."""
        deadline = Deadline(timeout, self._clock)
        with self._lock:
            while not self._readers and self._is_waitable(deadline) and stopped() is None and not self._ended:
                self._changed.wait(deadline.within(_LOOK))
            return bool(self._readers)

    def end(self) -> None:
        """Take nothing more; what waits is still sent, and then that this was all."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self._wake_all()
        self._kick()

    def flushed(self, timeout: float | None, stopped: Stopped = _goes_on) -> bool:
        """Wait until the network has all; tell whether it has. Who is to stop does not wait for long."""
        deadline, hurries = Deadline(timeout, self._clock), False
        with self._lock:
            while self._has_work() and self._is_waitable(deadline):
                if stopped() is not None and not hurries:
                    deadline, hurries = Deadline(deadline.within(HURRY), self._clock), True
                self._changed.wait(deadline.within(_LOOK))
            return not self._has_work() and self._broken is None

    def framed(self, timeout: float | None) -> int:
        """Wait until all that was written so far is in frames; return the number behind the last of them."""
        deadline = Deadline(timeout, self._clock)
        with self._lock:
            goal = self._taken
            while self._framed < goal and self._is_waitable(deadline):
                self._changed.wait(deadline.within(_LOOK))
            return self._next_seq()

    def wake(self) -> None:
        """Have whoever waits look whether to stop."""
        with self._lock:
            self._wake_all()

    def break_off(self, why: str) -> None:
        """Give up: what waits is dropped, and the next write says why."""
        with self._lock:
            self._broken = self._broken or why
            self._wake_all()

    # ------------------------------------------------------------ for the sender's thread

    def take(self) -> list[dict[str, Any]]:
        """Return the frames to send next, in order; `sent` or `unsent` tells what became of them."""
        frames: list[dict[str, Any]] = []
        with self._lock:
            left = self._due_now()
            while left > 0 and self._broken is None:
                entry = self._give()
                if entry is None:
                    break
                frames.append(entry.frame)
                left -= entry.size
        return frames

    def sent(self, count: int) -> bool:
        """Note that the network has the first of the frames that `take` returned; tell whether there is more."""
        with self._lock:
            for _ in range(count):
                self._in_flight_bytes -= self._in_flight.popleft().size
            self._given -= count
            self._moved()
            return self._has_work()

    def unsent(self) -> None:
        """Note that the network may not have what `take` returned: it returns it again."""
        with self._lock:
            self._given = 0

    def acknowledged(self, ack: Ack, now: float) -> None:
        """Note what a reader says."""
        with self._lock:
            before = self._readers.get(ack.sender)
            if ack.bye:
                self._readers.pop(ack.sender, None)
            elif before is not None or self._has_place(now):
                self._readers[ack.sender] = _Reader(max(ack.next, before.next if before else 0), now)
            waiting = {entry.seq for entry in self._resend}
            wanted = [entry for first, last in ack.missing for entry in self._book.find(first, last)]
            wanted = wanted or self._tail(ack, now, is_new=before is None)
            self._resend.extend(entry for entry in wanted if entry.seq not in waiting)
            has_work = bool(self._resend)
            self._moved()
        if has_work:
            self._kick()

    def due(self) -> float:
        """Return when to `look`."""
        return self._probe_at

    def look(self, now: float) -> None:
        """Send the last frame again when a reader has not said that it has it: he asks for what he misses."""
        with self._lock:
            if now < self._probe_at:
                return
            behind = any(reader.next < self._packer.seq for reader in self._readers.values())
            if behind and self._probes < PROBES:
                self._probes += 1
                self._probe_at = now + PROBE_AFTER
                if not self._has_work():
                    self._resend.append(self._book.kept[-1])
            else:
                self._probe_at = float("inf")

    def readers(self) -> int:
        """Return how many readers are there."""
        with self._lock:
            return len(self._readers)

    # ------------------------------------------------------------ with the lock

    def _add(self, piece: Piece, stopped: Stopped) -> None:
        with self._lock:
            self._check_active()
            while self._room_left() <= 0:
                error = stopped()
                if error is not None:
                    raise error
                self._room.wait(_LOOK)
                self._check_active()
            self._packer.add(piece)
            self._taken += 1
            is_due = self._due_now() > 0
        if is_due:
            self._kick()

    def _has_place(self, now: float) -> bool:
        """Tell whether one more reader is listened to; the one that said nothing for longest may go for it."""
        if len(self._readers) < MOST_READERS:
            return True
        oldest = min(self._readers, key=lambda name: self._readers[name].heard_at)
        if now - self._readers[oldest].heard_at < FORGOTTEN:
            return False
        del self._readers[oldest]
        return True

    def _tail(self, ack: Ack, now: float, *, is_new: bool) -> list[Kept]:
        """Return the last frame for a reader that seems to know nothing of it: it then asks for what it misses."""
        if ack.bye or self._has_work() or not self._book.kept or ack.next >= self._packer.seq:
            return []
        return [self._book.kept[-1]] if is_new or now - self._made_at >= TAIL_AFTER else []

    def _next_seq(self) -> int:
        return self._packer.seq - (1 if self._end_made else 0)

    def _is_waitable(self, deadline: Deadline) -> bool:
        return self._broken is None and not deadline.expired()

    def _check_active(self) -> None:
        if self._broken is not None:
            raise StreamWriteError(self._stream_id, self._broken)
        if self._ended:
            raise RuntimeError(f"the stream {self._stream_id} has ended: nothing more can be written")

    def _room_left(self) -> int:
        return WINDOW - max(self._packer.waiting + self._in_flight_bytes, self._unread())

    def _moved(self) -> None:
        """Wake whoever waits for what network or readers have taken."""
        self._changed.notify_all()
        if self._room_left() >= EASE:
            self._room.notify_all()

    def _wake_all(self) -> None:
        self._changed.notify_all()
        self._room.notify_all()

    def _unread(self) -> int:
        """Return the bytes that the slowest reader has not taken; readers that fell silent are forgotten."""
        gone_at = self._clock.monotonic() - READER_SILENCE
        self._readers = {
            name: reader
            for name, reader in self._readers.items()
            # Who has taken all need not say so again and again.
            if max(reader.heard_at, self._book.waits_since(reader.next)) > gone_at
        }
        if not self._readers:
            return 0
        return self._book.unread(min(reader.next for reader in self._readers.values())) + self._packer.waiting

    def _has_work(self) -> bool:
        ends = self._ended and self._options.ends and not self._end_made
        return bool(self._packer.waiting or self._in_flight or self._resend or ends)

    def _due_now(self) -> int:
        """Return how many bytes are to be sent now: what is written while some are under way gathers, up to a frame."""
        if not self._in_flight or self._given < len(self._in_flight) or self._resend or self._ended:
            return self._batch
        return min(self._batch, self._packer.waiting // self._gathers * self._gathers)

    def _give(self) -> Kept | None:
        """Return the next frame for the network, which is given no more than a window before it says to have it."""
        if self._given == len(self._in_flight):
            is_full = self._in_flight_bytes >= WINDOW
            entry = None if is_full else self._resend.popleft() if self._resend else self._make()
            if entry is None:
                return None
            self._in_flight.append(entry)
            self._in_flight_bytes += entry.size
        self._given += 1
        return self._in_flight[self._given - 1]

    def _make(self) -> Kept | None:
        """Make the next frame and keep it for readers that miss it."""
        now, seq = self._clock.wall_ms(), self._packer.seq
        before, before_count = self._packer.waiting, len(self._packer)
        frame = self._packer.take(now)
        if frame is None:
            if not self._ended or not self._options.ends or self._end_made:
                return None
            frame, self._end_made = self._packer.end(now), True
        self._made_at = self._clock.monotonic()
        self._probe_at, self._probes = self._made_at + PROBE_AFTER, 0
        self._framed += before_count - len(self._packer)
        return self._book.add(seq, frame, max(LEAST, before - self._packer.waiting), self._made_at)
