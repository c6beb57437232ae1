"""Procrastinate on PostgreSQL; it keeps no results, so its task writes them to a table and tells by NOTIFY."""

from __future__ import annotations

import json
import threading
from typing import Any

import psycopg
from procrastinate import App, JobContext, PsycopgConnector, SyncPsycopgConnector

from peers.places import THREADS, TIMEOUT, URL

_worker = PsycopgConnector(conninfo=URL, max_size=THREADS + 4)
app = App(connector=_worker)
_SAVED = "WITH kept AS (INSERT INTO bench_result VALUES (%(id)s, %(text)s)) SELECT pg_notify('bench', %(told)s)"


@app.task(name="echo", pass_context=True)
async def echo(context: JobContext, text: str) -> None:
    """Keep what came as the result."""
    number = context.job.id
    await _worker.execute_query_async(_SAVED, id=number, text=text, told=json.dumps([number, text]))


def work() -> None:
    """Run a worker."""
    # A notification that comes while it looks for jobs is lost to it now and then: then this poll finds the job.
    app.run_worker(concurrency=THREADS, fetch_job_polling_interval=0.1)


class Client:
    """Send by `defer`, many by `batch_defer`; one thread listens for results."""

    BATCH = "batch_defer"

    def __init__(self) -> None:
        self._app = App(connector=SyncPsycopgConnector(conninfo=URL, max_size=THREADS + 1))
        self._app.open()
        self._app.schema_manager.apply_schema()
        self._came: dict[int, str] = {}
        self._told = threading.Condition()
        self._listening = psycopg.connect(URL, autocommit=True)
        self._listening.execute("CREATE TABLE bench_result (id bigint PRIMARY KEY, text text NOT NULL)")
        self._listening.execute("LISTEN bench")
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._is_over.is_set():
            for told in self._listening.notifies(timeout=0.5):
                number, text = json.loads(told.payload)
                with self._told:
                    self._came[number] = text
                    self._told.notify_all()

    def submit(self, text: str) -> int:
        """Ask for one task."""
        return self._app.configure_task("echo").defer(text=text)

    def submit_many(self, texts: list[str]) -> list[Any]:
        """Ask for many in one statement."""
        return self._app.configure_task("echo").batch_defer(*({"text": text} for text in texts))

    def result(self, handle: int) -> str:
        """Wait until the result was told."""
        with self._told:
            if not self._told.wait_for(lambda: handle in self._came, TIMEOUT):
                raise TimeoutError(f"job {handle} gave no result")
            return self._came.pop(handle)

    def close(self) -> None:
        """Close the connections."""
        self._is_over.set()
        self._thread.join()
        self._listening.close()
        self._app.close()
