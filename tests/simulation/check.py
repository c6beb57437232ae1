"""The oracle: one history against the invariants, and its figures."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from simulation import artifacts, questions, watch
from simulation.consumer import AGAIN

from blocks_worker.hub.store.database import driver_of
from blocks_worker.protocol.leases import Numbers
from blocks_worker.protocol.lifecycle import DURATION_EXPIRED, SHOWN, SHOWN_TERMINAL, State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from simulation.story import TaskPlan
    from simulation.world import World

_ROWS = "SELECT id, state, epoch, last_n, cancel_at, ended, delivery, leased_at, kind, reason, expires_at"
_ROWS += ", error_code, retries, dead_reason, json_extract(retry, '$.maxAttempts') > 1 FROM task"
#: Seconds between the grace of a cancel and the sweep that ends it.
SWEEP = 2.0
#: Milliseconds by which a worker may see a moment of the hub's too early: its connect was that long on its way.
CLOCKS = 15_000


def wrongs(world: World) -> list[str]:
    """Return what the history did wrong; nothing, if all is well."""
    return [*world.history.wrongs, *_of_ledger(world)]


def _of_ledger(world: World) -> Iterator[str]:
    driver = driver_of(world.hub.database.writer)
    rows = driver.execute(_ROWS).fetchall()
    events: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for task, body in driver.execute("SELECT task, body FROM event ORDER BY seq"):
        events[task].append(json.loads(body))
    purged = [row[0] for row in driver.execute("SELECT id FROM stub")]
    yield from _of_submits(world, [*purged, *(row[0] for row in rows)])
    for row in rows:
        yield from _of_end(world, row, events[row[0]])
        yield from _of_order(world, row, events[row[0]])
        yield from _of_cancel(world, row)
        yield from _of_starts(world, row)
        yield from _of_pipe(world, row)
        yield from _of_retries(world, row)
        yield from _of_dead(row)
    yield from _of_steps(world, dict(driver.execute("SELECT task || ' ' || name, value FROM step")), purged)
    yield from watch.wrongs(driver)
    yield from questions.wrongs(world.history, driver)
    yield from artifacts.wrongs(world.history, driver)
    for key, holders in world.history.leases.items():
        if len(holders) > 1:
            yield f"I6: {key} was leased to {sorted(holders)}"


def _of_submits(world: World, ids: list[str]) -> Iterator[str]:
    accepted = world.history.accepted
    missing = {plan.name for plan in world.story.tasks} - set(accepted)
    if missing:
        yield f"I1: {sorted(missing)} never got an answer to their submit"
    if sorted(ids) != sorted(accepted.values()):
        yield f"I8: {len(accepted)} keys, {len(ids)} tasks: {sorted(set(ids) ^ set(accepted.values()))}"


def _of_end(world: World, row: Any, ledger: list[dict[str, Any]]) -> Iterator[str]:
    task, state = row[0], SHOWN[State(row[1])]
    if row[9] == DURATION_EXPIRED and row[1] == State.EXPIRED.value:
        state = "completed"
    ends = [event for event in ledger if event["type"] == "terminal"]
    if state not in SHOWN_TERMINAL:
        yield f"I1: {task} stands at {row[1]}"
        return
    if len(ends) != 1:
        yield f"I2: {task} has {len(ends)} terminal events"
        return
    shown = world.history.shown[task]
    told = [event for event in shown if event.type == "terminal"]
    if len(told) != 1 or shown[-1] is not told[0]:
        yield f"I3: {task} showed {len(told)} terminal events, the last of {len(shown)}"
    elif not told[0].state == state == ends[0]["state"] or told[0].epoch != row[2]:
        yield f"I3: {task} showed {told[0].state} of epoch {told[0].epoch}, its row says {state} of {row[2]}"


def _of_order(world: World, row: Any, ledger: list[dict[str, Any]]) -> Iterator[str]:
    task, _, epoch, last_n, *_ = row
    shown = world.history.shown[task]
    kept = [event["n"] for event in ledger if event["epoch"] == epoch and "n" in event]
    if kept != list(range(1, last_n + 1)):
        yield f"I4: {task} kept {kept} of {last_n}"
    seen = [event.n for event in shown if event.epoch == epoch and event.n is not None]
    has_gap = bool(shown) and shown[-1].gap
    if seen != kept and not has_gap:
        yield f"I4: {task} showed {seen} of {kept}"
    if seen != sorted(set(seen) & set(kept)):
        yield f"I4: {task} showed {seen} out of order, or what nobody kept"
    epochs = [event.epoch for event in shown]
    if epochs != sorted(epochs):
        yield f"I5: {task} showed the epochs {epochs}"


def _of_cancel(world: World, row: Any) -> Iterator[str]:
    """I7: a cancelled task ends within its grace, less the time in which there was no hub."""
    task, _, _, _, cancel_at, ended, *_ = row
    if cancel_at is None or ended is None:
        return
    away = sum(until - since for since, until in world.history.away)
    took = (ended - cancel_at) / 1000
    if took > Numbers().cancel_grace + SWEEP + away:
        yield f"I7: {task} ended {took:.1f} s after its cancel"


def _of_starts(world: World, row: Any) -> Iterator[str]:
    task, delivery = row[0], row[6]
    starts = {key: told for key, told in world.history.starts.items() if key[0] == task}
    for key, told in starts.items():
        if len(told) > 1:
            yield f"I6: the handler of {key} was started {len(told)} times"
        if {incarnation for _, incarnation in told} - world.history.leases[key]:
            yield f"I7: the handler of {key} was started without a lease"
    if delivery == "at_most_once" and len(starts) > 1:
        yield f"I11: {task} is at most once and was started {len(starts)} times"


def _of_pipe(world: World, row: Any) -> Iterator[str]:
    """I13: the return of its handler ends no pipe; it ends by its agent's word, a stop, its time, or a loss."""
    task, state, *_ = row
    ended, kind, reason, expires_at = row[5], row[8], row[9], row[10]
    if kind != "pipe":
        return
    if state == State.COMPLETED.value and task not in world.history.ended_by_agent:
        yield f"I13: the pipe {task} is completed, though nobody ended it"
    if state == State.EXPIRED.value and reason == DURATION_EXPIRED and ended < expires_at - CLOCKS:
        yield f"I13: the pipe {task} ended {expires_at - ended} ms before its time"
    if sum(key[0] == task for key in world.history.starts) > 1:
        yield f"I13: the pipe {task} was started more than once"


