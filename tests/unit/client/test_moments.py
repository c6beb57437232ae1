"""Moments as callers write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from blocks_worker.client.moments import delay_of, unix_ms

PARIS = timezone(timedelta(hours=2))


def test_both_forms_are_one_moment() -> None:
    """A datetime counts in its own zone; a whole number is unix milliseconds already."""
    assert unix_ms("deadline", datetime(2026, 1, 1, 2, tzinfo=PARIS)) == 1_767_225_600_000
    assert unix_ms("deadline", 1_767_225_600_000) == 1_767_225_600_000


@pytest.mark.parametrize(
    ("value", "error", "told"),
    [
        (datetime(2026, 1, 1), ValueError, "no zone"),  # noqa: DTZ001 - this is what is refused
        (datetime(1969, 1, 1, tzinfo=timezone.utc), ValueError, "before 1970"),
        (-1, ValueError, "unix milliseconds"),
        (True, TypeError, "datetime with a zone"),
        (1.5, TypeError, "datetime with a zone"),
        ("tomorrow", TypeError, "datetime with a zone"),
    ],
)
def test_what_is_no_moment(value: object, error: type[Exception], told: str) -> None:
    """It is refused by the name of the argument, with what would do."""
    with pytest.raises(error, match=f"deadline .*{told}"):
        unix_ms("deadline", value)


def test_a_delay_is_said_as_it_was_given() -> None:
    """Seconds stay seconds, so that a repeat is the same; a datetime is a moment."""
    assert delay_of(None) == (None, None)
    assert delay_of(1.5) == (1.5, None)
    assert delay_of(datetime(2026, 1, 1, 2, tzinfo=PARIS)) == (None, 1_767_225_600_000)


@pytest.mark.parametrize(
    ("value", "error", "told"),
    [
        (datetime(2026, 1, 1), ValueError, "no zone"),  # noqa: DTZ001 - this is what is refused
        (-1, ValueError, "0 to 31536000"),
        (float("nan"), ValueError, "0 to 31536000"),
        (31_536_001, ValueError, "0 to 31536000"),
        (True, TypeError, "seconds from now"),
        ("1h", TypeError, "seconds from now"),
    ],
)
def test_what_is_no_delay(value: object, error: type[Exception], told: str) -> None:
    """It is refused by the name of the argument, with what would do."""
    with pytest.raises(error, match=f"not_before .*{told}"):
        delay_of(value)
