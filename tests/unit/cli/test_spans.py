"""Lengths of time as people type them."""

from __future__ import annotations

import click
import pytest

from blocks_worker.cli.spans import span


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("1.5s", 1.5), ("30m", 1800), ("2h", 7200), ("7d", 604_800), (" 3 ", 3)]
)
def test_units(text: str, seconds: float) -> None:
    """Seconds unless a unit is named."""
    assert span(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1", "1w", "2 h", "nan", "366d"])
def test_what_is_no_length_of_time(text: str) -> None:
    """It is refused with what could be written instead."""
    with pytest.raises(click.BadParameter):
        span(text)
