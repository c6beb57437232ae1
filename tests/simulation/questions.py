"""Questions in a history: how a handler asks, how the consumer answers, late, twice or never, and what has to hold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from blocks_worker.protocol.codec import encode
from blocks_worker.protocol.events import EventBody
from blocks_worker.protocol.tasks import AnswerAnswer, AnswerTask, Problem
from blocks_worker.worker.asking import _goes_on_elsewhere

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from simulation.history import History
    from simulation.story import TaskPlan
    from simulation.worker import Life
    from simulation.world import World

    from blocks_worker.client.events import TaskEvent
    from blocks_worker.worker.run import Run

ASK = "ask-1"
#: Seconds between two looks of a handler that waits.
LOOK = 0.2


def plan_of(world: World, start: bytes) -> TaskPlan:
    """Return how a task was planned that begins so."""
    name = json.loads(start)["requestParts"][0]["text"]
    return next(plan for plan in world.story.tasks if plan.name == name)


def ask(life: Life, run: Run, timeout: float, then: Callable[[], object]) -> None:
    """Ask and wait, as `Asking` does, without a slot; go on with the answer, without one, or to stop."""
    if run.answers.knows(ASK):
        _heard(life, run, then)
        return
    if life.beat.draining and _goes_on_elsewhere(run):
        run.give_back()
    run.answers.open(ASK)
    life.publisher.emit(run, EventBody(type="question", ask_id=ASK, question="?", timeout=timeout), waits=False)
    life.running.park(run, asks=True)
    life.wake()
    until, told = life.now + timeout, [False]

    def look() -> None:
        stops = run.cancel_event.is_set() or not run.outbox.is_open
        knows = run.answers.knows(ASK)
        if life.now >= until and not told[0] and not stops and not knows:
            told[0] = life.publisher.close_ask(run, ASK)
            life.pump()
        if not (stops or knows) or not life.running.may_go_on(run, at_once=stops):
            life.later(LOOK, look)
            return
        run.answers.close()
        life.wake()
        if knows and not stops:
            _heard(life, run, then)
        else:
            then()

    life.later(LOOK, look)
    life.pump()


def _heard(life: Life, run: Run, then: Callable[[], object]) -> None:
    answer = run.answers.to(ASK)
    life.world.history.heard[run.task_id].append((run.epoch, answer))
    life.world.history.say(life.now, f"{run.task_id}: the run of epoch {run.epoch} is answered {answer!r}")
    then()


class Answering:
    """Be the consumer as far as he answers."""

    def __init__(self, world: World, until_answered: Callable[..., None]) -> None:
        self._world = world
        self._until_answered = until_answered

    def asked(self, plan: TaskPlan | None, event: TaskEvent) -> None:
        """Answer after a while, where that is planned; perhaps twice, with another value."""
        if plan is None or plan.answers_after is None:
            return
        after = self._world.heap.after
        after(plan.answers_after, lambda: self._answer(event.task_id, "first"))
        if plan.answers_again is not None:
            after(plan.answers_again, lambda: self._answer(event.task_id, "second"))

    def _answer(self, task_id: str, value: str) -> None:
        world = self._world
        request = AnswerTask(ask_id=ASK, value=msgspec.Raw(encode(value)))

        def then(reply: Any) -> None:
            stands = _stands(reply.body)
            known = world.history.answered.setdefault(task_id, stands) if stands is not None else None
            if known != stands:
                world.history.wrong(world.heap.now, f"I10: {task_id} was told that {known} stands, and {stands}")

        work = [lambda ledger: world.hub.tasks.answer(ledger, world.owner, task_id, request)]
        self._until_answered(f"answer {task_id} {value}", work, then)
        if world.happens("request again", 0.3, "answer", task_id, value):
            name = f"answer {task_id} {value} again"
            delay = world.story.between(0, 20, "again", name)
            world.heap.after(delay, lambda: world.network.call(name, work, lambda _answers: None))


def _stands(body: object) -> str | None:
    """Return the answer that the hub says stands."""
    if isinstance(body, AnswerAnswer):
        return str(msgspec.json.decode(body.value))
    details = body.details if isinstance(body, Problem) and body.code == "AnsweredBefore" else None
    return None if details is None else str(msgspec.json.decode(details["value"]))


def wrongs(history: History, driver: sqlite3.Connection) -> Iterator[str]:
    """I10: what was answered is stored as it was told, every run hears that, and nobody asks it again."""
    stored: dict[str, bytes | None] = dict(driver.execute("SELECT task, value FROM answer").fetchall())
    gone = {row[0] for row in driver.execute("SELECT id FROM stub")}
    for task, value in history.answered.items():
        if task not in gone and stored.get(task) != encode(value):
            yield f"I10: {task} was answered {value!r}, and {stored.get(task)!r} is stored"
    for task, heard in history.heard.items():
        values = {value for _, value in heard if value is not None}
        if task not in gone and values - {stored.get(task)}:
            yield f"I10: runs of {task} were answered {heard}, and {stored.get(task)!r} is stored"
    answered: set[str] = set()
    for task, body in driver.execute("SELECT task, body FROM event ORDER BY seq"):
        event = json.loads(body)
        if event["type"] == "question" and task in answered:
            yield f"I10: {task} asked again in epoch {event['epoch']} what was answered"
        if event.get("status") == "answered":
            answered.add(task)
