"""What is to happen in one history: drawn from a seed by name, so that leaving one thing out moves no other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

WORKERS = 3
SLOTS = 3
TASKS = 12
#: Seconds with faults, and seconds after them in which everything must end.
HOSTILE = 150.0
HEALING = 400.0
#: Share of the histories in which the agent is a broadcast one.
BROADCAST = 0.3
#: Share of those in which the agent has a limit over all workers.
LIMITED = 0.3
#: Share of those in which another hub begins on the ledger of the first, and perhaps one more on that.
TAKEN_OVER = 0.3

CRASHES = ("now", "before commit", "torn commit", "after commit", "after publish")


@dataclass(frozen=True)
class TaskPlan:
    """One task that a consumer asks for."""

    name: str
    at: float
    has_id: bool
    once: bool
    cancels_after: float | None = None
    terminates: bool = False
    deadline: float | None = None
    queue_ttl: float | None = None
    max_runtime: float | None = None
    pipe: bool = False
    #: Seconds after the answer in which it is paused, and then resumed.
    pauses_after: float | None = None
    resumes_after: float = 0.0
    #: Runs in all that may fail, and seconds before the second.
    attempts: int = 1
    retry_delay: float = 0.0
    #: Seconds before which it is offered to nobody.
    delay: float | None = None
    priority: int = 5
    #: Sent again under a key when it failed or was canceled.
    redrives: bool = False
    #: Purged when it has ended.
    purges: bool = False
    #: For how many seconds it asks; when the consumer answers after he saw the question, never if None, and when again.
    asks: float | None = None
    answers_after: float | None = None
    answers_again: float | None = None


@dataclass(frozen=True)
class Blow:
    """One large fault: whom it hits, when, for how long."""

    kind: str
    at: float
    seconds: float
    worker: int = 0
    #: Of a hub's crash: where it is when it dies.
    point: str = "now"
    for_good: bool = False

    def __str__(self) -> str:
        whom = {
            "bus": "the bus is dead",
            "crash": f"the hub dies ({self.point})",
            "takeover": "another hub begins",
        }.get(self.kind, f"worker-{self.worker}: {self.kind}")
        return f"{self.at:6.1f} s  {whom} for {'good' if self.for_good else f'{self.seconds:.1f} s'}"


@dataclass(frozen=True)
class Story:
    """All that decides about a history. `quiet` holds small faults, or whole kinds of them, that do not happen."""

    seed: int
    tasks: tuple[TaskPlan, ...]
    blows: tuple[Blow, ...]
    quiet: frozenset[str] = field(default_factory=frozenset)
    #: Each task is offered to all workers at once.
    is_broadcast: bool = False
    #: Tasks that all workers together may have.
    limit: int | None = None

    def draw(self, *key: Any) -> float:
        """Return a number from 0 to 1 that belongs to this name."""
        return draw(self.seed, *key)

    def between(self, low: float, high: float, *key: Any) -> float:
        """Return a number between the two that belongs to this name."""
        return low + (high - low) * self.draw(*key)

    def without(self, *quiet: str) -> Story:
        """Return the story without some small faults."""
        return replace(self, quiet=self.quiet | set(quiet))


def draw(seed: int, *key: Any) -> float:
    """Return a number from 0 to 1 that belongs to a seed and a name."""
    digest = blake2b(repr((seed, *key)).encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def story_of(seed: int) -> Story:
    """Draw a history."""
    story = Story(seed, (), ())
    tasks = tuple(_task(story, number) for number in range(TASKS))
    blows = [*_kills(story), *_several(story, "drain", 2, 1, 20), *_several(story, "pause", 3, 1, 60)]
    blows += [*_several(story, "crash", 3, 0.5, 25), *_several(story, "bus", 2, 2, 30)]
    if story.draw("takeover") < TAKEN_OVER:
        blows += _several(story, "takeover", 3, 0, 0)
    is_broadcast = story.draw("broadcast") < BROADCAST
    limit = 1 + int(story.draw("limit") * 5) if story.draw("limited") < LIMITED else None
    return replace(
        story, is_broadcast=is_broadcast, limit=limit, tasks=tasks, blows=tuple(sorted(blows, key=lambda blow: blow.at))
    )


def _task(story: Story, number: int) -> TaskPlan:
    name = f"task-{number}"

    def some(share: float, what: str, low: float, high: float) -> float | None:
        return story.between(low, high, name, what) if story.draw(name, what, "is") < share else None

    deadline = some(0.12, "deadline", 5, 60)
    return TaskPlan(
        name=name,
        at=story.between(0, 120, name, "at") if number % 2 else story.between(30, 50, name, "at"),
        has_id=story.draw(name, "has id") < 0.6,
        once=number % 5 == 0,
        cancels_after=some(0.25, "cancel", 0, 20),
        terminates=story.draw(name, "terminates") < 0.3,
        deadline=deadline,
        queue_ttl=some(0.12, "queue ttl", 2, 30),
        max_runtime=some(0.1, "max runtime", 2, 8),
        pipe=story.draw(name, "pipe") < 0.25,
        pauses_after=some(0.35, "pause", 0, 15),
        resumes_after=_resume(story, name),
        attempts=1 + int(story.draw(name, "attempts") * 3),
        retry_delay=story.between(0, 8, name, "retry delay"),
        # One that would begin after its deadline is refused.
        delay=some(0.2, "delay", 0, 30) if deadline is None else None,
        priority=int(story.draw(name, "priority") * 10) if story.draw(name, "urgent") < 0.5 else 5,
        redrives=story.draw(name, "redrives") < 0.3,
        purges=story.draw(name, "redrives") > 0.9,
        asks=some(0.33, "asks", 5, 40),
        answers_after=some(0.8, "answers", 0, 15),
        answers_again=some(0.3, "answers again", 0, 20),
    )


def _resume(story: Story, name: str) -> float:
    """Draw how long a pause is: often so short that what was sent before it may come after it."""
    longest = 3.0 if story.draw(name, "resume", "soon") < 0.6 else 40.0
    return story.between(0.0, longest, name, "resume")


def _kills(story: Story) -> list[Blow]:
    """Draw the kills; some are for good, but somebody always comes back."""
    blows = []
    lost: set[int] = set()
    for number in range(5):
        worker = int(story.draw("kill", number, "who") * WORKERS)
        for_good = story.draw("kill", number, "for good") < 0.15 and len(lost | {worker}) < WORKERS
        if for_good:
            lost.add(worker)
        seconds = story.between(0.5, 40, "kill", number, "seconds")
        at = story.between(5, 140, "kill", number, "at")
        blows.append(Blow("kill", at, seconds, worker, for_good=for_good))
    return blows


def _several(story: Story, kind: str, most: int, low: float, high: float) -> list[Blow]:
    return [
        Blow(
            kind,
            at=story.between(5, 130, kind, number, "at"),
            seconds=story.between(low, high, kind, number, "seconds"),
            worker=int(story.draw(kind, number, "who") * WORKERS),
            point=CRASHES[int(story.draw(kind, number, "point") * len(CRASHES))],
        )
        for number in range(1 + int(story.draw(kind, "how many") * most))
    ]
