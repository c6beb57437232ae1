"""The consumer's doors: submit, look, follow, cancel; only what is the caller's own is seen."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.api.batches import Work, answer_items, items_of, refused_item, write_items, written
from blocks_worker.hub.api.calls import Answer, Door, answered
from blocks_worker.protocol import codec
from blocks_worker.protocol.tasks import CancelTask, EventsQuery, SubmitTask

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blocks_worker.hub.api.calls import Call
    from blocks_worker.hub.auth.guard import Guard
    from blocks_worker.hub.store.store import Store
    from blocks_worker.hub.task_service import Consumer, Reply, TaskService

#: Tasks whose events are read before other requests get their turn.
READ_AT_ONCE = 8
#: Rows of one page of tasks.
PAGE = 100
LARGEST_PAGE = 500


class TaskDoors:
    """Serve tasks to those who asked for them."""

    def __init__(self, *, store: Store, tasks: TaskService, guard: Guard) -> None:
        self._store = store
        self._tasks = tasks
        self._guard = guard

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [
            Door("POST", "/api/v1/tasks", self.submit, hot=True),
            Door("POST", "/api/v1/events", self.events_of_many, hot=True),
            Door("GET", "/api/v1/tasks", self.page),
            Door("GET", "/api/v1/tasks/{task_id}", self.get),
            Door("GET", "/api/v1/tasks/{task_id}/events", self.events),
            Door("POST", "/api/v1/tasks/{task_id}/cancel", self.cancel),
        ]

    async def submit(self, call: Call) -> Answer:
        """Take in one task or many."""
        consumer = self._guard.consumer(call.bearer)
        many, items = items_of(SubmitTask, call.body)
        replies = await write_items(self._store, [self._submission(consumer, item) for item in items])
        return answer_items(replies, many=many)

    async def get(self, call: Call) -> Answer:
        """Show one task."""
        consumer = self._guard.consumer(call.bearer)
        return answered(self._store.read(lambda ledger: self._tasks.get(ledger, consumer, call.path["task_id"])))

    async def page(self, call: Call) -> Answer:
        """Show one page of the caller's tasks."""
        consumer = self._guard.consumer(call.bearer)
        query, limit = call.query, call.number("limit", PAGE, low=1, high=LARGEST_PAGE)
        state, agent, cursor = (query.get(name) or None for name in ("state", "agent", "cursor"))
        return answered(
            self._store.read(
                lambda ledger: self._tasks.page(ledger, consumer, state=state, agent=agent, cursor=cursor, limit=limit)
            )
        )

    async def events(self, call: Call) -> Answer:
        """Show the stored events of one task after a place in the ledger."""
        consumer = self._guard.consumer(call.bearer)
        query = EventsQuery(task_id=call.path["task_id"], after=call.number("after", 0))
        return answered(self._read_events(consumer, [query])[0])

    async def events_of_many(self, call: Call) -> Answer:
        """Show the stored events of up to 256 tasks, each after its own place."""
        consumer = self._guard.consumer(call.bearer)
        many, queries = items_of(EventsQuery, call.body)
        replies: list[Reply] = []
        for start in range(0, len(queries), READ_AT_ONCE):
            if start:
                await asyncio.sleep(0)
            replies += self._read_events(consumer, queries[start : start + READ_AT_ONCE])
        return answer_items(replies, many=many)

    async def cancel(self, call: Call) -> Answer:
        """Ask that a task stop."""
        consumer = self._guard.consumer(call.bearer)
        task_id = call.path["task_id"]
        request = codec.decode(CancelTask, call.body or b"{}")
        return answered(
            await written(self._store, lambda ledger: self._tasks.cancel(ledger, consumer, task_id, request))
        )

    def _submission(self, consumer: Consumer, item: SubmitTask | InvalidMessageError) -> Work | InvalidMessageError:
        if isinstance(item, InvalidMessageError):
            return item
        return lambda ledger: self._tasks.submit(ledger, consumer, item)

    def _read_events(self, consumer: Consumer, queries: Sequence[EventsQuery | InvalidMessageError]) -> list[Reply]:
        return self._store.read(
            lambda ledger: [
                refused_item(query)
                if isinstance(query, InvalidMessageError)
                else self._tasks.events(ledger, consumer, query)
                for query in queries
            ]
        )
