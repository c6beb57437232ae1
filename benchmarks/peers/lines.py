"""What the handlers say and write, so that the client knows it without being told."""

from __future__ import annotations

import os

MIB = 2**20
#: Bytes of one write to a stream.
PIECE = 2**16
_FILLING = os.urandom(PIECE - 8)


def line(number: int) -> str:
    """Return the text of an event, of 100 characters, that says its place."""
    return f"{number:012d} ".ljust(100, "x")


def piece(number: int) -> bytes:
    """Return the bytes of one write: they say their place, and no compression makes them less."""
    return number.to_bytes(8, "big") + _FILLING
