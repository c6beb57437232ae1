"""One side of one stream: what it writes, what it reads, and the acknowledgements between the two."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from blocks_worker.errors import InvalidMessageError
from blocks_worker.protocol.chunks import RAW, RawFrame
from blocks_worker.protocol.streams import Ack, Frame, read_message
from blocks_worker.streams.heard import Heard
from blocks_worker.streams.order import Skipped
from blocks_worker.streams.pace import Pace
from blocks_worker.streams.reader import StreamReader, fitting, opened, size_of
from blocks_worker.streams.silence import Silence
from blocks_worker.streams.trouble import FATAL, Category, StreamError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock
    from blocks_worker.protocol.streams import Format
    from blocks_worker.streams.identity import StreamIdentity
    from blocks_worker.streams.trouble import Listener
    from blocks_worker.streams.writer import StreamWriter

#: Bytes that were taken since the last word to the writer.
ACK_BYTES = 256 * 1024
#: Seconds that a hole in the numbers is waited for, unless told otherwise.
REORDER_TIMEOUT = 0.75
#: Writers on one channel whose numbers are followed; one more is refused.
MOST_WRITERS = 64
#: Seconds after an outage in which what is missing may still come: the writer may be found again later than we are.
AFTER_OUTAGE = 15.0
#: What is told of a stream that is closed before its end came.
_LATE: tuple[Category, str] = ("timeout", "the task is over, and the end of the stream did not come in time")
_LOST: tuple[Category, str] = ("other", "the worker that wrote this stream was lost, and its end with it")
#: Seconds for the callbacks of a fatal error; then the stream ends, whoever holds them up.
CALLBACKS_FIRST = 5.0


class Endpoint:
    """Route what came to the halves, and say what is to be sent next.

    It is called by the two threads of the exchange and by whoever reads or writes. `_lock` guards what is known of the
    other side; nothing is called with it. `_showing` is held while frames are shown, so that they stay in order.

    Args:
        identity: which stream.
        reads: whether there is a half that reads; `writer`: the other half, if there is one.
        name: who this side is, for acknowledgements.
        only: take frames of this writer alone.
        first: number of the first frame; None takes what comes first.
        patience: seconds that a missing frame is waited for; with 0 frames are shown as they come.
        check: raises ValueError for an event that is not to be shown.
    """

    def __init__(  # noqa: PLR0913 - where the halves of a stream meet
        self,
        *,
        identity: StreamIdentity,
        is_agent: bool,
        form: Format,
        name: str,
        clock: Clock,
        kick: Callable[[Endpoint], None],
        writer: StreamWriter | None = None,
        reads: bool = False,
        only: str | None = None,
        first: int | None = 0,
        patience: float = REORDER_TIMEOUT,
        check: Callable[[Any], None] | None = None,
    ) -> None:
        self.identity = identity
        self.form = form
        #: Who this side is on the wire.
        self.name = name
        self.read_channel = identity.up if is_agent else identity.channel
        self.write_channel = identity.channel if is_agent else identity.up
        self.writer = writer
        self.reader = StreamReader(form) if reads else None
        self._check = check
        self._clock = clock
        self._kick = kick
        self._only = only
        self._first = first
        self._patience = patience
        self._lock = threading.Lock()
        self._showing = threading.Lock()
        self._listeners: list[Listener] = []
        self._unheard: StreamError | None = None
        self._heard: dict[str, Heard] = {}
        if only is not None and reads:
            self._heard[only] = Heard(first, patience)
        self._missing: dict[str, list[tuple[int, int]]] = {}
        self._pace = Pace(clock.monotonic()) if reads else Pace()
        self._was_full = False
        self._closes_at = float("inf")
        self._silence = Silence()
        self._is_refused = False
        self._is_away = False
        self._is_early = False
        #: Nothing is read or written any more.
        self.is_over = False

    def listen(self, listener: Listener) -> None:
        """Tell this one of trouble and of the end; the first one of what was before, too."""
        with self._lock:
            self._listeners = [*self._listeners, listener]
            unheard, self._unheard = self._unheard, None
        if unheard is not None:
            listener.troubled(unheard)
        if self.is_over:
            listener.finished()

    def unlisten(self, listener: Listener) -> None:
        """Tell this one no more."""
        with self._lock:
            self._listeners = [each for each in self._listeners if each is not listener]

    @property
    def is_reading(self) -> bool:
        """Tell whether something may still come."""
        return self.reader is not None and not self.reader.is_ended

    # ------------------------------------------------------------ what came

    def take(self, body: dict[str, Any]) -> None:
        """Take a message of the channel that this side reads."""
        raw = body.get(RAW)
        try:
            message = raw if isinstance(raw, RawFrame) else read_message(body)
        except InvalidMessageError as error:
            self.fail("malformed_response", str(error))
            return
        if message is None or message.stream_id != self.identity.stream_id:
            return
        if isinstance(message, Ack):
            # Of one that has ended too: what it kept is for readers that miss something.
            if self.writer is not None and message.to in {None, self.writer.sender}:
                self.writer.acknowledged(message, self._clock.monotonic())
        elif self.reader is not None and self.is_reading and self._only in {None, message.sender}:
            self._take_frame(message, self.reader)

    def link(self, *, there: bool) -> None:
        """Take note that the network is away, or there again: meanwhile nothing counts as lost."""
        now = self._clock.monotonic()
        with self._lock:
            self._disturb(now + AFTER_OUTAGE if there else float("inf"))
            self._is_away = not there
            self._silence.link(now, there=there)
            if there and self.reader is not None and not self._pace.is_last:
                self._pace.at_once(now)
        if there:
            self._kick(self)

    def close_within(self, seconds: float) -> None:
        """Close then, unless it has ended by itself."""
        with self._lock:
            self._closes_at = min(self._closes_at, self._clock.monotonic() + seconds)
        self._kick(self)

    def writer_is_gone(self) -> None:
        """Say that the process which writes here has died: read what it had said, then close."""
        self._silence.begin(self._clock.monotonic())
        self._kick(self)

    def look(self) -> None:
        """Do what is due by time: show what was waited for long enough, ask for what is missing, close."""
        now = self._clock.monotonic()
        if self.writer is not None:
            self.writer.look(now)
        is_silent = now >= self._silent_at()
        if is_silent or now >= self._closes_at:
            self._end_early(_LOST if is_silent else _LATE, now)
        if self.reader is None or not self.is_reading:
            return
        with self._showing:
            for sender in list(self._heard):
                with self._lock:
                    shown = self._heard[sender].order.ready(now)
                    asks = self._ask(sender, now)
                self._show(sender, shown, self.reader, kicks=asks)

    def due(self) -> float:
        """Return when to look again, or to speak, at the latest."""
        probe = self.writer.due() if self.writer is not None else float("inf")
        with self._lock:
            holes = [heard.order.due() for heard in self._heard.values()] if self.is_reading else []
            due = min([probe, self._pace.due, self._closes_at, *(due for due in holes if due is not None)])
        return min(due, self._silent_at())

    def end_at(self, end: int) -> None:
        """Say where the announced writer's frames end, as the task's events tell it."""
        if self.reader is None or self._only is None:
            return
        with self._showing:
            with self._lock:
                heard = self._heard[self._only]
                heard.order.ends_at(end)
                shown = heard.order.ready(self._clock.monotonic())
            self._show(self._only, shown, self.reader, kicks=True)

    # ------------------------------------------------------------ what is sent

    def outgoing(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return what is to be published next on `write_channel`: acknowledgements, and frames."""
        return self._acks(), self.writer.take() if self.writer is not None else []

    def sent(self, frames: int) -> bool:
        """Note that so many more frames were published; tell whether there is more at once."""
        return self.writer.sent(frames) if self.writer is not None else False

    def unsent(self) -> None:
        """Note that it was not: acknowledgements are made anew, frames are kept by their writer."""
        if self.writer is not None:
            self.writer.unsent()
        with self._lock:
            if self.reader is not None:
                self._pace.at_once(self._clock.monotonic())

    def consumed(self) -> None:
        """Note that the user took something: a writer that was slowed may go on."""
        if self._was_full and self.reader is not None and not self.reader.is_full:
            self._was_full = False
            self._speak()

    # ------------------------------------------------------------ the end

    def close(self) -> None:
        """Read and write no more; the writer is told."""
        if self.writer is not None:
            self.writer.end()
        if self.reader is not None:
            self.reader.end()
            self._say_bye()
        self.settle()

    def fail(self, category: Category, text: str, *, is_last: bool = False) -> None:
        """Tell of trouble; a fatal one ends both halves, callbacks first. `is_last`: another one ends them, too."""
        fatal = category in FATAL
        if self._is_refused:
            return
        self._is_refused = fatal
        now = self._clock.wall_ms() / 1000
        error = StreamError(category, text, self.identity.channel, now, fatal)
        if fatal:
            if self.writer is not None:
                self.writer.break_off(text)
            self.close_within(CALLBACKS_FIRST)
        with self._lock:
            listeners = self._listeners
            self._unheard = None if listeners else error
        for listener in listeners:
            listener.troubled(error)
            if is_last:
                listener.closing()

    def settle(self) -> None:
        """Tell of the end once neither half goes on."""
        with self._lock:
            writes = self.writer is not None and self.writer.is_active
            if self.is_over or self.is_reading or writes:
                return
            self.is_over = True
            self._closes_at = float("inf")
        for listener in self._listeners:
            listener.finished()

    # ------------------------------------------------------------ steps

    def _end_early(self, why: tuple[Category, str], now: float) -> None:
        """Close; who still reads is told why before his reading ends, as far as his callbacks let it."""
        with self._lock:
            is_told = self._is_early or self._is_refused or not self.is_reading
            if not is_told:
                self._is_early = True
                self._closes_at = now + CALLBACKS_FIRST if self._listeners else now
        if not is_told:
            self.fail(*why, is_last=True)
        if is_told or not self._listeners:
            self.close()

    def _take_frame(self, frame: Frame, reader: StreamReader) -> None:
        now = self._clock.monotonic()
        with self._showing:
            with self._lock:
                self._silence.heard(now)
                heard = self._heard.get(frame.sender)
                if heard is None:
                    if len(self._heard) >= MOST_WRITERS:
                        return
                    heard = self._heard[frame.sender] = Heard(self._first, self._patience)
                if self._is_away:
                    self._is_away = False
                    self._disturb(now + AFTER_OUTAGE)
                was_whole = heard.order.due() is None
                shown = heard.order.offer(frame, now)
                # Who sends sleeps until what was due before: a new hole or the end of a quiet time wakes it.
                wakes = self._pace.stir(now) or (was_whole and heard.order.due() is not None)
                kicks = self._ask(frame.sender, now) or wakes
            self._show(frame.sender, shown, reader, kicks=kicks)

    def _show(self, sender: str, shown: list[Frame | Skipped], reader: StreamReader, *, kicks: bool) -> None:
        heard = self._heard[sender]
        for item in shown:
            if isinstance(item, Skipped):
                self.fail("gap", f"frames {item.first} to {item.last} were lost")
            else:
                self._put(heard, item, reader)
        self._speak_if_due(heard, reader)
        # One writer has ended; the stream has when it is the only one that may write.
        if heard.order.is_ended and self._only in {None, sender}:
            reader.end()
            self._say_bye()
            self.settle()
        elif kicks:
            self._kick(self)

    def _put(self, heard: Heard, frame: Frame, reader: StreamReader) -> None:
        heard.taken_bytes += (size := size_of(frame))
        try:
            message = opened(frame, heard.joiner)
        except InvalidMessageError as error:
            self.fail("malformed_response", str(error))
            return
        if message is not None and self._check is not None:
            message = fitting(message, self._check, lambda text: self.fail("malformed_response", text))
        if message is not None and (dropped := reader.put(message, size)):
            self.fail("overflow", f"{dropped} bytes were dropped: they were not taken in time")

    def _speak_if_due(self, heard: Heard, reader: StreamReader) -> None:
        if reader.is_full:
            self._was_full = True
        elif heard.taken_bytes >= ACK_BYTES:
            self._speak()

    def _speak(self) -> None:
        with self._lock:
            if not self._pace.is_last:
                self._pace.at_once(self._clock.monotonic())
        self._kick(self)

    def _say_bye(self) -> None:
        with self._lock:
            is_new = self._pace.end(self._clock.monotonic())
        if is_new:
            self._kick(self)

    def _silent_at(self) -> float:
        """Return when a stream is closed whose writer is gone: not while it waits for what is missing."""
        waits = any(heard.order.due() is not None for heard in list(self._heard.values()))
        return float("inf") if waits or self._is_early or self.is_over else self._silence.due()

    def _disturb(self, until: float) -> None:
        for heard in self._heard.values():
            heard.order.disturbed(until)

    def _ask(self, sender: str, now: float) -> bool:
        """Note what is missing, with the lock held; tell whether there is something to ask for now."""
        missing = self._heard[sender].order.missing(now)
        if missing:
            self._missing[sender] = missing
            self._pace.at_once(now)
        return bool(missing)

    def _acks(self) -> list[dict[str, Any]]:
        """Return the acknowledgements that are due."""
        now = self._clock.monotonic()
        with self._lock:
            if self._is_refused:
                self._pace.be_silent()
            if self.reader is None or now < self._pace.due:
                return []
            full = self.reader.is_full and not self._pace.is_last
            is_quiet = not full and all(heard.order.due() is None for heard in self._heard.values())
            self._pace.spoke(now, is_quiet=is_quiet)
            missing, self._missing = self._missing, {}
            acks = [
                self._ack(sender, heard, missing.get(sender, []), is_full=full) for sender, heard in self._heard.items()
            ]
            return acks or [self._ack(None, None, [], is_full=full)]

    def _ack(
        self, sender: str | None, heard: Heard | None, missing: list[tuple[int, int]], *, is_full: bool
    ) -> dict[str, Any]:
        """Return one word to a writer; while too much waits here it hears of nothing new."""
        fields: dict[str, Any] = {"type": "stream_ack", "streamId": self.identity.stream_id, "sender": self.name}
        if heard is not None:
            if not is_full:
                heard.told, heard.taken_bytes = heard.order.next, 0
            fields |= {"to": sender, "next": heard.told}
        if missing:
            fields["missing"] = [list(pair) for pair in missing]
        if self._pace.is_last:
            fields["bye"] = True
        return fields
