"""Who may send and read which file: the verbs of stored files, each inside a transaction that the caller opened."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

from blocks_worker.errors import InvalidMessageError
from blocks_worker.hub.answers import Consumer, Holder
from blocks_worker.hub.problems import BAD_REQUEST, CONFLICT, NO_ROOM, TOO_LARGE, RefusalError, not_found
from blocks_worker.hub.store import files
from blocks_worker.hub.store.files import COMMITTED, STAGED, FileRecord
from blocks_worker.protocol.events import ArtifactRef
from blocks_worker.protocol.files import MAX_UPLOAD, RequestUpload, UploadDone, UploadOffer
from blocks_worker.protocol.lifecycle import State

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from blocks_worker.concurrency import Entropy, SteadyClock
    from blocks_worker.hub.shares import Shares
    from blocks_worker.hub.store.ledger import Ledger
    from blocks_worker.hub.store.records import TaskRecord

#: How long the address of an upload works after its last use, and how long a file stays that no task uses.
UPLOAD_LIFE_MS = 15 * 60 * 1000
UNUSED_LIFE_MS = 24 * 3600 * 1000
#: Files that are purged at once.
MOST_PURGED = 500

#: Where the bytes of a file are sent: the last part is the secret.
UPLOADS = "/api/v1/files/uploads"


class FileService:
    """Be the door to the rows of files; their bytes are the file store's.

    `admits` tells whether inputs of new tasks are taken; outputs of those that run always are.
    """

    def __init__(self, *, steady: SteadyClock, entropy: Entropy, admits: Callable[[], bool], shares: Shares) -> None:
        self._steady = steady
        self._shares = shares
        self._entropy = entropy
        self._admits = admits

    def request(self, ledger: Ledger, who: Consumer | Holder, request: RequestUpload) -> UploadOffer:
        """Take in a file whose bytes are to come, and give out the address for them.

        Raises:
            RefusalError: 413 too large, 400 not as it should be, 409 the run is not the caller's, 429 the
                caller has too much already, 507 no room.
        """
        if request.file_size > MAX_UPLOAD:
            text = f"a file of {request.file_size} bytes is larger than the {MAX_UPLOAD} allowed"
            raise RefusalError(TOO_LARGE, "InvalidInput", text, details={"reason": "too_large"})
        if isinstance(who, Consumer) and not self._admits():
            raise RefusalError(NO_ROOM, "NoRoom", "the hub's disk is nearly full: free some room, then try again")
        task = _run_of(ledger, who, request) if isinstance(who, Holder) else None
        if task is None and request.agent_name is None and request.upload_session_id is None:
            raise RefusalError(BAD_REQUEST, "InvalidInput", "an input needs agentName or uploadSessionId")
        if request.role == files.INPUT:
            self._shares.take_file(ledger, who.owner, request.file_size)
        token, now = self._entropy.token(), self._steady.now_ms()
        record = FileRecord(
            id=self._entropy.name(),
            owner=who.owner if task is None else task.owner,
            role=request.role,
            agent=request.agent_name if task is None else task.agent,
            task=None if task is None else task.id,
            name=request.file_name,
            mime=request.mime_type,
            size=request.file_size,
            sha256=request.sha256,
            state=STAGED,
            upload=_hashed(token),
            upload_until=now + UPLOAD_LIFE_MS,
            created=now,
            purge_at=now + UNUSED_LIFE_MS,
        )
        files.stage(ledger.connection, record)
        session = None if task is not None else request.upload_session_id or self._entropy.name()
        return UploadOffer(upload_id=record.id, upload_url=f"{UPLOADS}/{token}", upload_session_id=session)

    def upload(self, ledger: Ledger, token: str) -> FileRecord:
        """Return the file whose bytes may be sent to this address.

        Raises:
            RefusalError: 404, all of it came or was refused, its time is over, or it never was.
        """
        record = files.upload(ledger.connection, _hashed(token), self._steady.now_ms())
        if record is None:
            raise not_found()
        return record

    def begin_upload(self, ledger: Ledger, token: str) -> FileRecord:
        """Return the file whose bytes come now, with the time that they have; its address works so long afterwards.

        Raises:
            RefusalError: as `upload`.
        """
        record = self.upload(ledger, token)
        files.prolong_upload(ledger.connection, record.id, self._steady.now_ms() + UPLOAD_LIFE_MS)
        return self.upload(ledger, token)

    def give_up(self, ledger: Ledger, record: FileRecord) -> None:
        """Have an address work no more: what came is not what was said, or there was no room for it."""
        files.give_up_upload(ledger.connection, record.id)

    def is_late(self, record: FileRecord) -> bool:
        """Tell whether the time for sending the bytes is over."""
        return record.upload_until is not None and record.upload_until <= self._steady.now_ms()

    def received(self, ledger: Ledger, record: FileRecord, sha256: str) -> None:
        """Make a file visible whose bytes are on the disk.

        Raises:
            RefusalError: 404, it was purged meanwhile.
        """
        if not files.commit(ledger.connection, record.id, sha256):
            raise not_found()

    def confirm(self, ledger: Ledger, who: Consumer | Holder, file_id: str) -> UploadDone:
        """Return the reference to a file that is there.

        Raises:
            RefusalError: 404 not the caller's, 409 not all of it is there.
        """
        record = files.get(ledger.connection, file_id)
        if record is None or not _sent_by(ledger, who, record):
            raise not_found()
        if record.state != COMMITTED:
            raise RefusalError(
                CONFLICT, "NotUploaded", "not all of this file is here: send the rest, or ask for another upload"
            )
        return UploadDone(upload_id=record.id, artifact_ref=_ref(record))

    def readable(self, ledger: Ledger, who: Consumer | Holder, file_id: str) -> FileRecord:
        """Return a file that the caller may read: its owner, who holds a task that uses it, or the agent's owner.

        Raises:
            RefusalError: 404, it is not there, or not for the caller; nobody can tell which.
        """
        record = files.get(ledger.connection, file_id)
        if record is None or record.state != COMMITTED:
            raise not_found()
        if isinstance(who, Holder):
            allowed = files.is_held_by(ledger.connection, file_id, who.incarnation)
        else:
            allowed = record.owner == who.owner or files.is_sent_to(ledger.connection, file_id, who.owner)
        if not allowed:
            raise not_found()
        return record

    def begin_purge(self, ledger: Ledger) -> list[str]:
        """Hide what nobody needs any more, and return the keys of its bytes."""
        return files.begin_purge(ledger.connection, self._steady.now_ms(), MOST_PURGED)

    def end_purge(self, ledger: Ledger, keys: Sequence[str]) -> None:
        """Forget files whose bytes are gone."""
        for owner, size in files.inputs_of(ledger.connection, keys).items():
            ledger.use_room(owner, -size)
        files.end_purge(ledger.connection, keys, now=self._steady.now_ms(), rule="retention")
        ledger.noted("purged", what="file", count=len(keys), rule="retention")


def file_ids(parts: bytes) -> list[str]:
    """Return the ids of the stored files that a request's parts refer to.

    Raises:
        InvalidMessageError: the parts are not a list, or a reference has no id.
    """
    return [str(ref["fileId"]) for ref in _file_refs(_decoded(parts))]


def without_file_ids(parts: bytes) -> bytes:
    """Return the parts as they compare: the same file sent again has another id, and the same content."""
    decoded = _decoded(parts)
    for ref in _file_refs(decoded):
        del ref["fileId"]
    return msgspec.json.encode(decoded)


def _decoded(parts: bytes) -> list[object]:
    decoded = msgspec.json.decode(parts)
    if not isinstance(decoded, list):
        raise InvalidMessageError("shape", "requestParts is not a list")
    return decoded


def _file_refs(parts: Sequence[object]) -> list[dict[str, object]]:
    refs = [part.get("artifactRef") for part in parts if isinstance(part, dict)]
    found = [ref for ref in refs if isinstance(ref, dict) and ref.get("kind") == "file"]
    if not all(isinstance(ref.get("fileId"), str) for ref in found):
        raise InvalidMessageError("shape", "the reference to a file has no fileId")
    return found


def _run_of(ledger: Ledger, holder: Holder, request: RequestUpload) -> TaskRecord:
    """Return the task for which the caller may speak: its holder, or the last one while nobody else runs it."""
    row = None if request.task_id is None else ledger.task(request.task_id)
    if row is not None and request.epoch in {None, row.epoch}:
        late = row.state == State.QUEUED.value and row.lost_inc == holder.incarnation
        if late or (row.is_held and row.inc == holder.incarnation):
            return row
    raise RefusalError(CONFLICT, "Fenced", "the task is not this run's")


def _sent_by(ledger: Ledger, who: Consumer | Holder, record: FileRecord) -> bool:
    if isinstance(who, Consumer):
        return record.role == files.INPUT and record.owner == who.owner
    row = None if record.task is None else ledger.task(record.task)
    return row is not None and who.incarnation in {row.inc, row.lost_inc}


def _ref(record: FileRecord) -> ArtifactRef:
    return ArtifactRef(
        kind="file",
        mime_type=record.mime,
        size=record.size,
        hash=record.sha256,
        file_name=record.name,
        file_id=record.id,
    )


def _hashed(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", errors="replace")).hexdigest()
