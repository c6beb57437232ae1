"""Requests of a worker: what is refused whole is cut, what brings much is bounded, what is lost is counted."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from support import FakeClock, wait_until

from blocks_worker.concurrency import Clock, Entropy
from blocks_worker.controlplane.api import ItemResult
from blocks_worker.errors import HubUnavailableError, RpcError
from blocks_worker.protocol.codec import MAX_BODY
from blocks_worker.protocol.leases import Claim, ClaimAnswer
from blocks_worker.protocol.steps import INLINE_STEPS
from blocks_worker.worker.claims import INPUT_BYTES, Claims
from blocks_worker.worker.counters import Counters
from blocks_worker.worker.parts import answered_each
from blocks_worker.worker.publisher import Publisher
from blocks_worker.worker.refusals import NACKS
from blocks_worker.worker.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Sequence


class Hub:
    """A hub's end of the line, which refuses a batch whole where a bad item is in it."""

    def __init__(self, *bad: int, status: int = 413) -> None:
        self._bad = bad
        self._status = status
        self.sizes: list[int] = []

    def __call__(self, items: Sequence[int]) -> list[ItemResult[int]]:
        """Answer each with itself."""
        self.sizes.append(len(items))
        if set(items) & set(self._bad):
            raise RpcError("no", code="InvalidInput", status=self._status)
        return [ItemResult(200, item, None) for item in items]


def test_only_the_bad_items_are_refused() -> None:
    """Each item has its own answer, in its place, and a good batch is one request. [J7]"""
    answers = answered_each(range(20), Hub(3, 11))

    assert [answer.body for answer in answers] == [None if item in (3, 11) else item for item in range(20)]
    assert [answers[3].status, answers[11].status] == [413, 413]
    fine = Hub()
    answered_each(range(20), fine)
    assert fine.sizes == [20]


@pytest.mark.parametrize("error", [RpcError("x", status=status) for status in (401, 403, 404, 429, 503)])
def test_a_refusal_that_is_not_about_the_items_is_raised(error: RpcError) -> None:
    """Who may not speak now, or was not heard, cuts nothing."""
    hub = Hub(1, status=error.status)

    with pytest.raises(RpcError):
        answered_each([1, 2], hub)
    assert hub.sizes == [2]


class Api:
    """The claims of a hub that is slow with its first answer."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.sizes: list[int] = []

    def claims(self, items: Sequence[Claim], *, timeout: float) -> list[ItemResult[ClaimAnswer]]:
        """Answer with a lease each."""
        self.sizes.append(len(items))
        self.go.wait(max(timeout, 60))
        answer = ClaimAnswer(task_id="t", epoch=1, lease="l", attempt=1, digest="d", max_runtime=1.0)
        return [ItemResult(200, answer, None) for _ in items]


@pytest.mark.parametrize(("have", "most"), [(None, INPUT_BYTES // (MAX_BODY + INLINE_STEPS)), ("digest", 69)])
def test_the_inputs_of_one_answer_are_bounded(have: str | None, most: int) -> None:
    """Claims whose answers may bring an input each are not asked for in one request beyond what a reader takes."""
    api: Any = Api()
    clock = Clock()
    claims = Claims(api, clock=clock, entropy=Entropy(), counters=Counters())
    until = clock.monotonic() + 120
    with ThreadPoolExecutor(70) as threads:
        asked = [Claim(task_id=str(n), epoch=1, have=have) for n in range(70)]
        waiting = [threads.submit(claims.claim, each, until, lambda: False) for each in asked]
        wait_until(lambda: len(claims._batcher._queue) == 69, what="all in the queue")
        api.go.set()

        assert all(future.result(30) is not None for future in waiting)
    assert max(api.sizes) == most


class Hasty(Entropy):
    """Draw the shortest of all pauses."""

    def uniform(self, low: float, high: float) -> float:
        """Return the lower number."""
        return min(low, high)


class Away(Api):
    """The claims of a hub that gives no answer for so many times, while time goes on."""

    def __init__(self, clock: FakeClock, times: int) -> None:
        super().__init__()
        self._clock = clock
        self._times = times
        self.go.set()

    def claims(self, items: Sequence[Claim], *, timeout: float) -> list[ItemResult[ClaimAnswer]]:
        """Give no answer, or a lease."""
        self._clock.advance(1)
        if len(self.sizes) < self._times:
            self.sizes.append(len(items))
            raise HubUnavailableError("h", "away")
        return super().claims(items, timeout=timeout)


@pytest.mark.parametrize(
    ("times", "seconds", "expected"),
    [(2, 60.0, {}), (99, 5.0, {"claims_failed": 1}), (0, 0.5, {"claims_failed": 1}), (0, 0.0, {"claims_too_late": 1})],
)
def test_a_lost_claim_is_counted_once(times: int, seconds: float, expected: dict[str, int]) -> None:
    """Tries that a later one makes good lose nothing; else the claim is lost once, whatever its tries. [R-54]"""
    clock, counters = FakeClock(), Counters()
    api: Any = Away(clock, times)
    claims = Claims(api, clock=clock, entropy=Hasty(), counters=counters)

    got = claims.claim(Claim(task_id="t", epoch=1), clock.monotonic() + seconds, lambda: False)

    assert (got is not None, counters.snapshot()) == (not expected, expected)


def test_a_refusal_that_finds_no_room_is_counted() -> None:
    """Nothing is dropped in silence: an offer's refusal neither. [P9]"""
    clock, counters = Clock(), Counters()
    heard: Any = None

    def away(_nacks: object) -> None:
        raise HubUnavailableError("h", "away")

    publisher = Publisher(
        heard,
        heard=heard,
        nack=away,
        clock=clock,
        entropy=Entropy(),
        counters=counters,
        spool=Spool(None, incarnation=lambda: "i", unanswered=lambda _keys: [], clock=clock),
    )
    for number in range(NACKS + 2):
        publisher.refuse(Claim(task_id=str(number), epoch=1, nack="draining"))

    assert counters.snapshot() == {"nacks_lost": 2}
