"""Whatever a handler may raise: a line each, by name, that a measure and a test raise again and again."""

from __future__ import annotations

import asyncio
import builtins
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Bytes of a message that nobody wants to read, and exceptions of which each is the cause of the next.
LONG, CHAIN = 200_000, 50


class OwnError(BaseException):
    """Be caught by no ``except Exception``."""


class SilentError(Exception):
    """Say nothing, and fail at it."""

    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class ExitingError(Exception):
    """Have the process end by being printed."""

    def __str__(self) -> str:
        raise SystemExit(7)

    __repr__ = __str__


class HoldingError(Exception):
    """Hold what no pickle takes: a lock, a function, its own frame."""

    def __init__(self) -> None:
        super().__init__("holds a lock")
        self.held = (threading.Lock(), lambda: self, sys._getframe())


def deep(level: int = 0) -> int:
    """Recurse without end."""
    return deep(level + 1) + 1


def half_way() -> Iterator[int]:
    """Yield, and raise in between."""
    yield 1
    raise ValueError("between two values")


def _generator() -> NoReturn:
    kept = half_way()
    for _ in kept:
        pass
    raise AssertionError


def _chain() -> NoReturn:
    error: Exception = ValueError("the first")
    for number in range(CHAIN):
        error = _because(error, number)
    raise error


def _because(cause: Exception, number: int) -> Exception:
    error = RuntimeError(f"because of the one before, {number}")
    error.__cause__ = cause
    return error


def _circle() -> NoReturn:
    one, two = ValueError("of two"), ValueError("of one")
    one.__cause__, two.__cause__ = two, one
    raise one


def _group() -> NoReturn:
    """Raise several at once, where there is such a thing."""
    group = getattr(builtins, "BaseExceptionGroup", None)
    if group is None:
        raise OwnError("as of Python 3.11 these are many")
    raise group("several", [ValueError("one"), group("inner", [KeyboardInterrupt(), SystemExit(1), ValueError("two")])])


def _recursion() -> NoReturn:
    deep()
    raise AssertionError


def _raising(make: Callable[[], BaseException]) -> Callable[[], NoReturn]:
    def act() -> NoReturn:
        raise make()

    return act


RAISED: dict[str, Callable[[], NoReturn]] = {
    "usual": _raising(lambda: ValueError("as usual")),
    "exit": _raising(lambda: SystemExit(3)),
    "interrupt": _raising(KeyboardInterrupt),
    "generator exit": _raising(GeneratorExit),
    "own base": _raising(lambda: OwnError("mine")),
    "recursion": _recursion,
    "memory": _raising(MemoryError),
    "no text": _raising(SilentError),
    "text exits": _raising(ExitingError),
    "no pickle": _raising(HoldingError),
    "generator": _generator,
    "stop iteration": _raising(lambda: StopIteration(1)),
    "stop async": _raising(StopAsyncIteration),
    "group": _group,
    "long": _raising(lambda: ValueError("x" * LONG)),
    "chain": _chain,
    "circle": _circle,
    "odd text": _raising(lambda: ValueError("\x00\ud800\x1b[31m\r\nTraceback")),
    "async cancel": _raising(asyncio.CancelledError),
    "timeout": _raising(lambda: TimeoutError("of its own")),
}
