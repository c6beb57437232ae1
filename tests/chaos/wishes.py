"""The mix of tasks: what the task with a number is, is drawn from the seed alone, so that a new life knows it too.

A kind is a line of `KINDS`, its work in `chaotic.py`, and the ends that it may have in `ENDS`.
"""

from __future__ import annotations

import random
from typing import Any

#: How many of a hundred tasks are of which kind.
KINDS = {
    "plain": 28,
    "events": 8,
    "artifact": 8,
    "retried": 8,
    "steps": 6,
    "failing": 5,
    "cancelled": 6,
    "delayed": 4,
    "unbegun": 2,
    "pipe": 3,
    "once": 4,
    "asked": 9,
    "unanswered": 3,
    "paused": 6,
}

#: Who lost as many leases as the hub allows is given up, whatever it is.
GIVEN_UP = ("failed", "lease_lost")
DONE, FAILED, STOPPED = ("completed", None), ("failed", "handler_error"), ("canceled", None)
#: The hub's disk was full when a result was to be stored.
UNSTORED = ("failed", "artifact_failed")
#: The ends, state and error code, that a task of a kind may have.
ENDS = {
    "plain": {DONE, GIVEN_UP},
    "events": {DONE, GIVEN_UP},
    "artifact": {DONE, GIVEN_UP, UNSTORED},
    "retried": {DONE, GIVEN_UP},
    "steps": {DONE, GIVEN_UP},
    "failing": {FAILED, GIVEN_UP},
    "cancelled": {STOPPED, GIVEN_UP},
    "delayed": {DONE, GIVEN_UP},
    "unbegun": {STOPPED},
    "pipe": {STOPPED, GIVEN_UP},
    # A drain does not give back what may not be begun again.
    "once": {DONE, STOPPED, GIVEN_UP},
    "asked": {DONE, GIVEN_UP},
    "unanswered": {DONE, GIVEN_UP},
    "paused": {DONE, GIVEN_UP},
}
#: They are asked to stop once their handler has said something, or at once.
STOPPED_WHEN_BEGUN = {"cancelled", "pipe"}
STOPPED_AT_ONCE = {"unbegun"}
#: Who answers a question: its consumer, two threads of his, another process and he, or he when its time is nearly over.
ANSWERS = ("one", "two", "another", "late")
#: What each question is called.
ASK = "which"
#: Seconds that a question is open which nobody, or nobody soon, answers.
SHORT_ASK = 1.0


def wish(seed: int, number: int) -> dict[str, Any]:
    """Return what the task of this number is to do."""
    dice = random.Random(f"{seed}.{number}")
    (kind,) = dice.choices(list(KINDS), weights=list(KINDS.values()))
    if number < len(KINDS):  # none is left out, however short the run
        kind = list(KINDS)[number]
    asked: dict[str, Any] = {"number": number, "kind": kind, "seconds": round(dice.uniform(0.02, 0.4), 3)}
    if kind in {"retried", "steps"}:
        asked["failures"] = dice.choice((1, 1, 2))
    if kind == "asked":
        asked["answers"] = dice.choice(ANSWERS)
        # What was never answered is asked again by the next run: only what is answered for sure is run again.
        asked["failures"] = 0 if asked["answers"] == "late" else dice.choice((0, 1, 1))
    if kind == "paused":
        asked["begun"], asked["for"] = dice.random() < 0.6, round(dice.uniform(0.1, 1.5), 3)
    if kind in {"delayed", "unbegun"}:
        asked["delay"] = 2.0 if kind == "delayed" else 20.0
    return asked


def options(asked: dict[str, Any]) -> dict[str, Any]:
    """Return with what the task is sent."""
    kind = asked["kind"]
    if kind in {"retried", "steps", "asked"}:
        return {"retry_policy": {"maxAttempts": 8, "initialDelaySec": 0.2, "maxDelaySec": 1.0}}
    if kind in {"delayed", "unbegun"}:
        return {"not_before": asked["delay"]}
    if kind == "pipe":
        return {"task_kind": "pipe", "duration": 30}
    return {"delivery": "at_most_once"} if kind == "once" else {}
