"""Acts that are repeated, by a clock that the test moves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support import FakeClock, SeededEntropy

from blocks_worker.client.repeating import ONE_TRY, one_try, repeated
from blocks_worker.concurrency import Deadline
from blocks_worker.errors import HubUnavailableError, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable

SILENT = HubUnavailableError("http://127.0.0.1:1", "silent")
UNKNOWN = RpcError("busy", code="Busy", status=503)


class MovingClock(FakeClock):
    """Let a pause pass at once."""

    def pause(self, seconds: float) -> None:
        """Be later."""
        self.advance(seconds)


def answering(*answers: Exception | str) -> Callable[[], str]:
    """Return an act that raises or returns one of these after another."""
    left = list(answers)

    def act() -> str:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return act


def run(act: Callable[[], str], timeout: float | None = 30.0) -> str:
    """Repeat the act."""
    clock = MovingClock()
    return repeated(act, Deadline(timeout, clock), clock=clock, entropy=SeededEntropy())


def test_silence_and_unknown_are_repeated() -> None:
    """No answer, an answer that says "unknown" and an interrupted shared request lead to another try."""
    assert run(answering(SILENT, UNKNOWN, InterruptedError(), "done")) == "done"


def test_a_pause_that_was_asked_for_is_kept_by_everybody() -> None:
    """Who was told to come later does, and no two come back at the same moment. [A14]"""
    asked = RpcError("busy", code="Busy", status=503)
    asked.retry_after = 3.0
    waited = []
    for seed in range(20):
        clock = MovingClock()
        begun = clock.monotonic()
        repeated(answering(asked, "done"), Deadline(30, clock), clock=clock, entropy=SeededEntropy(seed))
        waited.append(clock.monotonic() - begun)

    assert min(waited) >= 3.0
    assert len(set(waited)) == 20


def test_a_refusal_is_final() -> None:
    """Any other refusal is raised at once."""
    with pytest.raises(RpcError, match="no such task"):
        run(answering(RpcError("no such task", code="NotFound", status=404), "never"))


@pytest.mark.parametrize("error", [SILENT, UNKNOWN])
def test_time_ends_it(error: Exception) -> None:
    """When the time is over the last error is raised."""
    with pytest.raises(type(error)):
        run(answering(*[error] * 100))


def test_one_try_has_its_share() -> None:
    """One try waits at most ten seconds, never beyond the deadline, and always a moment."""
    clock = MovingClock()

    assert one_try(Deadline(None, clock)) == one_try(Deadline(60, clock)) == ONE_TRY
    assert one_try(Deadline(3, clock)) == 3
    assert one_try(Deadline(0, clock)) == 0.1
