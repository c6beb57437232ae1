"""In which order frames of one writer are shown: by number, each once; what is missing is asked for, then told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from blocks_worker.protocol.streams import MAX_MISSING

if TYPE_CHECKING:
    from blocks_worker.protocol.streams import Frame

#: Seconds that a hole may close by itself before its frames are asked for, and between two times of asking.
ASK_AFTER = 0.1
ASK_AGAIN = 0.5
#: Frames that may wait behind a hole; one more, and the hole is given up.
MAX_HELD = 4096


@dataclass(frozen=True)
class Skipped:
    """Say that these frames were given up."""

    first: int
    last: int


class Order:
    """Hold the frames of one writer until all before them came, or were waited for long enough.

    Args:
        first: number of the first frame; None takes the first that comes for it.
        patience: seconds that a hole is waited for; with 0 frames are shown as they come.

    Times are monotonic seconds, handed in.
    """

    def __init__(self, *, first: int | None, patience: float) -> None:
        self.next = first or 0
        self._known = first is not None
        self._patience = patience
        self._held: dict[int, Frame] = {}
        self._hole_since: float | None = None
        #: Before this no hole is given up: the network is away, or was a moment ago.
        self._calm_at = float("-inf")
        self._asked_at = float("-inf")
        #: Number behind the last frame, once it is known.
        self.end: int | None = None

    @property
    def is_ended(self) -> bool:
        """Tell whether every frame up to the end was shown or given up."""
        return self.end is not None and self.next >= self.end

    def ends_at(self, end: int) -> None:
        """Say that there is no frame from this number on; the first word counts."""
        if self.end is None:
            self.end = end

    def disturbed(self, until: float) -> None:
        """Say that the network is, or was, away: what is missing may still come until then."""
        if self._patience:
            self._calm_at = until

    def offer(self, frame: Frame, now: float) -> list[Frame | Skipped]:
        """Take a frame; return what may be shown now."""
        if not self._known:
            self.next, self._known = frame.seq, True
        if frame.type == "stream_end":
            self.ends_at(frame.seq)
        elif frame.seq >= self.next and frame.seq not in self._held and not self._is_beyond(frame.seq):
            self._held[frame.seq] = frame
        return self.ready(now)

    def ready(self, now: float) -> list[Frame | Skipped]:
        """Return what may be shown now, in order."""
        shown: list[Frame | Skipped] = []
        while True:
            shown += self._contiguous()
            if not self._is_waiting():
                self._hole_since = None
                return shown
            if self._hole_since is None:
                self._hole_since = now
            if now < self._given_up_at(self._hole_since) and len(self._held) <= MAX_HELD:
                return shown
            shown.append(self._skip())
            self._hole_since = None

    def missing(self, now: float) -> list[tuple[int, int]]:
        """Return the ranges to ask for now, if it is time to ask."""
        if self._hole_since is None or now - self._hole_since < ASK_AFTER or now - self._asked_at < ASK_AGAIN:
            return []
        self._asked_at = now
        return self._holes()[:MAX_MISSING]

    def due(self) -> float | None:
        """Return when to look again, if something is missing."""
        if self._hole_since is None:
            return None
        ask = max(self._hole_since + ASK_AFTER, self._asked_at + ASK_AGAIN)
        return min(ask, self._given_up_at(self._hole_since))

    def _given_up_at(self, since: float) -> float:
        return max(since + self._patience, self._calm_at)

    def _contiguous(self) -> list[Frame]:
        frames: list[Frame] = []
        while self.next in self._held:
            frames.append(self._held.pop(self.next))
            self.next += 1
        return frames

    def _is_waiting(self) -> bool:
        """Tell whether something later is known of while the next frame is not there."""
        return bool(self._held) or (self.end is not None and self.next < self.end)

    def _is_beyond(self, seq: int) -> bool:
        return self.end is not None and seq >= self.end

    def _skip(self) -> Skipped:
        until = min(self._held, default=self.end or self.next)
        skipped = Skipped(self.next, until - 1)
        self.next = until
        return skipped

    def _holes(self) -> list[tuple[int, int]]:
        holes = []
        start = self.next
        for seq in sorted(self._held):
            if seq > start:
                holes.append((start, seq - 1))
            start = seq + 1
        if self.end is not None and start < self.end:
            holes.append((start, self.end - 1))
        return holes
