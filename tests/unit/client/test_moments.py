"""Moments as callers write them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from blocks_worker.client.moments import unix_ms

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
