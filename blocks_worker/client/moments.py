"""Moments as callers write them: a datetime that knows its zone, or unix milliseconds."""

from __future__ import annotations

from datetime import datetime, timezone

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
