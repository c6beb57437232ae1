"""What a recorder outside the parts under test writes down of one history."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from blocks_worker.client.events import TaskEvent

Key = tuple[str, int]


class History:
    """Collect; judging is `check`'s affair."""

    def __init__(self) -> None:
        #: Every line is a moment and what happened.
        self.lines: list[tuple[float, str]] = []
        #: Small faults that happened, by their names, and how many of each kind of fault.
        self.small: list[str] = []
        self.faults: dict[str, int] = defaultdict(int)
        #: Wrongs that were seen while it went on.
        self.wrongs: list[str] = []
        #: Who was given a lease.
        self.leases: dict[Key, set[str]] = defaultdict(set)
        #: Which handlers were started: moment and incarnation.
        self.starts: dict[Key, list[tuple[float, str]]] = defaultdict(list)
        #: Tasks that the hub accepted: the id, by the plan's name.
        self.accepted: dict[str, str] = {}
        #: What each session showed.
        self.shown: dict[str, list[TaskEvent]] = defaultdict(list)
        self.finished: set[str] = set()
        #: Tasks that are to be sent again, or purged, until that was answered.
        self.awaited: set[str] = set()
        #: Failures that were followed by another run: epoch, moment, and milliseconds until the next run at the least.
        self.failed: dict[str, list[tuple[int, float, int]]] = defaultdict(list)
        #: The same, of a commit that is under way: it may be torn.
        self.failing: list[tuple[str, tuple[int, float, int]]] = []
        #: Cancels that were answered: the moment, by task.
        self.cancelled: dict[str, float] = {}
        #: Pipes that their agents ended.
        self.ended_by_agent: set[str] = set()
        #: What the hub said that stands as the answer to a task's question; what each run was answered, by epoch.
        self.answered: dict[str, str] = {}
        self.heard: dict[str, list[tuple[int, bytes | None]]] = defaultdict(list)
        #: Which steps were done, and what of each was seen: task, name, epoch and moment; with what was seen its value.
        self.done: list[tuple[str, str, int, float]] = []
        self.seen: list[tuple[str, str, int, float, bytes]] = []
        #: Files that runs handed over.
        self.handed: dict[Key, list[str]] = defaultdict(list)
        #: When the hub was away.
        self.away: list[tuple[float, float]] = []

    def committed(self) -> None:
        """Take what was under way for done."""
        for task_id, failure in self.failing:
            self.failed[task_id].append(failure)
        self.failing.clear()

    def did(self, key: Key, name: str, now: float) -> None:
        """Record that the function of a step is called."""
        self.done.append((key[0], name, key[1], now))
        self.say(now, f"{key[0]}: epoch {key[1]} does {name}")

    def saw(self, key: Key, name: str, value: bytes, now: float) -> None:
        """Record what a run is told of a step."""
        self.seen.append((key[0], name, key[1], now, value))
        self.say(now, f"{key[0]}: epoch {key[1]} sees {name}: {value.decode()}")

    def say(self, now: float, text: str) -> None:
        """Write a line."""
        self.lines.append((now, text))

    def wrong(self, now: float, text: str) -> None:
        """Write down what must not be."""
        self.lines.append((now, f"!! {text}"))
        self.wrongs.append(text)
