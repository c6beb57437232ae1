"""Lengths of time as people type them: 90, 90s, 30m, 2h, 7d."""

from __future__ import annotations

import re

import click

from blocks_worker.protocol.tasks import MAX_SECONDS

_SPAN = re.compile(r"(\d+(?:\.\d+)?)([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


def span(text: str) -> float:
    """Return the seconds of what was typed, as the type of an option.

    Raises:
        click.BadParameter: it is no length of time, or longer than a year.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None:
        raise click.BadParameter(f"{text!r} is no length of time: write 90, 90s, 30m, 2h or 7d")
    seconds = float(found[1]) * _UNITS[found[2]]
    if seconds > MAX_SECONDS:
        raise click.BadParameter(f"{text!r} is longer than a year")
    return seconds
