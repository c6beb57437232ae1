"""Files in a history: how a run stores one and hands it over, and what has to hold of those that a task shows."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from blocks_worker.hub.problems import CONFLICT, RefusalError
from blocks_worker.hub.store.files import COMMITTED
from blocks_worker.protocol.events import EventBody
from blocks_worker.protocol.files import RequestUpload, UploadDone, UploadOffer

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator

    from simulation.history import History
    from simulation.network import Answers
    from simulation.worker import Life

    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.worker.run import Run

#: Share of the runs that store a file, and how often one begins anew when calls are lost.
SHARE, TRIES = 0.3, 10


class Upload:
    """Store one file for a run, as its worker does: ask, send, confirm; a call that is lost begins all anew."""

    def __init__(self, life: Life, run: Run, then: Callable[[], object]) -> None:
        self._life = life
        self._run = run
        self._then = then
        self._tries = 0
        content = f"{run.key}".encode()
        self._sha256 = hashlib.sha256(content).hexdigest()
        self._request = RequestUpload(
            role="output", file_size=len(content), file_name="f", task_id=run.task_id, epoch=run.epoch
        )

    def begin(self) -> None:
        """Store it, where this run stores one, and go on."""
        run, draw = self._run, self._life.world.story.draw
        stops = run.cancel_event.is_set() or not run.outbox.is_open
        self._tries += 1
        if stops or self._tries > TRIES or draw(*run.key, "file") >= SHARE:
            self._then()
            return
        world, holder, request = self._life.world, self._life.holder, self._request
        self._ask("upload", lambda ledger: world.requested(ledger, holder, request), self._send)

    def _send(self, offer: UploadOffer) -> None:
        world, token = self._life.world, offer.upload_url.rpartition("/")[2]
        self._ask(
            "send", lambda ledger: world.hub.files.begin_upload(ledger, token), lambda one: self._sent(offer, one)
        )

    def _sent(self, offer: UploadOffer, record: Any) -> None:
        world, holder = self._life.world, self._life.holder

        def received(ledger: Ledger) -> UploadOffer:
            world.hub.files.received(ledger, record, self._sha256)
            return offer

        def confirm(_offer: UploadOffer) -> None:
            self._ask("confirm", lambda ledger: world.hub.files.confirm(ledger, holder, offer.upload_id), self._hand)

        self._ask("sent", received, confirm)

    def _hand(self, done: UploadDone) -> None:
        life, run = self._life, self._run
        if run.outbox.is_open:
            life.world.history.handed[run.key].append(done.upload_id)
            event = EventBody(type="artifact", artifact_ref=done.artifact_ref, output_id="f")
            life.publisher.emit(run, event, waits=False)
        self._then()

    def _ask(self, what: str, work: Callable[[Ledger], Any], then: Callable[[Any], None]) -> None:
        def tried(ledger: Ledger) -> Any:
            try:
                return work(ledger)
            except RefusalError as refused:
                return int(refused.status)

        def answered(answers: Answers) -> None:
            answer = answers[0] if answers else None
            if answer == CONFLICT:
                self._then()
            elif answer is None or isinstance(answer, int):
                self._life.later(1.0, self.begin)
            else:
                then(answer)

        self._life.call(f"{what} {self._run.task_id}", [tried], answered)


def wrongs(history: History, driver: sqlite3.Connection) -> Iterator[str]:
    """I17: a file that a task shows is what its run handed over, and stays as long as the task, and no longer."""
    found = driver.execute("SELECT id, task, state, purge_at FROM file").fetchall()
    files = {file: (task, state, purge_at) for file, task, state, purge_at in found}
    gone = {row[0] for row in driver.execute("SELECT id FROM stub")}
    for task, body in driver.execute("SELECT task, body FROM event ORDER BY seq"):
        event = json.loads(body)
        if event["type"] == "artifact" and files.get(event["artifactRef"]["fileId"]) != (task, COMMITTED, None):
            yield f"I17: {task} shows a file that is not kept: {files.get(event['artifactRef']['fileId'])}"
    for task, shown in history.shown.items():
        for one in shown:
            ref = one.artifact_ref
            if ref is not None and ref.file_id not in history.handed[task, one.epoch]:
                yield f"I17: {task} showed file {ref.file_id}, which epoch {one.epoch} did not hand over"
    for file, (task, _, purge_at) in files.items():
        if task in gone and purge_at is None:
            yield f"I17: {file} stays, though {task} was purged"
