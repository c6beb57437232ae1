"""A micro-service on NATS JetStream, written by hand: tasks in a work queue, results in a stream for ten minutes."""

from __future__ import annotations

import asyncio
import json
import signal
from itertools import count
from typing import TYPE_CHECKING, Any

import nats
from nats.js.api import AckPolicy, ConsumerConfig, RetentionPolicy, StorageType

from peers.places import TIMEOUT, URL

if TYPE_CHECKING:
    from nats.aio.client import Client as Link
    from nats.aio.msg import Msg
    from nats.js import JetStreamContext

_TASKS, _RESULTS = "bench.tasks", "bench.results"
#: Tasks that a worker has at the same time.
_SLOTS = 64


async def _opened() -> tuple[Link, JetStreamContext]:
    """Return a connection and its JetStream, which has the streams."""
    link = await nats.connect(URL)
    stream = link.jetstream()
    queue = {"retention": RetentionPolicy.WORK_QUEUE, "storage": StorageType.FILE}
    await stream.add_stream(name="tasks", subjects=[_TASKS], **queue)
    await stream.add_stream(name="results", subjects=[f"{_RESULTS}.>"], storage=StorageType.FILE, max_age=600)
    return link, stream


def work() -> None:
    """Run a worker until SIGTERM."""
    asyncio.run(_worker())


async def _worker() -> None:
    link, stream = await _opened()
    is_over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, is_over.set)
    running: set[asyncio.Task[None]] = set()

    async def came(message: Msg) -> None:
        task = asyncio.create_task(_run(stream, message))
        running.add(task)
        task.add_done_callback(running.discard)

    how = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, max_ack_pending=_SLOTS)
    await stream.subscribe(_TASKS, queue="workers", cb=came, manual_ack=True, config=how)
    await is_over.wait()
    await link.close()


async def _run(stream: JetStreamContext, message: Msg) -> None:
    """Run a task, keep its result, and only then acknowledge it."""
    task = json.loads(message.data)
    await stream.publish(task["result_to"], echo(task["text"]).encode())
    await message.ack()


def echo(text: str) -> str:
    """Say back what came."""
    return text


class Client:
    """Send by a publish that the server acknowledges; each client has a subject for its results."""

    BATCH = ""

    async def aopen(self) -> None:
        """Open the connection and listen to the results."""
        self._link, self._stream = await _opened()
        self._subject = f"{_RESULTS}.{self._link.client_id}"
        self._numbers = count()
        self._awaited: dict[str, asyncio.Future[str]] = {}
        await self._stream.subscribe(f"{self._subject}.*", cb=self._came, ordered_consumer=True)

    async def _came(self, message: Msg) -> None:
        awaited = self._awaited.pop(message.subject, None)
        if awaited and not awaited.done():
            awaited.set_result(message.data.decode())

    async def submit(self, text: str) -> Any:
        """Ask for one task; it is stored once this returns."""
        subject = f"{self._subject}.{next(self._numbers)}"
        result = self._awaited[subject] = asyncio.get_running_loop().create_future()
        await self._stream.publish(_TASKS, json.dumps({"result_to": subject, "text": text}).encode())
        return result

    async def result(self, handle: Any) -> str:
        """Wait for a result."""
        came: str = await asyncio.wait_for(handle, TIMEOUT)
        return came

    async def aclose(self) -> None:
        """Close the connection."""
        await self._link.close()
