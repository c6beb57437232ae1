"""The one event loop on which coroutines of handlers run, behind a blocking door."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError
from typing import TYPE_CHECKING, Any

from blocks_worker.concurrency import ServiceThread
from blocks_worker.errors import TaskCancelledError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from blocks_worker.concurrency import Deadline
    from blocks_worker.worker.run import Run


class CoroutineLoop:
    """Run coroutines on a thread that is made with the first of them; it is a daemon, for it runs users' code."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: ServiceThread | None = None

    def run(self, coroutine: Coroutine[Any, Any, object], run: Run) -> object:
        """Run it and return what it returns; a cancel of the run cancels it.

        Raises:
            TaskCancelledError: it was cancelled, and did not finish otherwise.
        """
        future = asyncio.run_coroutine_threadsafe(_contained(coroutine), self._started())
        run.on_cancel(future.cancel)
        try:
            returned, error = future.result()
        except CancelledError as cancelled:
            raise TaskCancelledError(run.task_id) from cancelled
        if error is not None:
            raise error
        return returned

    def close(self, deadline: Deadline) -> bool:
        """End the loop; tell whether its thread ended in time."""
        with self._lock:
            loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return True
        loop.call_soon_threadsafe(loop.stop)
        return thread.join(deadline.remaining())

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = ServiceThread("handler-loop", self._serve, daemon=True)
                self._thread.start()
            return self._loop

    def _serve(self) -> None:
        loop = self._loop
        if loop is None:
            return
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()


async def _contained(coroutine: Coroutine[Any, Any, object]) -> tuple[object, BaseException | None]:
    """Hand an exception over as a value: a SystemExit that left a coroutine would end the loop of all."""
    try:
        return await coroutine, None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # noqa: BLE001 - raised again on the slot's thread
        return None, error
