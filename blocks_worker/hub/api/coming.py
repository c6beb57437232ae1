"""An answer that is not there yet: who serves a request awaits it, a link is called when it is there."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from blocks_worker.hub.api.calls import Answer, StreamedAnswer


class Coming:
    """Be an answer that comes once something is there: what was written, or what a coroutine returns.

    As the `Answer` of a store it takes what came of writes, which `hand` brings to the loop; `answer_of` makes the
    caller's answer of it.
    """

    __slots__ = ("_answer_of", "_hand", "_on_dropped", "_result", "_then", "is_dropped")

    def __init__(self, hand: Callable[..., object], answer_of: Callable[[Any], Answer | StreamedAnswer]) -> None:
        self._hand = hand
        self._answer_of = answer_of
        self._result: Any = None
        self._then: Callable[[], object] | None = None
        self._on_dropped: Callable[[], object] | None = None
        #: Whether nobody waits for it any more.
        self.is_dropped = False

    @classmethod
    def of(cls, answer: Awaitable[Answer | StreamedAnswer]) -> Coming:
        """Return what somebody else makes, who ends when it is dropped."""
        task = asyncio.ensure_future(answer)
        coming = cls(task.get_loop().call_soon, _as_it_is)
        coming._on_dropped = task.cancel
        task.add_done_callback(coming._done)
        return coming

    @classmethod
    def failed(cls, error: Exception) -> Coming:
        """Return what came to nothing."""
        coming = cls(asyncio.get_running_loop().call_soon, _as_it_is)
        coming.give(error)
        return coming

    def is_awaited(self) -> bool:
        """Tell whether somebody waits for it; any thread may ask."""
        return not self.is_dropped

    def give(self, result: Any) -> None:
        """Take what came of the writes; any thread may give it."""
        self._hand(self._settle, result)

    def then(self, act: Callable[[], object]) -> None:
        """Have something done when the answer is there, which it is in a later turn of the loop."""
        self._then = act

    def answer(self) -> Answer | StreamedAnswer:
        """Return the answer, which is there, or raise why there is none."""
        if isinstance(self._result, Exception):
            raise self._result
        return self._answer_of(self._result)

    def drop(self) -> None:
        """Wait for it no longer."""
        self.is_dropped = True
        if self._on_dropped is not None:
            self._on_dropped()

    def __await__(self) -> Generator[Any, None, Answer | StreamedAnswer]:
        """Wait until it is there."""
        there = asyncio.get_running_loop().create_future()
        self._then = partial(_set, there)
        try:
            yield from there
        except asyncio.CancelledError:
            self.drop()
            raise
        return self.answer()

    def _settle(self, result: Any) -> None:
        """Take what it waited for, which may be an exception."""
        self._result = result
        if self._then is not None and not self.is_dropped:
            self._then()

    def _done(self, task: asyncio.Future[Any]) -> None:
        # One that was cancelled by others than who waits for it has an answer, too.
        self._settle(RuntimeError("it was cancelled") if task.cancelled() else task.exception() or task.result())


def _as_it_is(answer: Answer | StreamedAnswer) -> Answer | StreamedAnswer:
    return answer


def _set(there: asyncio.Future[None]) -> None:
    if not there.done():
        there.set_result(None)
