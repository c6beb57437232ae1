from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from simulation.mutants import MUTANTS, planted
from simulation.play import Played, play_seed
from simulation.shrink import Shrinker, told

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the warnings of broken hubs out of the report."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def first_wrong(first: int, most: int) -> Played | None:
    """Return the first history that goes wrong."""
    return next((played for seed in range(first, first + most) if (played := play_seed(seed)).wrongs), None)


@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_rule_is_noticed(name: str) -> None:
    """[X11] Whatever rule is broken, one of a bounded number of histories breaks an invariant that guards it."""
    make, expected, first, most = MUTANTS[name]
    with planted(*make()):
        played = first_wrong(first, most)

    assert played is not None, f"no history of {most} from seed {first} noticed: {name}"
    assert {wrong.split(":")[0] for wrong in played.wrongs} & expected


def test_a_wrong_history_is_made_short() -> None:
    """A failure comes out with few tasks and few faults, and is told with its seed and its steps."""
    make, _, first, most = MUTANTS["at most once put back"]
    with planted(*make()):
        played = first_wrong(first, most)
        assert played is not None
        short = Shrinker(played, tries=80).shrink()

    assert short.wrongs
    assert len(short.story.tasks) <= 4
    assert len(short.story.blows) <= 4
    assert told(short).startswith(f"seed {played.story.seed}: I11")
