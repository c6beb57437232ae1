"""Play one story: the world, its history and what is wrong with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from simulation.check import wrongs
from simulation.story import Story, story_of
from simulation.world import World

if TYPE_CHECKING:
    from simulation.history import History


@dataclass(frozen=True)
class Played:
    """One history that is over."""

    story: Story
    history: History
    wrongs: list[str]
    #: Virtual seconds from the end of the faults until everything had ended.
    recovery: float

    @property
    def executions(self) -> int:
        """How many handlers were started."""
        return sum(len(told) for told in self.history.starts.values())

    @property
    def handed_on(self) -> int:
        """How often a run was told of a step that another one had done."""
        done = {(task, name, epoch) for task, name, epoch, _ in self.history.done}
        return sum((task, name, epoch) not in done for task, name, epoch, _, _ in self.history.seen)


def play(story: Story) -> Played:
    """Play a story to its end."""
    world = World(story)
    try:
        history = world.run()
        return Played(story, history, wrongs(world), world.recovery())
    finally:
        world.close()


def play_seed(seed: int) -> Played:
    """Play the story of a seed."""
    return play(story_of(seed))
