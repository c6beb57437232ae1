"""The consumer: submits until answered, cancels, and is the clock of each of its sessions."""

from __future__ import annotations

import json
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec
from simulation.questions import Answering

from blocks_worker.client.events import TaskEvent
from blocks_worker.client.ordering import GAP_REPAIR_TIMEOUT, SessionOrder
from blocks_worker.hub.task_service import Consumer as Caller
from blocks_worker.protocol.codec import decode_trusted, encode
from blocks_worker.protocol.lifecycle import SHOWN_TERMINAL
from blocks_worker.protocol.tasks import (
    CancelTask,
    EventsAnswer,
    EventsQuery,
    PauseTask,
    RetryPolicy,
    RetryTask,
    SubmitAnswer,
    SubmitTask,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.network import Answers
    from simulation.story import TaskPlan
    from simulation.world import World

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.task_service import Reply
    from blocks_worker.protocol.tasks import TaskRow

OWNER = Caller(owner="me", session_channel="session.me")
#: Behind the id of a task that was sent again, among the names of those that were accepted.
AGAIN = " again"
#: Seconds between two looks of a session at its clock.
LOOK = 0.5


class Consumer:
    """Ask for every task of the story and follow each to its end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._sessions: dict[str, SessionOrder] = {}
        #: When each session last asked the ledger.
        self._asked: dict[str, float] = {}
        #: What was planned of the tasks that were accepted.
        self._plans: dict[str, TaskPlan] = {}
        assert OWNER.session_channel is not None
        world.network.listen(OWNER.session_channel, self._hear)
        self._answering = Answering(world, self._until_answered)
        for plan in world.story.tasks:
            world.heap.after(plan.at, lambda plan=plan: self._submit(plan, self._request(plan)))

    def _request(self, plan: TaskPlan) -> SubmitTask:
        deadline = None if plan.deadline is None else self._world.heap.clock.wall_ms() + int(plan.deadline * 1000)
        if plan.has_id:
            self._listen(plan.name)
        return SubmitTask(
            agent_name="agent",
            request_parts=msgspec.Raw(encode([{"partId": "p", "text": plan.name}])),
            task_id=plan.name if plan.has_id else None,
            idempotency_key=plan.name,
            delivery="at_most_once" if plan.once else None,
            deadline=deadline,
            queue_ttl=plan.queue_ttl,
            delay=plan.delay,
            priority=plan.priority,
            max_runtime=plan.max_runtime,
            task_kind="pipe" if plan.pipe else "request",
            duration=1 if plan.pipe else None,
            retry_policy=_policy(plan),
        )

    def _submit(self, plan: TaskPlan, request: SubmitTask) -> None:
        def then(answers: Answers) -> None:
            reply = answers[0] if answers else None
            if reply is None or reply.status == 404:  # 404: no worker has registered the agent yet
                world.heap.after(1.0, lambda: self._submit(plan, request))
            elif reply.status not in {200, 201}:
                world.history.wrong(world.heap.now, f"{plan.name} was refused: {reply}")
            else:
                self._accepted(plan, reply.body)

        world = self._world
        sent = decode_trusted(SubmitTask, encode(request))
        world.network.call(f"submit {plan.name}", [lambda ledger: world.hub.tasks.submit(ledger, OWNER, sent)], then)

    def _accepted(self, plan: TaskPlan, answer: SubmitAnswer) -> None:
        world, task_id = self._world, answer.task_id
        world.history.accepted[plan.name] = task_id
        world.history.say(world.heap.now, f"{plan.name} is accepted as {task_id}")
        if not plan.has_id:
            # What was said before nobody could listen is in the ledger only.
            self._listen(task_id)
            self._sessions[task_id].ask_now(world.heap.now)
        self._plans[task_id] = plan
        if plan.cancels_after is not None:
            world.heap.after(plan.cancels_after, lambda: self._cancel(task_id, terminated=plan.terminates))
        if plan.pauses_after is not None:
            then = partial(world.heap.after, plan.resumes_after, lambda: self._turn(task_id, on=False))
            world.heap.after(plan.pauses_after, lambda: self._turn(task_id, on=True, then=then))

    def _cancel(self, task_id: str, *, terminated: bool) -> None:
        def then(answers: Answers) -> None:
            if answers is None:
                world.heap.after(1.0, lambda: self._cancel(task_id, terminated=terminated))
            else:
                world.history.cancelled[task_id] = world.heap.now
                world.history.say(world.heap.now, f"{task_id}: the cancel is answered {answers[0].status}")

        world = self._world
        request = CancelTask(terminated=terminated)
        work = [lambda ledger: world.hub.tasks.cancel(ledger, OWNER, task_id, request)]
        world.network.call(f"cancel {task_id}", work, then)

    def _turn(self, task_id: str, *, on: bool, then: Callable[[], object] = lambda: None) -> None:
        """Pause or resume, as a client does: look at the row, then turn the flag from what it is, until answered."""

        def turn(row: TaskRow) -> None:
            if row.pause is on or row.state in SHOWN_TERMINAL:
                then()
                return
            request = PauseTask(pause_seq=row.pause_seq)
            name = f"{'pause' if on else 'resume'} {task_id}"
            work = [lambda ledger: world.hub.tasks.pause(ledger, OWNER, task_id, request, on=on)]
            self._until_answered(name, work, lambda _reply: then())
            if world.happens("request again", 0.3, name):
                # Whatever lies between may repeat it, long after it was answered.
                delay = world.story.between(0, 20, "again", name)
                world.heap.after(delay, lambda: world.network.call(f"{name} again", work, lambda _answers: None))

        world = self._world
        look = [lambda ledger: world.hub.tasks.get(ledger, OWNER, task_id)]
        # One that was purged meanwhile is not there to be turned.
        self._until_answered(
            f"row {task_id}", look, lambda reply: turn(reply.body) if reply.status == HTTPStatus.OK else then()
        )

    def _redrive(self, task_id: str, priority: int) -> None:
        """Send a task again under a key, which is all that tells a repeat."""

        def then(reply: Reply) -> None:
            history.awaited.discard(task_id)
            if not isinstance(reply.body, SubmitAnswer):
                history.wrong(world.heap.now, f"I8: {task_id} could not be sent again: {reply}")
                return
            new_id = reply.body.task_id
            history.accepted[f"{task_id}{AGAIN}"] = new_id
            self._listen(new_id)
            self._sessions[new_id].ask_now(world.heap.now)

        world, history, name = self._world, self._world.history, f"redrive {task_id}"
        request = RetryTask(idempotency_key=name)
        world.hub.plans(name, None, priority)
        work = [lambda ledger: world.hub.tasks.retry(ledger, OWNER, task_id, request)]
        self._until_answered(name, work, then)
        if world.happens("request again", 0.5, name):
            delay = world.story.between(0, 20, "again", name)
            world.heap.after(delay, lambda: world.network.call(f"{name} again", work, lambda _answers: None))

    def _purge(self, task_id: str, plan: TaskPlan) -> None:
        """Purge a task, then ask for it once more, as a repeat does that was long on its way."""

        def purged(reply: Reply) -> None:
            history.awaited.discard(task_id)
            if reply.status != HTTPStatus.OK:
                history.wrong(world.heap.now, f"{task_id} could not be purged: {reply}")
            world.network.call(f"submit {plan.name} late", submit, asked)

        def asked(answers: Answers) -> None:
            if answers and answers[0].status != HTTPStatus.GONE:
                history.wrong(world.heap.now, f"I8: {task_id} was purged and is asked for again: {answers[0]}")

        world, history = self._world, self._world.history
        request = self._request(plan)
        submit = [lambda ledger: world.hub.tasks.submit(ledger, OWNER, request)]
        purge = [lambda ledger: world.hub.tasks.purge(ledger, OWNER, task_id)]
        self._until_answered(f"purge {task_id}", purge, purged)

    def _until_answered(self, name: str, works: list[Callable[[Ledger], Any]], then: Callable[[Any], object]) -> None:
        def answered(answers: Answers) -> None:
            if answers is None:
                self._world.heap.after(1.0, lambda: self._until_answered(name, works, then))
            else:
                self._world.history.say(self._world.heap.now, f"{name} is answered {answers[0].status}")
                then(answers[0])

        self._world.network.call(name, works, answered)

    # ------------------------------------------------------------------ sessions
    def _listen(self, task_id: str) -> None:
        if task_id not in self._sessions:
            self._sessions[task_id] = SessionOrder(task_id, self._world.heap.now)
            self._watch(task_id)

    def _hear(self, body: dict[str, Any]) -> None:
        event = TaskEvent.of(body)
        session = self._sessions.get(event.task_id)
        if session is not None:
            self._show(session, session.feed(event, self._world.heap.now))

    def _watch(self, task_id: str) -> None:
        """Be the session's clock: give up waiting, ask the ledger."""
        session, now = self._sessions[task_id], self._world.heap.now
        given_up = session.tick(now)
        if given_up and self._was_needless(task_id, now):
            self._world.history.wrong(now, f"I4: the session of {task_id} gave up without having asked")
        self._show(session, given_up)
        if session.wants_ledger(now):
            self._ask(session)
        if not session.finished:
            self._world.heap.after(LOOK, lambda: self._watch(task_id))

    def _ask(self, session: SessionOrder) -> None:
        world, task_id, begun = self._world, session.task_id, self._world.heap.now
        query = EventsQuery(task_id=task_id, after=session.cursor)

        def then(answers: Answers) -> None:
            answer = answers[0].body if answers else None
            if not isinstance(answer, EventsAnswer):  # lost, or asked before the submit was taken in
                return
            events = [TaskEvent.of(json.loads(bytes(raw))) for raw in answer.events]
            page = session.feed_ledger(answer.task, events, world.heap.now, after=query.after, more=answer.more)
            self._show(session, page)

        session.asked(begun)
        self._asked[task_id] = begun
        work = [lambda ledger: world.hub.tasks.events(ledger, OWNER, query)]
        world.network.call(f"events {task_id}", work, then)

    def _was_needless(self, task_id: str, now: float) -> bool:
        """Tell whether a session gave up on a hole that it never asked the ledger about."""
        return self._asked.get(task_id, float("-inf")) < now - GAP_REPAIR_TIMEOUT - LOOK

    def _show(self, session: SessionOrder, events: list[TaskEvent]) -> None:
        history, task_id = self._world.history, session.task_id
        history.shown[task_id] += events
        for event in events:
            if event.type == "question":
                self._answering.asked(self._plans.get(task_id), event)
        if session.finished and task_id not in history.finished:
            history.finished.add(task_id)
            history.say(self._world.heap.now, f"{task_id}: its session has ended, {events[-1].state}")
            self._after_end(task_id, events[-1].state)

    def _after_end(self, task_id: str, state: str | None) -> None:
        """Have a task purged, or sent again when it did not complete, where that is planned and it was accepted."""
        plan = self._plans.get(task_id)
        if plan is not None and plan.redrives and state in {"failed", "canceled"}:
            self._world.history.awaited.add(task_id)
            self._redrive(task_id, plan.priority)
        elif plan is not None and plan.purges:
            self._world.history.awaited.add(task_id)
            self._purge(task_id, plan)


def _policy(plan: TaskPlan) -> RetryPolicy | None:
    """Return the policy of a task that may be run again."""
    if plan.pipe or plan.once:
        return None
    return RetryPolicy(max_attempts=plan.attempts, initial_delay_sec=plan.retry_delay, max_delay_sec=10.0)
