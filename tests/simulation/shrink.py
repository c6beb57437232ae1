"""From a history that went wrong to a short one that goes wrong in the same way, and its telling step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from simulation.play import play
from simulation.story import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from simulation.play import Played
    from simulation.story import Story

Item = TypeVar("Item")

#: Kinds of small faults, each of which may turn out not to matter.
KINDS = (
    "request lost",
    "answer lost",
    "request late",
    "answer late",
    "bus dropped",
    "bus doubled",
    "bus late",
    "request again",
)
#: Most stories that are played to make one shorter.
TRIES = 250


class Shrinker:
    """Leave out tasks and faults, one after the other, as long as the history still goes wrong in the same way."""

    def __init__(self, played: Played, tries: int = TRIES) -> None:
        self.best = played
        self._wrong = _kinds(played)
        self._left = tries

    def shrink(self) -> Played:
        """Return the shortest that was found."""
        self._halve(self.best.story.tasks, lambda story, out: replace(story, tasks=_less(story.tasks, out)))
        self._halve(KINDS, lambda story, out: story.without(*out))
        self._halve(self.best.story.blows, lambda story, out: replace(story, blows=_less(story.blows, out)))
        self._halve(self.best.story.tasks, lambda story, out: replace(story, tasks=_less(story.tasks, out)))
        self._halve(self.best.history.small, lambda story, out: story.without(*out))
        return self.best

    def _halve(self, items: Sequence[Item], leave_out: Callable[[Story, Sequence[Item]], Story]) -> None:
        """Leave out all, or each half as far as it is not needed, and so on down to single ones."""
        if not items or self._left <= 0 or self._try(leave_out(self.best.story, items)) or len(items) == 1:
            return
        middle = len(items) // 2
        self._halve(items[:middle], leave_out)
        self._halve(items[middle:], leave_out)

    def _try(self, story: Story) -> bool:
        if self._left <= 0:
            return False
        self._left -= 1
        played = play(story)
        if not _kinds(played) & self._wrong:
            return False
        self.best = played
        return True


def told(played: Played) -> str:
    """Return a history for people: what went wrong, its faults, and each step with its moment."""
    story, history = played.story, played.history
    begun = 1000.0
    blows = [f"  {blow}" for blow in story.blows] or ["  none"]
    small = [f"  {name}" for name in history.small] or ["  none"]
    steps = [f"  {moment - begun:7.3f}  {text}" for moment, text in history.lines]
    return "\n".join(
        [
            f"seed {story.seed}: {'; '.join(played.wrongs) or 'all is well'}",
            f"{len(story.tasks)} tasks, faults until {HOSTILE:.0f} s; blows:",
            *blows,
            "small faults that happened:",
            *small,
            "steps:",
            *steps,
        ]
    )


def _kinds(played: Played) -> set[str]:
    return {wrong.split(":")[0] for wrong in played.wrongs}


def _less(items: tuple[Item, ...], left_out: Sequence[Item]) -> tuple[Item, ...]:
    return tuple(item for item in items if item not in left_out)
