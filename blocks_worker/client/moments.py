"""Moments as callers write them: a datetime that knows its zone, unix milliseconds, or seconds from now."""

from __future__ import annotations

from datetime import datetime, timezone

from blocks_worker.protocol.tasks import MAX_SECONDS

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def unix_ms(name: str, value: object) -> int:
    """Return a moment as unix milliseconds.

    Raises:
        TypeError: it is neither a datetime nor a whole number.
        ValueError: it has no zone, or is no time of our days.
    """
    if isinstance(value, datetime):
        return zoned_ms(name, value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a datetime with a zone, or unix milliseconds as a whole number, not {value!r}")
    if not 0 <= value < 2**53:
        raise ValueError(f"{name} is a moment in unix milliseconds, not {value!r}")
    return value


def delay_of(not_before: object) -> tuple[float | None, int | None]:
    """Return when a task may begin: a delay in seconds, or a moment in unix milliseconds; one of them at most.

    Seconds stay what they are: the hub counts them by its own clock, and a repeat of the same call is the same.

    Raises:
        TypeError: it is neither a number nor a datetime.
        ValueError: it is below zero, more than a year, or a datetime without a zone.
    """
    if not_before is None:
        return None, None
    if isinstance(not_before, datetime):
        return None, zoned_ms("not_before", not_before)
    if isinstance(not_before, bool) or not isinstance(not_before, (int, float)):
        raise TypeError(f"not_before is a number of seconds from now, or a datetime with a zone, not {not_before!r}")
    if not 0 <= not_before <= MAX_SECONDS:
        raise ValueError(f"not_before is a number of seconds from now, 0 to {MAX_SECONDS}, not {not_before!r}")
    return float(not_before), None


def zoned_ms(name: str, value: datetime) -> int:
    """Return a datetime as unix milliseconds.

    Raises:
        ValueError: it has no zone, or is before 1970.
    """
    if value.utcoffset() is None:
        raise ValueError(f"{name} has no zone, so nobody knows which moment it is: use datetime.now(timezone.utc)")
    if value < _EPOCH:
        raise ValueError(f"{name} is before 1970: {value.isoformat()}")
    return round((value - _EPOCH).total_seconds() * 1000)
