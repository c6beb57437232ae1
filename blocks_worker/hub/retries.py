"""Which failure is followed by another run, and after what pause: a task's own policy, pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from blocks_worker.hub.answers import RefusedError, problem
from blocks_worker.protocol.codec import decode_trusted
from blocks_worker.protocol.lifecycle import State
from blocks_worker.protocol.tasks import NEVER_AGAIN, RetryPolicy

if TYPE_CHECKING:
    from blocks_worker.concurrency import Entropy
    from blocks_worker.hub.store.records import TaskRecord
    from blocks_worker.protocol.leases import Outcome
    from blocks_worker.protocol.tasks import SubmitTask

#: What is worth another run unless the policy says otherwise; also what a failure without a code counts as.
USUAL = "handler_error"
#: Part of the policy's pause that every task waits; how much of the rest is chance.
LEAST_PART = 0.5
#: States of a task that nobody and nothing stops.
_GOES_ON = frozenset({State.RUNNING.value, State.INPUT_REQUIRED.value, State.QUEUED.value})


def check_policy(request: SubmitTask, delivery: str) -> None:
    """Refuse a policy that could never be followed.

    Raises:
        RefusedError: a pipe has one, or a task that is run once at most.
    """
    policy = request.retry_policy
    if policy is None:
        return
    if request.task_kind == "pipe":
        text = "a pipe is not run again, for its streams cannot go on: leave retryPolicy out"
        raise RefusedError(problem(400, "InvalidInput", text, {"reason": "retryPolicy"}))
    if delivery == "at_most_once" and policy.max_attempts > 1:
        text = "a task that runs at most once is not run again: leave retryPolicy out, or ask for at_least_once"
        raise RefusedError(problem(400, "InvalidInput", text, {"reason": "retryPolicy"}))


def retries_of(policy: RetryPolicy | None) -> int:
    """Return how many runs may fail without the task failing."""
    return 0 if policy is None else policy.max_attempts - 1


def pause_before_next(row: TaskRecord, outcome: Outcome, entropy: Entropy) -> int | None:
    """Return after how many milliseconds a task whose run ends so is run again; None where it ends with this run.

    It is drawn from the upper half of what the policy says: many that failed together do not come back together.
    """
    if outcome.state != "failed" or row.retry is None or row.retries <= 0 or not row.may_run_again:
        return None
    if row.state not in _GOES_ON:
        return None
    policy = decode_trusted(RetryPolicy, row.retry.encode())
    if not _is_worth_another(policy, outcome):
        return None
    failed_before = retries_of(policy) - row.retries
    most = min(policy.max_delay_sec, policy.initial_delay_sec * 2.0**failed_before) * 1000
    return int(entropy.uniform(most * LEAST_PART, most))


def is_used_up(row: TaskRecord, outcome: Outcome) -> bool:
    """Tell whether this failure would be followed by another run if the policy had any left."""
    if outcome.state != "failed" or row.retry is None or row.retries > 0 or not row.may_run_again:
        return False
    policy = decode_trusted(RetryPolicy, row.retry.encode())
    was_stopped = row.state not in _GOES_ON
    return policy.max_attempts > 1 and not was_stopped and _is_worth_another(policy, outcome)


def _is_worth_another(policy: RetryPolicy, outcome: Outcome) -> bool:
    code = outcome.error_code or USUAL
    return code != NEVER_AGAIN and code in (policy.retry_on or [USUAL])


def told(row: TaskRecord, outcome: Outcome, pause: int) -> str:
    """Return the sentence in which the consumer is told of a failure that is not the last."""
    policy = decode_trusted(RetryPolicy, (row.retry or "{}").encode())
    number = retries_of(policy) - row.retries + 1
    head = f"run {number} of {policy.max_attempts} failed ({outcome.error_code or USUAL})"
    return f"{head}; the next one begins in {pause / 1000:g} s"
