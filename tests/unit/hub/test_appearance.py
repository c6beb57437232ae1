"""What is told of an instance: few changes, however often it comes and goes."""

from __future__ import annotations

from blocks_worker.hub.appearance import STEADY, Appearance


def seen(*states: tuple[float, str]) -> list[str]:
    """Let one be seen in these states; return what is told at each."""
    appearance, told = Appearance(), []
    for now, state in states:
        appearance.see(state, now)
        told.append(appearance.told(state))
    return told


def test_the_first_change_is_told_at_once() -> None:
    """That it becomes ready, and the first time that it is missed, wait for nothing."""
    assert seen((0, "registering"), (0.1, "ready"), (1, "suspect")) == ["registering", "ready", "suspect"]


def test_the_next_one_is_told_when_the_time_is_over() -> None:
    """What comes back at once stays as it was told for ten seconds, then it is told as it is. [A18]"""
    told = seen((0, "ready"), (1, "suspect"), (2, "ready"), (10.9, "ready"), (1 + STEADY, "ready"))

    assert told == ["ready", "suspect", "suspect", "suspect", "ready"]


def test_what_has_an_order_is_told_at_once() -> None:
    """A drain is a decision and no coming and going."""
    assert seen((0, "ready"), (1, "suspect"), (2, "draining"), (3, "lost")) == ["ready", "suspect", "draining", "lost"]
