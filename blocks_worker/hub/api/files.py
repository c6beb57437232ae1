"""The doors of files: ask for an upload, send the bytes, or the rest of them, have it confirmed, read by range."""

from __future__ import annotations

import asyncio
import contextlib
import re
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from blocks_worker.hub.api.batches import written
from blocks_worker.hub.api.calls import Answer, Door, StreamedAnswer
from blocks_worker.hub.files import Incoming, pieces_of
from blocks_worker.hub.problems import BAD_REQUEST, NO_ROOM, NOT_FOUND, TOO_LARGE, RefusalError, not_found
from blocks_worker.protocol import codec
from blocks_worker.protocol.files import ConfirmUpload, RequestUpload, UploadDone, UploadOffer, UploadProgress

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from concurrent.futures import Executor
    from typing import BinaryIO

    from blocks_worker.hub.api.calls import Call
    from blocks_worker.hub.auth.guard import Guard
    from blocks_worker.hub.file_service import FileService
    from blocks_worker.hub.files import FileStore
    from blocks_worker.hub.store.files import FileRecord
    from blocks_worker.hub.store.store import Store
    from blocks_worker.hub.task_service import Consumer, Holder

T = TypeVar("T")

_OK, _PARTIAL, _TIMEOUT, _NO_SUCH_RANGE = 200, 206, 408, 416
_NOT_AS_SAID = 422
#: After these nothing stays of an upload: another one is asked for.
_ENDS = frozenset({NOT_FOUND, TOO_LARGE, NO_ROOM, _NOT_AS_SAID})
_REST = re.compile(r"bytes (?:\*|(\d{1,16})-(\d{1,16}))/(\d{1,16})\Z", re.ASCII)
_RANGE = re.compile(r"bytes=(\d{0,16})-(\d{0,16})\Z", re.ASCII)
_MIME = re.compile(r"[\w!#$&^.+-]{1,127}/[\w!#$&^.+-]{1,127}(?:; ?[\w.-]+=[\w.-]+)*\Z", re.ASCII)
#: What keeps a browser from doing anything with a file but saving it.
_HARMLESS = (
    ("x-content-type-options", "nosniff"),
    ("content-security-policy", "sandbox; default-src 'none'"),
    ("cache-control", "private, no-store"),
)


class FileDoors:
    """Serve files; every touch of the disk is the executor's, so that the loop is never held."""

    def __init__(
        self, *, store: Store, service: FileService, disk: FileStore, guard: Guard, executor: Executor
    ) -> None:
        self._store = store
        self._service = service
        self._disk = disk
        self._guard = guard
        self._executor = executor

    def doors(self) -> list[Door]:
        """Return the endpoints."""
        return [
            Door("POST", "/api/v1/files/request-upload", self.request, takes=RequestUpload, gives=UploadOffer),
            Door("PUT", "/api/v1/files/uploads/{token}", self.receive, streams=True, takes=bytes, gives=dict),
            Door("GET", "/api/v1/files/uploads/{token}", self.progress, gives=UploadProgress),
            Door("POST", "/api/v1/files/confirm-upload", self.confirm, takes=ConfirmUpload, gives=UploadDone),
            Door("GET", "/api/v1/files/{file_id}", self.read, gives=bytes),
        ]

    async def request(self, call: Call) -> Answer:
        """Give out the address for the bytes of one file.

        Who: consumer for an input, the run's instance for an output
        Answers: 200 where the bytes go · 400 · 409 the task is not this run's · 413 over the upload limit · 507 disk
            nearly full, for an input
        """
        request = codec.decode(RequestUpload, call.body)
        who: Consumer | Holder
        if request.role == "provider-output":
            who = self._guard.holder(call.bearer)
        else:
            who = self._guard.consumer(call.bearer)
        offer = await written(self._store, lambda ledger: self._service.request(ledger, who, request))
        return Answer(_OK, codec.encode(offer))

    async def progress(self, call: Call) -> Answer:
        """Say how much of a file came, so that its sender goes on from there.

        Who: whoever has the address
        Answers: 200 · 404 as for the bytes
        """
        record = self._store.read(lambda ledger: self._service.upload(ledger, call.path["token"]))
        here = await self._do(lambda: self._disk.length(record.id))
        return Answer(_OK, codec.encode(UploadProgress(upload_id=record.id, offset=here, size=record.size)))

    async def receive(self, call: Call) -> Answer:
        """Take the bytes of a file in, or with `Content-Range` the rest of them; who knows the address may send them.

        Who: whoever has the address, until all is there, within 15 min of its last use
        Answers: 200 all of it is on the disk · 400 not all of the rest is announced · 404 whole, over or never was ·
            409 `OtherOffset`: not so much is here, or somebody sends it now · 413 more than said · 422 another length
            or hash than said · 507; what breaks off stays to be continued, what is refused with 413, 422 or 507
            after its beginning leaves nothing, and another upload is asked for
        """
        record = self._store.read(lambda ledger: self._service.upload(ledger, call.path["token"]))
        first = _first_byte(call.headers.get("content-range"), record.size)
        said = call.headers.get("content-length")
        if said is not None and said != str(record.size - first):
            text = f"{said[:20]} bytes are announced where {record.size - first} are missing of those that were said"
            raise _not_as_said(text)
        incoming = await self._do(
            lambda: self._disk.receive(record.id, first=first, size=record.size, sha256=record.sha256)
        )
        try:
            # Only now, for whoever sent it before may have brought all of it meanwhile.
            record = await written(self._store, lambda ledger: self._service.begin_upload(ledger, call.path["token"]))
            sha256 = await self._write(call, record, incoming)
            await written(self._store, lambda ledger: self._service.received(ledger, record, sha256))
        except RefusalError as refusal:
            if refusal.status in _ENDS:
                await self._do(lambda: self._disk.give_up(record.id, incoming))
                await written(self._store, lambda ledger: self._service.give_up(ledger, record))
            raise
        finally:
            await self._do(lambda: self._disk.leave(record.id, incoming))
        return Answer(_OK, codec.encode({"uploadId": record.id}))

    async def confirm(self, call: Call) -> Answer:
        """Say whether all of a file is there.

        Who: consumer or instance, whoever asked for the upload
        Answers: 200 the reference · 404 · 409 `NotUploaded`
        """
        who = self._guard.either(call.bearer)
        asked = codec.decode(ConfirmUpload, call.body)
        done = self._store.read(lambda ledger: self._service.confirm(ledger, who, asked.upload_id))
        return Answer(_OK, codec.encode(done))

    async def read(self, call: Call) -> StreamedAnswer:
        """Hand a file out, whole or in part, to be saved and nothing else.

        Who: the consumer whose it is or to whose agent it was sent, the instance that holds a task which uses it
        Answers: 200, 206 by `Range: bytes=a-b`; always as an attachment · 404 · 416
        """
        who = self._guard.either(call.bearer)
        record = self._store.read(lambda ledger: self._service.readable(ledger, who, call.path["file_id"]))
        first, length, status = _wanted(call.headers.get("range"), record.size)
        file = await self._do(lambda: self._disk.open(record.id))
        if file is None:
            raise not_found()
        headers = (*_described(record), ("content-length", str(length)))
        if status == _PARTIAL:
            headers = (*headers, ("content-range", f"bytes {first}-{first + length - 1}/{record.size}"))
        return StreamedAnswer(status, headers, self._pieces(file, first, length))

    async def _write(self, call: Call, record: FileRecord, incoming: Incoming) -> str:
        async with contextlib.aclosing(call.pieces()) as pieces:
            async for piece in pieces:
                if self._service.is_late(record):
                    raise RefusalError(_TIMEOUT, "BodyTimeout", "the file did not come in time")
                await self._do(lambda piece=piece: incoming.write(piece))  # type: ignore[misc]
        return await self._do(incoming.finish)

    async def _pieces(self, file: BinaryIO, first: int, length: int) -> AsyncGenerator[bytes, None]:
        try:
            pieces = pieces_of(file, first, length)
            while (piece := await self._do(lambda: _next(pieces))) is not None:
                yield piece
        finally:
            file.close()

    async def _do(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)


