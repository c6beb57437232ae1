"""What is left of a worker's slots after tens of thousands of failures of every kind, and a fifth as many cancels."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import cycle, islice
from typing import TYPE_CHECKING

from chaos.bench import Bench, Row, bench, settle
from chaos.leaks import Census
from chaos.raised import RAISED
from support import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOTS = 16
#: Tasks of one submit, and of the batches after which somebody looks.
BATCH, LOOK = 200, 20
#: Seconds in which a slot that is free takes a task that waits, on a machine that is busy with other things.
SOON = 30.0


def slots(tasks: int, transport: str, _seed: int) -> Iterator[Row]:
    """Have so many tasks fail and a fifth as many be cancelled, and count the slots that take a task at once."""
    with bench(transport, {"retention_bytes": 2 << 20, "history_bytes": 2 << 20}) as at:
        pid = at.worker("--concurrency", str(SLOTS)).process.pid
        taken = _all_taken(at)
        before, ends = Census.of(pid), Counter[str]()
        kinds = cycle(RAISED)
        for number in range(0, tasks, BATCH):
            ends += _ended(at, list(islice(kinds, min(BATCH, tasks - number))))
            if number // BATCH % LOOK == 0:
                sys.stderr.write(f"{number} failures: {Census.of(pid)}\n")
        for number in range(0, tasks // 5, BATCH):
            ends += _ended(at, ["stopped"] * min(BATCH, tasks // 5 - number))
        now, left = Census.of(pid), _all_taken(at)
        wanted = Counter(failed=tasks, canceled=tasks // 5)
        yield Row(
            f"slots that take a task, before and after, with {len(RAISED)} kinds of exceptions",
            f"{SLOTS} of {SLOTS}",
            f"{taken}, {left}",
            (taken, left) == (SLOTS, SLOTS),
        )
        yield Row("ends", str(dict(wanted)), str(dict(ends)), ends == wanted)
        more = now.threads - before.threads
        yield Row("the worker", "threads +0", f"{before}, then {now}: {more:+d} threads", more <= 0)


def _all_taken(at: Bench) -> int:
    """Return how many of more tasks than there are slots begin while none ends."""
    sessions = [at.send("waiting") for _ in range(SLOTS + 2)]
    ids = {session.task_id for session in sessions}

    def begun() -> set[str]:
        return ids & {note["task"] for note in at.starts()}

    wait_until(lambda: len(begun()) >= SLOTS, SOON, "all slots are taken")
    settle(1.0)
    count = len(begun())
    for session in sessions:
        session.cancel("enough")
    assert {session.wait_for_terminal(60).state for session in sessions} == {"canceled"}
    return count


def _ended(at: Bench, texts: list[str]) -> Counter[str]:
    """Send a task for each text, cancel those that wait for it, and return how they ended."""
    sessions = at.client.send_many([{"agent_name": "soaked", "request_parts": text} for text in texts])
    for text, session in zip(texts, sessions, strict=True):
        if text == "stopped":
            session.cancel("enough")
    ends = Counter(str(session.wait_for_terminal(120).state) for session in sessions)
    for session in sessions:
        session.close()
    return ends
