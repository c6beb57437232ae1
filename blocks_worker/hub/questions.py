"""Questions that runs put to consumers: opened, answered, closed, each answer told to whoever waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.answers import Reply, problem
from blocks_worker.hub.due import due_queued, due_running
from blocks_worker.hub.store.shown import shown
from blocks_worker.protocol.codec import decode_trusted, encode
from blocks_worker.protocol.leases import AnswerFlag
from blocks_worker.protocol.lifecycle import ANSWERED, QUESTION_CLOSED, State
from blocks_worker.protocol.questions import MAX_ASKS, Question, check_answer, checked_question
from blocks_worker.protocol.tasks import AnswerAnswer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from blocks_worker.concurrency import SteadyClock
    from blocks_worker.hub.bell import Bell
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import AnswerRecord, TaskRecord
    from blocks_worker.protocol.events import EventHead
    from blocks_worker.protocol.tasks import AnswerTask

#: Answers in one heartbeat answer: the rest comes with the next one.
MOST_TOLD = 64
#: Bytes of an answer that are told in a sentence.
_TOLD = 200


class Questions:
    """Make the turns of a question. The first answer stands, and so does that nobody gave one in time."""

    def __init__(self, steady: SteadyClock, bell: Bell) -> None:
        self._steady = steady
        self._bell = bell

    # -------------------------------------------------------------------------------------------- of runs
    def checked(self, ledger: Ledger, row: TaskRecord, heads: Sequence[EventHead]) -> list[Question]:
        """Return what these events of a run ask.

        Raises:
            InvalidMessageError: one asks nothing that can be answered, or there are too many.
        """
        asked = [checked_question(_fields(head)) for head in heads if head.type == "question"]
        if len(asked) > 1 or (asked and row.state == State.INPUT_REQUIRED.value):
            raise InvalidMessageError("shape", "a task has one open question at a time: ask the next one after it")
        if asked and ledger.count_answers(row.id) >= MAX_ASKS:
            raise InvalidMessageError("shape", f"a task asks at most {MAX_ASKS} questions: ask for more in one of them")
        return asked

    def asked(self, ledger: Ledger, row: TaskRecord, by: str, questions: Iterable[Question]) -> None:
        """Open what a run asks; one that is to stop gets no answer, one that was answered before is told it again."""
        now = self._steady.now_ms()
        for each in questions:
            until = now + int(each.timeout * 1000)
            due = due_running(row, row.leased_at or now)
            ledger.ask(row, by, now=now, due=due, ask=each.ask_id, until=until, question=encode(each).decode())

    def closed(self, ledger: Ledger, row: TaskRecord, by: str, ask: str) -> None:
        """Close the question for whose answer its run waits no more, unless the answer was first."""
        now = self._steady.now_ms()
        if ledger.ask_closed(row, by, now=now, due=due_running(row, row.leased_at or now), ask=ask):
            self._say(ledger, row.id, ask, QUESTION_CLOSED)

    def flags(self, ledger: Ledger, row: TaskRecord) -> list[AnswerFlag]:
        """Return what was answered to the task so far, for a run that begins."""
        return [_flag(row, each) for each in ledger.answers(row.id)] if _may_have_any(row, 1) else []

    def told(self, ledger: Ledger, row: TaskRecord, asks: Iterable[str]) -> list[AnswerFlag]:
        """Return what was answered to these questions of the task."""
        found = [ledger.answer_to(row.id, ask) for ask in dict.fromkeys(asks)]
        return [_flag(row, each) for each in found if each is not None]

    # -------------------------------------------------------------------------------------------- of time
    def expire(self, ledger: Ledger, row: TaskRecord) -> bool:
        """Close a question whose time is over and that no run waits for; the next run is told so."""
        now, ask = self._steady.now_ms(), row.ask_id or ""
        if not ledger.ask_expired(row, now=now, due=due_queued(row), ask=ask):
            return False
        self._say(ledger, row.id, ask, QUESTION_CLOSED)
        return True

    # -------------------------------------------------------------------------------------------- of the consumer
    def answer(self, ledger: Ledger, row: TaskRecord, request: AnswerTask) -> Reply:
        """Store the answer: 200, also when it was given before; 400 it does not fit; 409 it is not asked."""
        value = decode_trusted(Any, bytes(request.value))
        data = encode(value)
        if row.state != State.INPUT_REQUIRED.value or row.ask_id != request.ask_id:
            return _not_asked(ledger, row, request.ask_id, data)
        question = decode_trusted(Question, (row.question or "").encode())
        try:
            check_answer(question.schema, data, value)
        except InvalidMessageError as error:
            return problem(400, "InvalidAnswer", str(error), {"reason": error.reason, "askId": request.ask_id})
        now = self._steady.now_ms()
        due = due_queued(row) if row.inc is None else due_running(row, row.leased_at or now)
        if not ledger.answer(row, now=now, due=due, ask=request.ask_id, value=data):
            return _not_asked(ledger, ledger.task(row.id) or row, request.ask_id, data)
        self._bell.answer(ledger, row, request.ask_id, data)
        self._say(ledger, row.id, request.ask_id, ANSWERED)
        return _stands(ledger.task(row.id) or row, request.ask_id, data)

    def _say(self, ledger: Ledger, task_id: str, ask: str, status: str) -> None:
        """Tell the sessions of the task that its question is open no more."""
        row = ledger.task(task_id)
        if row is not None:
            head = {"type": "system", "status": status, "id": ask, "state": shown(row)}
            ledger.say(row, row.epoch, {**head, "ts": self._steady.now_ms()})


def has_answers(ledger: Ledger, row: TaskRecord) -> bool:
    """Tell whether something was answered to a task that waits to be offered: then its claim brings it."""
    return _may_have_any(row, 0) and ledger.count_answers(row.id) > 0


def _may_have_any(row: TaskRecord, first: int) -> bool:
    """Tell whether this is not the first run of a task: nobody can have asked before it, unless it was sent again."""
    return row.epoch > first or row.retry_of is not None


def _fields(head: EventHead) -> dict[str, Any]:
    found = {"askId": head.ask_id, "question": head.question, "schema": head.schema, "timeout": head.timeout}
    return {name: value for name, value in found.items() if value is not None}


def _flag(row: TaskRecord, found: AnswerRecord) -> AnswerFlag:
    value = msgspec.UNSET if found.value is None else msgspec.Raw(found.value)
    return AnswerFlag(task_id=row.id, epoch=row.epoch, ask_id=found.ask_id, value=value)


def _stands(row: TaskRecord, ask: str, data: bytes, *, already: bool = False) -> Reply:
    answer = AnswerAnswer(task_id=row.id, ask_id=ask, state=shown(row), value=msgspec.Raw(data), already=already)
    return Reply(200, answer)


def _not_asked(ledger: Ledger, row: TaskRecord, ask: str, data: bytes) -> Reply:
    """Tell whoever answers what is not asked, or not any more, what stands."""
    stored = ledger.answer_to(row.id, ask)
    if stored is not None and stored.value == data:
        return _stands(row, ask, data, already=True)
    details: dict[str, Any] = {"askId": ask, "state": shown(row)}
    if stored is not None and stored.value is not None:
        said = stored.value.decode() if len(stored.value) <= _TOLD else "another value"
        text = f"question {ask} was answered before with {said}: that stands"
        return problem(409, "AnsweredBefore", text, {**details, "value": msgspec.Raw(stored.value)})
    if stored is not None:
        return problem(409, "QuestionClosed", f"nobody answered question {ask} in time: it is closed", details)
    if row.is_ended:
        return problem(409, "NotAsked", f"the task is over ({shown(row)}): it asks nothing any more", details)
    if row.ask_id is not None:
        text = f"the task asks {row.ask_id}, not {ask}: answer that"
        return problem(409, "NotAsked", text, {**details, "open": row.ask_id})
    return problem(409, "NotAsked", "the task asks nothing now: wait until its state is input-required", details)
