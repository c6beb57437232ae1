"""The last frames of a writer, for readers that come late or miss something: as many bytes as may be on their way."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: Bytes that may wait: to be sent, or for readers that are there. As many of the last frames are kept for late readers.
WINDOW = 1024 * 1024
#: Bytes that a frame counts at least, here and where it is read.
LEAST = 64


class Kept(NamedTuple):
    """Be one frame, and where it stands."""

    seq: int
    frame: dict[str, Any]
    size: int
    #: Bytes of all frames before it.
    before: int
    #: When it was made.
    at: float


@dataclass
class Book:
    """What is known of the frames that were made, the oldest first."""

    kept: deque[Kept] = field(default_factory=deque)
    #: Bytes of all frames that were ever made.
    made: int = 0

    def add(self, seq: int, frame: dict[str, Any], size: int, at: float) -> Kept:
        """Keep a frame; the oldest go while what is left is a whole window."""
        entry = Kept(seq, frame, size, self.made, at)
        self.kept.append(entry)
        self.made += size
        while self.made - self.kept[0].before - self.kept[0].size >= WINDOW:
            self.kept.popleft()
        return entry

    def unread(self, since: int) -> int:
        """Return the bytes of the frames from this number on, as far as they are kept."""
        if not self.kept:
            return 0
        index = max(0, since - self.kept[0].seq)
        return self.made - self.kept[index].before if index < len(self.kept) else 0

    def waits_since(self, seq: int) -> float:
        """Return when the first kept frame from this number on was made; never when there is none."""
        index = max(0, seq - self.kept[0].seq) if self.kept else 0
        return self.kept[index].at if index < len(self.kept) else float("inf")

    def find(self, first: int, last: int) -> list[Kept]:
        """Return the kept frames of a range."""
        return [entry for entry in self.kept if first <= entry.seq <= last]
