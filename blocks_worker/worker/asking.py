"""How a handler asks the consumer and waits for the answer, without a slot meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from blocks_worker.concurrency import Deadline
from blocks_worker.errors import AskTimeoutError, TaskCancelledError, TaskFinishedError
from blocks_worker.protocol.codec import decode_trusted
from blocks_worker.protocol.events import EventBody
from blocks_worker.protocol.questions import ASK_TIMEOUT, Question, checked_question

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from blocks_worker.concurrency import Clock
    from blocks_worker.worker.pausing import Pauses
    from blocks_worker.worker.run import Run
    from blocks_worker.worker.running import Running


class Asking:
    """Put the questions of runs; the hub decides whether an answer or the end of its time was first."""

    def __init__(self, *, running: Running, pauses: Pauses, close: Callable[[Run, str], bool], clock: Clock) -> None:
        self._running = running
        self._pauses = pauses
        self._close = close
        self._clock = clock
        self._drains = False

    def ask(
        self,
        run: Run,
        emit: Callable[[EventBody], None],
        question: str,
        schema: Mapping[str, Any] | None = None,
        timeout: float | None = None,
        ask_id: str | None = None,
    ) -> Any:
        """Ask, wait and return the answer; one that is stored already at once.

        Raises:
            AskTimeoutError: nobody answered in time.
            TaskCancelledError: the task is to stop, or goes elsewhere with its question.
            TaskFinishedError: it is over.
            ValueError: this cannot be asked.
            RuntimeError: another thread of the run waits for an answer.
        """
        name = run.answers.next_id() if ask_id is None else ask_id
        limit = ASK_TIMEOUT if timeout is None else timeout
        asked = checked_question({"askId": name, "question": question, "schema": _plain(schema), "timeout": limit})
        if not run.answers.knows(name):
            self._put(run, emit, asked)
        answer = run.answers.to(name)
        if answer is None:
            raise AskTimeoutError(run.task_id, name)
        return decode_trusted(Any, answer)

    def drain(self) -> None:
        """Give back at once what waits for an answer, now and from now on: it is found by the next run."""
        self._drains = True
        for run in self._running.held():
            if run.answers.awaited is not None and _goes_on_elsewhere(run):
                run.give_back()

    def _put(self, run: Run, emit: Callable[[EventBody], None], asked: Question) -> None:
        before = run.answers.open(asked.ask_id)
        if before is not None:
            raise RuntimeError(f"question {before} of this task is still open: ask {asked.ask_id} when it is answered")
        try:
            if self._drains and _goes_on_elsewhere(run):
                run.give_back()
            else:
                _check(run)
            emit(_event(asked))
            with self._pauses.without_slot(run, asks=True):
                self._wait(run, asked)
            _check(run)
        finally:
            run.answers.close()

    def _wait(self, run: Run, asked: Question) -> None:
        stops = run.cancel_event.is_set
        if run.answers.wait(asked.ask_id, Deadline(asked.timeout, self._clock), stops):
            return
        if not self._close(run, asked.ask_id):
            raise TaskFinishedError(run.task_id)
        # What the hub says now is either that nobody answered, or the answer that was first.
        run.answers.wait(asked.ask_id, Deadline(None, self._clock), stops)


def _goes_on_elsewhere(run: Run) -> bool:
    """Tell whether another run may have the answer; a task that is run once has only this one."""
    return run.answer is not None and run.answer.delivery == "at_least_once" and not run.is_pipe


def _check(run: Run) -> None:
    if run.cancel_event.is_set():
        raise TaskCancelledError(run.task_id)


def _plain(schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if schema is None else dict(schema)


def _event(asked: Question) -> EventBody:
    return EventBody(
        type="question", ask_id=asked.ask_id, question=asked.question, schema=asked.schema, timeout=asked.timeout
    )
