"""How much is done in a chaos run and how much is broken; the seed decides the rest."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Plan:
    """Say how long, how many and how often; times are seconds, 0 is never."""

    seed: int
    tasks: int
    seconds: float
    transport: str = "pubnub"
    workers: int = 3
    consumers: int = 2
    slots: int = 4
    drain_timeout: float = 3.0
    #: A worker is killed, stopped for a while or asked to end.
    worker_every: float = 2.0
    hub_every: float = 60.0
    consumer_every: float = 45.0
    wire_every: float = 9.0
    revoke_every: float = 60.0
    disk_every: float = 50.0
    clock_every: float = 20.0
    #: Workers and hub are killed, and nothing else goes wrong.
    only_kills: bool = False
    #: Who is killed has a task: a short run can wait for that.
    aims: bool = False
    #: The share of stops that outlast a lease.
    long_stops: float = 0.04
    #: What is left to end all tasks once all is healed.
    settle: float = 180.0


@dataclass(frozen=True, order=True)
class Fault:
    """One thing that goes wrong: when, what, to whom, and for how long or by how much."""

    at: float
    what: str
    target: int = 0
    amount: float = 0.0


def schedule(plan: Plan) -> list[Fault]:
    """Return what is to go wrong, in order."""
    dice = random.Random(plan.seed)
    kills = [
        *(_of_worker(plan, dice, at) for at in _times(dice, plan.worker_every, plan.seconds)),
        *(Fault(at, "kill hub", amount=dice.uniform(0.0, 1.0)) for at in _times(dice, plan.hub_every, plan.seconds)),
    ]
    return sorted(kills if plan.only_kills else kills + _others(plan, dice))


def _others(plan: Plan, dice: random.Random) -> list[Fault]:
    return [
        *(
            Fault(at, "kill consumer", dice.randrange(plan.consumers), dice.uniform(0.1, 2.0))
            for at in _times(dice, plan.consumer_every, plan.seconds)
        ),
        *(_of_wire(dice, at) for at in _times(dice, plan.wire_every, plan.seconds)),
        *(Fault(at, "revoke", dice.randrange(plan.workers)) for at in _times(dice, plan.revoke_every, plan.seconds)),
        *(Fault(at, "fill disk", amount=3.0) for at in _times(dice, plan.disk_every, plan.seconds)),
        *(
            Fault(at, "move clock", dice.randrange(plan.workers + 1), dice.uniform(-50.0, 50.0))
            for at in _times(dice, plan.clock_every, plan.seconds)
        ),
    ]


def _times(dice: random.Random, every: float, until: float) -> Iterator[float]:
    """Yield moments about so far apart, none right at the start."""
    at = every * dice.uniform(0.5, 1.0)
    while every and at < until:
        yield round(at, 3)
        at += every * dice.uniform(0.6, 1.4)


def _of_worker(plan: Plan, dice: random.Random, at: float) -> Fault:
    if plan.only_kills:
        return Fault(at, "kill worker", dice.randrange(plan.workers))
    what = dice.choices(("kill worker", "stop worker", "end worker"), weights=(65, 20, 15))[0]
    target = dice.randrange(plan.workers)
    if what != "stop worker":
        return Fault(at, what, target)
    return Fault(at, what, target, 42.0 if dice.random() < plan.long_stops else dice.uniform(0.5, 8.0))


def _of_wire(dice: random.Random, at: float) -> Fault:
    what = dice.choice(("cut wire", "reset wire", "delay wire", "swallow wire"))
    return Fault(at, what, dice.randrange(4), dice.uniform(0.5, 4.0))
