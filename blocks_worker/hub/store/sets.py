"""Sets of writes, each of which stands or falls by itself, and the calls that wait for them."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.hub.store.ledger import Ledger


class Answer(Protocol):
    """Be how a caller hears what came of his writes; the writer's thread calls it."""

    def is_awaited(self) -> bool:
        """Tell whether the caller still waits; asked once, when the first of his sets begins."""

    def give(self, result: Any) -> None:
        """Tell what came of them; an exception where all failed."""


class FutureAnswer:
    """Answer a thread."""

    def __init__(self) -> None:
        self.future: Future[Any] = Future()

    def is_awaited(self) -> bool:
        """Tell whether nobody cancelled it."""
        return self.future.set_running_or_notify_cancel()

    def give(self, result: Any) -> None:
        """Resolve the future, unless it was cancelled."""
        _resolve(self.future, result)


class LoopAnswer:
    """Answer whoever awaits `future` on the loop on which it was made."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self._loop.create_future()

    def is_awaited(self) -> bool:
        """Tell whether nobody cancelled it."""
        return not self.future.cancelled()

    def give(self, result: Any) -> None:
        """Resolve the future, on its loop; one that is over has nobody who waits."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(_resolve, self.future, result)


def _resolve(future: Future[Any] | asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, Exception):
        future.set_exception(result)
    else:
        future.set_result(result)


class Call:
    """Some sets of writes that one caller waits for; `is_one`: he gets what came of it, not a list."""

    __slots__ = ("_answer", "_is_given", "_is_one", "_is_taken", "_left", "_results")

    def __init__(self, size: int, answer: Answer, *, is_one: bool) -> None:
        self._answer = answer
        self._is_given = False
        self._is_one = is_one
        self._is_taken: bool | None = None
        self._left = size
        self._results: list[Any] = [None] * size

    def takes(self) -> bool:
        """Tell whether the caller still waits when the first of its sets begins."""
        if self._is_taken is None:
            self._is_taken = self._answer.is_awaited()
        return self._is_taken

    def fail(self, error: Exception) -> None:
        """Tell the caller that nothing will come of it, if he was told nothing yet."""
        if not self._is_given:
            self._give(error)

    def settle(self, place: int, result: Any) -> None:
        """Note what came of one set, and tell the caller when it was the last."""
        self._results[place] = result
        self._left -= 1
        if self._left:
            return
        self._give(result if self._is_one else self._results)

    def _give(self, result: Any) -> None:
        self._is_given = True
        self._answer.give(result)


class WriteSet:
    """One set of writes that stands or falls together.

    `about`: the task that it is about, where it may be repeated. `since`: when it came, by the monotonic clock.
    """

    __slots__ = ("about", "call", "error", "place", "result", "since", "was_left", "work")

    def __init__(self, work: Callable[[Ledger], Any], call: Call, place: int, about: str | None, since: float) -> None:
        self.work = work
        self.call = call
        self.place = place
        self.about = about
        self.since = since
        #: It found no time in a group, and is not to wait for another one's sets again.
        self.was_left = False
        self.result: Any = None
        self.error: Exception | None = None

    def resolve(self) -> None:
        """Tell who waits."""
        self.call.settle(self.place, self.result if self.error is None else self.error)


def in_turn(sets: Sequence[WriteSet]) -> tuple[list[WriteSet], int]:
    """Return sets in the order in which they have their turn, and how many of the first are run together.

    Those about tasks come first: should they have to be repeated, nothing else has to be. What was left by them once
    comes before them, by itself: else heartbeats and sweeps would wait for as long as large reports keep coming.
    """
    left = [item for item in sets if item.was_left]
    if left:
        return left + [item for item in sets if not item.was_left], 0
    about = [item for item in sets if item.about is not None]
    return about + [item for item in sets if item.about is None], len(about)