def _of_steps(world: World, stored: dict[str, bytes], purged: list[str]) -> Iterator[str]:
    """I10: what is stored of a step never changes, and whoever runs the task later sees it and does it no more."""
    seen: dict[tuple[str, str], list[tuple[int, float, bytes]]] = defaultdict(list)
    for task, name, epoch, moment, value in world.history.seen:
        seen[task, name].append((epoch, moment, value))
        if task not in purged and stored.get(f"{task} {name}") != value:
            yield f"I10: {task} saw {value!r} of {name}, and {stored.get(f'{task} {name}')!r} is stored"
    accepted = world.history.accepted
    before = {accepted[name]: name.removesuffix(AGAIN) for name in accepted if name.endswith(AGAIN)}
    for task, name, epoch, moment in world.history.done:
        earlier = [each for each in seen[task, name] if each[0] < epoch or (each[0] == epoch and each[1] < moment)]
        if earlier or seen[before.get(task, ""), name]:
            yield f"I10: {task} did {name} again in epoch {epoch}"


def _plan_of(world: World, task: str) -> TaskPlan | None:
    """Return how a task was asked for; one that was sent again has the plan of the old one."""
    names = {task_id: name for name, task_id in world.history.accepted.items()}
    name = names.get(task, "")
    if name.endswith(AGAIN):
        name = names.get(name.removesuffix(AGAIN), "")
    return next((plan for plan in world.story.tasks if plan.name == name), None)


def _of_dead(row: Any) -> Iterator[str]:
    """I15: what the hub gave up says why, and nothing else is a dead letter."""
    task, state, delivery, kind, reason, error_code, left, dead = (row[at] for at in (0, 1, 6, 8, 9, 11, 12, 13))
    expected = None
    if state == State.FAILED.value and error_code == "lease_lost":
        expected = "poison" if (delivery, kind) == ("at_least_once", "request") else "lease_lost"
    elif state == State.FAILED.value and error_code == "handler_error" and row[14] and left == 0:
        expected = "attempts"
    elif state == State.EXPIRED.value and reason == "queue_ttl":
        expected = "queue_ttl"
    if dead != expected:
        yield f"I15: {task} ended as {state} ({error_code or reason}), given up for {dead}, not {expected}"


def _of_retries(world: World, row: Any) -> Iterator[str]:
    """I14: a failure is the last one when the policy says so; each is counted once, and no run comes too soon."""
    task, state, error_code, left = row[0], row[1], row[11], row[12]
    failed = world.history.failed[task]
    plan = _plan_of(world, task)
    if plan is None:  # one too many, of which I8 tells
        return
    most = 0 if plan.pipe or plan.once else plan.attempts - 1
    if left != most - len({epoch for epoch, _, _ in failed}):
        yield f"I14: {task} has {left} retries left after {failed}"
    if state == State.FAILED.value and error_code == "handler_error" and left > 0:
        yield f"I14: {task} failed with {left} retries left"
    for before, epoch in enumerate(sorted({epoch for epoch, _, _ in failed})):
        told = min(10.0, plan.retry_delay * 2**before) * 1000
        if not all(int(told / 2) <= pause <= told for each, _, pause in failed if each == epoch):
            yield f"I14: {task} waits after epoch {epoch} for {failed}, which its policy ({told} ms) does not say"
    for epoch, at, pause in failed:
        starts = [told[0][0] for key, told in world.history.starts.items() if key[0] == task and key[1] > epoch]
        if starts and min(starts) < at + pause / 1000 - SWEEP:
            yield f"I14: {task} ran again {min(starts) - at:.2f} s after its failure, not after {pause} ms"
