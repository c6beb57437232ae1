"""When a reader speaks: soon while something comes, seldom when nothing does."""

from __future__ import annotations

from blocks_worker.streams.pace import ACK_EVERY, ACK_QUIET, Pace


def words(pace: Pace, count: int, *, is_quiet: bool) -> list[float]:
    """Let it speak when it is due; return the pauses between the words."""
    pauses = []
    for _ in range(count):
        now = pace.due
        pace.spoke(now, is_quiet=is_quiet)
        pauses.append(pace.due - now)
    return pauses


def test_a_quiet_stream_costs_next_to_nothing() -> None:
    """The pauses double up to a minute, and begin anew when something came. [R-36]"""
    pace = Pace(0.0)
    assert words(pace, 6, is_quiet=True) == [
        ACK_EVERY,
        2 * ACK_EVERY,
        4 * ACK_EVERY,
        8 * ACK_EVERY,
        ACK_QUIET,
        ACK_QUIET,
    ]

    now = pace.due - 50
    assert pace.stir(now)
    assert not pace.stir(now + 1)
    assert pace.due == now + ACK_EVERY


def test_a_reader_that_waits_for_something_goes_on_speaking() -> None:
    """One that is full, or misses something, is not taken for gone."""
    assert words(Pace(0.0), 4, is_quiet=False) == [ACK_EVERY] * 4


def test_the_last_word_is_said_once() -> None:
    """After it there is none."""
    pace = Pace(0.0)
    assert pace.end(1.0)
    assert not pace.end(2.0)
    assert pace.due == 1.0
    pace.spoke(1.0, is_quiet=True)
    assert pace.due == float("inf")


def test_who_only_writes_never_speaks() -> None:
    """It is due when something came, and never by itself."""
    assert Pace().due == float("inf")
