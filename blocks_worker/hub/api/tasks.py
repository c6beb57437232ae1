"""The consumer's doors: submit, look, follow, cancel; only what is the caller's own is seen."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.api.batches import Work, answer_items, items_of, put_items, refused_item, write_items, written
from blocks_worker.hub.api.calls import Answer, Door, answered
from blocks_worker.hub.store.filters import TaskFilter
from blocks_worker.hub.task_service import MAX_BATCH_BYTES, MAX_EVENT_BYTES, MAX_PAGE, Reply
from blocks_worker.protocol import codec
from blocks_worker.protocol.tasks import (
    AnswerAnswer,
    AnswerTask,
    CancelAnswer,
    CancelTask,
    EventsAnswer,
    EventsQuery,
    PauseTask,
    PurgedTask,
    RetryTask,
    SubmitAnswer,
    SubmitTask,
    TaskPage,
    TaskRow,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.hub.api.batches import Writes
    from blocks_worker.hub.api.calls import Call
    from blocks_worker.hub.api.coming import Coming
    from blocks_worker.hub.auth.guard import Guard
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.task_service import Consumer, TaskService

#: Tasks whose events are read before other requests get their turn.
READ_AT_ONCE = 8
#: Rows of one page of tasks.
PAGE = 100

OK = 200


class TaskDoors:
    """Serve tasks to those who asked for them."""

    def __init__(self, *, writes: Writes, tasks: TaskService, guard: Guard) -> None:
        self._store = writes.store
        self._writes = writes
        self._tasks = tasks
        self._guard = guard

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [
            Door("POST", "/api/v1/tasks", self.submit, hot=True, takes=SubmitTask, gives=SubmitAnswer, many=True),
            Door(
                "POST",
                "/api/v1/events",
                self.events_of_many,
                hot=True,
                takes=EventsQuery,
                gives=EventsAnswer,
                many=True,
            ),
            Door("GET", "/api/v1/tasks", self.page, gives=TaskPage),
            Door("GET", "/api/v1/tasks/{task_id}", self.get, gives=TaskRow),
            Door("DELETE", "/api/v1/tasks/{task_id}", self.purge, gives=PurgedTask),
            Door("GET", "/api/v1/tasks/{task_id}/events", self.events, gives=EventsAnswer),
            Door("POST", "/api/v1/tasks/{task_id}/cancel", self.cancel, takes=CancelTask, gives=CancelAnswer),
            Door("POST", "/api/v1/tasks/{task_id}/answer", self.answer, takes=AnswerTask, gives=AnswerAnswer),
            Door("POST", "/api/v1/tasks/{task_id}/retry", self.retry, takes=RetryTask, gives=SubmitAnswer),
            Door("POST", "/api/v1/tasks/{task_id}/pause", self.pause, takes=PauseTask, gives=TaskRow),
            Door("POST", "/api/v1/tasks/{task_id}/resume", self.resume, takes=PauseTask, gives=TaskRow),
        ]

    def submit(self, call: Call) -> Coming:
        """Take in one task or many.

        Who: consumer
        Answers: one or many: 201 new · 200 the same again · 400, a part that the card lacks · 404 no such agent
            · 409 id in use, other billing mode · 410 `TaskPurged`: it was there before · 413 the start body would be
            over the limit · 422 key used with another body
            · 429 backlog, or a quota: `retryAfter` · 507 disk nearly full
        """
        consumer = self._guard.consumer(call.bearer)
        many, items = items_of(SubmitTask, call.body)
        works = [self._submission(consumer, item) for item in items]
        return put_items(self._writes, works, many=many, is_new=True)

    async def get(self, call: Call) -> Answer:
        """Show one task.

        Who: consumer
        Answers: 200 · 404 · 410 `TaskPurged`, with what stays of it
        """
        consumer = self._guard.consumer(call.bearer)
        return answered(self._store.read(lambda ledger: self._tasks.get(ledger, consumer, call.path["task_id"])))

    async def purge(self, call: Call) -> Answer:
        """Delete a task that has ended, with its input, events and files; what stays is told for 30 days.

        Who: consumer
        Answers: 200, also when it was purged before · 404 · 409 `InvalidState`: it goes on
        """
        consumer, task_id = self._guard.consumer(call.bearer), call.path["task_id"]
        return answered(await written(self._store, lambda ledger: self._tasks.purge(ledger, consumer, task_id)))

    async def page(self, call: Call) -> Answer:
        """Show one page of the caller's tasks.

        Query: state, agent, dead, since, until, cursor, limit
        Who: consumer
        Answers: 200, at most 256 rows, newest first; `dead`: why the hub gave them up, or `any`; `since`, `until`: when
            they ended, in unix milliseconds · 400 no such state or reason
        """
        consumer = self._guard.consumer(call.bearer)
        query, limit = call.query, call.number("limit", PAGE, low=1, high=MAX_PAGE)
        state, agent, dead, cursor = (query.get(name) or None for name in ("state", "agent", "dead", "cursor"))
        since, until = (call.number(name, 0) if query.get(name) else None for name in ("since", "until"))
        wanted = TaskFilter(state, agent, dead, since, until)
        return answered(
            self._store.read(lambda ledger: self._tasks.page(ledger, consumer, wanted, cursor=cursor, limit=limit))
        )

    async def events(self, call: Call) -> Answer:
        """Show the stored events of one task after a place in the ledger.

        Query: after
        Who: consumer
        Answers: 200 events behind `seq`, with the row of the same moment · 404 · 410 `TaskPurged`
        """
        consumer = self._guard.consumer(call.bearer)
        query = EventsQuery(task_id=call.path["task_id"], after=call.number("after", 0))
        return answered(self._read_events(consumer, [query], MAX_EVENT_BYTES)[0])

    async def events_of_many(self, call: Call) -> Answer:
        """Show the stored events of up to 256 tasks, each after its own place; later ones are said where asked for.

        Together they are bounded: a task for which no room was left is shown without events, as one that has more.

        Who: consumer
        Answers: one or many: 200 · 404; with `listen` (`free`, `paid`: the keys it listens with) the task is said on
            the caller's session channel from then on; the events of all together are bounded, and a task without room
            shows its row and `more`
        """
        consumer = self._guard.consumer(call.bearer)
        many, sent = items_of(EventsQuery, call.body)
        # Before the events are read: whatever is stored after what this answer shows, is said.
        queries = await self._listened(consumer, sent)
        replies: list[Reply] = []
        room = MAX_BATCH_BYTES
        for start in range(0, len(queries), READ_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            read = self._read_events(consumer, queries[start : start + READ_AT_ONCE], room)
            room -= sum(map(_weight, read))
            replies += read
        return answer_items(replies, many=many)

    async def cancel(self, call: Call) -> Answer:
        """Ask that a task stop.

        Who: consumer
        Answers: 202 flag set · 200 had ended before · 404
        """
        consumer = self._guard.consumer(call.bearer)
        task_id = call.path["task_id"]
        request = codec.decode(CancelTask, call.body or b"{}")
        return answered(
            await written(self._store, lambda ledger: self._tasks.cancel(ledger, consumer, task_id, request))
        )

    async def answer(self, call: Call) -> Answer:
        """Answer the question that a task has open.

        Who: consumer
        Answers: 200, also for the same answer again · 400 `InvalidAnswer`: it does not fit the question · 404
            · 409 `AnsweredBefore`, with the value that stands; `QuestionClosed`: nobody did in time; `NotAsked`
        """
        consumer = self._guard.consumer(call.bearer)
        task_id, request = call.path["task_id"], codec.decode(AnswerTask, call.body)
        return answered(
            await written(self._store, lambda ledger: self._tasks.answer(ledger, consumer, task_id, request))
        )

    def retry(self, call: Call) -> Coming:
        """Send a task that failed or was canceled again, as a new one with the same input.

        Who: consumer
        Answers: 201 the new task, under the id that was given · 200 the same again, by id or key · 404
            · 409 `InvalidState`: it goes on or is completed · else as `POST tasks`
        """
        consumer = self._guard.consumer(call.bearer)
        task_id, request = call.path["task_id"], codec.decode(RetryTask, call.body or b"{}")
        again = Work(task_id, lambda ledger: self._tasks.retry(ledger, consumer, task_id, request))
        return put_items(self._writes, [again], many=False, is_new=True)

    async def pause(self, call: Call) -> Answer:
        """Ask that a task wait: it is not offered, and its run is told.

        Who: consumer
        Answers: 202 flag set, with the row · 200 it was set by this, or the task had ended · 404 · 409 `PauseOutdated`:
            `pauseSeq` is not the row's
        """
        return await self._pause(call, on=True)

    async def resume(self, call: Call) -> Answer:
        """Ask that a task go on.

        Who: consumer
        Answers: as `POST tasks/{task_id}/pause`
        """
        return await self._pause(call, on=False)

    async def _pause(self, call: Call, *, on: bool) -> Answer:
        consumer = self._guard.consumer(call.bearer)
        task_id, request = call.path["task_id"], codec.decode(PauseTask, call.body or b"{}")
        return answered(
            await written(self._store, lambda ledger: self._tasks.pause(ledger, consumer, task_id, request, on=on))
        )

    def _submission(self, consumer: Consumer, item: SubmitTask | InvalidMessageError) -> Work | InvalidMessageError:
        if isinstance(item, InvalidMessageError):
            return item
        return Work(item.task_id or "", lambda ledger: self._tasks.submit(ledger, consumer, item))

    async def _listened(
        self, consumer: Consumer, queries: Sequence[EventsQuery | InvalidMessageError]
    ) -> list[EventsQuery | InvalidMessageError | Reply]:
        """Register the sessions that want to be told; a query whose registration was refused is its refusal."""
        wishes = [query for query in queries if isinstance(query, EventsQuery) and query.listen is not None]
        if not wishes:
            return list(queries)
        listen = self._tasks.listen
        works = [Work(query.task_id, partial(listen, consumer=consumer, query=query)) for query in wishes]
        replies = zip(wishes, await write_items(self._store, works), strict=True)
        refused = {id(query): reply for query, reply in replies if reply.status != OK}
        return [refused.get(id(query), query) for query in queries]

    def _read_events(
        self, consumer: Consumer, queries: Sequence[EventsQuery | InvalidMessageError | Reply], room: int
    ) -> list[Reply]:
        """Read at one moment of the ledger; `room`: bytes for the events of all."""

        def work(ledger: Ledger) -> list[Reply]:
            replies: list[Reply] = []
            left = room
            for query in queries:
                replies.append(self._events(ledger, consumer, query, left))
                left -= _weight(replies[-1])
            return replies

        return self._store.read(work)

    def _events(
        self, ledger: Ledger, consumer: Consumer, query: EventsQuery | InvalidMessageError | Reply, room: int
    ) -> Reply:
        if isinstance(query, Reply):
            return query
        if isinstance(query, InvalidMessageError):
            return refused_item(query)
        return self._tasks.events(ledger, consumer, query, room=room)


def _weight(reply: Reply) -> int:
    """Return the bytes of the events in a reply."""
    return sum(memoryview(raw).nbytes for raw in reply.body.events) if isinstance(reply.body, EventsAnswer) else 0
