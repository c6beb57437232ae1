"""One run from its offer to its ending, as the slot's thread would go through it: claim, admit, handle, report."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from msgspec import Raw
from simulation.artifacts import Upload
from simulation.questions import ask, plan_of

from blocks_worker.protocol.codec import decode_trusted, encode
from blocks_worker.protocol.events import EventBody
from blocks_worker.protocol.leases import Claim, ClaimAnswer, Report
from blocks_worker.protocol.steps import Step
from blocks_worker.worker.run import Ending
from blocks_worker.worker.start_body import content_of, offered_digest

if TYPE_CHECKING:
    from collections.abc import Callable

    from simulation.network import Answers
    from simulation.worker import Life

    from blocks_worker.worker.run import Run, RunKey

#: Share of the handlers that fail, that never look at their cancel event, and that are long.
FAILS, DEAF, LONG = 0.2, 0.1, 0.1
#: Share of the handlers that wait while they are paused, and of the pipes that their agents end.
OBEYS, ENDED_BY_AGENT = 0.7, 0.3
#: Share of the tasks with durable steps, how many at most, and share of them that come again with another value.
STEPPED, STEPS, REPEATED = 0.5, 3, 0.4
#: Seconds between two looks of a handler that waits.
LOOK = 0.2


class Runs:
    """Carry out the runs of one process life."""

    def __init__(self, life: Life) -> None:
        self._life = life
        #: Before which of its steps a run asks, until it has.
        self._asks: dict[RunKey, int] = {}

    def begin(self, run: Run) -> None:
        """Go on with an accepted offer on a slot's thread."""
        self._life.later(0.001, lambda: self._claim(run))

    def _claim(self, run: Run) -> None:
        life, until = self._life, run.received_at + self._life.standing.numbers.offer_timeout
        if life.dispatcher.is_closed:
            life.publisher.refuse(Claim(task_id=run.task_id, epoch=run.epoch, nack="draining"))
            self._not_ours(run)
            return
        if life.now >= until:
            self._not_ours(run)
            return
        granted = life.standing.answers_for(run.offer, life.now)
        if granted is not None and not run.is_fenced:
            life.world.given(run.key, life.incarnation)
            self._leased(run, granted)
            return
        sent = Claim(task_id=run.task_id, epoch=run.epoch, have=offered_digest(run.offer))
        item, holder = decode_trusted(Claim, encode(sent)), life.holder

        def then(answers: Answers) -> None:
            reply = answers[0] if answers else None
            if reply is None or life.now >= until:
                life.later(0.5, lambda: self._claim(run))
            elif reply.status != 200:
                self._not_ours(run)
            else:
                self._leased(run, decode_trusted(ClaimAnswer, encode(reply.body)))

        life.call(f"claim {run.task_id}", [lambda ledger: life.world.claimed(ledger, holder, item)], then)

    def _leased(self, run: Run, answer: ClaimAnswer) -> None:
        """Admit the run, as `TaskRun` does; the handler starts unless something speaks against it by now."""
        life = self._life
        assert content_of(run.offer, answer) is not None
        run.answer, run.started_at = answer, life.now
        run.is_pipe = answer.expires_at is not None
        run.deadline, run.limit = life.standing.run_until(
            life.now, answer.max_runtime, answer.deadline, answer.expires_at
        )
        if answer.steps:
            run.outbox.steps.know(answer.steps)
        life.publisher.open(run, answer.lease)
        if not run.outbox.is_open:
            life.running.slot_back(run)
            return
        life.endings.told(run.key, answer)
        if run.stopped_as is not None:
            life.endings.end(run, run.stopped_as, leaves=True)
        elif life.dispatcher.is_closed:
            life.endings.end(run, Ending("released"), leaves=True)
        else:
            self._start(run)
        life.pump()

    def _start(self, run: Run) -> None:
        life = self._life
        life.world.started(run.key, life.incarnation)
        life.hooks.before_run(run)
        draw = life.world.story.draw
        steps = int(draw(*run.key, "steps") * 9) + (15 if draw(*run.key, "long") < LONG else 0)
        self._emit(run, EventBody(type="system", status="running"))
        self._asks[run.key] = steps // 2
        self._work(run, steps, is_deaf=draw(*run.key, "deaf") < DEAF)

    def _work(self, run: Run, left: int, *, is_deaf: bool) -> None:
        """Be the handler: some events, some time, then an outcome."""
        life, story = self._life, self._life.world.story
        if not run.outbox.is_open:  # its end was decided elsewhere: what comes now is late
            life.running.slot_back(run)
        elif run.cancel_event.is_set() and not is_deaf:
            ending = run.stopped_as or Ending("released" if run.gives_back else "canceled")
            life.endings.end(run, ending, leaves=True)
        elif run.is_paused and story.draw(*run.key, "obeys") < OBEYS:
            self._wait_paused(run, lambda: self._work(run, left, is_deaf=is_deaf))
        elif self._asks.get(run.key) == left:
            del self._asks[run.key]
            self._ask(run, lambda: self._work(run, left, is_deaf=is_deaf))
        elif left == 0 and run.is_pipe and story.draw(*run.key, "fails") >= FAILS:
            self._returned(run)
        elif left == 0:
            fails = story.draw(*run.key, "fails") < FAILS
            ending = Ending("failed", error="x", error_code="handler_error") if fails else Ending("completed")
            life.endings.end(run, ending, leaves=True)
        else:
            self._emit(run, EventBody(type="progress", message=f"{left} left"))
            pause = story.between(0.01, 6, *run.key, "pause", left)
            goes_on: Callable[[], object] = partial(self._work, run, left - 1, is_deaf=is_deaf)
            if left == 1:
                goes_on = Upload(life, run, goes_on).begin
            life.later(pause, lambda: self._step(run, left, goes_on))
        life.pump()

    def _ask(self, run: Run, then: Callable[[], object]) -> None:
        """Ask the consumer, where that is planned."""
        plan = plan_of(self._life.world, content_of(run.offer, run.answer) or b"{}") if run.answer else None
        if plan is None or plan.asks is None or run.cancel_event.is_set():
            then()
        else:
            ask(self._life, run, plan.asks, then)

    def _step(self, run: Run, number: int, then: Callable[[], object]) -> None:
        """Do a durable step where the task has one of that number, as `RunSteps` does; who waits for it looks again."""
        life, name = self._life, f"step-{number}"
        draw = life.world.story.draw
        has_steps = draw(run.task_id, "stepped") < STEPPED and number <= 1 + int(
            draw(run.task_id, "stepped", "most") * STEPS
        )
        if not has_steps or not run.outbox.is_open or run.cancel_event.is_set():
            then()
            return
        if run.outbox.steps.stored(name) is None:
            life.world.history.did(run.key, name, life.now)
            run.outbox.add_step(name, encode(f"of epoch {run.epoch}"))
            life.publisher._speaks(run.outbox)

        def look() -> None:
            stored = run.outbox.steps.stored(name)
            if stored is not None:
                life.world.history.saw(run.key, name, stored, life.now)
                self._repeat(run, name)
            elif run.outbox.is_open and not run.cancel_event.is_set():
                life.later(LOOK, look)
                return
            then()

        look()
        life.pump()

    def _repeat(self, run: Run, name: str) -> None:
        """Be another process that shares the lease, and reports a step that is stored with a value of its own."""
        life = self._life
        if life.world.story.draw(*run.key, name, "repeated") >= REPEATED:
            return
        step = Step(name=name, value=Raw(encode(f"of epoch {run.epoch}, again")))
        report = Report(task_id=run.task_id, epoch=run.epoch, lease=run.outbox.lease, steps=[step])
        item, holder = decode_trusted(Report, encode(report)), life.holder
        work = [lambda ledger: life.world.reported(ledger, holder, item)]
        life.call(f"reports again {run.task_id}", work, lambda _answers: None)

    def _wait_paused(self, run: Run, then: Callable[[], object]) -> None:
        """Wait for the resume, as `Pauses` does: without a slot, which is had again before anything goes on."""
        life = self._life
        self._emit(run, EventBody(type="system", status="paused"))
        life.running.park(run)
        life.wake()

        def look() -> None:
            stops = run.cancel_event.is_set()
            if (run.is_paused and not stops) or not life.running.may_go_on(run, at_once=stops):
                life.later(LOOK, look)
                return
            life.wake()
            if run.outbox.is_open and not stops:
                self._emit(run, EventBody(type="system", status="resumed"))
            then()

        life.later(LOOK, look)
        life.pump()

    def _returned(self, run: Run) -> None:
        """Leave a pipe open; now and then its agent ends it later."""
        life, story = self._life, self._life.world.story
        life.running.slot_back(run)
        life.pipes.returned(run)
        if story.draw(*run.key, "ended by agent") < ENDED_BY_AGENT:
            life.later(story.between(0, 40, *run.key, "ends"), lambda: self._end_by_agent(run))

    def _end_by_agent(self, run: Run) -> None:
        """Publish the terminal of a pipe, as `Pipes.publish` does."""
        life = self._life
        life.pipes.after_run(run, Ending("completed"))
        if life.endings.end(run, Ending("completed")):
            life.world.history.ended_by_agent.add(run.task_id)
            run.wake()
        life.pump()

    def _emit(self, run: Run, event: EventBody) -> None:
        self._life.publisher.emit(run, event, waits=False)

    def _not_ours(self, run: Run) -> None:
        self._life.running.answered(run.key)
        self._life.running.slot_back(run)
        self._life.pump()
