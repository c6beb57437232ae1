"""Do again what may be done twice, until it was answered or its time is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from blocks_worker.concurrency import Backoff
from blocks_worker.errors import HubUnavailableError, QuotaExceededError, RpcError

if TYPE_CHECKING:
    from collections.abc import Callable

    from blocks_worker.concurrency import Clock, Deadline, Entropy

T = TypeVar("T")

#: Longest time in seconds that one try waits for its answer: whoever is silent that long is asked again.
ONE_TRY = 10.0
#: Least time in seconds that one try is given.
_LEAST = 0.1
#: The hub cannot say whether it was done: the same is asked again.
UNKNOWN = 503


def one_try(deadline: Deadline) -> float:
    """Return the seconds that the next try may take."""
    left = deadline.remaining()
    return ONE_TRY if left is None else max(_LEAST, min(ONE_TRY, left))


def is_worth_another(refused: RpcError) -> bool:
    """Tell whether the same may be asked again after this refusal."""
    return refused.status == UNKNOWN or (isinstance(refused, QuotaExceededError) and refused.passes_soon)


def repeated(act: Callable[[], T], deadline: Deadline, *, clock: Clock, entropy: Entropy) -> T:
    """Return what the act returns; it is done again while the hub is silent, cannot say, or has it come later.

    Raises:
        RpcError: the hub refused, or could not say until the deadline.
        HubUnavailableError: no answer came until the deadline.
    """
    backoff = Backoff(entropy, first=0.1, cap=5.0)
    while True:
        try:
            return act()
        except RpcError as refused:
            if not is_worth_another(refused):
                raise
            error: Exception = refused
        # Interrupted is who shared a request with another thread, whose wait was ended by a signal.
        except (HubUnavailableError, InterruptedError) as lost:
            error = lost
        pause = backoff.after(error)
        left = deadline.remaining()
        if left is not None and left <= pause:
            raise error
        clock.pause(pause)