def _next(pieces: Iterator[bytes]) -> bytes | None:
    return next(pieces, None)


def _first_byte(said: str | None, size: int) -> int:
    """Return where the bytes that come begin; without a range it is the beginning.

    Raises:
        RefusalError: 400, they do not go to the end; 422, of a file of another length.
    """
    if said is None:
        return 0
    found = _REST.match(said)
    if found is None:
        raise _bad_range()
    low, high, whole = found.groups()
    if int(whole) != size:
        raise _not_as_said(f"the rest of {whole} bytes is announced where {size} were said")
    first = size if low is None else int(low)
    if low is not None and (first >= size or int(high) != size - 1):
        raise _bad_range()
    return first


def _bad_range() -> RefusalError:
    text = "send all that is left, as Content-Range: bytes FIRST-LAST/SIZE, or bytes */SIZE when nothing is"
    return RefusalError(BAD_REQUEST, "InvalidInput", text, details={"reason": "range"})


def _not_as_said(text: str) -> RefusalError:
    return RefusalError(_NOT_AS_SAID, "NotAsSaid", text, details={"reason": "size"})


def _wanted(asked: str | None, size: int) -> tuple[int, int, int]:
    """Return first byte, length and status; a range in another form than ``bytes=a-b`` is not heeded.

    Raises:
        RefusalError: 416, the range lies behind the end.
    """
    found = _RANGE.match(asked or "")
    if found is None or found.groups() == ("", ""):
        return 0, size, _OK
    low, high = found.groups()
    first = int(low) if low else max(0, size - int(high))
    last = min(int(high), size - 1) if low and high else size - 1
    if first > last:
        if low and high and int(low) > int(high):
            return 0, size, _OK
        headers = (("content-range", f"bytes */{size}"),)
        raise RefusalError(_NO_SUCH_RANGE, "NoSuchRange", f"the file has {size} bytes", headers=headers)
    return first, last - first + 1, _PARTIAL


def _described(record: FileRecord) -> tuple[tuple[str, str], ...]:
    """Return the headers that say what the file is; nothing of the sender's stands in them as it came."""
    mime_type = record.mime if _MIME.match(record.mime) else "application/octet-stream"
    name = "" if record.name is None else f"; filename*=UTF-8''{quote(record.name[:255], safe='', errors='replace')}"
    return (
        ("content-type", mime_type),
        ("content-disposition", f"attachment{name}"),
        ("accept-ranges", "bytes"),
        ("etag", f'"{record.sha256}"'),
        *_HARMLESS,
    )
