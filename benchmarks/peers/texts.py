"""What is sent, and whether that came back."""

from __future__ import annotations

from itertools import count

_numbers = count()
#: Characters of a text.
_SIZE = 100


def fresh(many: int) -> list[str]:
    """Return texts that were never sent before, of 100 characters each."""
    return [f"{next(_numbers):012d} ".ljust(_SIZE, "x") for _ in range(many)]


def wrong(sent: list[str], came: list[str]) -> int:
    """Return how many results are not what was sent."""
    return sum(one != other for one, other in zip(sent, came, strict=True))
